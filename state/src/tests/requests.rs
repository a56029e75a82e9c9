//! I9: a request runs once, whatever is sent again.

use std::time::Duration;

use types::{RequestId, UnixMillis};

use super::{
    language::Line,
    world::{START, World, actor},
};
use crate::{
    command::{Command, Entry},
    rejection::Rejection,
    requests::RequestTable,
    state::ControlState,
};

fn command(text: &str) -> Command {
    Line::parse(text).command()
}

/// Two answers are kept at least, and each for ten seconds.
fn small() -> World {
    let mut world = World::with(ControlState::with_limits(
        RequestTable::with_limits(2, Duration::from_secs(10)),
        5,
    ));
    world.lines("InitCluster\nRegisterRegion region=eu");
    world
}

fn request(world: &mut World, id: RequestId, text: &str) -> Result<crate::Reply, Rejection> {
    let entry = Entry {
        request_id: id,
        ..world.entry(command(text))
    };
    world.apply(&entry).outcome
}

#[test]
fn a_retry_gets_the_first_answer_and_changes_nothing() {
    let mut world = small();
    let id = RequestId::v7_from_parts(START, 77);
    assert_eq!(world.state.first_answer(id), None);
    let first = request(&mut world, id, "RegisterRegion region=us");
    assert_eq!(world.state.first_answer(id), Some(first.clone()));
    let records = crate::dump::dump_records(&world.state);
    let events = world.events.len();
    assert_eq!(request(&mut world, id, "RegisterRegion region=us"), first);
    assert_eq!(records, crate::dump::dump_records(&world.state));
    assert_eq!(events, world.events.len());
}

/// A fenced writer goes on for ever; what it is told each time need not be kept.
#[test]
fn what_is_refused_for_ever_takes_no_room() {
    let mut world = World::standing();
    world.lines("actor eu/a1");
    let kept = world.state.requests.answered.len();
    let id = RequestId::v7_from_parts(START, 1 << 40);
    for token in ["eu/a1#1@g1.e1", "us/b1#1@g1.e2"] {
        let line = format!("SetModelTags model=fraud.scorer set=k:v token={token}");
        let refused = request(&mut world, id, &line);
        assert!(refused.as_ref().unwrap_err().is_for_ever(), "{refused:?}");
        assert_eq!(request(&mut world, id, &line), refused);
    }
    assert_eq!(world.state.requests.answered.len(), kept);
}

#[test]
fn a_retry_of_a_refusal_is_refused_alike_even_if_it_could_succeed_now() {
    let mut world = small();
    let id = RequestId::v7_from_parts(START, 77);
    let first = request(&mut world, id, "SetNodeStatus node=a1 status=DOWN");
    world.lines("RegisterNode node=a1 region=eu");
    assert_eq!(
        request(&mut world, id, "SetNodeStatus node=a1 status=DOWN"),
        first
    );
}

#[test]
fn an_id_serves_one_caller_and_one_command() {
    let mut world = small();
    let id = RequestId::v7_from_parts(START, 77);
    request(&mut world, id, "RegisterRegion region=us").unwrap();
    let other = request(&mut world, id, "RegisterRegion region=ap");
    assert_eq!(other, Err(Rejection::RequestReused { request_id: id }));
    world.actor = actor("someone-else");
    let stolen = request(&mut world, id, "RegisterRegion region=us");
    assert_eq!(stolen, Err(Rejection::RequestReused { request_id: id }));
}

#[test]
fn ids_of_another_kind_are_refused() {
    let mut world = small();
    let refused = request(&mut world, RequestId::from_u128(7), "RegisterRegion region=us");
    assert_eq!(refused.unwrap_err().reason().as_str(), "INVALID_ARGUMENT");
}

#[test]
fn a_fast_clock_is_refused_from_one_minute_on_with_both_times() {
    let mut world = small();
    let at = |ahead: u64| RequestId::v7_from_parts(START + ahead, 77);
    request(&mut world, at(60_000), "RegisterRegion region=us").unwrap();
    let request_id = at(60_001);
    let refused = request(&mut world, request_id, "RegisterRegion region=ap").unwrap_err();
    assert_eq!(
        refused,
        Rejection::RequestFromFuture {
            request_id,
            state_time: UnixMillis(START)
        }
    );
    let refusal = refused.to_refusal();
    assert_eq!(refusal.operand("request_time_ms"), Some("1700000060001"));
    assert_eq!(refusal.operand("state_time_ms"), Some("1700000000000"));
}

#[test]
fn what_was_forgotten_is_refused_and_never_run_again() {
    let mut world = small();
    let old = RequestId::v7_from_parts(START, 1 << 60);
    request(&mut world, old, "RegisterRegion region=us").unwrap();
    world.lines("wait 11s\nRegisterRegion region=ap\nRegisterRegion region=sa");
    let refused = request(&mut world, old, "RegisterRegion region=us").unwrap_err();
    assert_eq!(refused.reason().as_str(), "REQUEST_TOO_OLD");
    assert_eq!(refused.to_refusal().operand("behind_ms"), Some("11000"));
    assert!(refused.to_string().contains("11s behind"), "{refused}");
    let never_seen = RequestId::v7_from_parts(START, 2);
    let refused = request(&mut world, never_seen, "RegisterRegion region=x").unwrap_err();
    assert_eq!(refused.reason().as_str(), "REQUEST_TOO_OLD");
}

