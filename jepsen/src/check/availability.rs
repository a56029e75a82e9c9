//! How long nothing was accepted after each fault, beside what is allowed where a majority of the coordinators is left.
//!
//! A measurement and no promise: it depends on the machine, and breaks no run. Counted is the longest time between two accepted
//! writes of the registry from the fault's beginning until the next fault begins, so that what the end of a fault brings (an old leader
//! that comes back) counts too.

use std::time::Duration;

use serde::Serialize;

use crate::history::{Event, Op, Phase, Seen, What};

/// One fault and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Outage {
    /// Its name.
    pub(crate) fault: String,
    /// When it began, since the run did.
    pub(crate) at_seconds: f64,
    /// Longest time without an accepted write from then on.
    pub(crate) seconds: f64,
    /// What is allowed; none where no majority was left, or writes wait for more than an election.
    pub(crate) limit_seconds: Option<f64>,
}

impl Outage {
    /// Whether it was no longer than is allowed; none where nothing is said of it.
    pub(crate) fn kept(&self) -> Option<bool> {
        self.limit_seconds.map(|limit| self.seconds <= limit)
    }
}

/// Of each fault, in order. `elects`: a write of this run waits for an election at most, and not for the next holder of a role.
pub(crate) fn outages(history: &[Event], ops: &[Op<'_>], elects: bool) -> Vec<Outage> {
    let mut accepted: Vec<u64> = ops
        .iter()
        .filter(|op| op.is_accepted_change())
        .map(|op| op.ended)
        .collect();
    accepted.sort_unstable();
    let begins = |event: &&Event| {
        matches!(
            event.what,
            What::Nemesis {
                phase: Phase::Begins,
                ..
            }
        )
    };
    let begun: Vec<&Event> = history.iter().filter(begins).collect();
    let end = history.last().map_or(0, |event| event.at);
    let outage = |(n, event): (usize, &&Event)| {
        let What::Nemesis { fault, elections, .. } = &event.what else {
            return None;
        };
        let next = begun.get(n + 1).map_or(end, |next| next.at);
        // What comes and goes is charged with what follows its end alone.
        let over = history
            .iter()
            .find(|e| e.at >= event.at && e.at <= next && is_over(e, fault));
        let late = over.and_then(|over| match over.what {
            What::Nemesis {
                elections: Some(elections),
                ..
            } => Some((over.at, elections)),
            _ => None,
        });
        let (from, elections) = late.map_or((event.at, *elections), |(at, elections)| (at, Some(elections)));
        let longest = election_max(history, event.at).filter(|_| elects);
        let limit = elections.zip(longest).map(|(times, longest)| longest * times);
        Some(Outage {
            fault: fault.clone(),
            at_seconds: seconds(event.at),
            seconds: seconds(longest_gap(&accepted, from, next)),
            limit_seconds: limit.map(|limit| limit.as_secs_f64()),
        })
    };
    begun.iter().enumerate().filter_map(outage).collect()
}

fn is_over(event: &Event, of: &str) -> bool {
    matches!(&event.what, What::Nemesis { fault, phase: Phase::Over, .. } if fault == of)
}

/// Longest time between two of these moments in an interval, also from its beginning to the first and from the last to its end.
pub(crate) fn longest_gap(moments: &[u64], from: u64, until: u64) -> u64 {
    let mut last = from;
    let mut longest = 0;
    let within = moments.iter().copied().filter(|at| (from..until).contains(at));
    for at in within.chain([until]) {
        longest = longest.max(at.saturating_sub(last));
        last = at;
    }
    longest
}

/// The longest election timeout of whoever led last before this moment.
fn election_max(history: &[Event], before: u64) -> Option<Duration> {
    let seen = history.iter().take_while(|event| event.at <= before);
    let seen = seen.filter_map(|event| match event.what {
        What::Seen {
            seen:
                Seen::Leads {
                    term: Some(_),
                    election_max_millis,
                    ..
                },
        } => Some(Duration::from_millis(election_max_millis)),
        _ => None,
    });
    seen.last()
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Action, Answer, operations};

    fn event(at: u64, process: u32, op: u64, what: What) -> Event {
        Event {
            at,
            process,
            op,
            what,
        }
    }

    fn fault(at: u64, fault: &str, elections: Option<u32>) -> Event {
        let what = What::Nemesis {
            fault: fault.to_owned(),
            phase: Phase::Begins,
            elections,
        };
        event(at, u32::MAX, 0, what)
    }

    fn leads(at: u64, term: Option<u64>, election_max_millis: u64) -> Event {
        let seen = Seen::Leads {
            region: "r1".to_owned(),
            term,
            election_max_millis,
        };
        event(at, u32::MAX - 1, 0, What::Seen { seen })
    }

    /// An accepted append that ends then.
    fn append(at: u64) -> [Event; 2] {
        let action = Action::Append {
            list: "l".to_owned(),
            element: at,
        };
        let answer = Answer::Placed { place: at };
        [
            event(at - 1, 0, at, What::Invoke { action }),
            event(at, 0, at, What::Ok { answer }),
        ]
    }

    fn found(mut history: Vec<Event>, elects: bool) -> Vec<(String, f64, Option<f64>, Option<bool>)> {
        history.sort_by_key(|event| event.at);
        let outages = outages(&history, &operations(&history), elects);
        let told = |o: Outage| {
            let kept = o.kept();
            (o.fault, o.seconds, o.limit_seconds, kept)
        };
        outages.into_iter().map(told).collect()
    }

    const SECOND: u64 = 1_000_000;

    #[test]
    fn each_fault_is_charged_with_the_longest_gap_until_the_next_one_begins() {
        let mut history = vec![
            leads(1, Some(1), 400),
            fault(SECOND, "kill r1", Some(3)),
            leads(3 * SECOND, Some(2), 500),
            fault(4 * SECOND, "kill everything", None),
            fault(6 * SECOND, "pause r2", Some(3)),
        ];
        for at in [900, 1_900, 2_000, 5_500, 6_100, 7_700, 9_000] {
            history.extend(append(at * 1_000));
        }
        let expected = [
            // From 2.0 s to the next fault.
            ("kill r1".to_owned(), 2.0, Some(1.2), Some(false)),
            ("kill everything".to_owned(), 1.5, None, None),
            ("pause r2".to_owned(), 1.6, Some(1.5), Some(false)),
        ];
        assert_eq!(found(history.clone(), true), expected);
        assert!(
            found(history, false)
                .iter()
                .all(|(_, _, limit, kept)| limit.is_none() && kept.is_none())
        );
    }

    #[test]
    fn what_comes_and_goes_is_charged_with_what_follows_its_end() {
        let over = What::Nemesis {
            fault: "isolate r1, flapping".to_owned(),
            phase: Phase::Over,
            elections: Some(3),
        };
        let mut history = vec![
            leads(1, Some(1), 400),
            fault(SECOND, "isolate r1, flapping", None),
            event(4 * SECOND, u32::MAX, 0, over),
        ];
        history.extend(append(4_300_000));
        history.extend(append(5_000_000));
        assert_eq!(
            found(history, true),
            [("isolate r1, flapping".to_owned(), 0.7, Some(1.2), Some(true))]
        );
    }

    #[test]
    fn what_is_not_accepted_ends_no_outage_and_a_timing_is_the_leaders_of_then() {
        let refused = What::Fail {
            code: "NOT_LEADER".to_owned(),
            reason: String::new(),
            current: None,
        };
        let mut history = vec![
            leads(1, Some(1), 400),
            leads(2, None, 9_000),
            fault(SECOND, "kill r1", Some(3)),
            leads(SECOND + 5, Some(2), 800),
            event(
                1_999_999,
                7,
                1,
                What::Invoke {
                    action: Action::Append {
                        list: "l".to_owned(),
                        element: 1,
                    },
                },
            ),
            event(2 * SECOND, 7, 1, refused),
        ];
        history.extend(append(2_100_000));
        assert_eq!(
            found(history, true),
            [("kill r1".to_owned(), 1.1, Some(1.2), Some(true))]
        );
    }
}
