//! What no decision ever does.

use std::time::Duration;

use proptest::prelude::*;
use types::{
    Holder, Principal, UnixMillis,
    plan::{PlanKind, PlanRecord, StepKind, StepState},
    region::{Health, NodeStatus},
    role::FailoverMode,
};

use super::{
    super::{holder, seconds},
    NOW, moving, view,
};
use crate::{
    failover::{AgentView, Decision, FailoverView, decide, qualified, step_timeout},
    readiness::Coverage,
};

/// A view that may come about: whoever holds the role follows from the plan.
fn any_view() -> impl Strategy<Value = FailoverView> {
    let kind = prop::sample::select(vec![PlanKind::Assign, PlanKind::Failover, PlanKind::Switchover]);
    let state = prop::sample::select(vec![StepState::Waiting, StepState::Running, StepState::Failed]);
    let plan = prop::option::weighted(0.6, (kind, any::<prop::sample::Index>(), state, 1..4_u32));
    let agent = (
        0..3_u8,
        0..4_u8,
        prop::sample::select(vec![0_u64, 800, 1_000, 2_999, 3_000, 90_000]),
        0..8_u8,
    );
    let agents = prop::collection::vec(agent, 3);
    let renewed = prop::option::weighted(0.3, prop::sample::select(vec![0_u64, 2_999, 3_000, 90_000]));
    let flags = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0..4_u8,
    );
    (plan, agents, flags, renewed).prop_map(
        |(plan, agents, (lapsed, released, by_person, held, mode), renewed)| {
            let mut view = match plan {
                None => view(),
                Some((kind, at, state, attempt)) => {
                    let steps = StepKind::of(kind);
                    // DETECT is done with the plan's own entry.
                    let first = usize::from(kind != PlanKind::Switchover);
                    let step = steps[first + at.index(steps.len() - first)];
                    let attempt = if state == StepState::Waiting { 0 } else { attempt };
                    moving(kind, step, state, attempt)
                }
            };
            if view.plan.is_none() && !held {
                view.role.holder = None;
            }
            for (agent, (health, run, silent, flaw)) in view.agents.iter_mut().zip(agents) {
                let target = &mut agent.as_target;
                target.health = [Health::Healthy, Health::Healthy, Health::Recovering]
                    .get(usize::from(health))
                    .copied();
                if run == 0 {
                    target.target.incarnation = holder("xx/xx#2").incarnation;
                    target.node.as_mut().unwrap().incarnation = target.target.incarnation;
                }
                match flaw {
                    0 => target.is_candidate = false,
                    1 => target.node.as_mut().unwrap().status = NodeStatus::Down,
                    2 => {
                        target.coverage = Coverage {
                            wanted: 2,
                            verified: 1,
                        }
                    }
                    3 => target.node = None,
                    4 => agent.heard = false,
                    _ => {}
                }
                agent.silent_for = Duration::from_millis(silent);
            }
            view.lease_lapsed = lapsed;
            view.released = released;
            view.holder_renewed = renewed.map(Duration::from_millis);
            view.role.mode = match mode {
                0 => FailoverMode::Manual,
                1 => FailoverMode::Paused {
                    until: UnixMillis(NOW.0 + 1),
                },
                _ => FailoverMode::Automatic,
            };
            if by_person && let Some(plan) = &mut view.plan {
                plan.created_by = "spiffe://regent.local/user/ann".parse().unwrap();
            }
            view
        },
    )
}

/// The holder was heard within the limit, in the run that holds the role (in its session, or by a renewal), and did not
/// give it up by itself.
fn holder_lives(view: &FailoverView) -> bool {
    let limit = view.role.timing.promotion_absence;
    let switchover = |p: &PlanRecord| p.kind == PlanKind::Switchover;
    if view.released && !view.plan.as_ref().is_some_and(switchover) {
        return false;
    }
    let heard = |a: &AgentView| a.silent_for < limit || view.holder_renewed.is_some_and(|ago| ago < limit);
    let is_it = |a: &AgentView, h: &Holder| a.as_target.target == *h && heard(a);
    view.role
        .holder
        .as_ref()
        .is_some_and(|h| view.agents.iter().any(|a| is_it(a, h)))
}

fn is_qualified(view: &FailoverView, target: &Holder) -> bool {
    let mut agents = view.agents.iter().map(|a| &a.as_target);
    agents.any(|t| t.target == *target && qualified(t).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_unqualified_target_is_never_chosen_fenced_for_or_promoted(view in any_view()) {
        let decision = decide(&view, NOW);
        if let Decision::StartPlan { target, .. } = &decision {
            prop_assert!(is_qualified(&view, target));
            prop_assert!(view.role.holder.as_ref() != Some(target) || view.released);
        }
        if matches!(decision, Decision::Fence { .. } | Decision::Promote { .. }) {
            prop_assert!(is_qualified(&view, &view.plan.as_ref().unwrap().target));
        }
    }

    #[test]
    fn a_living_holder_is_never_fenced_by_itself(view in any_view()) {
        let automatic = view.plan.as_ref().is_none_or(|p| matches!(p.created_by, Principal::Coordinator { .. }));
        let takes_it = matches!(decide(&view, NOW), Decision::StartPlan { .. } | Decision::Fence { .. });
        prop_assert!(!(takes_it && automatic && holder_lives(&view)));
    }

    #[test]
    fn nobody_is_promoted_beside_an_outstanding_lease(view in any_view()) {
        let ends = view.lease_lapsed || view.released;
        match (decide(&view, NOW), view.plan.as_ref().map(|p| p.kind)) {
            (Decision::LeaseWaited { .. }, _) => prop_assert!(view.lease_lapsed),
            (Decision::Promote { .. }, Some(PlanKind::Switchover)) => prop_assert!(ends),
            _ => {}
        }
    }

    #[test]
    fn a_pause_starts_nothing_and_a_decision_is_repeatable(view in any_view()) {
        let decision = decide(&view, NOW);
        prop_assert_eq!(&decision, &decide(&view, NOW));
        let automatic = view.plan.as_ref().is_none_or(|p| matches!(p.created_by, Principal::Coordinator { .. }));
        let takes_it = matches!(decision, Decision::StartPlan { .. } | Decision::Fence { .. });
        prop_assert!(!(takes_it && automatic) || view.role.mode == FailoverMode::Automatic);
        prop_assert!(step_timeout(&view.role) >= seconds(5));
    }
}
