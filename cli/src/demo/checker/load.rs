//! The inference load: which requests count, and whether every one of them was answered in time.

use std::collections::BTreeSet;

use types::RegionId;

use super::{Verdict, must, seen};
use crate::demo::record::{FaultWindow, LoadRequest, LoadSeen, RecordedRun};

/// Requests a second that every region gets.
const RATE_MIN: f64 = 20.0;
/// A request without an answer by then has failed, in microseconds.
const DEADLINE_MICROS: u64 = 1_000_000;

/// What counts of the load.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    /// Requests to regions that were up.
    pub(super) requests: u64,
    /// Of these, failed.
    pub(super) failures: u64,
}

pub(super) fn totals(run: &RecordedRun) -> Totals {
    let mut totals = Totals::default();
    for load in &run.load {
        for request in load.requests.iter().filter(|r| counts(run, &load.region, r)) {
            totals.requests += 1;
            totals.failures += u64::from(failed(request));
        }
    }
    totals
}

/// A request counts unless any moment of it lies in a fault window of its region.
fn counts(run: &RecordedRun, region: &RegionId, request: &LoadRequest) -> bool {
    !run.faults
        .iter()
        .any(|f| &f.region == region && overlaps(f, request))
}

fn overlaps(fault: &FaultWindow, request: &LoadRequest) -> bool {
    let ended = request.at.plus(request.took);
    ended >= fault.from && fault.until.is_none_or(|until| request.at <= until)
}

fn failed(request: &LoadRequest) -> bool {
    request.error.is_some() || request.took > DEADLINE_MICROS
}

pub(super) fn judge(run: &RecordedRun) -> Verdict {
    for region in &run.regions {
        let load = run.load.iter().find(|l| &l.region == region);
        let load = seen(&format!("the load of {region}"), load)?;
        steady(run, load)?;
        sent_once(run, load)?;
        if let Some(request) = load.requests.iter().find(|r| counts(run, region, r) && failed(r)) {
            return Err(describe(run, region, request));
        }
    }
    let totals = totals(run);
    Ok(format!(
        "{} requests to regions that were up, none failed, none retried",
        totals.requests
    ))
}

/// The load was there, at the rate, until after the last act.
fn steady(run: &RecordedRun, load: &LoadSeen) -> Result<(), String> {
    let region = &load.region;
    let (Some(first), Some(last)) = (load.requests.first(), load.requests.last()) else {
        return Err(format!("{region} got no load"));
    };
    // By their places: while the load goes on, some that were sent have no end yet, which is no lower rate.
    let sent = u32::try_from(last.place.saturating_sub(first.place)).unwrap_or(u32::MAX);
    let rate = f64::from(sent) / last.at.seconds_since(first.at).max(0.001);
    must(rate >= RATE_MIN, || {
        format!("{region} got {rate:.1} requests a second; {RATE_MIN} are promised")
    })?;
    let released = run.act2.as_ref().and_then(|act| act.released);
    must(released.is_none_or(|end| last.at > end), || {
        format!("the load of {region} ended before the last act did")
    })
}

/// No place of the load was taken twice; once the load has ended, none is without an end.
fn sent_once(run: &RecordedRun, load: &LoadSeen) -> Result<(), String> {
    let region = &load.region;
    let mut places = BTreeSet::new();
    let again = load.requests.iter().find(|r| !places.insert(r.place));
    must(again.is_none(), || {
        let place = again.map_or(0, |r| r.place);
        format!("request {place} to {region} was sent twice; none may be retried")
    })?;
    let sent = places.last().map_or(0, |last| last + 1);
    must(run.converged.is_none() || places.len() == sent, || {
        format!(
            "{} of {sent} requests to {region} have no recorded end",
            sent - places.len()
        )
    })
}

fn describe(run: &RecordedRun, region: &RegionId, request: &LoadRequest) -> String {
    let totals = totals(run);
    let why = request.error.as_deref().unwrap_or("the answer came too late");
    format!(
        "{} of {} requests to regions that were up failed; the first in {region}: {why}",
        totals.failures, totals.requests
    )
}
