//! Copies, also of damaged and interrupted sources.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use types::{ByteCount, Digest};

use crate::{
    ArtifactStore, ErrorKind, Fault, FaultyStore, MemStore, Operation,
    cache::LocalCache,
    conformance::noise,
    transfer::{
        Artifact, Progress, TransferError, TransferLimits, fetch, replicate, store_copy, verify_object,
    },
};

struct World {
    source: FaultyStore,
    target: FaultyStore,
    cache: LocalCache,
    body: Bytes,
    artifact: Artifact,
    dir: tempfile::TempDir,
}

/// Ten ranges and a bit.
const LIMITS: TransferLimits = TransferLimits {
    part: ByteCount(1000),
    in_flight: 4,
};

async fn world() -> World {
    let body = noise(10_007);
    let artifact = Artifact {
        digest: Digest::of(&body),
        size: ByteCount(body.len() as u64),
    };
    let source = FaultyStore::new(Arc::new(MemStore::new("source")));
    source.put(&artifact.key(), body.clone()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cache = LocalCache::open(dir.path()).unwrap();
    World {
        source,
        target: FaultyStore::new(Arc::new(MemStore::new("target"))),
        cache,
        body,
        artifact,
        dir,
    }
}

impl World {
    async fn replicate(&self) -> Result<Vec<Progress>, TransferError> {
        let seen = Mutex::new(Vec::new());
        let note = |progress| seen.lock().unwrap().push(progress);
        replicate(
            &self.source,
            &self.target,
            &self.artifact,
            &self.cache,
            LIMITS,
            &note,
        )
        .await?;
        Ok(seen.into_inner().unwrap())
    }

    async fn assert_nothing_visible(&self) {
        assert_eq!(self.cache.find(&self.artifact), None);
        assert_eq!(self.target.head(&self.artifact.key()).await.unwrap(), None);
    }

    fn partial(&self) -> std::path::PathBuf {
        self.dir.path().join("partial").join(self.artifact.digest.hex())
    }
}

#[tokio::test]
async fn a_copy_is_cached_stored_and_verified() {
    let world = world().await;
    let seen = world.replicate().await.unwrap();
    assert_eq!(
        seen[seen.len() - 3..],
        [Progress::Cached, Progress::Stored, Progress::Verified]
    );
    let fetched = Progress::Fetched {
        done: ByteCount(1000),
        total: ByteCount(10_007),
    };
    assert_eq!((seen.len(), seen[0]), (14, fetched));
    assert_eq!(
        fs::read(world.cache.find(&world.artifact).unwrap()).unwrap(),
        world.body
    );
    verify_object(&world.target, &world.artifact).await.unwrap();
    // What is there is not sent again.
    world.source.plan(Operation::Head, Fault::Fail);
    assert_eq!(
        world.replicate().await.unwrap(),
        [Progress::Cached, Progress::Verified]
    );
}

#[tokio::test]
async fn a_source_with_wrong_bytes_leaves_nothing_visible() {
    let world = world().await;
    world.source.plan(Operation::GetRange, Fault::Corrupt);
    let error = world.replicate().await.unwrap_err();
    let TransferError::Damaged(error) = error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(error.kind, ErrorKind::DigestMismatch { expected, .. } if expected == world.artifact.digest)
    );
    assert!(
        error.to_string().contains(&world.artifact.digest.to_string()),
        "{error}"
    );
    world.assert_nothing_visible().await;
    assert!(!world.partial().exists(), "wrong bytes are not taken up again");
    world.replicate().await.unwrap();
}

#[tokio::test]
async fn a_source_of_another_size_is_refused_at_once() {
    let world = world().await;
    world
        .source
        .put(&world.artifact.key(), world.body.slice(1..))
        .await
        .unwrap();
    let error = world.replicate().await.unwrap_err();
    assert!(matches!(error, TransferError::Damaged(e) if matches!(e.kind, ErrorKind::SizeMismatch { .. })));
    world.assert_nothing_visible().await;
}

#[tokio::test]
async fn an_interrupted_fetch_goes_on_where_it_ended() {
    let world = world().await;
    world.source.delete(&world.artifact.key()).await.unwrap();
    fs::write(world.partial(), &world.body[..5000]).unwrap();
    world
        .source
        .put(&world.artifact.key(), world.body.clone())
        .await
        .unwrap();
    let seen = world.replicate().await.unwrap();
    assert_eq!(
        seen[0],
        Progress::Fetched {
            done: ByteCount(6000),
            total: ByteCount(10_007)
        }
    );
    // A beginning that is wrong is found out at the end, and thrown away.
    let world = self::world().await;
    fs::write(world.partial(), vec![0; 5000]).unwrap();
    assert!(matches!(world.replicate().await, Err(TransferError::Damaged(_))));
    world.assert_nothing_visible().await;
    world.replicate().await.unwrap();
}

