//! Steps of a running plan and their attempts.

use types::{
    PlanId,
    plan::{PlanRecord, PlanState, StepKind, StepRecord, StepState},
};

use super::{
    super::{Outcome, change::Change},
    authority::check_authority,
    ending::end,
};
use crate::{features::Feature, rejection::Rejection, reply::Reply};

/// A running plan's step that is due.
pub(in crate::apply) struct Attempt {
    pub(in crate::apply) plan: PlanRecord,
    /// Place of the step in the plan.
    at: usize,
}

impl Attempt {
    pub(super) fn step(&self) -> &StepRecord {
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
pub(in crate::apply) fn due(
    change: &Change<'_>,
    plan: PlanId,
    step: StepKind,
    attempt: u32,
) -> Result<Attempt, Rejection> {
    check_authority(change)?;
    running_attempt(change, plan, step, attempt)
}

/// The running attempt of a step that is due, whoever asks.
pub(in crate::apply) fn running_attempt(
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
pub(in crate::apply) fn start_step(
    change: &mut Change<'_>,
    plan: PlanId,
    step: StepKind,
    attempt: u32,
) -> Outcome {
    check_authority(change)?;
    let mut due = due_step(change, plan, step)?;
    check_attempt(&due, attempt, due.step().attempt.saturating_add(1))?;
    due.plan.steps[due.at] = begun(change, step, attempt);
    change.put_plan(due.plan);
    Ok(Reply::Step { plan, step, attempt })
}

fn begun(change: &Change<'_>, kind: StepKind, attempt: u32) -> StepRecord {
    StepRecord {
        kind,
        state: StepState::Running,
        attempt,
        detail: String::new(),
        started_at: Some(change.now()),
        finished_at: None,
    }
}

/// Begins the step that is due now, in the entry that ended the one before: between regions that are far apart an entry takes a
/// round trip, and nobody decides anything in it that the step itself does not check when it has its effect.
pub(super) fn begin_next(change: &Change<'_>, plan: &mut PlanRecord) {
    if !change.state.features().has(Feature::ChainedSteps) {
        return;
    }
    let next = plan.steps.iter_mut().find(|s| s.state != StepState::Done);
    if let Some(next) = next.filter(|s| s.state == StepState::Waiting) {
        *next = begun(change, next.kind, next.attempt.saturating_add(1));
    }
}

pub(super) fn with_step(
    change: &Change<'_>,
    mut due: Attempt,
    state: StepState,
    detail: String,
) -> PlanRecord {
    let step = &mut due.plan.steps[due.at];
    step.state = state;
    step.detail = detail;
    step.finished_at = Some(change.now());
    due.plan
}

/// Ends a step well, and the plan with its last step.
pub(in crate::apply) fn complete(
    change: &mut Change<'_>,
    due: Attempt,
    detail: String,
    also: impl FnOnce(&mut PlanRecord),
) {
    let mut record = with_step(change, due, StepState::Done, detail);
    also(&mut record);
    begin_next(change, &mut record);
    if record.current_step().is_some() {
        change.put_plan(record);
    } else {
        end(change, record, PlanState::Succeeded);
    }
}
