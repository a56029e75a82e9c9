//! Artifacts from one store to another, by way of the local cache.
//!
//! [`fetch`] brings an artifact into the cache: ranges in parallel, in order to the disk, taken up again after a break.
//! [`store_copy`] puts it into a store, and reads it back. [`replicate`] does both. Nothing is visible, neither in the
//! cache nor in the store, before the SHA-256 of all bytes matched (I3); a copy is verified only after it was read back.

use std::{io, path::PathBuf};

use futures::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use types::{ByteCount, Digest, DigestHasher};

pub use crate::Artifact;

use crate::{
    ArtifactStore, ErrorKind, PutError, StoreError, Upload,
    cache::{LocalCache, Partial},
};

/// How hard a transfer pulls. The default is the measured one: 8 MiB, four in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferLimits {
    /// Bytes of one range. At least 1.
    pub part: ByteCount,
    /// Ranges in flight, each held in memory. At least 1.
    pub in_flight: usize,
}

impl Default for TransferLimits {
    fn default() -> Self {
        Self {
            part: ByteCount(8 << 20),
            in_flight: 4,
        }
    }
}

/// Where a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes are in the cache, of so many.
    Fetched {
        /// On the local disk so far.
        done: ByteCount,
        /// The artifact's size.
        total: ByteCount,
    },
    /// All bytes are in the cache and their digest matched.
    Cached,
    /// The target store has taken the bytes.
    Stored,
    /// The target store's object was read back and matched.
    Verified,
}

/// Called with every step; must not block.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Why a transfer ended without a copy. Nothing of it is visible.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The bytes are not the artifact: names expected and actual digest or size.
    #[error(transparent)]
    Damaged(StoreError),
    /// A store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whether the target store took the object is unknown; the next attempt finds out.
    #[error("whether the copy was stored is unknown: try again")]
    Unknown(#[source] StoreError),
    /// Another transfer of the artifact into the same cache is under way.
    #[error("{digest} is being fetched into the cache by another transfer: wait for it")]
    Busy {
        /// The artifact.
        digest: Digest,
    },
    /// The local disk failed.
    #[error(
        "cannot write {digest} to the cache: check that the directory is writable and the disk is not full"
    )]
    Cache {
        /// The artifact.
        digest: Digest,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl From<PutError> for TransferError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Unknown(error) => Self::Unknown(error),
            PutError::Failed(error) => Self::of(error),
            PutError::PreconditionFailed { store, key } | PutError::Conflict { store, key } => {
                let answer = "another write to the key is under way".to_owned();
                Self::Store(StoreError::new(&store, "put", key, ErrorKind::Refused { answer }))
            }
        }
    }
}

impl TransferError {
    fn of(error: StoreError) -> Self {
        match error.kind {
            ErrorKind::DigestMismatch { .. } | ErrorKind::SizeMismatch { .. } => Self::Damaged(error),
            _ => Self::Store(error),
        }
    }
    fn cache(digest: Digest) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Cache { digest, source }
    }
}

/// From `source` into the cache and into `target`, read back there. Whatever is there already is not sent again.
pub async fn replicate(
    source: &dyn ArtifactStore,
    target: &dyn ArtifactStore,
    artifact: &Artifact,
    cache: &LocalCache,
    limits: TransferLimits,
    progress: OnProgress<'_>,
) -> Result<PathBuf, TransferError> {
    let path = fetch(source, artifact, cache, limits, progress).await?;
    store_copy(target, artifact, cache, &CancellationToken::new(), progress).await?;
    Ok(path)
}

/// Brings an artifact into the cache and says where it is.
pub async fn fetch(
    source: &dyn ArtifactStore,
    artifact: &Artifact,
    cache: &LocalCache,
    limits: TransferLimits,
    progress: OnProgress<'_>,
) -> Result<PathBuf, TransferError> {
    let digest = artifact.digest;
    if let Some(path) = cache.find(artifact) {
        progress(Progress::Cached);
        return Ok(path);
    }
    check_source(source, artifact).await?;
    let partial = blocking(digest, {
        let cache = cache.clone();
        move || cache.resume(&digest)
    });
    let partial = partial.await?.ok_or(TransferError::Busy { digest })?;
    let partial = pull(source, artifact, partial, limits, progress).await?;
    if partial.digest() != digest || partial.size() != artifact.size.0 {
        let kind = ErrorKind::DigestMismatch {
            expected: digest,
            actual: partial.digest(),
        };
        blocking(digest, move || partial.discard()).await?;
        return Err(TransferError::Damaged(StoreError::new(
            source.name(),
            "fetch",
            artifact.key(),
            kind,
        )));
    }
    let path = blocking(digest, move || partial.publish()).await?;
    progress(Progress::Cached);
    Ok(path)
}

