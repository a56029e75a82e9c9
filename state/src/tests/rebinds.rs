//! Which clusters this one goes on from, as the state keeps it.

use types::{ClusterId, Rebind, Revision, SignedRebind, UnixMillis};

use super::world::World;
use crate::{
    codec,
    features::Feature,
    recovery::{Recovery, Unrecoverable},
};

const AT: u64 = 1_800_000_000_000;
const NEW: ClusterId = ClusterId::from_u128(0xbeef);

fn level() -> String {
    format!("SetFeatureLevel level={}", Feature::Rebinds.level())
}

fn kept(world: &World) -> Vec<(u128, bool)> {
    let rebinds = &world.state.cluster().unwrap().rebinds;
    let one = |rebind: &SignedRebind| (rebind.statement.supersedes.as_u128(), rebind.is_signed());
    rebinds.iter().map(one).collect()
}

fn refused(before: &str, line: &str, reason: &str, words: &str) {
    let mut world = World::standing();
    world.lines(before);
    let was = kept(&world);
    let rejection = world.line(line).unwrap().outcome.unwrap_err();
    assert_eq!(rejection.reason().as_str(), reason, "{line}: {rejection}");
    assert!(rejection.to_string().contains(words), "{line}: {rejection}");
    assert_eq!(kept(&world), was, "{line}");
}

#[test]
fn a_statement_is_kept_once_and_signed_anew_in_its_place() {
    let mut world = World::standing();
    world.lines(&format!(
        "{}\nRecordRebind over=9 by=1\nRecordRebind over=8 by=1",
        level()
    ));
    assert_eq!(kept(&world), [(9, true), (8, true)]);
    let before = world.state.cluster().unwrap().modified;
    world.lines("RecordRebind over=9 by=1");
    assert_eq!(world.state.cluster().unwrap().modified, before);
    world.lines("RecordRebind over=9 by=2");
    let rebinds = &world.state.cluster().unwrap().rebinds;
    assert_eq!(rebinds[0].signature, [2; 70]);
    assert_eq!(kept(&world).len(), 2);
    let read = codec::decode_snapshot(&codec::encode_snapshot(&world.state)).unwrap();
    assert_eq!(read, world.state);
}

#[test]
fn what_would_lead_doors_elsewhere_is_refused() {
    let id = format!("{}", World::standing().state.cluster().unwrap().cluster_id);
    refused(
        "",
        "RecordRebind by=1",
        "INVALID_ARGUMENT",
        "is 0, and this takes ",
    );
    refused(
        &level(),
        "RecordRebind",
        "INVALID_ARGUMENT",
        "signature: is empty",
    );
    refused(
        &level(),
        "RecordRebind by=1 generation=2",
        "INVALID_ARGUMENT",
        &id,
    );
    refused(&level(), "RecordRebind by=1 cluster=7", "INVALID_ARGUMENT", &id);
    let itself = "RecordRebind by=1 over=193";
    refused(&level(), itself, "INVALID_ARGUMENT", "goes on from itself");
    let many: Vec<String> = (1000..1064)
        .map(|n| format!("RecordRebind over={n} by=1"))
        .collect();
    let full = format!("{}\n{}", level(), many.join("\n"));
    refused(&full, "RecordRebind over=9 by=1", "LIMIT_EXCEEDED", "64");
}

fn recovery(generation: u32, over: &[u128]) -> Recovery {
    let statement = |over: &u128| SignedRebind {
        statement: Rebind {
            cluster: NEW,
            supersedes: ClusterId::from_u128(*over),
            generation,
        },
        signature: Vec::new(),
    };
    Recovery {
        cluster_id: NEW,
        generation,
        founder: "c1".parse().unwrap(),
        revision: Revision(1_000_000),
        at: UnixMillis(AT),
        outstanding_ttl: std::time::Duration::ZERO,
        rebinds: over.iter().map(statement).collect(),
        reason: "recovered".to_owned(),
    }
}

#[test]
fn a_new_cluster_keeps_what_the_old_one_went_on_from_and_what_is_to_be_signed() {
    let mut world = World::standing();
    world.lines(&format!("{}\nRecordRebind over=9 by=1", level()));
    let old = world.state.cluster().unwrap().cluster_id.as_u128();
    world.state = world.state.recovered(&recovery(2, &[old, 77])).unwrap();
    assert_eq!(kept(&world), [(9, true), (old, false), (77, false)]);
    assert!(world.state.features().has(Feature::Rebinds));
    world.state.check_invariants().unwrap();
    let sign = format!(
        "RecordRebind cluster={} over={old} generation=2 by=1",
        NEW.as_u128()
    );
    world.now = UnixMillis(AT + 1);
    world.lines(&sign);
    assert_eq!(kept(&world), [(9, true), (old, true), (77, false)]);
    // One that it was founded with, though its cluster is another by now.
    world.state = world
        .state
        .recovered(&Recovery {
            cluster_id: ClusterId::from_u128(0xcafe),
            revision: Revision(2_000_000),
            at: UnixMillis(AT + 2),
            rebinds: Vec::new(),
            ..recovery(3, &[])
        })
        .unwrap();
    world.now = UnixMillis(AT + 3);
    world.lines(&sign.replace(&format!("over={old}"), "over=77"));
    assert_eq!(kept(&world), [(9, true), (old, true), (77, true)]);
}

#[test]
fn a_founding_takes_statements_of_its_own_alone() {
    let state = World::standing().state;
    let other = Recovery {
        cluster_id: ClusterId::from_u128(0xcafe),
        ..recovery(2, &[9])
    };
    for wrong in [other, recovery(2, &[NEW.as_u128()])] {
        let refused = state.recovered(&wrong).unwrap_err();
        assert_eq!(refused, Unrecoverable::Rebind(wrong.rebinds[0].statement));
    }
}
