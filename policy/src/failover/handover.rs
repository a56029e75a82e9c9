//! Whom a plan is about to make the holder.

use types::{
    Epoch, Holder,
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepState},
    role::RoleRecord,
};

/// The holder and the epoch that a running plan commits next, while its promotion is under way (L11): under this token
/// the target may ask for its lease already, and the leader keeps the request until the entry is applied. It grants
/// nothing. Of a switchover the epoch is known before it is given out, because whoever holds a role holds its highest
/// epoch; a fence has reserved it.
pub fn next_holder<'a>(role: &RoleRecord, plan: &'a PlanRecord) -> Option<(Epoch, &'a Holder)> {
    let promoting =
        |s: &types::plan::StepRecord| s.kind == StepKind::Promote && s.state == StepState::Running;
    let due = plan.state == PlanState::Running && plan.role == role.role && plan.steps.iter().any(promoting);
    let epoch = match plan.kind {
        PlanKind::Switchover => handed_over(role, plan),
        PlanKind::Assign | PlanKind::Failover => reserved(role, plan),
    };
    Some((epoch?, &plan.target)).filter(|_| due)
}

fn handed_over(role: &RoleRecord, plan: &PlanRecord) -> Option<Epoch> {
    let from_here = plan.from.is_some() && plan.from == role.holder && plan.from_epoch == role.epoch;
    role.epoch.next().filter(|_| from_here)
}

fn reserved(role: &RoleRecord, plan: &PlanRecord) -> Option<Epoch> {
    let reservation = role.reservation.as_ref()?;
    let for_it = role.holder.is_none() && reservation.plan == plan.plan && reservation.target == plan.target;
    for_it.then_some(reservation.epoch)
}
