//! Plans: long work as a record. Steps run in order, attempts fence their effects, ended plans are forgotten by rule.

use types::{
    Epoch, Holder, NodeIncarnation, PlanId, Principal, RoleName,
    plan::{DoorClaim, PlanKind, PlanRecord, PlanState, StepKind, StepRecord, StepState},
    region::FencingDoor,
    role::RoleRecord,
};

use policy::{failover::is_held, fence::Refused};

use super::{
    Outcome,
    change::Change,
    text::{at_most, note},
};
use crate::{
    command::{Command, StepOutcome},
    rejection::Rejection,
    reply::Reply,
    state::RoleState,
};

/// Doors that a claim may report.
const DOORS_MAX: u64 = 1_000;

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
    change.put_plan(PlanRecord {
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
    });
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

/// Plans are the leader's and people's; an agent only reports its own steps.
fn check_authority(change: &Change<'_>) -> Result<(), Rejection> {
    match change.actor() {
        Principal::Coordinator { .. } | Principal::User { .. } => Ok(()),
        actor @ Principal::Agent { .. } => {
            let needs = "a coordinator or a person".to_owned();
            Err(Rejection::PermissionDenied {
                actor: actor.clone(),
                needs,
            })
        }
    }
}

fn check_expected(role: &RoleRecord, shown: Epoch) -> Result<(), Rejection> {
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

/// What runs by itself waits in a pause; a person may act in one. Asked when a plan begins, and again where it takes the
/// role, because a pause may have been said in between.
pub(super) fn check_mode(
    change: &Change<'_>,
    role: &RoleRecord,
    begun_by: &Principal,
) -> Result<(), Rejection> {
    if is_held(role.mode, change.now()) && matches!(begun_by, Principal::Coordinator { .. }) {
        return Err(Rejection::FailoverPaused {
            role: role.role.clone(),
            mode: role.mode,
        });
    }
    Ok(())
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

/// A running plan's step that is due.
pub(super) struct Attempt {
    pub(super) plan: PlanRecord,
    /// Place of the step in the plan.
    at: usize,
}

impl Attempt {
    fn step(&self) -> &StepRecord {
        &self.plan.steps[self.at]
    }
}

fn due_step(change: &Change<'_>, plan: PlanId, step: StepKind) -> Result<Attempt, Rejection> {
    let record = change.plan(plan)?;
    if record.state != PlanState::Running {
        return Err(Rejection::PlanEnded {
            plan,
            state: record.state,
        });
    }
    let at = record.steps.iter().position(|s| s.state != StepState::Done);
    let Some(at) = at else {
        return Err(Rejection::PlanEnded {
            plan,
            state: record.state,
        });
    };
    let due = record.steps[at].kind;
    if due != step {
        return Err(Rejection::StepOutOfOrder {
            plan,
            shown: step,
            due,
        });
    }
    Ok(Attempt { plan: record, at })
}

/// The running attempt of a step that is due, by somebody who may end it.
pub(super) fn due(
    change: &Change<'_>,
    plan: PlanId,
    step: StepKind,
    attempt: u32,
) -> Result<Attempt, Rejection> {
    check_authority(change)?;
    running_attempt(change, plan, step, attempt)
}

/// The running attempt of a step that is due, whoever asks.
pub(super) fn running_attempt(
    change: &Change<'_>,
    plan: PlanId,
    step: StepKind,
    attempt: u32,
) -> Result<Attempt, Rejection> {
    let due = due_step(change, plan, step)?;
    check_attempt(&due, attempt, due.step().attempt)?;
    if due.step().state != StepState::Running {
        return Err(Rejection::StepNotRunning { plan, step });
    }
    Ok(due)
}

fn check_attempt(due: &Attempt, shown: u32, current: u32) -> Result<(), Rejection> {
    if shown == current {
        return Ok(());
    }
    let what = format!("step {} of plan {}", due.step().kind, due.plan.plan);
    Err(Rejection::StaleAttempt { what, shown, current })
}

/// Begins an attempt; one that still runs is fenced by it.
pub(super) fn start_step(change: &mut Change<'_>, plan: PlanId, step: StepKind, attempt: u32) -> Outcome {
    check_authority(change)?;
    let mut due = due_step(change, plan, step)?;
    check_attempt(&due, attempt, due.step().attempt.saturating_add(1))?;
    let started = StepRecord {
        kind: step,
        state: StepState::Running,
        attempt,
        detail: String::new(),
        started_at: Some(change.now()),
        finished_at: None,
    };
    due.plan.steps[due.at] = started;
    change.put_plan(due.plan);
    Ok(Reply::Step { plan, step, attempt })
}

/// Ends an attempt of a step that has no command of its own.
pub(super) fn finish_step(
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

fn with_step(change: &Change<'_>, mut due: Attempt, state: StepState, detail: String) -> PlanRecord {
    let step = &mut due.plan.steps[due.at];
    step.state = state;
    step.detail = detail;
    step.finished_at = Some(change.now());
    due.plan
}

/// Ends a step well, and the plan with its last step.
pub(super) fn complete(
    change: &mut Change<'_>,
    due: Attempt,
    detail: String,
    also: impl FnOnce(&mut PlanRecord),
) {
    let mut record = with_step(change, due, StepState::Done, detail);
    also(&mut record);
    if record.current_step().is_some() {
        change.put_plan(record);
    } else {
        end(change, record, PlanState::Succeeded);
    }
}

/// Gives a plan up. Its fence stays, its reservation goes, and the reserved epoch is never issued.
pub(super) fn fail(change: &mut Change<'_>, plan: PlanId, reason: &str) -> Outcome {
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

fn end(change: &mut Change<'_>, record: PlanRecord, state: PlanState) {
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
    let ended = change
        .state
        .plans
        .values()
        .filter(|p| &p.role == role && p.state != PlanState::Running);
    let ended: Vec<PlanId> = ended.map(|p| p.plan).collect();
    let kept = usize::try_from(change.state.finished_plans_kept).unwrap_or(usize::MAX);
    for plan in ended.iter().take(ended.len().saturating_sub(kept)) {
        change.delete_plan(*plan);
    }
}
