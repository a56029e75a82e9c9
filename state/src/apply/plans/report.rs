//! What is reported of a step: by whom, and whether it counts.

use types::{
    Holder, NodeIncarnation, Principal,
    plan::{DoorClaim, StepKind, StepState},
    region::FencingDoor,
};

use super::{
    super::{
        Outcome,
        change::Change,
        text::{at_most, note},
    },
    steps::{Attempt, complete, with_step},
};
use crate::{command::StepOutcome, rejection::Rejection, reply::Reply};

/// Doors that a claim may report.
const DOORS_MAX: u64 = 1_000;

/// Ends an attempt of a step that has no command of its own.
pub(in crate::apply) fn finish_step(
    change: &mut Change<'_>,
    due: Attempt,
    reporter: Option<NodeIncarnation>,
    outcome: &StepOutcome,
) -> Outcome {
    check_finisher(change, &due, reporter)?;
    let reply = Reply::Step {
        plan: due.plan.plan,
        step: due.step().kind,
        attempt: due.step().attempt,
    };
    match outcome {
        StepOutcome::Done { detail, doors } => {
            at_most("count of doors", doors.len(), DOORS_MAX)?;
            if let Some(why) = untried(change, &due, doors) {
                fail_step(change, due, why);
                return Ok(reply);
            }
            let doors: Vec<_> = doors.iter().map(cut).collect();
            complete(change, due, note(detail), |plan| plan.doors.extend(doors));
        }
        StepOutcome::Failed { detail } => fail_step(change, due, note(detail)),
    }
    Ok(reply)
}

fn fail_step(change: &mut Change<'_>, due: Attempt, detail: String) {
    let record = with_step(change, due, StepState::Failed, detail);
    change.put_plan(record);
}

/// Why an agent's claim counts as not tried: it names no door, though there are stores with pointers to claim (L15). One
/// that cannot be reached is reported as unclaimed, and is no reason to wait.
fn untried(change: &Change<'_>, due: &Attempt, doors: &[DoorClaim]) -> Option<String> {
    let by_agent = matches!(change.actor(), Principal::Agent { .. });
    if due.step().kind != StepKind::Claim || !by_agent || !doors.is_empty() {
        return None;
    }
    let stores = change.state.regions.values().filter_map(|r| r.store.as_ref());
    let qualified = stores
        .filter(|s| s.fencing_door == FencingDoor::Qualified)
        .count();
    (qualified > 0).then(|| format!("no door was tried, and {qualified} stores are attached"))
}

/// An agent names and explains its doors: both texts are kept, so both are cut.
fn cut(claim: &DoorClaim) -> DoorClaim {
    let (door, error) = (note(&claim.door), note(&claim.error));
    DoorClaim {
        door,
        error,
        claimed: claim.claimed,
    }
}

/// The target's agent ends what it carries out, in the run that is the plan's target; a coordinator may end any step but
/// those that change the role. So may a person, but for the wait: only the leader's clock knows when leases are over.
fn check_finisher(
    change: &Change<'_>,
    due: &Attempt,
    reporter: Option<NodeIncarnation>,
) -> Result<(), Rejection> {
    let step = due.step().kind;
    if matches!(step, StepKind::Fence | StepKind::Promote) {
        return Err(Rejection::invalid(
            "step",
            format!("{step} is ended by its own command"),
        ));
    }
    let target = &due.plan.target;
    match change.actor() {
        Principal::Coordinator { .. } => Ok(()),
        Principal::User { .. } if step != StepKind::WaitLease => Ok(()),
        Principal::Agent { region, node }
            if step.runs_in_agent() && *region == target.region && *node == target.node =>
        {
            check_run(target, reporter)
        }
        actor @ (Principal::Agent { .. } | Principal::User { .. }) => {
            let needs = if step.runs_in_agent() {
                format!("the agent of {target}")
            } else {
                "a coordinator".to_owned()
            };
            Err(Rejection::PermissionDenied {
                actor: actor.clone(),
                needs,
            })
        }
    }
}

/// Another run of the target's node did not do what the plan's target was asked to do, and knows nothing of it.
fn check_run(target: &Holder, reporter: Option<NodeIncarnation>) -> Result<(), Rejection> {
    match reporter {
        Some(run) if run == target.incarnation => Ok(()),
        Some(shown) => Err(Rejection::StaleIncarnation {
            node: target.node.clone(),
            shown,
            current: target.incarnation,
        }),
        None => Err(Rejection::invalid("reporter", "an agent's report names its run")),
    }
}
