//! Seeded histories of one register, good and bad.

use super::*;

fn get() -> Action {
    Action::Get {
        register: "r".to_owned(),
    }
}

fn set(value: u64) -> Action {
    Action::Set {
        register: "r".to_owned(),
        value,
    }
}

fn swap(from: u64, value: u64) -> Action {
    Action::Swap {
        register: "r".to_owned(),
        from,
        value,
    }
}

/// The etag of a value is ten times it, unless a test says otherwise.
fn held(value: u64) -> What {
    with_etag(Some(value), value * 10)
}

fn with_etag(value: Option<u64>, etag: u64) -> What {
    What::Ok {
        answer: Answer::Held { value, etag },
    }
}

fn refused(code: &str) -> What {
    What::Fail {
        code: code.to_owned(),
        reason: String::new(),
        current: None,
    }
}

fn unknown() -> What {
    What::Info {
        reason: "silence".to_owned(),
    }
}

/// One after the other.
fn found(ops: &[(Action, What)]) -> Vec<String> {
    let ops = (0..).zip(ops).map(|(n, (action, end))| Op {
        process: 0,
        began: n * 10,
        ended: n * 10 + 5,
        action,
        end,
    });
    check(&ops.collect::<Vec<_>>()).unwrap()
}

#[test]
fn what_may_happen_is_no_anomaly() {
    for ops in [
        vec![],
        vec![(get(), with_etag(None, 0)), (set(1), held(1)), (get(), held(1))],
        vec![
            (set(1), held(1)),
            (swap(1, 2), held(2)),
            (swap(1, 3), refused(ELSE)),
            (get(), held(2)),
        ],
        // The alias was there already: nothing changed.
        vec![
            (set(1), held(1)),
            (set(2), held(1)),
            (swap(1, 3), held(1)),
            (get(), held(1)),
        ],
        // Refused for something else than the register, whatever it holds.
        vec![
            (set(1), held(1)),
            (swap(1, 3), refused("OVERLOADED")),
            (get(), held(1)),
        ],
        // Nobody knows, and either is right.
        vec![(set(1), held(1)), (set(2), unknown()), (get(), held(1))],
        vec![(set(1), held(1)), (set(2), unknown()), (get(), held(2))],
        vec![
            (set(1), held(1)),
            (swap(1, 2), unknown()),
            (get(), held(1)),
            (get(), held(2)),
        ],
        vec![
            (set(1), held(1)),
            (get(), unknown()),
            (get(), refused("NO_QUORUM")),
        ],
    ] {
        assert_eq!(found(&ops), Vec::<String>::new(), "{ops:?}");
    }
}

#[test]
fn each_broken_promise_is_told() {
    for (ops, words) in [
        (
            vec![(set(1), held(1)), (set(2), held(2)), (get(), held(1))],
            "r is not linearizable: no order of its operations has one that began at 20 us and read 1; the longest end with 2 there",
        ),
        (
            vec![(set(1), held(1)), (get(), with_etag(None, 0))],
            "and read nothing; the longest end with 1 there",
        ),
        (
            vec![(set(1), held(1)), (swap(1, 2), held(2)), (swap(1, 3), held(3))],
            "wrote 3 in place of 1",
        ),
        (
            vec![(set(1), held(1)), (swap(1, 2), refused(ELSE))],
            "was refused because something else than 1 was there",
        ),
        // What was refused happened.
        (
            vec![
                (set(1), held(1)),
                (set(2), refused("NO_QUORUM")),
                (get(), held(2)),
            ],
            "and read 2",
        ),
        (
            vec![(set(1), held(1)), (get(), with_etag(Some(1), 11))],
            "r: 1 had the etags 10 and 11",
        ),
        (
            vec![(set(1), held(1)), (set(2), with_etag(Some(2), 10))],
            "r: etag 10 stood for 1 and for 2",
        ),
        (
            vec![(set(1), held(1)), (set(2), held(2)), (swap(2, 3), held(1))],
            "r: a write of 3 in place of 2 was answered with 1 at 25 us",
        ),
        // One that is unknown happened, and is gone again.
        (
            vec![
                (set(1), held(1)),
                (set(2), unknown()),
                (get(), held(2)),
                (get(), held(1)),
            ],
            "and read 1; the longest end with 2 there",
        ),
    ] {
        let anomalies = found(&ops);
        assert!(
            anomalies.iter().any(|a| a.contains(words)),
            "{words:?}: {anomalies:#?}"
        );
    }
}
