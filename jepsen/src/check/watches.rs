//! Watches (design.md I7): each gives out every change once and in order, or a whole state anew; no two tell different things of one
//! revision; and what was acknowledged comes.
//!
//! A watch covers the revisions behind its first whole state up to where it got. One that starts anew with a whole state (it says so) has not
//! told what was between, and its state must be what the changes before it make.

use std::collections::BTreeMap;

use crate::history::{Action, Answer, Event, Op, Told, What};

/// The changes of a revision: registers and what they hold from then on.
type Changes = BTreeMap<String, u64>;

/// Every broken promise.
pub(crate) fn check(history: &[Event], ops: &[Op<'_>]) -> Vec<String> {
    let mut watches: BTreeMap<u32, Watch> = BTreeMap::new();
    for event in history {
        if let What::Told { told } = &event.what {
            watches.entry(event.process).or_default().take(told);
        }
    }
    let mut anomalies = Vec::new();
    // Who told first what a revision changed.
    let mut truth: BTreeMap<u64, (u32, &Changes)> = BTreeMap::new();
    for (number, watch) in &watches {
        anomalies.extend(
            watch
                .problems
                .iter()
                .map(|problem| format!("watch {number}: {problem}")),
        );
        for (revision, changes) in &watch.changes {
            let (other, first) = *truth.entry(*revision).or_insert((*number, changes));
            if first != changes {
                anomalies.push(format!(
                    "revision {revision} changed {first:?} by watch {other}, and {changes:?} by watch {number}"
                ));
            }
        }
    }
    for (number, watch) in &watches {
        let missing = truth
            .keys()
            .filter(|revision| watch.covers(**revision) && !watch.changes.contains_key(revision));
        anomalies.extend(missing.map(|revision| {
            let (other, changes) = truth[revision];
            format!("watch {number} passed revision {revision} without {changes:?}, which watch {other} has")
        }));
        for (revision, state) in &watch.states {
            anomalies.extend(unlike(*number, *revision, state, &truth));
        }
    }
    anomalies.extend(unheard(ops, &watches, &truth));
    let last = last_acknowledged(ops);
    for (number, watch) in watches.iter().filter(|(_, watch)| watch.at < Some(last)) {
        let at = watch.at.unwrap_or(0);
        anomalies.push(format!(
            "watch {number} got to revision {at}, and {last} was acknowledged"
        ));
    }
    anomalies
}

/// A whole state that is not what the changes up to it made. What was before everything that was watched is not known.
fn unlike(
    number: u32,
    revision: u64,
    state: &Changes,
    truth: &BTreeMap<u64, (u32, &Changes)>,
) -> Option<String> {
    let mut expected = Changes::new();
    for (_, changes) in truth.range(..=revision).map(|(_, told)| told) {
        expected.extend((*changes).clone());
    }
    let wrong: Vec<_> = expected
        .iter()
        .filter(|(register, value)| state.get(*register) != Some(value))
        .collect();
    (!wrong.is_empty()).then(|| {
        format!("watch {number} began at revision {revision} with {state:?}, and not with {wrong:?}")
    })
}

/// Acknowledged changes that a watch passed by and did not tell, or told otherwise.
fn unheard(
    ops: &[Op<'_>],
    watches: &BTreeMap<u32, Watch>,
    truth: &BTreeMap<u64, (u32, &Changes)>,
) -> Vec<String> {
    let mut anomalies = Vec::new();
    for op in ops {
        let (Action::Set { register, value } | Action::Swap { register, value, .. }) = op.action else {
            continue;
        };
        let What::Ok {
            answer: Answer::Held { value: now, etag },
        } = op.end
        else {
            continue;
        };
        if *now != Some(*value) {
            continue;
        }
        let told = truth.get(etag).and_then(|(_, changes)| changes.get(register));
        if told != Some(value)
            && let Some((number, _)) = watches.iter().find(|(_, watch)| watch.covers(*etag))
        {
            anomalies.push(format!(
                "watch {number} passed revision {etag}, at which {register} became {value}, with {told:?}"
            ));
        }
    }
    anomalies
}

/// The revision of the last change that was acknowledged; a watch that is whole gets there.
fn last_acknowledged(ops: &[Op<'_>]) -> u64 {
    let etags = ops.iter().filter_map(|op| match op.end {
        What::Ok {
            answer: Answer::Held { etag, .. },
        } => Some(*etag),
        _ => None,
    });
    etags.max().unwrap_or(0)
}

/// What one watch told.
#[derive(Default)]
struct Watch {
    changes: BTreeMap<u64, Changes>,
    /// Whole states, and the first of them.
    states: BTreeMap<u64, Changes>,
    first: Option<u64>,
    /// The revisions that it tells nothing of, because it began anew behind them.
    gaps: Vec<(u64, u64)>,
    at: Option<u64>,
    problems: Vec<String>,
}

impl Watch {
    fn take(&mut self, told: &Told) {
        let before = self.at;
        let (revision, word) = match told {
            Told::Whole { revision, .. } => (*revision, "a whole state"),
            Told::Changed { revision, .. } => (*revision, "changes"),
            Told::Passed { revision } => (*revision, "a bookmark"),
        };
        let is_behind = before.is_some_and(|at| match told {
            Told::Changed { .. } => revision <= at,
            Told::Whole { .. } | Told::Passed { .. } => revision < at,
        });
        if is_behind {
            let at = before.unwrap_or(0);
            self.problems
                .push(format!("{word} of revision {revision} came after revision {at}"));
        }
        match told {
            Told::Whole { registers, .. } => {
                match before {
                    Some(at) => self.gaps.push((at, revision)),
                    None => self.first = Some(revision),
                }
                self.states.insert(revision, registers.clone());
            }
            Told::Changed { registers, .. } => {
                if before.is_none() {
                    self.problems.push(format!(
                        "changes of revision {revision} came before any whole state"
                    ));
                }
                if self.changes.insert(revision, registers.clone()).is_some() {
                    self.problems.push(format!("revision {revision} came twice"));
                }
            }
            Told::Passed { .. } => {}
        }
        self.at = before.max(Some(revision));
    }

    /// Whether this watch must have told what happened at a revision.
    fn covers(&self, revision: u64) -> bool {
        let (Some(first), Some(at)) = (self.first, self.at) else {
            return false;
        };
        let in_gap = self
            .gaps
            .iter()
            .any(|(from, to)| (from + 1..=*to).contains(&revision));
        first < revision && revision <= at && !in_gap
    }
}

#[cfg(test)]
#[path = "watches_tests.rs"]
mod tests;
