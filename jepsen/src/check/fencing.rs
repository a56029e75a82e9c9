//! Fencing (design.md I4, I5, I6, L12, L13), as clients can see it:
//!
//! 1. at one door accepted epochs never fall: a write that began after a higher epoch had been accepted there, or had
//!    been named there as the current one, is not accepted;
//! 2. no door accepts an epoch that was over: once a higher one was known to be committed, wherever that was seen, the
//!    registry accepts none that begins later; an agent none that begins more than [`AGENT_TRUST`] later, which is as long as
//!    it may trust what a quorum told it, and none at all that begins after it was killed and started again;
//! 3. an epoch has one holder;
//! 4. two holders never hold leases at the same time, by what their agents say.
//!
//! Only what is certain counts: an operation took effect somewhere between its beginning and its end, and two that
//! overlap may have happened in either order.

use std::collections::{BTreeMap, HashMap};

use chaos::Target;
use types::{Epoch, Holder};

use crate::history::{Action, Answer, Event, Op, Phase, What, operations};

/// For how long after a quorum was asked about a token an agent may still act on the answer, in microseconds.
const AGENT_TRUST: u64 = 2_500_000;

/// Every broken promise.
pub(crate) fn check(history: &[Event]) -> Vec<String> {
    let ops = operations(history);
    let mut anomalies = falling_epochs(&ops);
    anomalies.extend(epochs_that_were_over(&ops, &restarts(history)));
    anomalies.extend(shared_epochs(&ops));
    anomalies.extend(overlapping_leases(&ops));
    anomalies
}

/// What a door surely knew from a moment on.
struct Known {
    since: u64,
    epoch: Epoch,
}

fn falling_epochs(ops: &[Op<'_>]) -> Vec<String> {
    let mut known: BTreeMap<&str, Vec<Known>> = BTreeMap::new();
    let mut accepted: BTreeMap<&str, Vec<(u64, Epoch)>> = BTreeMap::new();
    for op in ops {
        let Action::Write { door, epoch, .. } = op.action else {
            continue;
        };
        let learnt = match op.end {
            What::Ok { .. } => {
                accepted.entry(door).or_default().push((op.began, *epoch));
                Some(*epoch)
            }
            What::Fail { current, .. } => *current,
            What::Info { .. }
            | What::Invoke { .. }
            | What::Told { .. }
            | What::Nemesis { .. }
            | What::Seen { .. } => None,
        };
        let since = op.ended;
        known
            .entry(door)
            .or_default()
            .extend(learnt.map(|epoch| Known { since, epoch }));
    }
    let nothing = Vec::new();
    accepted
        .into_iter()
        .flat_map(|(door, writes)| stale(door, writes, known.get(door).unwrap_or(&nothing)))
        .collect()
}

/// Accepted writes that began after the door surely knew a higher epoch. Ends come in the order of their times.
fn stale(door: &str, mut writes: Vec<(u64, Epoch)>, known: &[Known]) -> Vec<String> {
    writes.sort_unstable();
    let (mut next, mut highest) = (0, Epoch::ZERO);
    let mut anomalies = Vec::new();
    for (began, epoch) in writes {
        while let Some(fact) = known.get(next).filter(|fact| fact.since < began) {
            highest = highest.max(fact.epoch);
            next += 1;
        }
        if epoch < highest {
            anomalies.push(format!(
                "{door} accepted a write of {epoch} that began at {began} us, after it had known {highest}"
            ));
        }
    }
    anomalies
}

/// A kill of agents: who answers after its end was started after its beginning.
struct Restart {
    /// Whose agent; none: everybody's.
    region: Option<String>,
    began: u64,
    over: u64,
}

impl Restart {
    fn is_of(&self, door: &str) -> bool {
        let region = door.strip_prefix("agent/");
        region.is_some() && (self.region.is_none() || self.region.as_deref() == region)
    }
}

fn restarts(history: &[Event]) -> Vec<Restart> {
    let mut begun = HashMap::new();
    let mut restarts = Vec::new();
    for event in history {
        let What::Nemesis { fault, phase, .. } = &event.what else {
            continue;
        };
        let Some(target) = fault.strip_prefix("kill ") else {
            continue;
        };
        // A whole region, or its agent alone.
        let region = target.strip_suffix("/agent").unwrap_or(target);
        if *phase == Phase::Begins {
            begun.insert(target, event.at);
        } else if let Some(began) = begun.remove(target).filter(|_| !region.contains('/')) {
            restarts.push(Restart {
                region: (region != Target::Everything.to_string()).then(|| region.to_owned()),
                began,
                over: event.at,
            });
        }
    }
    restarts
}

/// What was surely committed, and from when on that was known, in the order of these times.
fn committed(ops: &[Op<'_>]) -> Vec<Known> {
    let learnt = |op: &Op<'_>| match (op.end, op.action) {
        (
            What::Ok {
                answer: Answer::Token { epoch, .. },
            },
            _,
        ) => Some(*epoch),
        (What::Ok { .. }, Action::Write { epoch, .. }) => Some(*epoch),
        (What::Fail { current, .. }, _) => *current,
        _ => None,
    };
    let since = |op: &Op<'_>| {
        let epoch = learnt(op)?;
        Some(Known {
            since: op.ended,
            epoch,
        })
    };
    ops.iter().filter_map(since).collect()
}

