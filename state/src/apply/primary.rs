//! The epoch rules: who holds a primary role, and how that changes (L1–L3, L8, L9, L11, I4, I8).
//!
//! The only place that issues epochs. Each one is above all that were issued or reserved before, also by plans that
//! failed, so no two holders ever share one. Time decides nothing here: leases end on the leader's own clock.

use types::{
    Epoch, Holder, PlanId, Principal, RegionId, RoleName,
    plan::{PlanKind, PlanRecord, StepKind},
    planted::{self, Bug},
    role::{FailoverMode, Reservation, RoleRecord, TimingPolicy},
    units::format_duration,
};

use super::{
    Outcome,
    change::Change,
    cluster::{check_timing, empty_role},
    plans::{self, Attempt},
    text::at_most,
};
use crate::{
    rejection::Rejection,
    reply::Reply,
    state::{FormerTtl, RoleState},
};

/// Roles that a cluster may have.
const ROLES_MAX: u64 = 1_000;

pub(super) fn create(
    change: &mut Change<'_>,
    role: &RoleName,
    candidates: &[RegionId],
    mode: FailoverMode,
    timing: Option<&TimingPolicy>,
) -> Outcome {
    if change.state.roles.contains_key(role) {
        let (what, name) = ("role".to_owned(), role.to_string());
        return Err(Rejection::AlreadyExists { what, name });
    }
    at_most("count of roles", change.state.roles.len() + 1, ROLES_MAX)?;
    change.check_region_list("candidates", candidates)?;
    check_mode(change, mode)?;
    let cluster = change.cluster()?;
    let timing = timing.unwrap_or(&cluster.timing);
    check_timing(timing)?;
    let mut new = empty_role(change, role.clone(), cluster.generation, timing.clone());
    new.record.candidates = candidates.to_vec();
    new.record.mode = mode;
    change.put_role(new);
    Ok(change.done())
}

fn check_mode(change: &Change<'_>, mode: FailoverMode) -> Result<(), Rejection> {
    match mode {
        FailoverMode::Automatic | FailoverMode::Manual => Ok(()),
        FailoverMode::Paused { until } if until > change.now() => Ok(()),
        FailoverMode::Paused { until } => Err(Rejection::invalid(
            "mode",
            format!("a pause until {until} is over: it is {}", change.now()),
        )),
    }
}

pub(super) fn set_mode(change: &mut Change<'_>, role: &RoleName, mode: FailoverMode) -> Outcome {
    let mut role = change.role(role)?;
    check_mode(change, mode)?;
    role.record.mode = mode;
    change.put_role(role);
    Ok(change.done())
}

pub(super) fn set_candidates(change: &mut Change<'_>, role: &RoleName, candidates: &[RegionId]) -> Outcome {
    let mut role = change.role(role)?;
    change.check_region_list("candidates", candidates)?;
    role.record.candidates = candidates.to_vec();
    change.put_role(role);
    Ok(change.done())
}

/// A longer TTL counts at once; a shorter one only when a leader has waited the old one out (L8). Of several old ones the
/// largest is kept, from the last change on.
pub(super) fn set_timing(change: &mut Change<'_>, role: &RoleName, timing: &TimingPolicy) -> Outcome {
    let mut role = change.role(role)?;
    check_timing(timing)?;
    if timing.lease_ttl < role.record.timing.lease_ttl {
        role.former_ttl = Some(FormerTtl {
            ttl: role.outstanding_ttl(),
            since: change.revision(),
        });
    }
    role.record.timing = timing.clone();
    change.put_role(role);
    Ok(change.done())
}

/// A leader has waited a former TTL and its drift on its monotonic clock, since it had applied the entry that shortened it:
/// no lease of it can be outstanding. `apply` has no clock to check that by, so it takes a coordinator's word and nobody
/// else's.
pub(super) fn retire_ttl(change: &mut Change<'_>, role: &RoleName, waited: FormerTtl) -> Outcome {
    if !matches!(change.actor(), Principal::Coordinator { .. }) {
        return Err(Rejection::PermissionDenied {
            actor: change.actor().clone(),
            needs: "a coordinator".to_owned(),
        });
    }
    let mut role = change.role(role)?;
    if role.former_ttl != Some(waited) {
        let text = |former: FormerTtl| format!("{} since {}", format_duration(former.ttl), former.since);
        return Err(Rejection::IllegalTransition {
            what: format!("the former TTL of {}", role.record.role),
            from: role.former_ttl.map_or_else(|| "none".to_owned(), text),
            to: format!("retired after {}", text(waited)),
        });
    }
    role.former_ttl = None;
    change.put_role(role);
    Ok(change.done())
}

