//! Random histories. A case is a list of selectors; each becomes a concrete entry in the state that it meets, mostly a
//! sensible one. After every step the rules below are checked, each against bookkeeping of its own (`Oracle`).
//!
//! A failing case prints its seed, and the path of a file with its entries, one line of hex each; `REGENT_REPLAY=path`
//! plays that file alone.

mod entries;
mod experiments;
mod history;
mod lineage;
mod moves;
mod oracle;
mod picks;
mod services;

use std::time::Duration;

use proptest::{prelude::*, strategy::ValueTree as _};
use types::{
    Epoch, NodeIncarnation, Revision, UnixMillis,
    region::{Endpoints, FencingDoor, Health, NodeKind, StoreBinding},
    role::TimingPolicy,
};

use self::{
    entries::entry,
    oracle::Oracle,
    picks::{Pick, node, pick, region},
};
use super::{
    bytes::{hex, unhex},
    language::CLUSTER,
    world::{START, World, next},
};
use crate::{
    codec::{
        FORMAT, decode_entry, decode_snapshot, encode_answer, encode_entry, encode_snapshot, read_entry,
    },
    command::{Command, Entry, Expects},
    event::Event,
    rejection::Rejection,
    requests::RequestTable,
    state::ControlState,
};

/// The first entries of every history: without them most selectors would only be refused.
fn prelude(world: &mut World) -> Vec<Entry> {
    let mut commands = vec![Command::InitCluster {
        cluster_id: CLUSTER,
        generation: 1,
        timing: TimingPolicy::fast(),
    }];
    for by in 0..3 {
        let store = StoreBinding {
            endpoint: "http://s".to_owned(),
            bucket: "b".to_owned(),
            fencing_door: FencingDoor::Qualified,
        };
        let incarnation = NodeIncarnation::from_u128(1);
        let endpoints = Endpoints::default();
        commands.extend([
            Command::RegisterRegion { region: region(by) },
            Command::AttachStore {
                region: region(by),
                store,
            },
            Command::RegisterNode {
                node: node(by),
                region: region(by),
                kind: NodeKind::Agent,
                incarnation,
                endpoints,
                zone: None,
            },
            Command::SetRegionHealth {
                region: region(by),
                from: Health::Recovering,
                to: Health::Healthy,
                evidence: String::new(),
            },
        ]);
    }
    let mut entries: Vec<_> = commands.into_iter().map(|c| world.entry(c)).collect();
    entries.extend(experiments::versions(world));
    entries
}

fn small() -> ControlState {
    ControlState::with_limits(RequestTable::with_limits(8, Duration::from_secs(10)), 2)
}

/// Makes the history concrete while it is played, checks every step, and then plays it on other replicas.
fn history(picks: &[Pick]) -> Vec<Entry> {
    let mut world = World::with(small());
    world.now = UnixMillis(START);
    let mut oracle = Oracle::new();
    let mut entries = prelude(&mut world);
    for entry in &entries {
        checked(&mut world, &mut oracle, entry);
    }
    // Half of the histories know every rule from the start; the others come to it, or do not.
    if picks.first().is_some_and(|first| first.a % 2 == 0) {
        let raise = world.entry(Command::SetFeatureLevel {
            level: crate::features::SUPPORTED,
        });
        checked(&mut world, &mut oracle, &raise);
        entries.push(raise);
    }
    for pick in picks {
        let entry = entry(&mut world, &oracle, *pick, &entries);
        let entry = expecting(&world.state, entry, *pick);
        entries.push(entry.clone());
        Recorder(&entries).watch(|| checked(&mut world, &mut oracle, &entry));
    }
    entries
}

/// With what its caller believes of its record, in every fourth entry: the truth, or nearly.
fn expecting(state: &ControlState, entry: Entry, Pick { b, c, .. }: Pick) -> Entry {
    if !c.is_multiple_of(4) || !entry.expects.is_nothing() {
        return entry;
    }
    let addressed = entry.command.addressed();
    let off = u64::from(b % 3 == 0);
    let etag = state.etag_of(addressed).map(|etag| Revision(etag.0 + off));
    let epoch = state.role_of(addressed).ok().map(|role| role.epoch);
    let expects = Expects {
        etag: etag.filter(|_| c.is_multiple_of(8)),
        epoch: epoch.map(|epoch| Epoch::from_u64(epoch.as_u64().saturating_sub(off))),
        asked: None,
    };
    Entry { expects, ..entry }
}

fn checked(world: &mut World, oracle: &mut Oracle, entry: &Entry) {
    let before = world.state.clone();
    let preview = before.preview(next(&before), entry);
    let applied = world.apply(entry);
    assert!(
        preview.applied == applied && preview.state == world.state,
        "a preview of {entry:?} came out otherwise: {:?}, not {:?}",
        preview.applied.outcome,
        applied.outcome
    );
    oracle.check(&before, entry, &applied, &world.state);
}

/// Writes the entries to a file where a check fails, and says where.
struct Recorder<'a>(&'a [Entry]);

