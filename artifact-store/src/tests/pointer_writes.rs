//! The loop of the door, over stores that answer badly.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Barrier;
use types::{Digest, Epoch, FencingToken, Lineage, RoleName};

use super::{LIMIT, token};
use crate::{
    ArtifactStore, Fault, FaultyStore, Gate, MemStore, Operation, keys,
    pointer::{
        BadBody, PointerChange, PointerError, Refusal, claim_pointer, claim_pointer_for, read_pointer,
        write_pointer,
    },
};

const SHORT: Duration = Duration::from_millis(30);

fn faulty() -> Arc<FaultyStore> {
    Arc::new(FaultyStore::new(Arc::new(MemStore::new("mem"))))
}

fn target(text: &str) -> PointerChange {
    PointerChange::Target(Digest::of(text.as_bytes()))
}

async fn sequence(store: &dyn ArtifactStore) -> u64 {
    read_pointer(store, &RoleName::global())
        .await
        .unwrap()
        .unwrap()
        .body
        .sequence
}

#[tokio::test]
async fn a_lost_answer_is_resolved_by_the_nonce() {
    let store = faulty();
    store.plan(Operation::Put, Fault::UnknownAfterWrite);
    let written = write_pointer(&*store, &token(1, "a"), &target("x"))
        .await
        .unwrap();
    assert_eq!((written.body.sequence, sequence(&*store).await), (1, 1));
    store.plan(Operation::Put, Fault::UnknownBeforeWrite);
    let written = write_pointer(&*store, &token(1, "a"), &target("y"))
        .await
        .unwrap();
    assert_eq!((written.body.sequence, sequence(&*store).await), (2, 2));
}

#[tokio::test]
async fn doubt_that_cannot_be_resolved_is_said() {
    let store = faulty();
    write_pointer(&*store, &token(1, "a"), &target("x"))
        .await
        .unwrap();
    // The first read is for the decision, the second for the nonce.
    let gate = Gate::new();
    store.plan(Operation::Get, Fault::Wait(Arc::clone(&gate)));
    store.plan(Operation::Get, Fault::Fail);
    store.plan(Operation::Put, Fault::UnknownAfterWrite);
    gate.release();
    let error = write_pointer(&*store, &token(1, "a"), &target("y"))
        .await
        .unwrap_err();
    assert!(matches!(error, PointerError::Unknown(_)), "{error:?}");
}

#[tokio::test]
async fn a_conflict_is_retried_and_a_failure_is_not() {
    let store = faulty();
    store.plan(Operation::Put, Fault::Conflict);
    write_pointer(&*store, &token(1, "a"), &target("x"))
        .await
        .unwrap();
    store.plan(Operation::Put, Fault::Fail);
    let error = write_pointer(&*store, &token(1, "a"), &target("y"))
        .await
        .unwrap_err();
    assert!(matches!(error, PointerError::Store(_)), "{error:?}");
    assert_eq!(sequence(&*store).await, 1);
}

#[tokio::test]
async fn a_writer_paused_between_read_and_write_is_stopped_by_the_claim() {
    let store = faulty();
    write_pointer(&*store, &token(1, "old"), &target("x"))
        .await
        .unwrap();
    let gate = Gate::new();
    store.plan(Operation::Put, Fault::Wait(Arc::clone(&gate)));
    let paused = tokio::spawn({
        let store = Arc::clone(&store);
        async move { write_pointer(&*store, &token(1, "old"), &target("stale")).await }
    });
    gate.arrived().await;
    let claim = claim_pointer(&*store, &token(2, "new"), LIMIT).await.unwrap();
    assert_eq!(claim.previous, Some(Epoch::new(1, 1)));
    gate.release();
    let error = paused.await.unwrap().unwrap_err();
    let PointerError::Refused(Refusal::StaleEpoch {
        shown,
        current,
        holder,
        ..
    }) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!((shown, current), (Epoch::new(1, 1), Epoch::new(1, 2)));
    assert_eq!(holder.node.as_str(), "new");
    let stands = read_pointer(&*store, &RoleName::global())
        .await
        .unwrap()
        .unwrap()
        .body;
    assert_eq!(stands.target, Some(Digest::of(b"x")));
}

