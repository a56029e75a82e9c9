//! Seeded histories: each bad one breaks one promise, each good one looks bad at first sight.

use types::{Epoch, Holder};

use super::check;
use crate::history::{Action, Answer, Event, Phase, What};

fn holder(region: &str) -> Holder {
    Holder {
        region: region.parse().unwrap(),
        node: "a1".parse().unwrap(),
        incarnation: types::NodeIncarnation::from_u128(7),
    }
}

fn epoch(counter: u32) -> Epoch {
    Epoch::new(1, counter)
}

/// Begins at `.0`, ends at `.1`; process and operation are the line's number.
fn history(ops: &[(u64, u64, Action, What)]) -> Vec<Event> {
    let mut events = Vec::new();
    for (n, (began, ended, action, end)) in (0u32..).zip(ops) {
        let line = |at: &u64, what| Event {
            at: *at,
            process: n,
            op: u64::from(n),
            what,
        };
        let action = action.clone();
        events.push(line(began, What::Invoke { action }));
        events.push(line(ended, end.clone()));
    }
    events.sort_by_key(|event| event.at);
    events
}

fn write(door: &str, counter: u32, region: &str) -> Action {
    Action::Write {
        door: door.to_owned(),
        epoch: epoch(counter),
        holder: holder(region),
    }
}

fn accepted() -> What {
    What::Ok { answer: Answer::Done }
}

fn refused(current: u32) -> What {
    What::Fail {
        code: "STALE_EPOCH".to_owned(),
        reason: "too late".to_owned(),
        current: Some(epoch(current)),
    }
}

fn unknown() -> What {
    What::Info {
        reason: "timed out".to_owned(),
    }
}

fn ask(region: &str) -> Action {
    Action::Token {
        region: region.to_owned(),
    }
}

fn token(counter: u32, region: &str, left: u64) -> What {
    What::Ok {
        answer: Answer::Token {
            epoch: epoch(counter),
            holder: holder(region),
            lease_left_millis: left,
        },
    }
}

/// An agent is killed at the first moment and runs again at the second.
fn with_kill(mut events: Vec<Event>, target: &str, began: u64, over: u64) -> Vec<Event> {
    for (at, phase) in [(began, Phase::Begins), (over, Phase::Over)] {
        events.push(Event {
            at,
            process: u32::MAX,
            op: 0,
            what: What::Nemesis {
                fault: format!("kill {target}"),
                phase,
                elections: None,
            },
        });
    }
    events.sort_by_key(|event| event.at);
    events
}

fn finds(ops: &[(u64, u64, Action, What)], words: &str) {
    let anomalies = check(&history(ops));
    assert!(
        anomalies.iter().any(|a| a.contains(words)),
        "{words:?}: {anomalies:?}"
    );
}

fn holds(ops: &[(u64, u64, Action, What)]) {
    assert_eq!(check(&history(ops)), Vec::<String>::new());
}

#[test]
fn a_stale_write_after_a_newer_one_is_found() {
    let ops = [
        (0, 10, write("registry", 4, "b"), accepted()),
        (11, 20, write("registry", 2, "a"), accepted()),
    ];
    finds(&ops, "registry accepted a write of g1.e2");
}

#[test]
fn a_stale_write_after_a_refusal_that_named_the_newer_epoch_is_found() {
    let ops = [
        (0, 10, write("agent/c", 2, "a"), refused(4)),
        (11, 20, write("agent/c", 2, "a"), accepted()),
    ];
    finds(&ops, "agent/c accepted a write of g1.e2");
}

#[test]
fn writes_that_overlap_in_time_may_have_come_in_either_order() {
    holds(&[
        (0, 30, write("registry", 4, "b"), accepted()),
        (11, 20, write("registry", 2, "a"), accepted()),
    ]);
}

#[test]
fn a_write_of_unknown_outcome_proves_nothing() {
    holds(&[
        (0, 10, write("registry", 4, "b"), unknown()),
        (11, 20, write("registry", 2, "a"), accepted()),
        (21, 30, write("registry", 4, "b"), accepted()),
    ]);
}

#[test]
fn an_agent_may_not_have_heard_yet_what_the_registry_accepted() {
    holds(&[
        (0, 10, write("registry", 4, "b"), accepted()),
        (2_500_010, 2_600_000, write("agent/c", 2, "a"), accepted()),
    ]);
}

#[test]
fn an_agent_that_goes_on_for_too_long_is_found() {
    let ops = [
        (0, 10, write("registry", 4, "b"), accepted()),
        (2_500_011, 2_600_000, write("agent/c", 2, "a"), accepted()),
    ];
    finds(&ops, "agent/c accepted a write of g1.e2");
    let ops = [
        (0, 10, ask("b"), token(4, "b", 2_000)),
        (2_500_011, 2_600_000, write("agent/c", 2, "a"), accepted()),
    ];
    finds(&ops, "agent/c accepted a write of g1.e2");
}

#[test]
fn a_registry_that_accepts_what_is_over_elsewhere_is_found() {
    for (end, known) in [
        (accepted(), write("agent/c", 4, "b")),
        (refused(4), write("agent/c", 2, "a")),
        (token(4, "b", 2_000), ask("b")),
    ] {
        let ops = [
            (0, 10, known, end),
            (11, 20, write("registry", 2, "a"), accepted()),
        ];
        finds(&ops, "registry accepted a write of g1.e2");
    }
}

#[test]
fn an_agent_that_was_started_after_a_promotion_knows_it_at_once() {
    let ops = [
        (0, 10, write("registry", 4, "b"), accepted()),
        (900_000, 900_100, write("agent/c", 2, "a"), accepted()),
    ];
    let killed = |target, began, over| check(&with_kill(history(&ops), target, began, over));
    for target in ["c", "c/agent", "everything"] {
        assert_eq!(killed(target, 11, 800_000).len(), 1, "{target}");
        // Killed before, or not back yet when the write began: it may have asked before the promotion.
        assert_eq!(killed(target, 10, 800_000), Vec::<String>::new(), "{target}");
        assert_eq!(killed(target, 11, 900_000), Vec::<String>::new(), "{target}");
    }
    for target in ["b", "c/coordinator", "c/store", "b/agent"] {
        assert_eq!(killed(target, 11, 800_000), Vec::<String>::new(), "{target}");
    }
}

#[test]
fn an_epoch_with_two_holders_is_found() {
    let ops = [
        (0, 10, write("registry", 4, "b"), accepted()),
        (11, 20, write("agent/c", 4, "c"), accepted()),
    ];
    finds(&ops, "g1.e4 was held by");
    let ops = [
        (0, 10, write("registry", 4, "b"), accepted()),
        (11, 20, ask("c"), token(4, "c", 100)),
    ];
    finds(&ops, "g1.e4 was held by");
}

#[test]
fn a_lease_that_begins_before_the_last_one_ended_is_found() {
    let ops = [
        (0, 1_000, ask("a"), token(2, "a", 2_000)),
        (500_000, 501_000, ask("b"), token(4, "b", 2_000)),
    ];
    finds(&ops, "while the lease of g1.e2 held");
}

#[test]
fn a_lease_that_begins_after_the_last_one_ended_is_fine() {
    holds(&[
        (0, 1_000, ask("a"), token(2, "a", 400)),
        (500_000, 501_000, ask("b"), token(4, "b", 2_000)),
        // What is left counts from the question: the answer may have been late.
        (600_000, 3_000_000, ask("b"), token(4, "b", 100)),
        (3_100_000, 3_200_000, ask("c"), token(6, "c", 2_000)),
    ]);
}