fn epochs_that_were_over(ops: &[Op<'_>], restarts: &[Restart]) -> Vec<String> {
    let committed = committed(ops);
    let mut highest = Epoch::ZERO;
    // The highest epoch that was known by then, for each moment at which that changed.
    let rises: Vec<(u64, Epoch)> = committed
        .iter()
        .filter_map(|known| {
            let rise = known.epoch > highest;
            highest = highest.max(known.epoch);
            rise.then_some((known.since, known.epoch))
        })
        .collect();
    let known_before = |at: u64| {
        let rises = rises.iter().rev();
        rises
            .into_iter()
            .find(|(since, _)| *since < at)
            .map(|(_, epoch)| *epoch)
    };
    let late = |op: &Op<'_>| {
        let (Action::Write { door, epoch, .. }, What::Ok { .. }) = (op.action, op.end) else {
            return None;
        };
        let current = known_before(informed(door, op.began, restarts))?;
        (epoch < &current).then(|| {
            format!(
                "{door} accepted a write of {epoch} that began at {} us, though {current} had been committed for too long",
                op.began
            )
        })
    };
    ops.iter().filter_map(late).collect()
}

/// What was committed by then a door must know when a write begins at `began`.
fn informed(door: &str, began: u64, restarts: &[Restart]) -> u64 {
    if !door.starts_with("agent/") {
        return began;
    }
    let started = restarts.iter().filter(|r| r.is_of(door) && r.over < began);
    let started = started.map(|r| r.began).max().unwrap_or(0);
    started.max(began.saturating_sub(AGENT_TRUST))
}

/// Everybody who was seen with an epoch: by an accepted write, or by a token that an agent gave.
fn shared_epochs(ops: &[Op<'_>]) -> Vec<String> {
    let mut holders: BTreeMap<Epoch, &Holder> = BTreeMap::new();
    let mut anomalies = Vec::new();
    for op in ops {
        let (epoch, holder) = match (op.action, op.end) {
            (Action::Write { epoch, holder, .. }, What::Ok { .. }) => (*epoch, holder),
            (
                _,
                What::Ok {
                    answer: Answer::Token { epoch, holder, .. },
                },
            ) => (*epoch, holder),
            _ => continue,
        };
        let first = *holders.entry(epoch).or_insert(holder);
        if first != holder {
            anomalies.push(format!("{epoch} was held by {first} and by {holder}"));
        }
    }
    anomalies.sort();
    anomalies.dedup();
    anomalies
}

/// A lease that somebody held, and for how long at least.
struct Lease {
    epoch: Epoch,
    /// By then it was surely held.
    held_by: u64,
    /// Until then it surely holds: what was left is counted from when the question was asked.
    until: u64,
}

fn overlapping_leases(ops: &[Op<'_>]) -> Vec<String> {
    let leases = ops.iter().filter_map(|op| match op.end {
        What::Ok {
            answer:
                Answer::Token {
                    epoch,
                    lease_left_millis,
                    ..
                },
        } => Some(Lease {
            epoch: *epoch,
            held_by: op.ended,
            until: op.began + lease_left_millis * 1000,
        }),
        _ => None,
    });
    // Per epoch: the earliest moment at which it was surely held, and the latest until which it surely holds.
    let mut spans: BTreeMap<Epoch, (u64, u64)> = BTreeMap::new();
    for lease in leases {
        let span = spans.entry(lease.epoch).or_insert((lease.held_by, lease.until));
        span.0 = span.0.min(lease.held_by);
        span.1 = span.1.max(lease.until);
    }
    let mut anomalies = Vec::new();
    let mut latest: Option<(Epoch, u64)> = None;
    for (epoch, (held_by, until)) in spans {
        if let Some((older, end)) = latest
            && held_by < end
        {
            anomalies.push(format!(
                "{epoch} was held at {held_by} us, while the lease of {older} held until {end} us"
            ));
        }
        if latest.is_none_or(|(_, end)| until > end) {
            latest = Some((epoch, until));
        }
    }
    anomalies
}

#[cfg(test)]
#[path = "fencing_tests.rs"]
mod tests;
