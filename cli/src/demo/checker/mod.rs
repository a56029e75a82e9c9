//! Judges a recorded run: the same record always gives the same report.
//!
//! Absent on purpose: files, clocks, processes. Whatever is to be judged stands in [`RecordedRun`]; a step without
//! evidence did not hold. Start with [`check`]; one function per step is in `steps`, `acts` and `doors`.
//! Invariant: `ok` is true only if every one of the fifteen steps was taken, ended, and held.

mod acts;
mod agree;
mod claim;
mod doors;
mod early;
mod load;
mod memory;
mod steps;
mod tally;

#[cfg(test)]
mod tests;

use super::{
    record::{RecordedRun, StepName},
    report::{Report, StepReport},
};

/// Every failover ends within this.
pub(crate) const FAILOVER_SECONDS_MAX: f64 = 10.0;

/// A coordinator stays below this much resident memory.
pub(crate) const COORDINATOR_RESIDENT_BYTES_MAX: u64 = 100 << 20;

/// A revived store's pointer is claimed within this after the store's return.
pub(crate) const CLAIM_SECONDS_MAX: f64 = 1.0;

/// An agent goes on taking an epoch for at most this long after a quorum was last asked about it, in microseconds.
pub(crate) const AGENT_TRUST_MICROS: u64 = 2_500_000;

/// Stale writes that every door must have refused.
pub(crate) const STALE_WRITES_MIN: u64 = 20;

/// What was seen, or what was wrong.
pub(crate) type Verdict = Result<String, String>;

/// The whole run.
pub(crate) fn check(run: &RecordedRun) -> Report {
    let steps: Vec<StepReport> = StepName::ALL.into_iter().map(|name| step(run, name)).collect();
    let doors = tally::all(run);
    let load = load::totals(run);
    Report {
        ok: steps.iter().all(|s| s.ok),
        steps,
        seconds: run.seconds,
        failover_seconds: run.act1.as_ref().and_then(|act| acts::failover_seconds(run, act)),
        epoch_before: run.act1.as_ref().map(|act| act.before.epoch.as_u64()),
        epoch_after: acts::last_epoch(run).map(types::Epoch::as_u64),
        stale_writes_attempted: doors.iter().map(|d| d.attempted).sum(),
        stale_writes_accepted: doors.iter().map(|d| d.accepted).sum(),
        doors,
        inference_requests: load.requests,
        inference_failures: load.failures,
        coordinator_resident_bytes: memory::most(run),
        directory: None,
    }
}

/// One step: taken, ended, and held.
pub(crate) fn step(run: &RecordedRun, name: StepName) -> StepReport {
    let taken = run.steps.iter().find(|s| s.name == name);
    let seconds = taken.map_or(0.0, |s| s.seconds);
    let verdict = match taken.map(|s| &s.error) {
        None => Err("not reached".to_owned()),
        Some(Some(error)) => Err(error.clone()),
        Some(None) => judge(run, name),
    };
    let (ok, detail) = match verdict {
        Ok(detail) => (true, detail),
        Err(detail) => (false, detail),
    };
    StepReport {
        name,
        ok,
        seconds,
        detail,
    }
}

fn judge(run: &RecordedRun, name: StepName) -> Verdict {
    match name {
        StepName::Cluster => steps::cluster(run),
        StepName::Push => steps::push(run),
        StepName::Copies => steps::copies(run),
        StepName::Answers => steps::answers(run),
        StepName::Load => load::judge(run),
        StepName::Zombies => steps::zombies(run),
        StepName::Act1Kill => acts::kill(run),
        StepName::Act1Promote => acts::promote(run, run.act1.as_ref()),
        StepName::Act1Return => acts::comeback(run),
        StepName::Act2Pause => acts::pause(run),
        StepName::Act2Promote => acts::promote(run, run.act2.as_ref()),
        StepName::Act2Resume => acts::resume(run),
        StepName::Refusals => doors::refusals(run),
        StepName::Doors => doors::records(run),
        StepName::Converged => steps::converged(run),
    }
}

/// `Ok` where `held`, the sentence otherwise.
fn must(held: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if held { Ok(()) } else { Err(otherwise()) }
}

/// The observation, or that there is none.
fn seen<'a, T>(what: &str, value: Option<&'a T>) -> Result<&'a T, String> {
    value.ok_or_else(|| format!("{what} was not observed"))
}

/// Names in a row, for a sentence.
fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|i| i.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