#[tokio::test]
async fn a_failing_source_keeps_what_came() {
    let world = world().await;
    let limits = TransferLimits {
        in_flight: 1,
        ..LIMITS
    };
    let gate = crate::Gate::new();
    gate.release();
    world.source.plan(Operation::GetRange, Fault::Wait(gate));
    world.source.plan(Operation::GetRange, Fault::Fail);
    let error = fetch(&world.source, &world.artifact, &world.cache, limits, &|_| {})
        .await
        .unwrap_err();
    assert!(
        matches!(&error, TransferError::Store(e) if e.kind == ErrorKind::Unavailable),
        "{error:?}"
    );
    assert_eq!(fs::metadata(world.partial()).unwrap().len(), 1000);
    world.replicate().await.unwrap();
}

#[tokio::test]
async fn a_damaged_copy_in_the_store_is_replaced_and_a_lying_store_is_found_out() {
    let world = world().await;
    world
        .target
        .put(&world.artifact.key(), "damaged".into())
        .await
        .unwrap();
    world.replicate().await.unwrap();
    verify_object(&world.target, &world.artifact).await.unwrap();
    let world = self::world().await;
    fetch(&world.source, &world.artifact, &world.cache, LIMITS, &|_| {})
        .await
        .unwrap();
    world
        .target
        .put(&world.artifact.key(), "damaged".into())
        .await
        .unwrap();
    let gate = crate::Gate::new();
    world.target.plan(Operation::Put, Fault::Wait(Arc::clone(&gate)));
    world.target.plan(Operation::Get, Fault::Corrupt);
    world.target.plan(Operation::Get, Fault::Corrupt);
    gate.release();
    let error = store_copy(
        &world.target,
        &world.artifact,
        &world.cache,
        &CancellationToken::new(),
        &|_| {},
    )
    .await
    .unwrap_err();
    assert!(matches!(error, TransferError::Damaged(_)), "{error:?}");
}

#[tokio::test]
async fn a_lost_answer_of_the_target_is_resolved_by_the_next_attempt() {
    let world = world().await;
    world.target.plan(Operation::Put, Fault::UnknownAfterWrite);
    assert!(matches!(world.replicate().await, Err(TransferError::Unknown(_))));
    assert_eq!(
        world.replicate().await.unwrap(),
        [Progress::Cached, Progress::Verified]
    );
}

#[tokio::test]
async fn two_fetches_of_one_artifact_do_not_mix() {
    let world = world().await;
    let gate = crate::Gate::new();
    world
        .source
        .plan(Operation::GetRange, Fault::Wait(Arc::clone(&gate)));
    let first = fetch(&world.source, &world.artifact, &world.cache, LIMITS, &|_| {});
    let second = async {
        gate.arrived().await;
        let second = fetch(&world.source, &world.artifact, &world.cache, LIMITS, &|_| {}).await;
        gate.release();
        second
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(second, Err(TransferError::Busy { .. })));
    first.unwrap();
}

/// Opening and locking are two steps: who opened the beginning of an artifact before another task published it holds the
/// published file in its hand, and must not write on (I3).
#[tokio::test]
async fn what_was_published_since_it_was_opened_is_not_written_on() {
    let world = world().await;
    let digest = world.artifact.digest;
    let first = world.cache.resume(&digest).unwrap().unwrap();
    let opened = || {
        fs::File::options()
            .read(true)
            .write(true)
            .open(world.cache.partial(&digest))
    };
    let (late, later) = (opened().unwrap(), opened().unwrap());
    first.publish().unwrap();
    assert!(world.cache.take_up(&digest, late).unwrap().is_none());
    // So with what was discarded, although another one has begun since.
    let begun = world.cache.resume(&digest).unwrap().unwrap();
    assert!(world.cache.take_up(&digest, later).unwrap().is_none());
    begun.discard().unwrap();
}

#[tokio::test]
async fn a_scrub_removes_what_rotted() {
    let world = world().await;
    let path = fetch(&world.source, &world.artifact, &world.cache, LIMITS, &|_| {})
        .await
        .unwrap();
    assert!(world.cache.scrub(&world.artifact.digest).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[9] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(!world.cache.scrub(&world.artifact.digest).unwrap());
    assert_eq!(world.cache.find(&world.artifact), None);
}
