//! Copies: what becomes visible, in which order sources are asked, and that a killed worker's successor goes on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use artifact_store::{
    ArtifactStore, Fault, FaultyStore, Gate, MemStore, Operation,
    cache::LocalCache,
    keys,
    transfer::{Artifact, TransferLimits},
};
use async_trait::async_trait;
use bytes::Bytes;
use client::calls::ReplicaReport;
use tokio_util::sync::CancellationToken;
use types::{
    ByteCount, Digest, NodeIncarnation, PlanId, RegionId,
    model::{VersionRecord, VersionState},
    plan::{DoorClaim, StepKind},
    reason::Refusal,
    region::StoreBinding,
    replica::{ReplicaKey, ReplicaRecord, ReplicaState},
};

use super::records::*;
use crate::{
    control::Control,
    doubts::Doubts,
    metrics::Metrics,
    replicate::Replicator,
    stores::{OpenStore, Stores},
};

/// Writes down what it was told.
#[derive(Default)]
struct Registry {
    reports: Mutex<Vec<String>>,
    attempts: Mutex<u32>,
}

#[async_trait]
impl Control for Registry {
    async fn report_replica(
        &self,
        key: &ReplicaKey,
        report: &ReplicaReport,
    ) -> Result<ReplicaRecord, Refusal> {
        let mut attempts = self.attempts.lock().unwrap();
        let line = match report {
            ReplicaReport::Started { source } => {
                *attempts += 1;
                let source = source
                    .as_ref()
                    .map_or_else(|| "own".to_owned(), ToString::to_string);
                format!("started {attempts} from {source}")
            }
            ReplicaReport::Progress { attempt, .. } => format!("progress {attempt}"),
            ReplicaReport::Verified { attempt, bytes } => format!("verified {attempt}, {bytes} bytes"),
            ReplicaReport::Failed {
                attempt,
                digest_mismatch,
                ..
            } => format!("failed {attempt}, mismatch {digest_mismatch}"),
        };
        self.reports.lock().unwrap().push(line);
        let mut record = replica(
            &key.version.to_string(),
            key.region.as_str(),
            ReplicaState::Copying,
        );
        record.attempts = *attempts;
        Ok(record)
    }

    async fn report_step(
        &self,
        _: PlanId,
        _: StepKind,
        _: u32,
        _: Result<&str, &str>,
        _: &[DoorClaim],
        _: NodeIncarnation,
    ) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Stores by region.
struct Shelf(BTreeMap<RegionId, Arc<dyn ArtifactStore>>);

#[async_trait]
impl OpenStore for Shelf {
    async fn open(&self, region: &RegionId, _: &StoreBinding) -> Result<Arc<dyn ArtifactStore>, String> {
        self.0
            .get(region)
            .cloned()
            .ok_or_else(|| format!("no store in {region}"))
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    registry: Arc<Registry>,
    west: Arc<FaultyStore>,
    east: Arc<FaultyStore>,
    north: Arc<FaultyStore>,
    cache: LocalCache,
    worker: Replicator,
}

const FILES: &[(&str, &[u8])] = &[
    ("config.json", b"{\"a\":1}"),
    ("model.safetensors", b"weights of a model"),
];

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = |name| Arc::new(FaultyStore::new(Arc::new(MemStore::new(name))));
    let (west, east, north) = (store("west"), store("east"), store("north"));
    let shelf = [("west", &west), ("east", &east), ("north", &north)];
    let shelf = shelf.map(|(name, store)| (region(name), Arc::clone(store) as Arc<dyn ArtifactStore>));
    let registry = Arc::new(Registry::default());
    let cache = LocalCache::open(&dir.path().join("cache")).unwrap();
    let worker = Replicator {
        region: region("west"),
        control: Arc::clone(&registry) as Arc<dyn Control>,
        stores: Stores::new(Arc::new(Shelf(shelf.into()))),
        cache: cache.clone(),
        doubts: Doubts::default(),
        limits: TransferLimits {
            part: ByteCount(8),
            in_flight: 1,
        },
        metrics: Metrics::default(),
        stop: CancellationToken::new(),
    };
    Bench {
        _dir: dir,
        registry,
        west,
        east,
        north,
        cache,
        worker,
    }
}

fn bindings() -> BTreeMap<RegionId, StoreBinding> {
    ["west", "east", "north"]
        .map(|name| (region(name), binding(name)))
        .into()
}

fn record() -> VersionRecord {
    version("m@1", VersionState::Ready, FILES)
}

fn artifact(bytes: &[u8]) -> Artifact {
    Artifact {
        digest: Digest::of(bytes),
        size: ByteCount(bytes.len() as u64),
    }
}

async fn fill(store: &FaultyStore) {
    for (_, bytes) in FILES {
        let key = keys::artifact(&Digest::of(bytes));
        store.put(&key, Bytes::from_static(bytes)).await.unwrap();
    }
}

impl Bench {
    fn reports(&self) -> Vec<String> {
        std::mem::take(&mut *self.registry.reports.lock().unwrap())
    }

