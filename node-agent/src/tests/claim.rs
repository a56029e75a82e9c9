//! Tries at one pointer: what is told from what.

use std::{sync::Arc, time::Duration};

use artifact_store::{
    ArtifactStore, ErrorKind, Fault, FaultyStore, Gate, MemStore, Operation, StoreError,
    pointer::{CLAIM_CALLS, PointerChange, claim_pointer, write_pointer},
};
use async_trait::async_trait;
use types::{RegionId, region::StoreBinding};

use super::records::*;
use crate::{
    claim::{Claim, Claimer},
    databases::Databases,
    doors::{Binding, DoorKey, Reach},
    metrics::Metrics,
    stores::{OpenStore, Stores},
};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(10);

struct Only(Arc<FaultyStore>);

#[async_trait]
impl OpenStore for Only {
    async fn open(&self, _: &RegionId, _: &StoreBinding) -> Result<Arc<dyn ArtifactStore>, String> {
        Ok(Arc::clone(&self.0) as _)
    }
}

/// A claimer of epoch 3 that loses patience after three short tries, and its store, where epoch 1 stands.
async fn bench() -> (Arc<FaultyStore>, Claimer) {
    bench_over(Arc::new(MemStore::new("mem"))).await
}

async fn bench_over(below: Arc<MemStore>) -> (Arc<FaultyStore>, Claimer) {
    let store = Arc::new(FaultyStore::new(below));
    old_holder_writes(store.as_ref()).await;
    let stores = Stores::new(Arc::new(Only(Arc::clone(&store))));
    let mut claimer = claimer_of(stores);
    claimer.patience = SHORT * 3;
    (store, claimer)
}

fn claimer_of(stores: Stores) -> Claimer {
    let reach = Reach {
        stores,
        databases: Databases::of(Vec::new(), Metrics::default()),
        lineage: tokio::sync::watch::channel(None).1,
    };
    let door = DoorKey::Pointer(region("west"));
    Claimer::new(reach, token(3, &me()), door, Binding::Store(binding("west")))
}

async fn old_holder_writes(store: &dyn ArtifactStore) {
    let old = token(1, &holder("east/a1", 1));
    let target = PointerChange::Target(types::Digest::of(b"x"));
    write_pointer(store, &old, &target).await.unwrap();
}

fn unanswered(store: &FaultyStore, operation: Operation, times: usize) {
    for _ in 0..times {
        store.plan(operation, Fault::Wait(Gate::new()));
    }
}

fn name(claim: Option<Claim>) -> &'static str {
    match claim {
        None => "nothing new",
        Some(Claim::Pending) => "pending",
        Some(Claim::Claimed) => "claimed",
        Some(Claim::Contended(_)) => "contended",
        Some(Claim::Unreachable(_)) => "unreachable",
        Some(Claim::Unusable(_)) => "unusable",
        Some(Claim::Refused(_)) => "refused",
    }
}

/// A lease may leave too little time for a verdict; several tries together give one.
#[tokio::test]
async fn silence_makes_a_store_unreachable_only_after_enough_of_it() {
    let (store, mut claimer) = bench().await;
    unanswered(&store, Operation::Get, 3);
    for expected in ["nothing new", "nothing new", "unreachable"] {
        assert_eq!(name(claimer.attempt(SHORT).await), expected);
    }
    assert_eq!(name(claimer.attempt(LONG).await), "claimed");
}

/// Looks until that has been long enough.
async fn look_for(time: Duration, claimer: &mut Claimer) {
    let looked = tokio::time::timeout(time, claimer.look()).await;
    assert!(looked.is_err(), "nobody raised it");
}

/// What the agent beside a store raised for the next holder while that one looked needs no call any more.
#[tokio::test]
async fn a_pointer_that_was_seen_raised_is_claimed_without_a_call() {
    let (store, mut claimer) = bench().await;
    look_for(SHORT, &mut claimer).await;
    claim_pointer(store.as_ref(), &token(3, &me()), LONG)
        .await
        .unwrap();
    tokio::time::timeout(LONG, claimer.look()).await.unwrap();
    for _ in 0..10 {
        store.plan(Operation::Get, Fault::Fail);
        store.plan(Operation::Put, Fault::Fail);
    }
    assert_eq!(name(claimer.attempt(LONG).await), "claimed");
}

