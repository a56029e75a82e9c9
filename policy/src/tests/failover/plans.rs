//! What a plan does next.

use std::time::Duration;

use types::{
    Epoch, PlanId, Principal, UnixMillis,
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepState},
    region::Health,
    role::{FailoverMode, Reservation, RoleRecord},
};

use super::{
    super::{holder, seconds},
    NOW, agent, check, moving,
};
use crate::failover::{Decision, FailoverView, STEP_ATTEMPTS_MAX, decide, next_holder, target_failed};

#[test]
fn a_failover_goes_through_its_steps() {
    use StepState::{Running, Waiting};
    let at = |step, state, attempt| moving(PlanKind::Failover, step, state, attempt);
    check(&at(StepKind::VerifyTarget, Waiting, 0), "step VERIFY_TARGET 1");
    check(
        &at(StepKind::VerifyTarget, Running, 1),
        "await agent VERIFY_TARGET 5s",
    );
    check(&at(StepKind::Fence, Waiting, 0), "step FENCE 1");
    check(&at(StepKind::Fence, Running, 1), "fence 1");
    check(&at(StepKind::Claim, Waiting, 0), "step CLAIM 1");
    check(&at(StepKind::Claim, Running, 2), "await agent CLAIM 5s");
    check(&at(StepKind::WaitLease, Waiting, 0), "step WAIT_LEASE 1");
    let mut waiting = at(StepKind::WaitLease, Running, 1);
    check(&waiting, "await lease");
    waiting.lease_lapsed = true;
    check(&waiting, "lease waited 1");
    check(&at(StepKind::Promote, Waiting, 0), "step PROMOTE 1");
    check(&at(StepKind::Promote, Running, 1), "promote 1");
}

#[test]
fn a_switchover_promotes_only_after_the_release_or_the_end_of_the_lease() {
    let mut view = moving(PlanKind::Switchover, StepKind::Promote, StepState::Running, 1);
    check(&view, "ask eu/a1#00000001");
    view.released = true;
    check(&view, "promote 1");
    view.released = false;
    view.lease_lapsed = true;
    check(&view, "promote 1");
    let claiming = moving(PlanKind::Switchover, StepKind::Claim, StepState::Waiting, 0);
    check(&claiming, "step CLAIM 1");
}

/// L11: the target may ask for its lease while this says so, under this epoch.
#[test]
fn the_next_holder_is_known_while_a_switchover_promotes_it_and_only_then() {
    let mut view = moving(PlanKind::Switchover, StepKind::Promote, StepState::Running, 1);
    let promoting = view.plan.take().unwrap();
    let (epoch, next) = next_holder(&view.role, &promoting).unwrap();
    assert_eq!(
        (epoch, next),
        (view.role.epoch.next().unwrap(), &promoting.target)
    );
    type Edit = fn(&mut RoleRecord, &mut PlanRecord);
    let others: [Edit; 9] = [
        |_, plan| plan.kind = PlanKind::Failover,
        |_, plan| plan.state = PlanState::Failed,
        |_, plan| plan.role = "primaries/other".parse().unwrap(),
        |_, plan| plan.from_epoch = Epoch::new(1, 3),
        |_, plan| plan.from = Some(plan.target.clone()),
        |_, plan| plan.steps[1].state = StepState::Waiting,
        |_, plan| plan.steps[1].kind = StepKind::Claim,
        |role, _| role.epoch = Epoch::new(1, 5),
        // Nobody is left to hand over.
        |role, plan| (role.holder, plan.from) = (None, None),
    ];
    for (n, edit) in others.into_iter().enumerate() {
        let (mut role, mut plan) = (view.role.clone(), promoting.clone());
        edit(&mut role, &mut plan);
        assert_eq!(next_holder(&role, &plan), None, "{n}");
    }
}

