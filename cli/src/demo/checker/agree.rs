//! The doors' records decide, and the writers' logs must agree: each write that a zombie believes accepted or refused
//! has its record, with the same verdict and the same epochs.
//!
//! A door that records ids is compared write by write; an agent's door records none and is compared by counts of
//! (epoch shown, verdict, epoch named). An attempt of unknown outcome may stand in the record or not.

use std::collections::{BTreeMap, HashMap};

use types::{Epoch, Holder};

use super::must;
use crate::demo::doors::{Attempt, DoorLog, DoorRecord, Outcome, WriterLog};

/// Every log against every door. Gives how many writes were compared.
pub(super) fn agree(doors: &[DoorLog], writers: &[WriterLog]) -> Result<usize, String> {
    let mut compared = 0;
    for door in doors {
        let attempts: Vec<&Attempt> = writers
            .iter()
            .flat_map(|w| &w.attempts)
            .filter(|a| a.door == door.name)
            .collect();
        compared += if door.records.iter().any(|r| r.id.is_some()) {
            by_id(door, &attempts)?
        } else {
            by_count(door, &attempts)?
        };
    }
    let known = |name: &str| doors.iter().any(|d| d.name == name);
    let lost = writers
        .iter()
        .flat_map(|w| &w.attempts)
        .find(|a| definite(a) && !known(&a.door));
    must(lost.is_none(), || {
        format!("{} has no record", lost.map_or("", |a| a.door.as_str()))
    })?;
    Ok(compared)
}

fn definite(attempt: &Attempt) -> bool {
    matches!(attempt.outcome, Outcome::Accepted | Outcome::Refused)
}

fn by_id(door: &DoorLog, attempts: &[&Attempt]) -> Result<usize, String> {
    let records: HashMap<&str, &DoorRecord> = door
        .records
        .iter()
        .filter_map(|r| Some((r.id.as_deref()?, r)))
        .collect();
    for attempt in attempts {
        match records.get(attempt.id.as_str()) {
            Some(record) => same(door, record, attempt)?,
            None if definite(attempt) => return Err(differs(door, attempt, "knows nothing of it")),
            None => {}
        }
    }
    Ok(attempts.iter().filter(|a| definite(a)).count())
}

fn same(door: &DoorLog, record: &DoorRecord, attempt: &Attempt) -> Result<(), String> {
    let verdict = match attempt.outcome {
        Outcome::Accepted => record.accepted,
        Outcome::Refused | Outcome::NoEffect => !record.accepted,
        Outcome::Unknown => true,
    };
    must(verdict, || {
        let said = if record.accepted { "accepted" } else { "refused" };
        differs(door, attempt, &format!("says {said}"))
    })?;
    must(record.shown == Some(attempt.shown), || {
        differs(door, attempt, &format!("saw {:?}", record.shown))
    })?;
    // A pointer names no epoch in its refusal: the writer reads it afterwards, when it may have moved on.
    let named = match (attempt.outcome, attempt.named, record.current) {
        (Outcome::Refused, Some(named), Some(current)) if door.name.starts_with("pointer/") => {
            named >= current
        }
        (Outcome::Refused, named, current) => named == current,
        (Outcome::Accepted | Outcome::NoEffect | Outcome::Unknown, ..) => true,
    };
    must(named, || {
        differs(door, attempt, &format!("held {:?}", record.current))
    })
}

/// What two records of one write have in common where there is no id.
type Key<'a> = (Epoch, &'a Holder, bool, Option<Epoch>);

fn by_count(door: &DoorLog, attempts: &[&Attempt]) -> Result<usize, String> {
    let mut recorded: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    for record in &door.records {
        if let (Some(shown), Some(writer)) = (record.shown, &record.writer) {
            let named = if record.accepted { None } else { record.current };
            *recorded
                .entry((shown, writer, record.accepted, named))
                .or_default() += 1;
        }
    }
    let mut believed: BTreeMap<Key<'_>, usize> = BTreeMap::new();
    for attempt in attempts.iter().filter(|a| definite(a)) {
        let accepted = attempt.outcome == Outcome::Accepted;
        let named = if accepted { None } else { attempt.named };
        *believed
            .entry((attempt.shown, &attempt.holder, accepted, named))
            .or_default() += 1;
    }
    for (key, count) in &believed {
        let found = recorded.get(key).copied().unwrap_or(0);
        must(found >= *count, || count_differs(door, key, *count, found))?;
    }
    no_more_than_tried(door, attempts, &recorded)?;
    Ok(believed.values().sum())
}

/// The door recorded no more verdicts of a kind than its writer was told of, or never heard of.
fn no_more_than_tried(
    door: &DoorLog,
    attempts: &[&Attempt],
    recorded: &BTreeMap<Key<'_>, usize>,
) -> Result<(), String> {
    let mut per_verdict: BTreeMap<(Epoch, &Holder, bool), usize> = BTreeMap::new();
    for ((shown, writer, accepted, _), count) in recorded {
        *per_verdict.entry((*shown, *writer, *accepted)).or_default() += count;
    }
    for ((shown, writer, accepted), count) in per_verdict {
        let possible = |a: &&&Attempt| {
            let outcome = a.outcome == Outcome::Unknown || (a.outcome == Outcome::Accepted) == accepted;
            a.shown == shown && &a.holder == writer && outcome
        };
        let tried = attempts.iter().filter(possible).count();
        must(count <= tried, || {
            let verdict = if accepted { "accepted" } else { "refused" };
            format!(
                "{} recorded {count} writes of {writer} under {shown} as {verdict}; its writer can tell of {tried}",
                door.name
            )
        })?;
    }
    Ok(())
}

fn count_differs(door: &DoorLog, key: &Key<'_>, believed: usize, found: usize) -> String {
    let (shown, writer, accepted, named) = key;
    let verdict = if *accepted { "accepted" } else { "refused" };
    let named = named.map_or_else(String::new, |n| format!(" naming {n}"));
    format!(
        "{} recorded {found} writes of {writer} under {shown} as {verdict}{named}; the writer was told so {believed} times",
        door.name
    )
}

fn differs(door: &DoorLog, attempt: &Attempt, record: &str) -> String {
    format!(
        "write {} of {} under {}: its writer says {:?}{}, the record of {} {record}",
        attempt.id,
        attempt.holder,
        attempt.shown,
        attempt.outcome,
        attempt.named.map_or_else(String::new, |n| format!(" naming {n}")),
        door.name
    )
}
