//! Fencing at a store's pointer (design.md I4, I5, L14), as the store's own record of its decisions has it:
//!
//! 1. accepted epochs never fall: no write is accepted below the epoch that stands there, or stood there ever before;
//! 2. an epoch is one holder's;
//! 3. a pointer is never deleted, because that would forget its epoch.
//!
//! The lines of one key stand in the order of its commits, so nothing has to be guessed from times.

use std::collections::BTreeMap;

use serde::Deserialize;
use types::{Epoch, Holder};

/// A line of the record, as far as this needs it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    seq: u64,
    method: String,
    key: String,
    status: u16,
    /// The fencing fields of the body that was sent.
    sent: Option<Fence>,
    /// What stood there.
    current: Option<Current>,
}

#[derive(Clone, Debug, Deserialize)]
struct Current {
    fence: Option<Fence>,
}

#[derive(Clone, Debug, Deserialize)]
struct Fence {
    epoch: Epoch,
    holder: Holder,
}

/// What the record of one pointer says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Every broken promise.
    pub(crate) anomalies: Vec<String>,
    /// Writes of an epoch below the one that stood there, refused.
    pub(crate) stale_refused: usize,
}

/// Reads a record; every line must be whole.
pub(crate) fn read(text: &str) -> serde_json::Result<Vec<Line>> {
    text.lines().map(serde_json::from_str).collect()
}

/// Judges what was decided at `key` of the store that `door` names.
pub(crate) fn check(door: &str, key: &str, lines: &[Line]) -> Judged {
    let mut judged = Judged::default();
    let mut highest = Epoch::ZERO;
    let mut holders: BTreeMap<Epoch, &Holder> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.key == key) {
        let standing = line.current.as_ref().and_then(|c| c.fence.as_ref());
        highest = highest.max(standing.map_or(Epoch::ZERO, |f| f.epoch));
        let accepted = (200..300).contains(&line.status);
        let Some(sent) = &line.sent else {
            if accepted {
                let (seq, method) = (line.seq, &line.method);
                judged.anomalies.push(format!(
                    "{door} lost its epoch {highest} by an accepted {method} without one (line {seq})"
                ));
            }
            continue;
        };
        match (accepted, sent.epoch < highest) {
            (true, true) => judged.anomalies.push(format!(
                "{door} accepted a write of {} over {highest} (line {})",
                sent.epoch, line.seq
            )),
            (false, true) => judged.stale_refused += 1,
            (_, false) => {}
        }
        if accepted {
            highest = highest.max(sent.epoch);
            let first = *holders.entry(sent.epoch).or_insert(&sent.holder);
            if *first != sent.holder {
                let epoch = sent.epoch;
                judged.anomalies.push(format!(
                    "{door} took {epoch} from {first} and from {}",
                    sent.holder
                ));
            }
        }
    }
    judged.anomalies.dedup();
    judged
}

#[cfg(test)]
#[path = "pointers_tests.rs"]
mod tests;
