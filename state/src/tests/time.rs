//! State time: how far an entry may be ahead of it, and what a mark does (L10).

use std::time::Duration;

use types::{Reason, UnixMillis};

use super::world::{START, World};

fn at(level: u32) -> World {
    let mut world = World::standing();
    if level > 0 {
        world.lines(&format!("SetFeatureLevel level={level}"));
    }
    world
}

fn create(name: &str) -> String {
    format!("CreateModel name={name}")
}

/// By how much an entry may be ahead, by level.
#[test]
fn an_entry_far_ahead_of_state_time_is_refused_and_moves_nothing() {
    for (level, ahead, accepted) in [
        (0, "1h", true),
        (1, "1h", true),
        (2, "10s", true),
        (2, "10001ms", false),
        (2, "1h", false),
    ] {
        let mut world = at(level);
        let before = world.state.time();
        world.lines(&format!("wait {ahead}"));
        let applied = world.line(&create("late")).unwrap();
        let reason = applied.outcome.err().map(|e| e.reason());
        assert_eq!(
            reason,
            (!accepted).then_some(Reason::TimeAhead),
            "{level} {ahead}"
        );
        assert_eq!(world.state.time() > before, accepted, "{level} {ahead}");
    }
}

/// What was refused for its time may come again under its id once the time was marked.
#[test]
fn a_mark_moves_state_time_to_the_median_and_lets_the_refused_entry_in() {
    let mut world = at(2);
    let base = world.now.since(UnixMillis(START));
    world.lines("wait 3h");
    let late = world.entry(super::language::Line::parse(&create("late")).command());
    assert!(world.apply(&late).outcome.is_err());
    let clock = |away: Duration| format!("{}ms", (base + away).as_millis());
    let hours = |n: u64| clock(Duration::from_secs(3600 * n));
    world.actor = super::world::actor("coordinator/c0");
    world.lines(&format!(
        "MarkTime readings=c0:{},c1:{},c2:{}",
        hours(900),
        hours(3),
        hours(2)
    ));
    assert_eq!(
        world.state.time(),
        UnixMillis(START).plus(base + Duration::from_secs(3600 * 3))
    );
    assert!(world.apply(&late).outcome.is_ok());
}

#[test]
fn a_mark_never_takes_time_back() {
    let mut world = at(2);
    let before = world.state.time();
    world.actor = super::world::actor("coordinator/c0");
    world.lines("MarkTime readings=c0:-1h,c1:-2h,c2:1s");
    assert_eq!(world.state.time(), before);
}

/// What its proposer reckons must not move the time of a refused mark, nor of one that is accepted.
#[test]
fn a_mark_counts_by_its_readings_alone() {
    for (readings, who, reason) in [
        ("", "coordinator/c0", Some(Reason::InvalidArgument)),
        ("c0:1h,c0:2h", "coordinator/c0", Some(Reason::InvalidArgument)),
        ("c0:1h", "admin", Some(Reason::PermissionDenied)),
        ("c0:1h", "us/b1", Some(Reason::PermissionDenied)),
        ("c0:1s,c1:1s,c2:1s", "coordinator/c0", None),
    ] {
        let mut world = at(2);
        let before = world.state.time();
        world.actor = super::world::actor(who);
        let line = super::language::Line::parse(&format!("MarkTime readings={readings}"));
        let mut entry = world.entry(line.command());
        entry.proposed_at = entry.proposed_at.plus(Duration::from_secs(5 * 3600));
        let applied = world.apply(&entry);
        assert_eq!(
            applied.outcome.err().map(|e| e.reason()),
            reason,
            "{readings} by {who}"
        );
        assert!(
            world.state.time() <= before.max(UnixMillis(START + 1_000)),
            "{readings} by {who}"
        );
    }
    let mut early = at(1);
    early.actor = super::world::actor("coordinator/c0");
    let applied = early.line("MarkTime readings=c0:1h").unwrap();
    assert_eq!(
        applied.outcome.err().map(|e| e.reason()),
        Some(Reason::InvalidArgument)
    );
}
