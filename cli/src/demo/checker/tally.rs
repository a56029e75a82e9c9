//! Counts the stale writes of each door, by the door's own record.
//!
//! Stale: the epoch shown is below one that this door held, or had accepted, when the write arrived. A refusal counts
//! only if the epoch was its reason; whatever else went wrong proves nothing about fencing.

use types::Epoch;

use crate::demo::{
    doors::{DoorLog, DoorRecord, all_doors},
    micros::Micros,
    record::RecordedRun,
    report::DoorReport,
};

/// What stale writers achieved at one door, and whether its refusals say enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) report: DoorReport,
    /// Stale refusals that do not name the epoch shown and a higher one.
    pub(super) nameless: u64,
    /// Positions in the record of what was accepted before the claim.
    pub(super) early: Vec<usize>,
}

/// Every door that there must be; one without a record has tried nothing.
pub(super) fn all(run: &RecordedRun) -> Vec<DoorReport> {
    all_doors(&run.regions)
        .iter()
        .map(|name| door(run, name).report)
        .collect()
}

pub(super) fn door(run: &RecordedRun, name: &str) -> Tally {
    let mut tally = Tally {
        report: DoorReport {
            name: name.to_owned(),
            attempted: 0,
            accepted: 0,
            accepted_before_claim: 0,
        },
        nameless: 0,
        early: Vec::new(),
    };
    if let Some(log) = run.doors.iter().find(|d| d.name == name) {
        count(log, &promotions(run), &mut tally);
    }
    tally
}

fn count(log: &DoorLog, promotions: &[(Micros, Epoch)], tally: &mut Tally) {
    let mut held = Epoch::ZERO;
    for (position, record) in log.records.iter().enumerate() {
        held = held.max(record.current.unwrap_or(Epoch::ZERO));
        let Some(shown) = record.shown else { continue };
        if shown < held {
            count_stale(record, shown, tally);
        } else if record.accepted {
            let superseded = promotions
                .iter()
                .any(|(at, epoch)| record.at > *at && shown < *epoch);
            if superseded {
                tally.report.accepted_before_claim += 1;
                tally.early.push(position);
            }
        }
        if record.accepted {
            held = held.max(shown);
        }
    }
}

fn count_stale(record: &DoorRecord, shown: Epoch, tally: &mut Tally) {
    if record.accepted {
        tally.report.attempted += 1;
        tally.report.accepted += 1;
    } else if refused_for_its_epoch(record) {
        tally.report.attempted += 1;
        tally.nameless += u64::from(record.current.is_none_or(|current| current <= shown));
    }
}

/// `STALE_EPOCH` at the registry and the agents; a failed If-Match at a pointer, whose ETag stands for its epoch.
pub(super) fn refused_for_its_epoch(record: &DoorRecord) -> bool {
    !record.accepted && matches!(record.reason.as_str(), "STALE_EPOCH" | "PreconditionFailed")
}

/// When each later epoch was seen to be committed.
fn promotions(run: &RecordedRun) -> Vec<(Micros, Epoch)> {
    [&run.act1, &run.act2]
        .into_iter()
        .flatten()
        .filter_map(|act| Some((act.promoted?, act.after.as_ref()?.epoch)))
        .collect()
}
