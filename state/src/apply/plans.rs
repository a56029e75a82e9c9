//! Plans: long work as a record. Steps run in order, attempts fence their effects, ended plans are forgotten by rule.

mod authority;
mod ending;
mod report;
mod steps;

use policy::fence::Refused;
use types::{
    Epoch, PlanId, Principal,
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepRecord, StepState},
    role::RoleRecord,
};

use self::authority::check_authority;
pub(super) use self::{
    authority::check_mode,
    ending::fail,
    report::finish_step,
    steps::{Attempt, complete, due, running_attempt, start_step},
};
use super::{Outcome, change::Change, text::note};
use crate::{command::Command, rejection::Rejection, reply::Reply};

/// Begins a plan. Its DETECT is done with it: the trigger is its evidence.
pub(super) fn start(change: &mut Change<'_>, command: &Command) -> Outcome {
    let Command::StartPlan {
        role,
        kind,
        target,
        trigger,
        expected_epoch,
    } = command
    else {
        return Err(Rejection::invalid("command", "is no StartPlan"));
    };
    check_authority(change)?;
    let record = change.role(role)?.record;
    if let Some(running) = change.state.running_plan(role) {
        return Err(Rejection::PlanRunning {
            role: role.clone(),
            plan: running.plan,
        });
    }
    check_expected(&record, *expected_epoch)?;
    check_mode(change, &record, change.actor())?;
    check_kind(&record, *kind)?;
    if record.holder.as_ref() == Some(target) && !may_return(change, *kind) {
        let problem = format!("{target} holds {role} already");
        return Err(Rejection::invalid("target", problem));
    }
    change.check_qualified(&record, target)?;
    let plan = PlanId(change.revision().0);
    let mut new = PlanRecord {
        plan,
        role: role.clone(),
        kind: *kind,
        trigger: note(trigger),
        from: record.holder,
        from_epoch: record.epoch,
        target: target.clone(),
        target_epoch: None,
        steps: StepKind::of(*kind)
            .iter()
            .map(|step| new_step(change, *step, trigger))
            .collect(),
        state: PlanState::Running,
        reason: String::new(),
        doors: Vec::new(),
        created_at: change.now(),
        created_by: change.actor().clone(),
        finished_at: None,
        modified: change.revision(),
    };
    steps::begin_next(change, &mut new);
    change.put_plan(new);
    Ok(Reply::Plan { plan })
}

/// A holder that released its lease goes on only under a new epoch: the leader, who heard the release, may begin a
/// failover back to it. A person would only make it stop for nothing.
fn may_return(change: &Change<'_>, kind: PlanKind) -> bool {
    kind == PlanKind::Failover && matches!(change.actor(), Principal::Coordinator { .. })
}

fn new_step(change: &Change<'_>, kind: StepKind, trigger: &str) -> StepRecord {
    let detected = kind == StepKind::Detect;
    let at = detected.then(|| change.now());
    StepRecord {
        kind,
        state: if detected {
            StepState::Done
        } else {
            StepState::Waiting
        },
        attempt: u32::from(detected),
        detail: if detected { note(trigger) } else { String::new() },
        started_at: at,
        finished_at: at,
    }
}

/// That the role is at the epoch that a caller saw.
pub(super) fn check_expected(role: &RoleRecord, shown: Epoch) -> Result<(), Rejection> {
    if shown == role.epoch {
        return Ok(());
    }
    let (current, holder, role) = (role.epoch, role.holder.clone(), role.role.clone());
    Err(Rejection::from(Box::new(if shown < current {
        Refused::StaleEpoch {
            role,
            shown,
            current,
            holder,
        }
    } else {
        Refused::Unconfirmed {
            role,
            shown,
            current,
            holder,
        }
    })))
}

/// An assignment is for an empty role; a failover and a switchover take it from somebody.
fn check_kind(role: &RoleRecord, kind: PlanKind) -> Result<(), Rejection> {
    let fits = match kind {
        PlanKind::Assign => role.holder.is_none(),
        PlanKind::Failover | PlanKind::Switchover => role.holder.is_some(),
    };
    if fits {
        return Ok(());
    }
    Err(Rejection::IllegalTransition {
        what: format!("role {}", role.role),
        from: if role.holder.is_some() {
            "held".to_owned()
        } else {
            "empty".to_owned()
        },
        to: format!("moved by {kind}"),
    })
}