impl Recorder<'_> {
    fn watch(&self, check: impl FnOnce()) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        if let Err(panic) = result {
            let path = std::env::temp_dir().join("regent-state-history.hex");
            let lines: String = self.0.iter().map(|e| hex(&encode_entry(e)) + "\n").collect();
            std::fs::write(&path, lines).unwrap();
            eprintln!("replay with REGENT_REPLAY={}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
}

/// Two replicas that read bytes, one of which goes through a snapshot on the way, end as the first one did.
fn replicas_agree(entries: &[Entry], cut: usize) {
    let (mut first, mut second, mut third) = (small(), small(), small());
    for (n, entry) in entries.iter().enumerate() {
        let read = decode_entry(&encode_entry(entry)).unwrap();
        assert_eq!(&read, entry);
        let revision = next(&first);
        let digested = read_entry(&encode_entry(entry)).unwrap();
        let mut answers = [&mut first, &mut third]
            .map(|s| s.apply(revision, &read))
            .to_vec();
        answers.insert(1, second.apply_read(revision, &digested));
        assert_eq!(
            encode_answer(&answers[0].outcome, FORMAT),
            encode_answer(&answers[1].outcome, FORMAT)
        );
        assert_eq!(answers[0], answers[2]);
        if n == cut {
            third = decode_snapshot(&encode_snapshot(&third)).unwrap();
        }
        let hash = first.state_hash();
        assert!(hash == second.state_hash() && hash == third.state_hash());
    }
    assert_eq!(encode_snapshot(&first), encode_snapshot(&second));
    assert_eq!(encode_snapshot(&first), encode_snapshot(&third));
    assert_eq!(crate::dump::dump(&first), crate::dump::dump(&third));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_history_breaks_a_rule(picks in prop::collection::vec(pick(), 1..160), cut: prop::sample::Index) {
        let entries = history(&picks);
        replicas_agree(&entries, cut.index(entries.len()));
    }
}

/// That the selectors reach what they are meant to attack; else the property above would say nothing.
#[test]
fn histories_move_roles_and_show_stale_tokens() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut promoted, mut burned, mut stale, mut accepted, mut too_old) = (0, 0, 0, 0, 0);
    for _ in 0..60 {
        let picks = prop::collection::vec(pick(), 160)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut state = small();
        for entry in history(&picks) {
            let applied = state.apply(next(&state), &entry);
            match (&entry.command, &applied.outcome) {
                (Command::Promote { .. }, Ok(_)) => promoted += 1,
                (Command::FailPlan { .. }, Ok(_)) if applied.events.len() > 1 => burned += 1,
                (Command::SetModelTags { .. }, Ok(_)) => accepted += 1,
                (Command::SetModelTags { .. }, Err(Rejection::Door { .. })) => stale += 1,
                (_, Err(Rejection::RequestTooOld { .. })) => too_old += 1,
                _ => {}
            }
        }
    }
    let reached = [promoted, burned, stale, accepted, too_old];
    assert!(
        reached.iter().all(|n| *n > 5),
        "promoted, burned, stale, accepted, too old: {reached:?}"
    );
}

#[test]
fn histories_split_users_and_end_experiments() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut created, mut split, mut measured, mut ended, mut stale, mut in_use) = (0, 0, 0, 0, 0, 0);
    for _ in 0..24 {
        let picks = prop::collection::vec(pick(), 160)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut state = small();
        for entry in history(&picks) {
            let applied = state.apply(next(&state), &entry);
            match (&entry.command, &applied.outcome) {
                (Command::CreateExperiment { .. }, Ok(_)) => created += 1,
                (Command::SetExperimentSplit { .. }, Ok(_)) if !applied.events.is_empty() => split += 1,
                (Command::SetExperimentSplit { .. }, Err(Rejection::EtagMismatch { .. })) => stale += 1,
                (Command::ReportExperiment { .. }, Ok(_)) => measured += 1,
                (Command::EndExperiment { .. }, Ok(_)) => ended += 1,
                (Command::DeleteVersion { .. }, Err(Rejection::VersionInExperiment { .. })) => in_use += 1,
                _ => {}
            }
        }
    }
    let reached = [created, split, measured, ended, stale, in_use];
    assert!(
        reached.iter().all(|n| *n > 2),
        "created, split, measured, ended, stale, in use: {reached:?}"
    );
}

#[test]
fn histories_measure_versions_and_name_data_sets() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut named, mut measured, mut repeated, mut both, mut early) = (0, 0, 0, 0, 0);
    for _ in 0..48 {
        let picks = prop::collection::vec(pick(), 160)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut state = small();
        for entry in history(&picks) {
            let applied = state.apply(next(&state), &entry);
            match (&entry.command, &applied.outcome) {
                (Command::CreateVersion { datasets, .. }, Ok(_)) if !datasets.is_empty() => named += 1,
                (Command::CreateVersion { .. }, Err(e)) if e.to_string().contains("feature level") => {
                    early += 1
                }
                (Command::SetVersionMetrics { .. }, Ok(_)) if applied.events.is_empty() => repeated += 1,
                (Command::SetVersionMetrics { .. }, Ok(_)) => measured += 1,
                (Command::SetVersionMetrics { .. }, Err(Rejection::InvalidArgument { .. })) => both += 1,
                _ => {}
            }
        }
    }
    let reached = [named, measured, repeated, both, early];
    assert!(
        reached.iter().all(|n| *n > 2),
        "named, measured, repeated, set and removed, early: {reached:?}"
    );
}