#[test]
fn answers_are_kept_for_their_time_and_in_their_number() {
    let mut world = small();
    world.lines("RegisterRegion region=us\nRegisterRegion region=ap\nwait 10s\nRegisterRegion region=sa");
    assert_eq!(world.state.requests.answered.len(), 5, "ten seconds are not over");
    world.lines("wait 60s\nRegisterRegion region=x");
    assert_eq!(world.state.requests.answered.len(), 2, "two are kept however old");
}

#[test]
fn a_slow_clocks_answer_is_kept_for_its_time_too() {
    let mut world = small();
    world.lines("wait 1h");
    let slow = RequestId::v7_from_parts(START + 1, 1);
    let first = request(&mut world, slow, "RegisterRegion region=us");
    world.lines("RegisterRegion region=ap\nRegisterRegion region=sa");
    assert_eq!(request(&mut world, slow, "RegisterRegion region=us"), first);
}

/// Room for ten people's answers within ten seconds; eleven of agents, twelve of coordinators.
#[test]
fn a_flood_is_refused_by_the_limit_and_stops_neither_agents_nor_coordinators() {
    let table = RequestTable::with_limits(2, Duration::from_secs(10)).capped(10);
    let mut world = World::with(ControlState::with_limits(table, 5));
    world.lines("InitCluster\nRegisterRegion region=eu\nwait 1s");
    let add = |n: u32| format!("RegisterRegion region=r{n}");
    for n in 1..=8 {
        world.lines(&add(n));
    }
    let ninth = RequestId::v7_from_parts(START + 1_000, 1 << 40);
    let refused = request(&mut world, ninth, &add(9)).unwrap_err();
    assert_eq!(refused.reason().as_str(), "OVERLOADED");
    assert!(refused.reason().retryable() && refused.reason().surely_no_effect());
    let refusal = refused.to_refusal();
    assert_eq!(refusal.operand("limit"), Some("10"));
    assert_eq!(refusal.operand("retry_after_ms"), Some("9001"), "{refused}");
    // Who was answered is answered again.
    assert!(world.line("again").unwrap().outcome.is_err());
    let known = world.state.requests.answered.iter().next_back().unwrap().id;
    assert_eq!(
        request(&mut world, known, &add(8)).map(|_| ()),
        Ok(()),
        "a retry needs no room"
    );
    world.actor = actor("eu/a1");
    world.lines("RegisterNode node=a1 region=eu");
    assert!(
        world
            .line("RegisterNode node=a1 region=eu run=2")
            .unwrap()
            .outcome
            .is_err()
    );
    world.actor = actor("coordinator/c1");
    world.lines("RegisterNode node=c1 region=eu kind=coordinator");
    let last = world.line(&add(10)).unwrap().outcome.unwrap_err();
    assert_eq!(last.to_refusal().operand("limit"), Some("12"));
    // What was refused was not run, and runs under the same id once there is room.
    world.actor = actor("admin");
    world.lines("wait 11s");
    assert!(world.state.region(&"r9".parse().unwrap()).is_none());
    request(&mut world, ninth, &add(9)).unwrap();
    assert!(world.state.requests.answered.len() <= 10);
}

/// Of twenty answers of people the last two are for what runs the cluster, and the two before for agents that copy what people
/// registered, once the level says so.
#[test]
fn a_flood_of_bulk_work_leaves_room_for_those_who_run_the_cluster() {
    let level = crate::Feature::RoomForOperators.level();
    for (level, is_on) in [(level - 1, false), (level, true)] {
        let limit = |on: u64, off: u64| if is_on { on } else { off };
        let table = RequestTable::with_limits(2, Duration::from_secs(10)).capped(20);
        let mut world = World::with(ControlState::with_limits(table, 5));
        world.lines(
            "InitCluster\nRegisterRegion region=eu\nactor eu/a1\nRegisterNode node=a1 region=eu\nactor admin",
        );
        world.lines(&format!("SetFeatureLevel level={level}"));
        // People's bulk work, and then agents', up to where each is refused.
        fill(&mut world, "CreateModel name=m", limit(16, 20));
        world.actor = actor("eu/a1");
        fill(&mut world, "RegisterService key=s/a1:7", limit(18, 22));
        // What runs the cluster.
        world.actor = actor("admin");
        for line in [
            "SetRoleMode role=primaries/global mode=MANUAL",
            "SetLeaderPreference regions=eu",
        ] {
            let done = world.line(line).unwrap().outcome;
            assert_eq!(done.is_ok(), is_on, "{level} {line}: {done:?}");
        }
        // Theirs has an end, too.
        fill(&mut world, "RegisterRegion region=r", 20);
    }
}

/// Asks again and again for something new, until there is no room for the answer.
fn fill(world: &mut World, what: &str, limit: u64) {
    for n in 0..40 {
        let outcome = world.line(&format!("{what}{n}")).unwrap().outcome;
        if let Err(Rejection::RequestsExhausted { limit: found, .. }) = outcome {
            assert_eq!(found, limit, "{what}");
            assert!(world.state.requests.answered.len() >= found, "{what}");
            return;
        }
    }
    panic!("{what}: no end");
}

#[test]
fn state_time_never_goes_back() {
    let mut world = small();
    world.now = UnixMillis(START - 5_000);
    world.lines("RegisterRegion region=us");
    assert_eq!(world.state.time(), UnixMillis(START));
}

#[test]
fn a_revision_that_does_not_grow_is_refused() {
    let mut world = small();
    let entry = world.entry(command("RegisterRegion region=us"));
    let revision = world.state.revision();
    assert!(world.state.apply(revision, &entry).outcome.is_err());
    assert_eq!(world.state.revision(), revision);
}