/// A failover's target is armed as a switchover's is, under the epoch that its fence reserved.
#[test]
fn the_next_holder_after_a_fence_is_known_while_it_is_promoted_and_only_then() {
    for kind in [PlanKind::Failover, PlanKind::Assign] {
        let mut view = moving(kind, StepKind::Promote, StepState::Running, 1);
        let promoting = view.plan.take().unwrap();
        let reserved = Reservation {
            plan: promoting.plan,
            target: promoting.target.clone(),
            epoch: Epoch::new(1, 7),
        };
        view.role.reservation = Some(reserved.clone());
        let next = next_holder(&view.role, &promoting);
        assert_eq!(next, Some((reserved.epoch, &promoting.target)));
        type Edit = fn(&mut RoleRecord, &mut PlanRecord);
        let others: [Edit; 8] = [
            |_, plan| plan.kind = PlanKind::Switchover,
            |_, plan| plan.state = PlanState::Failed,
            |_, plan| plan.role = "primaries/other".parse().unwrap(),
            |_, plan| plan.steps.iter_mut().for_each(|s| s.state = StepState::Done),
            |role, _| role.reservation = None,
            |role, _| role.reservation.as_mut().unwrap().plan = PlanId(8),
            |role, _| role.reservation.as_mut().unwrap().target = holder("ap/c1#1"),
            // It is somebody's again.
            |role, plan| role.holder = Some(plan.target.clone()),
        ];
        for (n, edit) in others.into_iter().enumerate() {
            let (mut role, mut plan) = (view.role.clone(), promoting.clone());
            edit(&mut role, &mut plan);
            assert_eq!(next_holder(&role, &plan), None, "{kind} {n}");
        }
    }
}

#[test]
fn a_step_is_tried_again_with_a_pause_and_not_for_ever() {
    let failed = |attempt, ago| {
        let mut view = moving(PlanKind::Failover, StepKind::Claim, StepState::Failed, attempt);
        view.step_age = Duration::from_millis(ago);
        view
    };
    check(&failed(1, 299), "nothing: step CLAIM is tried again soon");
    check(&failed(1, 300), "retry CLAIM 2: a detail");
    check(
        &failed(STEP_ATTEMPTS_MAX, 0),
        "fail: step CLAIM failed 3 times; last: a detail",
    );
    let silent = |attempt, age| {
        let mut view = moving(PlanKind::Failover, StepKind::Claim, StepState::Running, attempt);
        view.step_age = age;
        view
    };
    let just_before = Duration::from_millis(4_999);
    check(&silent(1, just_before), "await agent CLAIM 1ms");
    check(&silent(1, seconds(5)), "retry CLAIM 2: no answer within 5s");
    check(
        &silent(3, seconds(5)),
        "fail: step CLAIM failed 3 times; last: no answer within 5s",
    );
}

/// Records carry state time, which follows the fastest clock that ever led: it may lie an hour ahead, or behind.
#[test]
fn the_times_in_the_records_decide_nothing() {
    let hour = 3_600_000;
    for stamped in [NOW.0 - 900_000, NOW.0 + hour] {
        for (state, age, expected) in [
            (
                StepState::Running,
                seconds(5),
                "retry CLAIM 2: no answer within 5s",
            ),
            (StepState::Running, seconds(4), "await agent CLAIM 1s"),
            (StepState::Failed, seconds(1), "retry CLAIM 2: a detail"),
            (
                StepState::Failed,
                Duration::ZERO,
                "nothing: step CLAIM is tried again soon",
            ),
        ] {
            let mut view = moving(PlanKind::Failover, StepKind::Claim, state, 1);
            for step in &mut view.plan.as_mut().unwrap().steps {
                step.started_at = step.started_at.map(|_| UnixMillis(stamped));
                step.finished_at = step.finished_at.map(|_| UnixMillis(stamped));
            }
            view.step_age = age;
            check(&view, expected);
        }
    }
}

/// I8: what a person said between the start of a plan and its fence counts.
#[test]
fn a_pause_stops_an_automatic_plan_before_its_fence_and_no_other() {
    let paused = FailoverMode::Paused {
        until: UnixMillis(NOW.0 + 1),
    };
    let over = FailoverMode::Paused { until: NOW };
    let person: Principal = "spiffe://regent.local/user/ann".parse().unwrap();
    let at = |kind, step, state, mode| {
        let mut view = moving(kind, step, state, u32::from(state != StepState::Waiting));
        view.role.mode = mode;
        view
    };
    for kind in [PlanKind::Failover, PlanKind::Assign] {
        for (step, state) in [
            (StepKind::VerifyTarget, StepState::Waiting),
            (StepKind::VerifyTarget, StepState::Running),
            (StepKind::VerifyTarget, StepState::Failed),
            (StepKind::Fence, StepState::Waiting),
            (StepKind::Fence, StepState::Running),
        ] {
            let mut view = at(kind, step, state, FailoverMode::Manual);
            check(&view, "fail: failovers are MANUAL: stopped before FENCE");
            view.role.mode = paused;
            check(
                &view,
                "fail: failovers are PAUSED until 1970-01-01T00:16:40.001Z: stopped before FENCE",
            );
            view.plan.as_mut().unwrap().created_by = person.clone();
            assert!(
                !matches!(decide(&view, NOW), Decision::FailPlan { .. }),
                "{view:?}"
            );
        }
        check(&at(kind, StepKind::Fence, StepState::Running, over), "fence 1");
        let fenced = at(kind, StepKind::Claim, StepState::Waiting, FailoverMode::Manual);
        check(&fenced, "step CLAIM 1");
    }
}