#[test]
fn histories_make_and_take_away_regions_and_drop_nodes() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut made, mut updated, mut gone, mut in_use, mut dropped, mut held) = (0, 0, 0, 0, 0, 0);
    for _ in 0..48 {
        let picks = prop::collection::vec(pick(), 160)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut state = small();
        for entry in history(&picks) {
            let applied = state.apply(next(&state), &entry);
            match (&entry.command, &applied.outcome) {
                (Command::CreateRegion { .. }, Ok(_)) => made += 1,
                (Command::UpdateRegion { .. }, Ok(_)) if !applied.events.is_empty() => updated += 1,
                (Command::DeleteRegion { .. }, Ok(_)) if !applied.events.is_empty() => gone += 1,
                (Command::DeleteRegion { .. }, Err(Rejection::RegionInUse { .. })) => in_use += 1,
                (Command::RemoveNode { .. }, Ok(_)) if !applied.events.is_empty() => dropped += 1,
                (Command::RemoveNode { .. }, Err(Rejection::NodeInUse { .. })) => held += 1,
                _ => {}
            }
        }
    }
    let reached = [made, updated, gone, in_use, dropped, held];
    assert!(
        reached.iter().all(|n| *n > 2),
        "made, updated, gone, in use, dropped, held: {reached:?}"
    );
}

#[test]
fn histories_register_services_that_end_with_their_nodes() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut registered, mut again, mut gone, mut sick, mut ended, mut stale) = (0, 0, 0, 0, 0, 0);
    let mut dropped = 0;
    for _ in 0..48 {
        let picks = prop::collection::vec(pick(), 160)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut state = small();
        for entry in history(&picks) {
            let applied = state.apply(next(&state), &entry);
            let is_gone = |e: &Event| matches!(e, Event::ServiceDeleted { .. });
            match (&entry.command, &applied.outcome) {
                (Command::RegisterService { .. }, Ok(_)) if applied.events.is_empty() => again += 1,
                (Command::RegisterService { .. }, Ok(_)) => registered += 1,
                (Command::RegisterService { .. }, Err(Rejection::StaleIncarnation { .. })) => stale += 1,
                (Command::DeregisterService { .. }, Ok(_)) => gone += 1,
                (Command::RegisterNode { .. }, Ok(_)) if applied.events.iter().any(is_gone) => ended += 1,
                (Command::SetNodeStatus { .. }, Ok(_)) if applied.events.len() > 1 => sick += 1,
                (Command::RemoveNode { .. }, Ok(_)) if applied.events.len() > 1 => dropped += 1,
                _ => {}
            }
        }
    }
    let reached = [registered, again, gone, sick, ended, stale, dropped];
    assert!(
        reached.iter().all(|n| *n > 0),
        "registered, again, deregistered, sick, ended, stale, dropped: {reached:?}"
    );
}

#[test]
fn histories_are_remembered_and_preferences_change() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut moved, mut sick, mut set, mut emptied, mut denied, mut forgotten) = (0, 0, 0, 0, 0, 0);
    for _ in 0..24 {
        let picks = prop::collection::vec(pick(), 160)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut state = small();
        for entry in history(&picks) {
            let before = (
                state.deployments.len(),
                state.health_changes.len(),
                state.preferences.len(),
            );
            let applied = state.apply(next(&state), &entry);
            let more = state.deployments.len() > before.0;
            match (&entry.command, &applied.outcome) {
                (_, Ok(_)) if more => moved += 1,
                (Command::SetNodeStatus { .. } | Command::SetRegionHealth { .. }, Ok(_))
                    if state.health_changes.len() > before.1 =>
                {
                    sick += 1;
                }
                (Command::RemoveNode { .. } | Command::DeleteRegion { .. }, Ok(_))
                    if state.health_changes.len() < before.1 =>
                {
                    forgotten += 1;
                }
                (Command::SetPreferences { .. }, Ok(_)) if state.preferences.len() < before.2 => emptied += 1,
                (Command::SetPreferences { .. }, Ok(_)) => set += 1,
                (Command::SetPreferences { .. }, Err(Rejection::PermissionDenied { .. })) => denied += 1,
                _ => {}
            }
        }
    }
    let reached = [moved, sick, set, emptied, denied, forgotten];
    // Aliases seldom move: few versions of these histories become ready.
    assert!(
        reached.iter().all(|n| *n > 0),
        "moved, sick, set, emptied, denied, forgotten: {reached:?}"
    );
}

#[test]
fn a_recorded_history_is_replayed() {
    let Some(path) = std::env::var_os("REGENT_REPLAY") else {
        return;
    };
    let mut world = World::with(small());
    let mut oracle = Oracle::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let entry = decode_entry(&unhex(line)).unwrap();
        checked(&mut world, &mut oracle, &entry);
    }
}