    async fn copy(&self, tries: u32) -> Result<types::Revision, crate::replicate::WorkError> {
        let sources = [region("east"), region("north")];
        self.worker.copy(&record(), &sources, tries, &bindings()).await
    }

    async fn in_west(&self) -> usize {
        let mut found = 0;
        for (_, bytes) in FILES {
            let head = self.west.head(&keys::artifact(&Digest::of(bytes))).await.unwrap();
            found += usize::from(head.is_some());
        }
        found
    }

    fn in_cache(&self) -> usize {
        FILES
            .iter()
            .filter(|(_, bytes)| self.cache.find(&artifact(bytes)).is_some())
            .count()
    }
}

#[tokio::test]
async fn a_copy_comes_from_the_first_source_into_cache_and_own_store() {
    let bench = bench();
    fill(&bench.east).await;
    bench.copy(0).await.unwrap();
    assert_eq!((bench.in_west().await, bench.in_cache()), (2, 2));
    assert_eq!(bench.reports(), ["started 1 from east", "verified 1, 25 bytes"]);
}

#[tokio::test]
async fn wrong_bytes_make_nothing_visible_and_the_next_try_asks_the_next_source() {
    let bench = bench();
    fill(&bench.north).await;
    for (_, bytes) in FILES {
        // As many bytes, and others.
        let wrong = vec![b'x'; bytes.len()];
        bench
            .east
            .put(&keys::artifact(&Digest::of(bytes)), wrong.into())
            .await
            .unwrap();
    }
    bench.copy(0).await.unwrap_err();
    assert_eq!((bench.in_west().await, bench.in_cache()), (0, 0));
    assert_eq!(
        bench.reports(),
        ["started 1 from east", "failed 1, mismatch true"]
    );

    bench.copy(1).await.unwrap();
    assert_eq!((bench.in_west().await, bench.in_cache()), (2, 2));
    assert_eq!(bench.reports(), ["started 2 from north", "verified 2, 25 bytes"]);
}

#[tokio::test]
async fn damage_in_the_own_store_is_replaced_by_the_right_bytes() {
    let bench = bench();
    fill(&bench.east).await;
    let (_, bytes) = FILES[1];
    let key = keys::artifact(&Digest::of(bytes));
    bench
        .west
        .put(&key, vec![b'x'; bytes.len()].into())
        .await
        .unwrap();
    bench.copy(0).await.unwrap();
    artifact_store::transfer::verify_object(bench.west.as_ref(), &artifact(bytes))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_copy_that_reads_back_wrong_is_never_reported_as_verified() {
    let bench = bench();
    fill(&bench.east).await;
    // The first read of the own store is the look whether it is there; the second reads back what was written.
    bench.west.plan(Operation::Get, Fault::Fail);
    bench.copy(0).await.unwrap_err();
    assert_eq!(
        bench.reports(),
        ["started 1 from east", "failed 1, mismatch false"]
    );
    bench.copy(0).await.unwrap();
    bench.reports();
}

/// Kills the worker while it waits in `operation` of a store; its successor finishes the copy.
async fn killed_at(store: fn(&Bench) -> &FaultyStore, operation: Operation) {
    let bench = bench();
    fill(&bench.east).await;
    let gate = Gate::new();
    store(&bench).plan(operation, Fault::Wait(Arc::clone(&gate)));
    let worker = bench.copy(0);
    tokio::select! {
        done = worker => panic!("the copy ended before the kill: {done:?}"),
        () = gate.arrived() => {}
    }
    let reports = bench.reports();
    assert!(!reports.iter().any(|r| r.starts_with("verified")), "{reports:?}");
    gate.release();

    bench.copy(0).await.unwrap();
    assert_eq!((bench.in_west().await, bench.in_cache()), (2, 2));
    assert_eq!(bench.reports().last().unwrap(), "verified 2, 25 bytes");
}

#[tokio::test]
async fn a_worker_killed_at_any_stage_is_resumed() {
    killed_at(|b| &b.east, Operation::Head).await;
    killed_at(|b| &b.east, Operation::GetRange).await;
    killed_at(|b| &b.west, Operation::Get).await;
    killed_at(|b| &b.west, Operation::Put).await;
}

#[tokio::test]
async fn an_upload_is_verified_or_ended_by_its_digest() {
    let bench = bench();
    fill(&bench.west).await;
    let record = record();
    bench.worker.verify_upload(&record, &bindings()).await.unwrap();
    assert_eq!(bench.reports(), ["started 1 from own", "verified 1, 25 bytes"]);

    let (_, bytes) = FILES[0];
    bench
        .west
        .put(
            &keys::artifact(&Digest::of(bytes)),
            vec![b'x'; bytes.len()].into(),
        )
        .await
        .unwrap();
    bench
        .worker
        .verify_upload(&record, &bindings())
        .await
        .unwrap_err();
    assert_eq!(bench.reports(), ["started 2 from own", "failed 2, mismatch true"]);

    bench
        .west
        .delete(&keys::artifact(&Digest::of(bytes)))
        .await
        .unwrap();
    bench
        .worker
        .verify_upload(&record, &bindings())
        .await
        .unwrap_err();
    assert_eq!(
        bench.reports(),
        ["started 3 from own", "failed 3, mismatch false"]
    );
}

impl Bench {
    /// As many other bytes as there should be, in the own store.
    async fn damage_in_west(&self, bytes: &[u8]) {
        let key = keys::artifact(&Digest::of(bytes));
        let wrong = vec![b'x'; bytes.len()];
        self.west.put(&key, wrong.into()).await.unwrap();
    }

    /// Fetches from everywhere, and says whether the own copy is in doubt then.
    async fn fetch_doubts(&self) -> bool {
        let sources = [region("west"), region("east")];
        self.worker.fetch(&record(), &sources, &bindings()).await.unwrap();
        self.worker.doubts.all().contains(&record().key)
    }
}

#[tokio::test]
async fn a_fetch_that_finds_the_own_copy_damaged_or_gone_leaves_a_doubt() {
    let bench = bench();
    fill(&bench.west).await;
    fill(&bench.east).await;
    bench.west.plan(Operation::Head, Fault::Fail);
    assert!(
        !bench.fetch_doubts().await,
        "a store that fails says nothing of its bytes"
    );
    let (_, bytes) = FILES[0];
    bench.cache.remove(&Digest::of(bytes)).unwrap();
    bench.damage_in_west(bytes).await;
    assert!(bench.fetch_doubts().await);
    bench.worker.doubts.settle(&record().key);
    let (_, bytes) = FILES[1];
    bench.cache.remove(&Digest::of(bytes)).unwrap();
    bench
        .west
        .delete(&keys::artifact(&Digest::of(bytes)))
        .await
        .unwrap();
    assert!(bench.fetch_doubts().await);
    assert_eq!((bench.in_cache(), bench.reports().len()), (2, 0));
}

#[tokio::test]
async fn a_doubted_copy_is_reported_only_if_it_is_damaged() {
    let bench = bench();
    fill(&bench.west).await;
    let recheck = async || bench.worker.recheck(&record(), 7, &bindings()).await;
    assert_eq!(recheck().await.unwrap(), None);
    bench.west.plan(Operation::Get, Fault::Fail);
    recheck().await.unwrap_err();
    assert!(bench.reports().is_empty());
    bench.damage_in_west(FILES[1].1).await;
    assert!(recheck().await.unwrap().is_some());
    assert_eq!(bench.reports(), ["failed 7, mismatch true"]);
}

/// The bytes may come from nowhere else any more.
#[tokio::test]
async fn a_damaged_copy_that_is_the_only_one_is_repaired_from_the_local_cache() {
    let bench = bench();
    fill(&bench.west).await;
    assert!(!bench.fetch_doubts().await);
    bench.damage_in_west(FILES[0].1).await;
    bench.worker.copy(&record(), &[], 0, &bindings()).await.unwrap();
    bench.worker.verify_upload(&record(), &bindings()).await.unwrap();
    assert_eq!(
        bench.reports()[..2],
        ["started 1 from own", "verified 1, 25 bytes"]
    );
}

#[tokio::test]
async fn a_cached_file_that_was_damaged_is_fetched_again_for_the_next_try() {
    let bench = bench();
    fill(&bench.east).await;
    bench.fetch_doubts().await;
    assert_eq!(bench.in_cache(), 2);
    let (_, bytes) = FILES[1];
    std::fs::write(bench.cache.path_of(&Digest::of(bytes)), vec![b'x'; bytes.len()]).unwrap();
    bench.copy(0).await.unwrap_err();
    assert_eq!(bench.in_cache(), 1);
    bench.copy(0).await.unwrap();
    assert_eq!((bench.in_west().await, bench.in_cache()), (2, 2));
}

/// P16: a model comes from the local cache, else from the own store, else from a peer's.
#[tokio::test]
async fn files_come_from_the_cache_then_the_own_store_then_a_peer() {
    let bench = bench();
    let sources = [region("west"), region("east"), region("north")];
    let fetch = async || bench.worker.fetch(&record(), &sources, &bindings()).await;
    let pulled = |bench: &Bench, name: &str| {
        let text = bench.worker.metrics.render();
        let row = format!(
            "{}{{source_region=\"{name}\"}} ",
            types::metrics::REPLICATION_BYTES.name
        );
        text.lines()
            .find_map(|l| l.strip_prefix(row.as_str()).map(str::to_owned))
            .unwrap_or_default()
    };
    let forget = || {
        FILES
            .iter()
            .for_each(|(_, bytes)| bench.cache.remove(&Digest::of(bytes)).unwrap())
    };

    fill(&bench.east).await;
    fill(&bench.north).await;
    fetch().await.unwrap();
    assert_eq!(
        (pulled(&bench, "west"), pulled(&bench, "east")),
        (String::new(), "25".to_owned())
    );

    forget();
    fill(&bench.west).await;
    fetch().await.unwrap();
    assert_eq!(
        (pulled(&bench, "west"), pulled(&bench, "east")),
        ("25".to_owned(), "25".to_owned())
    );

    // All is in the cache: no store is asked, so none of these faults is met.
    for store in [&bench.west, &bench.east, &bench.north] {
        store.plan(Operation::Head, Fault::Fail);
    }
    fetch().await.unwrap();
    assert_eq!(pulled(&bench, "west"), "25");
    assert_eq!(pulled(&bench, "north"), "");
}

#[tokio::test]
async fn a_region_without_a_store_is_named() {
    let bench = bench();
    let error = bench
        .worker
        .copy(&record(), &[region("east")], 0, &BTreeMap::new())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("region west has no object store"),
        "{error}"
    );
}

/// It is awaited, so that it can take back what it began; nobody is told of a failure that was none.
#[tokio::test]
async fn a_copy_that_is_stopped_ends_by_itself_and_reports_no_failure() {
    let bench = bench();
    fill(&bench.east).await;
    let gate = Gate::new();
    bench
        .east
        .plan(Operation::GetRange, Fault::Wait(Arc::clone(&gate)));
    let stop = async {
        gate.arrived().await;
        bench.worker.stop.cancel();
    };
    let (copied, ()) = tokio::join!(bench.copy(0), stop);
    assert!(copied.unwrap_err().to_string().contains("the agent stops"));
    assert_eq!(bench.reports(), ["started 1 from east"]);
    assert_eq!(bench.in_west().await, 0);
}