/// Ends the holder's epoch and reserves the one after for the plan's target. The target is checked first: for one that
/// cannot serve, nobody is fenced (I8).
pub(super) fn fence(change: &mut Change<'_>, plan: PlanId, attempt: u32) -> Outcome {
    let due = plans::due(change, plan, StepKind::Fence, attempt)?;
    let role = change.role(&due.plan.role)?;
    check_unmoved(&due.plan, &role.record)?;
    plans::check_mode(change, &role.record, &due.plan.created_by)?;
    check_target(change, &due.plan, &role.record)?;
    let epoch = next_epoch(role.highest_epoch)?;
    let reserved = next_epoch(epoch)?;
    let target = due.plan.target.clone();
    let detail = format!(
        "{} is fenced by {epoch}; {reserved} is reserved for {target}",
        name(&role.record.holder)
    );
    let record = RoleRecord {
        epoch,
        holder: None,
        reservation: Some(Reservation {
            plan,
            target,
            epoch: reserved,
        }),
        changed_at: change.now(),
        reason: format!("fenced by plan {plan}: {}", due.plan.trigger),
        ..role.record
    };
    let reply = Reply::Role {
        role: record.role.clone(),
        epoch,
        holder: None,
        reserved: Some(reserved),
    };
    change.put_role(RoleState {
        record,
        highest_epoch: reserved,
        ..role
    });
    plans::complete(change, due, detail, |plan| plan.target_epoch = Some(reserved));
    Ok(reply)
}

/// Gives the role to the plan's target. Everything is checked once more, because the plan began long ago.
pub(super) fn promote(change: &mut Change<'_>, plan: PlanId, attempt: u32) -> Outcome {
    let due = plans::due(change, plan, StepKind::Promote, attempt)?;
    let role = change.role(&due.plan.role)?;
    check_target(change, &due.plan, &role.record)?;
    let epoch = promoted_epoch(change, &due, &role)?;
    let target = due.plan.target.clone();
    let detail = format!("{target} holds {} from {epoch} on", role.record.role);
    let record = RoleRecord {
        epoch,
        holder: Some(target.clone()),
        reservation: None,
        changed_at: change.now(),
        reason: format!("promoted by plan {plan}: {}", due.plan.trigger),
        ..role.record
    };
    let reply = Reply::Role {
        role: record.role.clone(),
        epoch,
        holder: Some(target),
        reserved: None,
    };
    let highest_epoch = role.highest_epoch.max(epoch);
    change.put_role(RoleState {
        record,
        highest_epoch,
        ..role
    });
    plans::complete(change, due, detail, |plan| plan.target_epoch = Some(epoch));
    Ok(reply)
}

/// The epoch that a promotion commits: the one that its fence reserved, or in a switchover the next one, in the same
/// entry that ends the old (L11).
fn promoted_epoch(change: &Change<'_>, due: &Attempt, role: &RoleState) -> Result<Epoch, Rejection> {
    match due.plan.kind {
        PlanKind::Switchover => {
            check_unmoved(&due.plan, &role.record)?;
            plans::check_mode(change, &role.record, &due.plan.created_by)?;
            next_epoch(role.highest_epoch)
        }
        PlanKind::Assign | PlanKind::Failover => {
            let reserved = role.record.reservation.as_ref();
            let own = reserved.filter(|r| r.plan == due.plan.plan && r.target == due.plan.target);
            let own = own.ok_or_else(|| Rejection::IllegalTransition {
                what: format!("role {}", role.record.role),
                from: format!("not reserved for plan {}", due.plan.plan),
                to: format!("held by {}", due.plan.target),
            })?;
            Ok(own.epoch)
        }
    }
}

/// That the role is as the plan found it.
fn check_unmoved(plan: &PlanRecord, role: &RoleRecord) -> Result<(), Rejection> {
    if plan.from == role.holder && plan.from_epoch == role.epoch {
        return Ok(());
    }
    Err(Rejection::IllegalTransition {
        what: format!("role {}", role.role),
        from: format!("held by {} at {}", name(&role.holder), role.epoch),
        to: format!("moved from {} at {}", name(&plan.from), plan.from_epoch),
    })
}

fn check_target(change: &Change<'_>, plan: &PlanRecord, role: &RoleRecord) -> Result<(), Rejection> {
    change.check_qualified(role, &plan.target)
}

fn next_epoch(highest: Epoch) -> Result<Epoch, Rejection> {
    if planted::has(Bug::ReusedEpochs) && highest.counter() > 1 {
        return Ok(highest);
    }
    highest.next().ok_or_else(|| Rejection::LimitExceeded {
        what: "changes of holder in one generation".to_owned(),
        shown: u64::from(highest.counter()) + 1,
        limit: u64::from(u32::MAX),
    })
}

fn name(holder: &Option<Holder>) -> String {
    holder
        .as_ref()
        .map_or_else(|| "nobody".to_owned(), ToString::to_string)
}