/// A look that was under way when the lease came has its answer before any call that is made then.
#[tokio::test]
async fn a_look_that_is_under_way_when_the_claim_begins_counts() {
    let below = Arc::new(MemStore::new("mem"));
    let (store, mut claimer) = bench_over(Arc::clone(&below)).await;
    let gates: Vec<_> = (0..100).map(|_| Gate::new()).collect();
    for gate in &gates {
        store.plan(Operation::Get, Fault::Wait(Arc::clone(gate)));
    }
    look_for(SHORT, &mut claimer).await;
    // Whatever the claim itself asks waits.
    let raised = claim_pointer(below.as_ref(), &token(3, &me()), LONG).await;
    raised.unwrap();
    for gate in &gates[..CLAIM_CALLS] {
        gate.release();
    }
    assert_eq!(name(claimer.attempt(LONG).await), "claimed");
}

/// Of the connections that a claim gets ready one may take long, or for ever: what the others said is known all the same.
#[tokio::test]
async fn what_one_look_at_a_pointer_saw_does_not_wait_for_the_others() {
    let (store, mut claimer) = bench().await;
    old_holder_writes(store.as_ref()).await;
    unanswered(&store, Operation::Get, 1);
    look_for(SHORT, &mut claimer).await;
    store.plan(Operation::Get, Fault::Fail);
    assert_eq!(name(claimer.attempt(LONG).await), "claimed");
}

/// A store that serves reads only must not hold a failover up for ever.
#[tokio::test]
async fn reads_without_writes_are_contention_at_first_and_then_no_door() {
    let (store, mut claimer) = bench().await;
    unanswered(&store, Operation::Put, 6);
    for _ in 0..5 {
        assert_eq!(name(claimer.attempt(SHORT).await), "contended");
    }
    assert_eq!(name(claimer.attempt(SHORT).await), "unreachable");
    // Somebody else's writes are served: it is a door, and counting begins anew.
    store.before_each_put(|store| Box::pin(async move { old_holder_writes(store.as_ref()).await }));
    store.plan(Operation::Get, Fault::Wait(Gate::new()));
    assert_eq!(name(claimer.attempt(SHORT).await), "unreachable");
    let lost = claimer.attempt(LONG).await.unwrap();
    assert!(lost.why_not().contains("faster 1"), "{lost:?}");
    assert!(!lost.is_settled() && !lost.is_over());
    unanswered(&store, Operation::Get, 1);
    assert_eq!(name(claimer.attempt(SHORT).await), "nothing new");
    store.puts_are_undisturbed();
    assert_eq!(name(claimer.attempt(LONG).await), "claimed");
}

#[tokio::test]
async fn a_failure_is_said_at_once_and_a_higher_epoch_ends_the_claim() {
    let (store, mut claimer) = bench().await;
    store.plan(Operation::Get, Fault::Fail);
    let failed = claimer.attempt(LONG).await.unwrap();
    assert!(failed.is_settled() && !failed.is_over(), "{failed:?}");
    let newer = token(4, &holder("east/a1", 1));
    write_pointer(store.as_ref(), &newer, &PointerChange::Keep)
        .await
        .unwrap();
    let refused = claimer.attempt(LONG).await.unwrap();
    assert!(
        refused.is_over() && refused.why_not().contains("g1.e4"),
        "{refused:?}"
    );
}

/// Says no to whoever wants the store, until credentials are there.
struct NoCredentials;

#[async_trait]
impl OpenStore for NoCredentials {
    async fn open(&self, _: &RegionId, _: &StoreBinding) -> Result<Arc<dyn ArtifactStore>, String> {
        Err("no credentials for the store of west".to_owned())
    }
}

#[tokio::test]
async fn a_store_that_says_no_is_no_unreachable_one_and_holds_nobody_up() {
    let (store, mut claimer) = bench().await;
    let said = |kind| StoreError::new("mem", "put", "pointer", kind);
    for kind in [ErrorKind::Denied, ErrorKind::NoSuchBucket] {
        let denied = claimer.failed(&said(kind.clone()));
        assert!(denied.is_settled() && denied.is_to_wait() && !denied.is_over());
        assert!(denied.why_not().contains(kind.remedy()), "{denied:?}");
        assert_eq!(name(Some(denied)), "unusable");
    }
    let silent = claimer.failed(&said(ErrorKind::Unavailable));
    assert_eq!(name(Some(silent)), "unreachable");

    let key = artifact_store::keys::pointer(&types::RoleName::global());
    store
        .put(&key, bytes::Bytes::from_static(b"no pointer"))
        .await
        .unwrap();
    assert_eq!(name(claimer.attempt(LONG).await), "unusable");

    let stores = Stores::new(Arc::new(NoCredentials));
    let mut claimer = claimer_of(stores);
    let unopened = claimer.attempt(LONG).await.unwrap();
    assert_eq!(unopened.why_not(), "no credentials for the store of west");
    assert_eq!(name(Some(unopened)), "unusable");
}
