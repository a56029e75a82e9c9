//! Seeded histories of watches, good and bad.

use super::*;
use crate::history;

fn registers(text: &str) -> Changes {
    let words = text.split_whitespace().filter_map(|word| word.split_once('='));
    words
        .map(|(register, value)| (register.to_owned(), value.parse().unwrap()))
        .collect()
}

/// `"5: a=1 b=2"` is a whole state, `"6+ a=2"` changes, `"7"` a bookmark.
fn told(text: &str) -> Told {
    if let Some((revision, text)) = text.split_once(':') {
        return Told::Whole {
            revision: revision.parse().unwrap(),
            registers: registers(text),
        };
    }
    match text.split_once('+') {
        Some((revision, text)) => Told::Changed {
            revision: revision.parse().unwrap(),
            registers: registers(text),
        },
        None => Told::Passed {
            revision: text.parse().unwrap(),
        },
    }
}

/// What each watch told, and `"a=2@6"`: an acknowledged write with its etag.
fn found(watches: &[&[&str]], writes: &[&str]) -> Vec<String> {
    let mut events = Vec::new();
    let mut event = |process, op, what| {
        events.push(Event {
            at: events.len() as u64,
            process,
            op,
            what,
        })
    };
    for (n, watch) in (0..).zip(watches) {
        for text in *watch {
            event(n, 0, What::Told { told: told(text) });
        }
    }
    for (n, text) in (100..).zip(writes) {
        let (what, etag) = text.split_once('@').unwrap();
        let (register, value) = what.split_once('=').unwrap();
        let value = value.parse().unwrap();
        let register = register.to_owned();
        event(
            n,
            1,
            What::Invoke {
                action: Action::Set { register, value },
            },
        );
        let answer = Answer::Held {
            value: Some(value),
            etag: etag.parse().unwrap(),
        };
        event(n, 1, What::Ok { answer });
    }
    check(&events, &history::operations(&events))
}

#[test]
fn what_may_happen_is_no_anomaly() {
    let whole: &[&str] = &["5: a=1", "6+ a=2", "8+ a=3 b=1", "9"];
    for (watches, writes) in [
        (vec![], vec![]),
        (vec![whole, whole], vec!["a=2@6", "b=1@8"]),
        // One that began later, one that is behind, one that began anew.
        (
            vec![whole, &["6: a=2", "7", "8+ a=3 b=1"], &["5: a=1", "6+ a=2"]],
            vec!["a=2@6"],
        ),
        (
            vec![whole, &["5: a=1", "8: a=3 b=1", "9"]],
            vec!["a=2@6", "b=1@8"],
        ),
        // Whole again at the same revision.
        (vec![whole, &["5: a=1", "6+ a=2", "6: a=2", "8+ a=3 b=1"]], vec![]),
        // Before the watch.
        (vec![whole], vec!["a=1@4"]),
    ] {
        assert_eq!(found(&watches, &writes), Vec::<String>::new(), "{watches:?}");
    }
}

#[test]
fn each_broken_promise_is_told() {
    let whole: &[&str] = &["5: a=1", "6+ a=2", "8+ a=3 b=1", "9"];
    for (watches, writes, words) in [
        (
            vec![whole, &["5: a=1", "6+ a=2", "9"]],
            vec![],
            "watch 1 passed revision 8 without {\"a\": 3, \"b\": 1}, which watch 0 has",
        ),
        (
            vec![&["5: a=1", "7"] as &[&str]],
            vec!["a=2@6"],
            "watch 0 passed revision 6, at which a became 2, with None",
        ),
        (
            vec![&["5: a=1", "6+ a=2"] as &[&str]],
            vec!["a=9@6"],
            "watch 0 passed revision 6, at which a became 9, with Some(2)",
        ),
        (
            vec![&["5: a=1", "6+ a=2", "6+ a=2"] as &[&str]],
            vec![],
            "changes of revision 6 came after revision 6",
        ),
        (
            vec![&["5: a=1", "8+ a=2", "6+ a=3"] as &[&str]],
            vec![],
            "changes of revision 6 came after revision 8",
        ),
        (
            vec![&["5: a=1", "8+ a=2", "7"] as &[&str]],
            vec![],
            "a bookmark of revision 7 came after revision 8",
        ),
        (
            vec![&["5: a=1", "8+ a=2", "7: a=1"] as &[&str]],
            vec![],
            "a whole state of revision 7 came after revision 8",
        ),
        (
            vec![&["6+ a=2"] as &[&str]],
            vec![],
            "came before any whole state",
        ),
        (
            vec![whole, &["5: a=1", "6+ a=7", "8+ a=3 b=1"]],
            vec![],
            "revision 6 changed {\"a\": 2} by watch 0, and {\"a\": 7} by watch 1",
        ),
        (
            vec![whole],
            vec!["a=4@12"],
            "watch 0 got to revision 9, and 12 was acknowledged",
        ),
        // Part of a revision.
        (
            vec![whole, &["5: a=1", "6+ a=2", "8+ a=3"]],
            vec![],
            "revision 8 changed",
        ),
        (
            vec![whole, &["5: a=1", "8: a=2 b=1"]],
            vec![],
            "watch 1 began at revision 8 with {\"a\": 2, \"b\": 1}, and not with [(\"a\", 3)]",
        ),
    ] {
        let anomalies = found(&watches, &writes);
        assert!(
            anomalies.iter().any(|a| a.contains(words)),
            "{words:?}: {anomalies:#?}"
        );
    }
}
