//! What a running plan does next, from the committed records and from how long they stand.

use types::{
    PlanId, Principal, UnixMillis,
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepRecord, StepState},
    units::{format_age, format_duration},
};

use super::{
    absence::{absence, silence},
    target::qualified,
    view::{Decision, FailoverView, STEP_ATTEMPTS_MAX, is_held, step_timeout},
};

/// A plan runs: its next step.
pub(super) fn advance(view: &FailoverView, plan: &PlanRecord, now: UnixMillis) -> Decision {
    let Some(step) = plan.current_step() else {
        return Decision::Nothing {
            why: format!("plan {} is done", plan.plan),
        };
    };
    if let Some(reason) = stopped(view, plan, now).or_else(|| hopeless(view, plan)) {
        return Decision::FailPlan {
            plan: plan.plan,
            reason,
        };
    }
    match step.state {
        StepState::Waiting => Decision::StartStep {
            plan: plan.plan,
            step: step.kind,
            attempt: step.attempt.saturating_add(1),
        },
        StepState::Running => running(view, plan, step),
        StepState::Failed => failed(view, plan, step),
        StepState::Done => Decision::Nothing {
            why: format!("step {} is done", step.kind),
        },
    }
}

fn is_done(plan: &PlanRecord, kind: StepKind) -> bool {
    plan.steps
        .iter()
        .any(|s| s.kind == kind && s.state == StepState::Done)
}

/// A pause stops what runs by itself before it takes the role from anybody: failed, and not kept waiting, so that a person
/// may start a plan in the pause. A person's plan goes on.
fn stopped(view: &FailoverView, plan: &PlanRecord, now: UnixMillis) -> Option<String> {
    let automatic = matches!(plan.created_by, Principal::Coordinator { .. });
    let takes_the_role = match plan.kind {
        PlanKind::Assign | PlanKind::Failover => StepKind::Fence,
        PlanKind::Switchover => StepKind::Promote,
    };
    let stops = automatic && !is_done(plan, takes_the_role) && is_held(view.role.mode, now);
    stops.then(|| {
        format!(
            "failovers are {}: stopped before {takes_the_role}",
            view.role.mode
        )
    })
}

/// Why a plan cannot succeed any more, or must not.
fn hopeless(view: &FailoverView, plan: &PlanRecord) -> Option<String> {
    let target = &plan.target;
    let promoted = is_done(plan, StepKind::Promote);
    match view.agents.iter().find(|a| a.node == target.node) {
        None => return Some(format!("target {target} is not registered")),
        Some(agent) if agent.as_target.target != *target => {
            return Some(format!("target {target} has restarted"));
        }
        Some(agent) if silence(view, agent) >= view.role.timing.promotion_absence => {
            let silence = format_age(silence(view, agent));
            return Some(format!("target {target} is silent for {silence}"));
        }
        Some(agent) if !promoted => {
            if let Err(unmet) = qualified(&agent.as_target) {
                let texts: Vec<_> = unmet.iter().map(ToString::to_string).collect();
                return Some(format!(
                    "target {target} is not able to serve: {}",
                    texts.join(", ")
                ));
            }
        }
        Some(_) => {}
    }
    holder_changed_its_mind(view, plan, promoted)
}

/// A failover ends where its holder is back before the fence, and a switchover where its holder is gone before the
/// promotion: then a failover is what is needed. A person's failover goes on: it may be meant for a living holder.
fn holder_changed_its_mind(view: &FailoverView, plan: &PlanRecord, promoted: bool) -> Option<String> {
    let holder = view.role.holder.as_ref()?;
    let automatic = matches!(plan.created_by, Principal::Coordinator { .. });
    match (plan.kind, absence(view, holder)) {
        (PlanKind::Failover, Err(why)) if automatic && !is_done(plan, StepKind::Fence) => {
            Some(format!("the holder is back: {why}"))
        }
        (PlanKind::Switchover, Ok(why)) if !promoted => Some(format!("the holder is gone: {why}")),
        (PlanKind::Failover | PlanKind::Switchover | PlanKind::Assign, Ok(_) | Err(_)) => None,
    }
}

fn running(view: &FailoverView, plan: &PlanRecord, step: &StepRecord) -> Decision {
    let (id, attempt) = (plan.plan, step.attempt);
    match step.kind {
        StepKind::VerifyTarget | StepKind::Claim => await_agent(view, id, step),
        StepKind::Fence => Decision::Fence { plan: id, attempt },
        StepKind::WaitLease if view.lease_lapsed => Decision::LeaseWaited { plan: id, attempt },
        StepKind::WaitLease => Decision::AwaitLease { plan: id },
        StepKind::Promote => match (&view.role.holder, plan.kind) {
            (Some(holder), PlanKind::Switchover) if !view.released && !view.lease_lapsed => {
                Decision::AskRelease {
                    plan: id,
                    holder: holder.clone(),
                }
            }
            (_, PlanKind::Assign | PlanKind::Failover | PlanKind::Switchover) => {
                Decision::Promote { plan: id, attempt }
            }
        },
        // `apply` completes it with the plan: its evidence is the trigger.
        StepKind::Detect => Decision::FailPlan {
            plan: id,
            reason: "its DETECT never ended".to_owned(),
        },
    }
}

fn await_agent(view: &FailoverView, plan: PlanId, step: &StepRecord) -> Decision {
    let timeout = step_timeout(&view.role);
    match timeout.checked_sub(view.step_age) {
        Some(left) if !left.is_zero() => Decision::AwaitAgent {
            plan,
            step: step.kind,
            attempt: step.attempt,
            left,
        },
        Some(_) | None => retry(
            plan,
            step,
            format!("no answer within {}", format_duration(timeout)),
        ),
    }
}

/// The last attempt failed: another one after a pause, so that a target that fails at once is not asked in a loop.
fn failed(view: &FailoverView, plan: &PlanRecord, step: &StepRecord) -> Decision {
    let pause = view.role.timing.heartbeat_interval;
    if step.attempt < STEP_ATTEMPTS_MAX && view.step_age < pause {
        return Decision::Nothing {
            why: format!("step {} is tried again soon", step.kind),
        };
    }
    retry(plan.plan, step, step.detail.clone())
}

/// Whether a plan failed because its target did not do its part: a step was tried as often as a step is tried. Then the
/// target waits before it is chosen again. A plan that ended for the holder's or a person's sake (it is back, it is gone,
/// failovers are paused) says nothing against its target; what else is wrong with a target is seen in itself.
pub fn target_failed(plan: &PlanRecord) -> bool {
    let exhausted = |step: &StepRecord| step.attempt >= STEP_ATTEMPTS_MAX;
    plan.state == PlanState::Failed && plan.current_step().is_some_and(exhausted)
}

fn retry(plan: PlanId, step: &StepRecord, why: String) -> Decision {
    if step.attempt >= STEP_ATTEMPTS_MAX {
        let reason = format!("step {} failed {} times; last: {why}", step.kind, step.attempt);
        return Decision::FailPlan { plan, reason };
    }
    Decision::RetryStep {
        plan,
        step: step.kind,
        attempt: step.attempt + 1,
        why,
    }
}