type Loss = fn(&mut FailoverView);

#[test]
fn a_plan_is_given_up_when_its_target_is_lost() {
    let at = |change: fn(&mut FailoverView)| {
        let mut view = moving(PlanKind::Failover, StepKind::Claim, StepState::Running, 1);
        change(&mut view);
        view
    };
    let table: [(Loss, &str); 4] = [
        (
            |v| v.agents[1] = agent("us/b1#2", 0),
            "fail: target us/b1#00000001 has restarted",
        ),
        (
            |v| v.agents[1].silent_for = seconds(3),
            "fail: target us/b1#00000001 is silent for 3s",
        ),
        (
            |v| v.agents[1].as_target.health = Some(Health::Unhealthy),
            "fail: target us/b1#00000001 is not able to serve: its region is UNHEALTHY",
        ),
        (
            |v| {
                v.agents.remove(1);
            },
            "fail: target us/b1#00000001 is not registered",
        ),
    ];
    for (change, expected) in table {
        check(&at(change), expected);
    }
}

/// It holds the role by then: that it cannot serve is a reason for another plan, and none to leave its doors unclaimed.
#[test]
fn after_the_promotion_a_plan_goes_on_also_with_a_target_that_cannot_serve() {
    let sick = |step, state, attempt| {
        let mut view = moving(PlanKind::Switchover, step, state, attempt);
        view.agents[1].as_target.health = Some(Health::Unhealthy);
        view
    };
    check(&sick(StepKind::Claim, StepState::Waiting, 0), "step CLAIM 1");
    check(
        &sick(StepKind::Promote, StepState::Waiting, 0),
        "fail: target us/b1#00000001 is not able to serve: its region is UNHEALTHY",
    );
}

#[test]
fn a_holder_that_is_back_before_the_fence_ends_an_automatic_failover_only() {
    let mut view = moving(PlanKind::Failover, StepKind::Fence, StepState::Running, 1);
    view.agents[0].silent_for = Duration::from_millis(100);
    check(
        &view,
        "fail: the holder is back: eu/a1#00000001 was heard 100ms ago; the limit is 3s",
    );
    let person: Principal = "spiffe://regent.local/user/ann".parse().unwrap();
    view.plan.as_mut().unwrap().created_by = person;
    check(&view, "fence 1");
    let mut switchover = moving(
        PlanKind::Switchover,
        StepKind::VerifyTarget,
        StepState::Waiting,
        0,
    );
    switchover.agents[0].silent_for = seconds(3);
    check(
        &switchover,
        "fail: the holder is gone: eu/a1#00000001 is silent for 3s, the limit of fast is 3s",
    );
}

#[test]
fn only_a_step_that_was_tried_to_the_end_is_the_targets_failure() {
    let ended = |step, state, attempt, end| {
        let mut plan = moving(PlanKind::Switchover, step, state, attempt).plan.unwrap();
        plan.state = end;
        target_failed(&plan)
    };
    let (verify, claim) = (StepKind::VerifyTarget, StepKind::Claim);
    let failed = PlanState::Failed;
    assert!(ended(verify, StepState::Failed, STEP_ATTEMPTS_MAX, failed));
    assert!(ended(claim, StepState::Running, STEP_ATTEMPTS_MAX, failed));
    // The holder came back, or went; failovers were paused.
    assert!(!ended(verify, StepState::Waiting, 0, failed));
    assert!(!ended(claim, StepState::Failed, STEP_ATTEMPTS_MAX - 1, failed));
    assert!(!ended(
        claim,
        StepState::Running,
        STEP_ATTEMPTS_MAX,
        PlanState::Running
    ));
    assert!(!ended(
        claim,
        StepState::Done,
        STEP_ATTEMPTS_MAX,
        PlanState::Succeeded
    ));
}
