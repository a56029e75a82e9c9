//! The rule of the door, by table.

use std::collections::BTreeSet;

use types::{ClusterId, Digest, Epoch, FencingToken, Lineage, RoleName};

use super::{holder, token};
use crate::{
    Condition, ETag,
    pointer::{BadBody, Decision, Pointed, PointerBody, PointerChange, Unusable, decide},
};

fn body(counter: u32, node: &str) -> PointerBody {
    PointerBody {
        cluster_id: ClusterId::from_u128(10),
        role: RoleName::global(),
        epoch: Epoch::new(1, counter),
        holder: holder(node),
        sequence: 4,
        nonce: "old".to_owned(),
        target: Some(Digest::of(b"old target")),
        tombstone: false,
    }
}

fn pointed(body: PointerBody) -> Option<Pointed> {
    Some(Pointed {
        body,
        etag: ETag::new("e1"),
    })
}

/// The text of a refusal, or the body that may be written.
fn check(read: Option<Pointed>, mine: &FencingToken, change: &PointerChange) -> Result<PointerBody, String> {
    check_for(read, mine, &Lineage::first(mine.cluster_id), change)
}

fn check_for(
    read: Option<Pointed>,
    mine: &FencingToken,
    lineage: &Lineage,
    change: &PointerChange,
) -> Result<PointerBody, String> {
    match decide(read.as_ref(), mine, lineage, change, "new") {
        Decision::Refuse(refusal) => Err(refusal.to_string()),
        Decision::Write(body, condition) => {
            let expected = read.map_or(Condition::Absent, |pointed| Condition::Matches(pointed.etag));
            assert_eq!(
                condition, expected,
                "a write is always conditional on what was read"
            );
            assert_eq!((body.token(), body.nonce.as_str()), (mine.clone(), "new"));
            Ok(body)
        }
    }
}

#[test]
fn a_pointer_is_written_under_its_own_or_an_older_epoch() {
    let target = PointerChange::Target(Digest::of(b"new target"));
    let created = check(None, &token(7, "a"), &target).unwrap();
    assert_eq!(
        (created.sequence, created.target),
        (1, Some(Digest::of(b"new target")))
    );
    let again = check(pointed(body(7, "a")), &token(7, "a"), &target).unwrap();
    assert_eq!(
        (again.sequence, again.target),
        (5, Some(Digest::of(b"new target")))
    );
    let claimed = check(pointed(body(6, "b")), &token(7, "a"), &PointerChange::Keep).unwrap();
    assert_eq!(
        (claimed.sequence, claimed.target),
        (5, Some(Digest::of(b"old target")))
    );
}

#[test]
fn a_higher_epoch_and_an_equal_one_of_another_holder_refuse() {
    let stale = check(pointed(body(8, "b")), &token(7, "a"), &PointerChange::Keep).unwrap_err();
    for part in [
        "stale epoch",
        "g1.e7",
        "g1.e8",
        "us-west-2/b#",
        "primaries/global",
    ] {
        assert!(stale.contains(part), "{part} is not in {stale}");
    }
    let equal = check(pointed(body(7, "b")), &token(7, "a"), &PointerChange::Keep).unwrap_err();
    for part in ["g1.e7", "us-west-2/a#", "us-west-2/b#"] {
        assert!(equal.contains(part), "{part} is not in {equal}");
    }
    let mut other_run = body(7, "a");
    other_run.holder.incarnation = types::NodeIncarnation::from_u128(8);
    check(pointed(other_run), &token(7, "a"), &PointerChange::Keep).unwrap_err();
    let generation = PointerBody {
        epoch: Epoch::new(2, 1),
        ..body(0, "b")
    };
    check(pointed(generation), &token(900, "a"), &PointerChange::Keep).unwrap_err();
}

#[test]
fn another_cluster_cannot_be_compared_whatever_its_epoch() {
    let other = PointerBody {
        cluster_id: ClusterId::from_u128(11),
        ..body(1, "a")
    };
    let refusal = check(pointed(other), &token(7, "a"), &PointerChange::Keep).unwrap_err();
    assert!(refusal.contains("cluster"), "{refusal}");
}