/// A size that differs tells at once, before any byte moves.
async fn check_source(source: &dyn ArtifactStore, artifact: &Artifact) -> Result<(), TransferError> {
    let error = |kind| StoreError::new(source.name(), "fetch", artifact.key(), kind);
    let head = source
        .head(&artifact.key())
        .await?
        .ok_or_else(|| error(ErrorKind::NotFound))?;
    if head.size != artifact.size {
        let kind = ErrorKind::SizeMismatch {
            expected: artifact.size,
            actual: head.size,
        };
        return Err(TransferError::Damaged(error(kind)));
    }
    Ok(())
}

/// The rest of the bytes: several ranges in flight, written in order.
async fn pull(
    source: &dyn ArtifactStore,
    artifact: &Artifact,
    mut partial: Partial,
    limits: TransferLimits,
    progress: OnProgress<'_>,
) -> Result<Partial, TransferError> {
    let (key, total, part) = (artifact.key(), artifact.size.0, limits.part.0.max(1));
    // More than the artifact has cannot be its beginning; the digest will say so too.
    let starts = std::iter::successors(Some(partial.size()), |start| start.checked_add(part));
    let ranges = starts
        .take_while(|start| *start < total)
        .map(|start| start..total.min(start + part));
    let fetches = stream::iter(ranges).map(|range| source.get_range(&key, range));
    let mut fetches = fetches.buffered(limits.in_flight.max(1));
    while let Some(bytes) = fetches.next().await {
        let bytes = bytes.map_err(TransferError::of)?;
        partial = blocking(artifact.digest, move || partial.append(&bytes).map(|()| partial)).await?;
        progress(Progress::Fetched {
            done: ByteCount(partial.size()),
            total: artifact.size,
        });
    }
    Ok(partial)
}

/// Puts an artifact of the cache into a store and reads it back. A good copy that is there already is left alone, a
/// damaged one is replaced. Where `stop` is cancelled, what was begun at the store is taken back; whoever drops this future
/// instead leaves it there.
pub async fn store_copy(
    target: &dyn ArtifactStore,
    artifact: &Artifact,
    cache: &LocalCache,
    stop: &CancellationToken,
    progress: OnProgress<'_>,
) -> Result<(), TransferError> {
    match verify_object(target, artifact).await {
        Ok(()) => {
            progress(Progress::Verified);
            return Ok(());
        }
        Err(TransferError::Damaged(_)) => {}
        Err(TransferError::Store(error)) if error.kind == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = tokio::fs::File::open(cache.path_of(&artifact.digest)).await;
    let file = file.map_err(TransferError::cache(artifact.digest))?;
    let upload = Upload {
        stop: stop.clone(),
        ..Upload::of_reader(file, artifact.size, artifact.digest)
    };
    target.put_stream(&artifact.key(), upload).await?;
    progress(Progress::Stored);
    verify_object(target, artifact).await?;
    progress(Progress::Verified);
    Ok(())
}

/// Reads an artifact from a store whole, and compares size and digest.
pub async fn verify_object(store: &dyn ArtifactStore, artifact: &Artifact) -> Result<(), TransferError> {
    let key = artifact.key();
    let error = |kind| StoreError::new(store.name(), "verify", &key, kind);
    let mut body = store.get(&key).await?.ok_or_else(|| error(ErrorKind::NotFound))?;
    let (mut hasher, mut size) = (DigestHasher::new(), 0);
    while let Some(chunk) = body.bytes.next().await {
        let chunk = chunk.map_err(|e| error(ErrorKind::Unavailable).because(e))?;
        hasher.update(&chunk);
        size += chunk.len() as u64;
    }
    let (expected, actual) = (artifact.size, ByteCount(size));
    if expected != actual {
        return Err(TransferError::Damaged(error(ErrorKind::SizeMismatch {
            expected,
            actual,
        })));
    }
    let (expected, actual) = (artifact.digest, hasher.finish());
    if expected != actual {
        return Err(TransferError::Damaged(error(ErrorKind::DigestMismatch {
            expected,
            actual,
        })));
    }
    Ok(())
}

/// Disk work off the async threads.
async fn blocking<T: Send + 'static>(
    digest: Digest,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, TransferError> {
    let joined = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    joined.and_then(|done| done).map_err(TransferError::cache(digest))
}
