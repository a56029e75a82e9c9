//! Whom a switchover is about to make the holder.

use types::{
    Epoch, Holder,
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepState},
    role::RoleRecord,
};

/// The holder and the epoch that a running switchover commits next, while its promotion is under way (L11): under this
/// token the target may ask for its lease already, and the leader keeps the request until the entry is applied. It grants
/// nothing. The epoch is known before it is given out, because whoever holds a role holds its highest epoch.
pub fn next_holder<'a>(role: &RoleRecord, plan: &'a PlanRecord) -> Option<(Epoch, &'a Holder)> {
    let from_here = plan.from.is_some() && plan.from == role.holder && plan.from_epoch == role.epoch;
    let promoting =
        |s: &types::plan::StepRecord| s.kind == StepKind::Promote && s.state == StepState::Running;
    let due = plan.kind == PlanKind::Switchover
        && plan.state == PlanState::Running
        && plan.role == role.role
        && from_here
        && plan.steps.iter().any(promoting);
    Some((role.epoch.next()?, &plan.target)).filter(|_| due)
}