#[test]
fn a_body_of_a_cluster_that_ended_is_taken_over_by_the_one_that_goes_on_and_by_no_other() {
    let [old, new, other] = [10, 11, 12].map(ClusterId::from_u128);
    let lineage = Lineage {
        cluster: new,
        closed: BTreeSet::from([old]),
    };
    let of = |cluster_id, generation| FencingToken {
        cluster_id,
        epoch: Epoch::new(generation, 1),
        ..token(1, "a")
    };
    let keep = &PointerChange::Keep;
    let taken = check_for(pointed(body(900, "b")), &of(new, 2), &lineage, keep).unwrap();
    assert_eq!((taken.cluster_id, taken.sequence), (new, 5));
    assert_eq!(taken.target, Some(Digest::of(b"old target")));
    // Without the statement, by somebody else, of somebody else; not from below, and never back.
    let foreign = PointerBody {
        cluster_id: other,
        ..body(1, "b")
    };
    for (read, mine, lineage, word) in [
        (body(1, "b"), of(new, 2), &Lineage::first(new), "cluster"),
        (body(1, "b"), of(other, 2), &lineage, "cluster"),
        (foreign, of(new, 2), &lineage, "cluster"),
        (body(900, "b"), of(new, 1), &lineage, "stale epoch"),
        (taken, of(old, 9), &Lineage::first(old), "cluster"),
    ] {
        let refused = check_for(pointed(read), &mine, lineage, keep).unwrap_err();
        assert!(refused.contains(word), "{refused}");
    }
    // A reader of the new cluster does not use what nobody took over yet, nor one of the old cluster what was.
    let usable = |body: &PointerBody, cluster| body.usable(cluster, Epoch::new(1, 1));
    assert!(matches!(
        usable(&body(900, "b"), new),
        Err(Unusable::OtherCluster { .. })
    ));
}

#[test]
fn a_tombstone_keeps_fencing_until_a_target_ends_it() {
    let buried = check(pointed(body(6, "b")), &token(7, "a"), &PointerChange::Tombstone).unwrap();
    assert_eq!(
        (buried.tombstone, buried.target, buried.epoch),
        (true, None, Epoch::new(1, 7))
    );
    check(pointed(buried.clone()), &token(6, "b"), &PointerChange::Keep).unwrap_err();
    assert!(
        check(pointed(buried.clone()), &token(8, "c"), &PointerChange::Keep)
            .unwrap()
            .tombstone
    );
    let risen = check(
        pointed(buried),
        &token(8, "c"),
        &PointerChange::Target(Digest::of(b"x")),
    )
    .unwrap();
    assert!(!risen.tombstone);
}

#[test]
fn bodies_survive_the_round_trip_and_strange_ones_are_refused() {
    let body = body(7, "a");
    let text = String::from_utf8(body.to_bytes()).unwrap();
    assert_eq!(PointerBody::from_bytes(text.as_bytes()).unwrap(), body);
    let newer = text.replace("\"version\": 1", "\"version\": 2");
    let error = PointerBody::from_bytes(newer.as_bytes()).unwrap_err();
    assert!(matches!(error, BadBody::Version { found: 2 }), "{error}");
    let unknown = text.replace("\"tombstone\"", "\"extra\": 1, \"tombstone\"");
    assert!(matches!(
        PointerBody::from_bytes(unknown.as_bytes()),
        Err(BadBody::Malformed(_))
    ));
    assert!(matches!(
        PointerBody::from_bytes(b"{"),
        Err(BadBody::Malformed(_))
    ));
    assert!(matches!(
        PointerBody::from_bytes(b"{}"),
        Err(BadBody::Version { found: 0 })
    ));
}

#[test]
fn readers_use_no_pointer_below_the_committed_epoch() {
    let body = body(7, "a");
    let mine = ClusterId::from_u128(10);
    assert_eq!(body.usable(mine, Epoch::new(1, 7)), Ok(()));
    // The reader may lag behind the writer.
    assert_eq!(body.usable(mine, Epoch::new(1, 6)), Ok(()));
    assert!(matches!(
        body.usable(mine, Epoch::new(1, 8)),
        Err(Unusable::OldEpoch { .. })
    ));
    assert!(matches!(
        body.usable(ClusterId::from_u128(1), Epoch::ZERO),
        Err(Unusable::OtherCluster { .. })
    ));
}
