//! How fast the coordinators' elections are, and where their leader should be.

use std::time::Duration;

use super::world::World;

const LEVEL: &str = "SetFeatureLevel level=2";

fn setting(world: &World) -> (Duration, bool, String) {
    let set = world.state.cluster().unwrap().elections.timing.clone().unwrap();
    (set.timing.heartbeat, set.derived, set.reason)
}

/// A script, then a line, and with which reason and words it is refused.
fn check(before: &str, line: &str, reason: &str, words: &str) {
    let mut world = World::standing();
    world.lines(before);
    let dumped = crate::dump::dump_records(&world.state);
    let rejection = world.line(line).unwrap().outcome.unwrap_err();
    assert_eq!(rejection.reason().as_str(), reason, "{line}: {rejection}");
    assert!(rejection.to_string().contains(words), "{line}: {rejection}");
    assert_eq!(crate::dump::dump_records(&world.state), dumped, "{line}");
}

#[test]
fn elections_refuse() {
    let short = "SetElectionTiming heartbeat=50ms min=250ms max=400ms derived";
    check(
        "",
        short,
        "INVALID_ARGUMENT",
        "feature level: is 0, and this takes 2",
    );
    check(
        "",
        "SetLeaderPreference regions=us",
        "INVALID_ARGUMENT",
        "this takes 2",
    );
    check(
        LEVEL,
        "SetElectionTiming derived",
        "INVALID_ARGUMENT",
        "none yet that could stay",
    );
    for (values, words) in [
        ("heartbeat=5ms min=250ms max=400ms", "heartbeat is 5ms"),
        (
            "heartbeat=100ms min=250ms max=400ms",
            "three heartbeats of 100ms are 300ms",
        ),
        (
            "heartbeat=50ms min=250ms max=250ms",
            "above the least one of 250ms",
        ),
        ("heartbeat=50ms min=250ms max=61s", "1m at most"),
        ("heartbeat=50.5ms min=250ms max=400ms", "whole milliseconds"),
    ] {
        let line = format!("SetElectionTiming {values}");
        check(LEVEL, &line, "INVALID_ARGUMENT", words);
    }
    check(
        LEVEL,
        "SetLeaderPreference regions=us,sa",
        "REGION_NOT_FOUND",
        "sa",
    );
    check(
        LEVEL,
        "SetLeaderPreference regions=us,us",
        "INVALID_ARGUMENT",
        "us is named twice",
    );
    let fixed =
        format!("{LEVEL}\nSetElectionTiming heartbeat=90ms min=300ms max=400ms\nactor coordinator/c1");
    check(&fixed, short, "ILLEGAL_TRANSITION", "fixed by a person");
}

#[test]
fn a_person_fixes_the_timing_and_hands_it_back() {
    let mut world = World::standing();
    world.lines(&format!(
        "{LEVEL}
        actor coordinator/c1
        SetElectionTiming heartbeat=180ms min=540ms max=864ms derived reason=far
        actor admin
        SetElectionTiming heartbeat=90ms min=300ms max=400ms reason=mine"
    ));
    let fixed = Duration::from_millis(90);
    assert_eq!(setting(&world), (fixed, false, "mine".to_owned()));
    world.lines("SetElectionTiming derived reason=back");
    assert_eq!(setting(&world), (fixed, true, "back".to_owned()));
    world.lines(
        "actor coordinator/c1\nSetElectionTiming heartbeat=180ms min=540ms max=864ms derived reason=far",
    );
    assert_eq!(setting(&world).0, Duration::from_millis(180));
}

#[test]
fn saying_the_same_again_changes_nothing() {
    let mut world = World::standing();
    let lines = [
        "SetElectionTiming heartbeat=180ms min=540ms max=864ms derived reason=far",
        "SetLeaderPreference regions=us,eu",
    ];
    world.lines(LEVEL);
    world.lines(&lines.join("\n"));
    let before = world.state.cluster().unwrap().clone();
    for line in lines {
        let again = world.line(line).unwrap();
        assert!(
            again.outcome.is_ok() && again.events.is_empty(),
            "{line}: {again:?}"
        );
    }
    assert_eq!(world.state.cluster(), Some(&before));
    let bytes = crate::codec::encode_snapshot(&world.state);
    let read = crate::codec::decode_snapshot(&bytes).unwrap();
    assert_eq!(read.cluster(), Some(&before));
}