/// Between regions that are far apart that is one round trip instead of two.
#[tokio::test]
async fn a_claim_of_what_was_just_read_reads_nothing_unless_somebody_wrote_meanwhile() {
    let store = faulty();
    let write = async |text: &str| write_pointer(&*store, &token(1, "old"), &target(text)).await;
    let known = async || read_pointer(&*store, &RoleName::global()).await.unwrap();
    let claim = async |epoch: u32, known| {
        let new = token(epoch, "new");
        claim_pointer_for(&*store, &new, &Lineage::first(new.cluster_id), known, LIMIT).await
    };
    write("x").await.unwrap();
    let read = known().await;
    store.plan(Operation::Get, Fault::Fail);
    let claimed = claim(2, read.clone()).await.unwrap();
    assert_eq!(claimed.previous, Some(Epoch::new(1, 1)));
    // The failure is still to come.
    let unread = claim(3, None).await.unwrap_err();
    assert!(matches!(unread, PointerError::Store(_)), "{unread:?}");

    // It was written since: what was known is not written over.
    let claimed = claim(3, read).await.unwrap();
    assert_eq!(claimed.body.epoch, Epoch::new(1, 3));
    assert_eq!(claimed.body.sequence, sequence(&*store).await);
    // A higher epoch that was seen rules for ever.
    let refused = claim(2, known().await).await.unwrap_err();
    assert!(matches!(refused, PointerError::Refused(_)), "{refused:?}");
}

