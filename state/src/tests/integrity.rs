//! The integrity hash: equal for equal states, another for every other, and never forgotten by a change.

use std::collections::BTreeSet;

use super::{
    bytes::unhex,
    samples,
    world::{World, next},
};
use crate::{
    ControlState, StateHash,
    codec::{self, encode_entry, encode_snapshot},
};

/// Bytes of a snapshot in one piece before its body.
const HEADER: usize = 8 + 4 + 8 + 32;

/// One of everything that the state can hold.
fn world() -> World {
    let mut world = World::standing();
    world.lines(
        "SetRoleTiming timing=default\nSetRoleTiming timing=fast
         RegisterNode node=a1 region=eu run=2
         StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2",
    );
    world
}

/// The tables in which two states differ, and `scalars`.
fn differences(a: &ControlState, b: &ControlState) -> BTreeSet<&'static str> {
    let found = [
        ("regions", a.regions != b.regions),
        ("nodes", a.nodes != b.nodes),
        ("superseded", a.superseded != b.superseded),
        ("models", a.models != b.models),
        ("published", a.published != b.published),
        ("versions", a.versions != b.versions),
        ("aliases", a.aliases != b.aliases),
        ("replicas", a.replicas != b.replicas),
        ("roles", a.roles != b.roles),
        ("plans", a.plans != b.plans),
        ("answers", a.requests.answered != b.requests.answered),
        ("time", a.time != b.time),
        ("revision", a.revision != b.revision),
        ("cluster", a.cluster != b.cluster),
        ("join_order", a.join_order != b.join_order),
        ("kept_min", a.requests.kept_min != b.requests.kept_min),
        ("kept_for", a.requests.kept_for != b.requests.kept_for),
        ("kept_max", a.requests.kept_max != b.requests.kept_max),
        ("floor", a.requests.floor != b.requests.floor),
        (
            "finished_plans_kept",
            a.finished_plans_kept != b.finished_plans_kept,
        ),
    ];
    found
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| name)
        .collect()
}

/// Every byte of every record and number is changed in turn: whatever can be read and is another state has another hash.
#[test]
fn whatever_is_changed_in_a_state_its_hash_is_another() {
    let mut world = world();
    // A floor, without which there is none to change.
    world.state.requests.floor = Some(types::RequestId::v7_from_parts(1, 1));
    let state = &world.state;
    let body = encode_snapshot(state).split_off(HEADER);
    let again = codec::state_of_body(&body).unwrap();
    assert_eq!((&again, again.state_hash()), (state, state.state_hash()));
    let (mut reached, mut others) = (BTreeSet::new(), 0);
    for at in 0..body.len() {
        for bit in [0, 2, 5] {
            let mut changed = body.clone();
            changed[at] ^= 1 << bit;
            let Some(other) = codec::state_of_body(&changed) else {
                continue;
            };
            let differences = differences(state, &other);
            let same_hash = other.state_hash() == state.state_hash();
            assert_eq!(
                same_hash,
                differences.is_empty(),
                "byte {at} bit {bit}: {differences:?}"
            );
            assert_eq!(other.state_hash(), other.hash_from_scratch());
            others += usize::from(!same_hash);
            reached.extend(differences);
        }
    }
    assert_eq!(reached.len(), 20, "{reached:?}");
    assert!(others > 1_000, "{others}");
}

/// A record that moves from one table to another, or a number from one field to another, is no equal state.
#[test]
fn a_hash_says_which_table_a_record_stands_in() {
    let mut state = ControlState::new();
    let empty = state.state_hash();
    state
        .published
        .insert("m".parse().unwrap(), crate::state::WasPublished);
    let published = state.state_hash();
    assert_ne!(published, empty);
    state.published.remove(&"m".parse().unwrap());
    assert_eq!(state.state_hash(), empty);
    state.superseded.insert("m".parse().unwrap(), Vec::new());
    assert_ne!(state.state_hash(), published);
}

/// What came on another way is the same: other entries, in another order, with changes that were taken back.
#[test]
fn equal_states_have_equal_hashes_however_they_came_about() {
    let (straight, mut around) = (World::standing().state, World::standing().state);
    let tables = |state: &mut ControlState| {
        let versions: Vec<_> = state.versions.values().cloned().collect();
        for version in versions {
            let mut other = version.clone();
            other.framework.push('x');
            state.add_version(other);
            assert_ne!(state.state_hash(), straight.state_hash());
            state.versions.remove(&version.key);
            state.add_version(version);
        }
    };
    tables(&mut around);
    assert_eq!(around, straight);
    assert_eq!(around.state_hash(), straight.state_hash());
}

/// Voters of two releases compare their hashes: what goes into one never changes. This is the hash of the state that
/// release 1's frozen log leads to.
#[test]
fn the_hash_of_a_state_is_the_same_in_every_release() {
    let mut state = ControlState::new();
    for line in include_str!("../../testdata/compat/v1/life.entries").lines() {
        let entry = codec::read_entry(&unhex(line.split_once(' ').unwrap().1)).unwrap();
        state.apply_read(next(&state), &entry);
    }
    let frozen = include_str!("../../testdata/compat/v2/life.hash");
    assert_eq!(state.state_hash().to_string(), frozen.trim());
    let bytes = *state.state_hash().as_bytes();
    assert_eq!(StateHash::from_bytes(bytes), state.state_hash());
}

#[test]
fn an_entry_is_digested_as_it_came_and_as_it_would_be_written() {
    for entry in samples::entries() {
        let bytes = encode_entry(&entry);
        let read = codec::read_entry(&bytes).unwrap();
        assert_eq!(read.entry(), &entry);
        assert_eq!(read.digest(), codec::request_digest(&entry), "{entry:?}");
        // Another try of the same request.
        let later = crate::Entry {
            proposed_at: types::UnixMillis(entry.proposed_at.0 + (1 << 40)),
            request_id: types::RequestId::v7_from_parts(7, 7),
            ..entry.clone()
        };
        let later = codec::read_entry(&encode_entry(&later)).unwrap();
        assert_eq!(later.digest(), read.digest());
        // A field that only a later release knows is part of what was asked.
        let mut more = bytes.clone();
        more.extend([0xa0, 0x3f, 1]);
        assert_ne!(codec::read_entry(&more).unwrap().digest(), read.digest());
    }
}
