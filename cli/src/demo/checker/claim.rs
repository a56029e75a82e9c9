//! The pointer of the revived region's own store: it was down at the promotion, so it is claimed when it returns (L15).

use types::Epoch;

use super::{CLAIM_SECONDS_MAX, must, seen};
use crate::demo::{
    doors::{DoorLog, DoorRecord, pointer_door},
    record::{ActSeen, HalfPutSeen, RecordedRun},
};

/// The claim came soon, and no reader used the pointer before it. Gives the seconds from the store's return.
pub(super) fn revived(run: &RecordedRun) -> Result<f64, String> {
    let act = seen("the kill", run.act1.as_ref())?;
    let returned = *seen("the return of the store", act.store_returned.as_ref())?;
    let door = pointer_door(&act.before.holder.region);
    let log = seen(
        &format!("the record of {door}"),
        run.doors.iter().find(|d| d.name == door),
    )?;
    let claim = position(log, act).and_then(|n| log.records.get(n));
    let claim = claim.ok_or_else(|| format!("{door} was never claimed after its return"))?;
    // Somebody may have been served before the reader was. A record without what stood there was added by the store
    // itself, when it found a change of before the kill. The region is started again only after the promotion was seen;
    // a record between the signal's moment and that one was made by the dying run.
    let down = act.promoted.unwrap_or(act.struck);
    let served = |r: &&DoorRecord| r.at > down && r.current.is_some();
    let served = log.records.iter().find(served).map_or(returned, |r| r.at);
    let seconds = claim.at.seconds_since(returned.min(served));
    must(seconds <= CLAIM_SECONDS_MAX, || {
        format!("{door} was claimed {seconds:.2} s after its return; {CLAIM_SECONDS_MAX} s are promised")
    })?;
    readers(run, &door)?;
    Ok(seconds)
}

/// Where the claim stands: the first accepted write under a higher epoch than the killed holder's.
pub(super) fn position(log: &DoorLog, act: &ActSeen) -> Option<usize> {
    let newer = |r: &DoorRecord| r.accepted && r.shown.is_some_and(|shown| shown > act.before.epoch);
    log.records.iter().position(|r| r.at > act.struck && newer(r))
}

/// An agent gave the pointer out after the return, and none ever gave out one below the committed epoch.
fn readers(run: &RecordedRun, door: &str) -> Result<(), String> {
    let misused = run.reads.iter().find(|r| r.used && r.found < r.committed);
    if let Some(read) = misused {
        return Err(format!(
            "{} gave out the pointer of {} at {} when {} was committed",
            read.reader, read.door, read.found, read.committed
        ));
    }
    must(run.reads.iter().any(|r| r.door == door && r.used), || {
        format!("no agent gave out {door} after its return")
    })
}

/// The write in flight was judged when it was whole, and refused because the new holder had claimed the pointer.
pub(super) fn half_put(run: &RecordedRun) -> Result<(), String> {
    let half = seen("the write in flight", run.half_put.as_ref())?;
    let log = run.doors.iter().find(|d| d.name == half.door);
    let log = seen(&format!("the record of {}", half.door), log)?;
    let record = log
        .records
        .iter()
        .find(|r| r.id.as_deref() == Some(half.id.as_str()));
    let record = seen(&format!("the write in flight at {}", half.door), record)?;
    must(!record.accepted && record.reason == "PreconditionFailed", || {
        format!("the write in flight was not refused by its ETag at {}", half.door)
    })?;
    must(record.current.is_some_and(|current| current > half.shown), || {
        format!(
            "the write in flight of {} was not refused by a higher epoch",
            half.shown
        )
    })?;
    must(
        etag_before_claim(log, half) == Some(half.if_match.as_str()),
        || "another write than the claim changed the ETag of the write in flight".to_owned(),
    )
}

/// The ETag that the first write under a higher epoch replaced.
fn etag_before_claim<'a>(log: &'a DoorLog, half: &HalfPutSeen) -> Option<&'a str> {
    let accepted = || log.records.iter().filter(|r| r.accepted);
    let epoch = |r: &DoorRecord| r.shown.unwrap_or(Epoch::ZERO);
    let older = accepted().take_while(|r| epoch(r) <= half.shown);
    older.last()?.etag.as_deref()
}

/// The bodies at the end are those that the doors accepted last, under the last epoch.
pub(super) fn at_end(run: &RecordedRun, last: Epoch) -> Result<(), String> {
    for region in &run.regions {
        let door = pointer_door(region);
        let pointer = seen(
            &format!("the end of {door}"),
            run.pointers.iter().find(|p| p.door == door),
        )?;
        must(pointer.epoch >= last, || {
            format!("{door} ends under {}, below {last}", pointer.epoch)
        })?;
        let log = run.doors.iter().find(|d| d.name == door);
        let written = log.and_then(|d| d.records.iter().rev().find(|r| r.accepted));
        let written = seen(&format!("an accepted write at {door}"), written)?;
        must(written.id.as_deref() == Some(pointer.id.as_str()), || {
            format!("{door} ends with a body that its record does not know")
        })?;
    }
    Ok(())
}
