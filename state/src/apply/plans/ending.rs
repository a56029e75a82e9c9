//! How plans end, and which of them are remembered.

use types::{
    PlanId, RoleName,
    plan::{PlanRecord, PlanState, StepState},
    role::RoleRecord,
};

use super::{
    super::{Outcome, change::Change, text::note},
    authority::check_authority,
};
use crate::{rejection::Rejection, state::RoleState};

/// Gives a plan up. Its fence stays, its reservation goes, and the reserved epoch is never issued.
pub(in crate::apply) fn fail(change: &mut Change<'_>, plan: PlanId, reason: &str) -> Outcome {
    check_authority(change)?;
    let mut record = change.plan(plan)?;
    if record.state != PlanState::Running {
        return Err(Rejection::PlanEnded {
            plan,
            state: record.state,
        });
    }
    let role = change.role(&record.role)?;
    record.reason = note(reason);
    for step in record.steps.iter_mut().filter(|s| s.state == StepState::Running) {
        step.state = StepState::Failed;
        step.detail = note(reason);
        step.finished_at = Some(change.now());
    }
    drop_reservation(change, role, plan);
    end(change, record, PlanState::Failed);
    Ok(change.done())
}

fn drop_reservation(change: &mut Change<'_>, role: RoleState, plan: PlanId) {
    if role.record.reservation.as_ref().is_some_and(|r| r.plan == plan) {
        let record = RoleRecord {
            reservation: None,
            ..role.record
        };
        change.put_role(RoleState { record, ..role });
    }
}

pub(super) fn end(change: &mut Change<'_>, record: PlanRecord, state: PlanState) {
    let role = record.role.clone();
    let finished_at = Some(change.now());
    change.put_plan(PlanRecord {
        state,
        finished_at,
        ..record
    });
    forget_oldest(change, &role);
}

/// Keeps the last ended plans of a role.
fn forget_oldest(change: &mut Change<'_>, role: &RoleName) {
    let ended = change.state.plans_of(role);
    let ended = ended.filter(|p| p.state != PlanState::Running);
    let ended: Vec<PlanId> = ended.map(|p| p.plan).collect();
    let kept = usize::try_from(change.state.finished_plans_kept).unwrap_or(usize::MAX);
    for plan in ended.iter().take(ended.len().saturating_sub(kept)) {
        change.delete_plan(*plan);
    }
}