#[tokio::test]
async fn a_claim_writes_once_and_creates_where_nothing_is() {
    let store = faulty();
    assert_eq!(
        claim_pointer(&*store, &token(1, "a"), LIMIT)
            .await
            .unwrap()
            .previous,
        None
    );
    let again = claim_pointer(&*store, &token(1, "a"), LIMIT).await.unwrap();
    assert_eq!((again.previous, again.body.sequence), (Some(Epoch::new(1, 1)), 1));
    let error = claim_pointer(&*store, &token(1, "b"), LIMIT).await.unwrap_err();
    assert!(
        matches!(error, PointerError::Refused(Refusal::OtherHolder { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_claim_that_loses_to_its_own_epoch_has_won() {
    let store = faulty();
    write_pointer(&*store, &token(1, "old"), &target("x"))
        .await
        .unwrap();
    // Somebody beside the store raises it for the same holder.
    store.before_each_put(|store| {
        Box::pin(async move {
            claim_pointer(store.as_ref(), &token(2, "new"), LIMIT)
                .await
                .unwrap();
        })
    });
    let claim = claim_pointer(&*store, &token(2, "new"), LIMIT).await.unwrap();
    assert_eq!((claim.previous, claim.body.sequence), (Some(Epoch::new(1, 1)), 2));
    assert_eq!(sequence(&*store).await, 2);
}

#[tokio::test]
async fn a_claim_that_loses_every_race_is_contended_and_not_silent() {
    let store = faulty();
    write_pointer(&*store, &token(1, "old"), &target("x"))
        .await
        .unwrap();
    // A writer beside the store, faster than any claim from afar.
    store.before_each_put(move |inner| {
        Box::pin(async move {
            write_pointer(inner.as_ref(), &token(1, "old"), &target("y"))
                .await
                .unwrap();
        })
    });
    let error = claim_pointer(&*store, &token(2, "new"), LIMIT).await.unwrap_err();
    let PointerError::Contended { attempts, lost, .. } = error else {
        panic!("{error:?}")
    };
    // One of the chains came to its end.
    assert!(lost >= 16 && attempts - lost < 3, "{lost} of {attempts}");
    store.puts_are_undisturbed();
    let claim = claim_pointer(&*store, &token(2, "new"), LIMIT).await.unwrap();
    assert_eq!(claim.previous, Some(Epoch::new(1, 1)));
}

/// A writer in step with the claim wins every round of it; it cannot be in step with several.
#[tokio::test]
async fn a_claim_that_lost_a_race_goes_on_from_more_than_one_side() {
    let store = faulty();
    write_pointer(&*store, &token(1, "old"), &target("x"))
        .await
        .unwrap();
    let (seen, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
    store.before_each_put(move |inner| {
        let (first, together) = (seen.fetch_add(1, Ordering::SeqCst) == 0, Arc::clone(&together));
        Box::pin(async move {
            if first {
                let old = token(1, "old");
                write_pointer(inner.as_ref(), &old, &target("y")).await.unwrap();
            } else {
                together.wait().await;
            }
        })
    });
    let claim = claim_pointer(&*store, &token(2, "new"), LIMIT).await.unwrap();
    assert_eq!(claim.previous, Some(Epoch::new(1, 1)));
    assert_eq!(sequence(&*store).await, 3);
}

/// From another continent the answer to a lost write takes long; the agent beside the store raised the pointer meanwhile.
#[tokio::test]
async fn a_claim_whose_write_is_on_its_way_back_sees_what_was_raised_for_it() {
    let store = faulty();
    write_pointer(&*store, &token(1, "old"), &target("x"))
        .await
        .unwrap();
    store.before_each_put(|inner| {
        Box::pin(async move {
            // Between what the claim read and its write.
            let old = token(1, "old");
            write_pointer(inner.as_ref(), &old, &target("y")).await.unwrap();
            claim_pointer(inner.as_ref(), &token(2, "new"), LIMIT)
                .await
                .unwrap();
            std::future::pending().await
        })
    });
    let claim = claim_pointer(&*store, &token(2, "new"), LIMIT).await.unwrap();
    assert_eq!((claim.previous, claim.body.sequence), (Some(Epoch::new(1, 2)), 3));
}

/// The agent beside the store loses a few races itself: what the first looks do not see, a later one does.
#[tokio::test]
async fn a_claim_whose_write_is_on_its_way_back_looks_more_than_once() {
    let store = faulty();
    write_pointer(&*store, &token(1, "old"), &target("x"))
        .await
        .unwrap();
    let failing = Arc::downgrade(&store);
    store.before_each_put(move |inner| {
        let failing = failing.clone();
        Box::pin(async move {
            // The look beside the write, and the first glance.
            let store = failing.upgrade().unwrap();
            store.plan(Operation::Get, Fault::Fail);
            store.plan(Operation::Get, Fault::Fail);
            claim_pointer(inner.as_ref(), &token(2, "new"), LIMIT)
                .await
                .unwrap();
            drop(store);
            std::future::pending().await
        })
    });
    let claim = claim_pointer(&*store, &token(2, "new"), LIMIT).await.unwrap();
    assert_eq!((claim.previous, claim.body.sequence), (Some(Epoch::new(1, 2)), 2));
}

/// The store fails what it is asked next, which is the claim that has just lost; the others are not asked to give up.
#[tokio::test]
async fn a_claim_goes_on_where_the_store_failed_one_side_of_it() {
    let store = faulty();
    write_pointer(&*store, &token(1, "old"), &target("x"))
        .await
        .unwrap();
    let (puts, failing) = (AtomicUsize::new(0), Arc::downgrade(&store));
    store.before_each_put(move |inner| {
        let (first, failing) = (puts.fetch_add(1, Ordering::SeqCst) == 0, failing.clone());
        Box::pin(async move {
            if first {
                let old = token(1, "old");
                write_pointer(inner.as_ref(), &old, &target("y")).await.unwrap();
                failing.upgrade().unwrap().plan(Operation::Get, Fault::Fail);
            }
        })
    });
    let claim = claim_pointer(&*store, &token(2, "new"), LIMIT).await.unwrap();
    assert_eq!(claim.previous, Some(Epoch::new(1, 1)));
    assert_eq!(sequence(&*store).await, 3);
    // Before any race was lost there is nobody else to wait for.
    store.plan(Operation::Get, Fault::Fail);
    let error = claim_pointer(&*store, &token(3, "next"), LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, PointerError::Store(_)), "{error:?}");
}

#[tokio::test]
async fn a_claim_that_runs_out_of_time_says_whether_the_store_answered_anything() {
    let store = faulty();
    store.plan(Operation::Get, Fault::Wait(Gate::new()));
    let error = claim_pointer(&*store, &token(1, "a"), SHORT).await.unwrap_err();
    assert!(matches!(error, PointerError::Silent { .. }), "{error:?}");
    store.plan(Operation::Put, Fault::Wait(Gate::new()));
    let error = claim_pointer(&*store, &token(1, "a"), SHORT).await.unwrap_err();
    assert!(
        matches!(
            error,
            PointerError::Contended {
                attempts: 1,
                lost: 0,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn racing_writers_of_one_holder_all_get_through() {
    let store = faulty();
    let writes = (0..8).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { write_pointer(&*store, &token(1, "a"), &target(&n.to_string())).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    assert_eq!(sequence(&*store).await, 8);
}

#[tokio::test]
async fn a_foreign_body_is_not_overwritten() {
    let store = faulty();
    let key = keys::pointer(&RoleName::global());
    for body in ["no json", r#"{"version": 9}"#] {
        store.put(&key, body.into()).await.unwrap();
        let error = claim_pointer(&*store, &token(1, "a"), LIMIT).await.unwrap_err();
        assert!(matches!(error, PointerError::BadBody { .. }), "{error:?}");
        assert_eq!(store.get_range(&key, 0..body.len() as u64).await.unwrap(), body);
    }
}

/// Somebody copied it there. Whatever its epoch is, it counts something else than this role's (L3).
#[tokio::test]
async fn a_body_of_another_role_is_no_pointer_of_this_one() {
    let store = faulty();
    let (key, role) = (
        keys::pointer(&RoleName::global()),
        "primaries/db".parse::<RoleName>().unwrap(),
    );
    for epoch in [1, 7, 9] {
        let theirs = FencingToken {
            role: role.clone(),
            ..token(epoch, "a")
        };
        write_pointer(&*store, &theirs, &target("db")).await.unwrap();
        let there = keys::pointer(&role);
        let size = store.head(&there).await.unwrap().unwrap().size.0;
        let copied = store.get_range(&there, 0..size).await.unwrap();
        store.put(&key, copied.clone()).await.unwrap();
        let mine = token(7, "a");
        let refused = [
            read_pointer(&*store, &RoleName::global()).await.map(drop),
            write_pointer(&*store, &mine, &target("x")).await.map(drop),
            claim_pointer(&*store, &mine, LIMIT).await.map(drop),
        ];
        for error in refused.map(Result::unwrap_err) {
            let PointerError::BadBody { source, .. } = &error else {
                panic!("{error:?}");
            };
            assert!(
                matches!(source, BadBody::WrongRole { found, .. } if *found == role),
                "{source}"
            );
        }
        assert_eq!(store.get_range(&key, 0..size).await.unwrap(), copied);
    }
}

/// Blanks after the JSON do not count as part of it, but as bytes of the object.
#[tokio::test]
async fn a_pointer_of_more_than_64_kib_is_not_read() {
    let store = faulty();
    let written = write_pointer(&*store, &token(1, "a"), &target("x"))
        .await
        .unwrap();
    let key = crate::keys::pointer(&RoleName::global());
    let mut bytes = written.body.to_bytes();
    for (size, read) in [(65_536, true), (65_537, false)] {
        bytes.resize(size, b' ');
        let head = crate::ArtifactStore::head(&*store, &key).await.unwrap().unwrap();
        store
            .put_if(&key, bytes.clone().into(), crate::Condition::Matches(head.etag))
            .await
            .unwrap();
        let found = read_pointer(&*store, &RoleName::global()).await;
        assert_eq!(found.is_ok(), read, "{size}: {found:?}");
    }
}
