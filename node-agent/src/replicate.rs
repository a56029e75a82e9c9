//! The work on copies: re-reading uploads, bringing copies into the own region's store, filling the local cache.
//!
//! Absent on purpose: when to work and how often to try again ([`crate::reconcile`], [`crate::jobs`]).
//! Invariants: nothing is visible before its SHA-256 matched; a copy is reported as verified only after it was read
//! back from the own store (I3). Dropping any of these futures loses time
//! and nothing else, except that a dropped copy may leave parts of an upload in the own store: it is stopped instead.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use artifact_store::{
    ArtifactStore, ErrorKind, StoreError,
    cache::LocalCache,
    transfer::{self, Artifact, Progress, TransferError, TransferLimits},
};
use client::calls::ReplicaReport;
use tokio_util::sync::CancellationToken;
use types::{
    Reason, RegionId, Revision, model::VersionRecord, reason::Refusal, region::StoreBinding,
    replica::ReplicaKey,
};

use crate::{control::Control, desired::Files, doubts::Doubts, metrics::Metrics, stores::Stores};

/// Time between two progress reports of one copy: each is an entry of the replicated log.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that the workers need; clones share it.
#[derive(Clone)]
pub struct Replicator {
    /// The own region.
    pub region: RegionId,
    /// Where reports go.
    pub control: Arc<dyn Control>,
    /// Every region's store.
    pub stores: Stores,
    /// The local cache.
    pub cache: LocalCache,
    /// Verified copies in the own store of which a fetch got wrong bytes.
    pub doubts: Doubts,
    /// How hard one transfer pulls.
    pub limits: TransferLimits,
    /// What is counted.
    pub metrics: Metrics,
    /// Ends copies, each of which takes back what it began at the own store.
    pub stop: CancellationToken,
}

/// Why a piece of work ended without success; all of it is tried again later.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The registry said no, or could not be reached.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Bytes did not arrive, or were the wrong ones.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A region's store cannot be used, in words.
    #[error("{0}")]
    Store(String),
}

impl WorkError {
    fn is_damage(&self) -> bool {
        matches!(self, Self::Transfer(TransferError::Damaged(_)))
    }

    /// The store answered, and what it has is not the file.
    fn is_loss(&self) -> bool {
        let is_missing = |error: &StoreError| error.kind == ErrorKind::NotFound;
        self.is_damage() || matches!(self, Self::Transfer(TransferError::Store(e)) if is_missing(e))
    }
}

impl Replicator {
    /// Re-reads an upload in the own store and reports the verdict. Wrong bytes end the version; anything else is tried
    /// again. The answer is the revision that made the copy verified.
    ///
    /// # Errors
    /// What kept it from a verdict; it was reported, if anybody could be reached.
    pub async fn verify_upload(
        &self,
        record: &VersionRecord,
        bindings: &BTreeMap<RegionId, StoreBinding>,
    ) -> Result<Revision, WorkError> {
        let attempt = self.start(record, None).await?;
        let result = self.verify_files(record, bindings).await;
        self.finish(record, attempt, result).await
    }

    /// Brings a version into the own store: own bytes first, then those of `sources`, of which one serves each try. The
    /// answer is the revision that made the copy verified.
    ///
    /// # Errors
    /// What went wrong; it was reported, if anybody could be reached. The next try goes on from what is there.
    pub async fn copy(
        &self,
        record: &VersionRecord,
        sources: &[RegionId],
        tries: u32,
        bindings: &BTreeMap<RegionId, StoreBinding>,
    ) -> Result<Revision, WorkError> {
        let others: Vec<_> = sources.iter().filter(|region| **region != self.region).collect();
        let turn = usize::try_from(tries).unwrap_or(0);
        let source = others.get(turn % others.len().max(1)).copied();
        let stopped = || WorkError::Store("the agent stops".to_owned());
        let started = self.stop.run_until_cancelled(self.start(record, source)).await;
        let attempt = started.ok_or_else(stopped)??;
        let (moved, stop) = (AtomicU64::new(0), self.stop.child_token());
        let mut work = std::pin::pin!(self.copy_files(record, source, bindings, &moved, &stop));
        let result = tokio::select! {
            result = work.as_mut() => result,
            refusal = self.report_progress(record, attempt, &moved) => {
                stop.cancel();
                // It takes back what it began; what came of it concerns nobody.
                drop(work.await);
                Err(refusal.into())
            }
        };
        if self.stop.is_cancelled() {
            return Err(stopped());
        }
        self.metrics
            .replicated(if result.is_ok() { "verified" } else { "failed" });
        let finished = self
            .stop
            .run_until_cancelled(self.finish(record, attempt, result))
            .await;
        finished.ok_or_else(stopped)?
    }

    /// Fills the local cache for a version, file by file: what is on the disk, then the stores in the order given, the own
    /// one first while its copy is verified (P16). One that should have the file and has not is doubted from then on.
    ///
    /// # Errors
    /// The last source's failure for the first file that none of them gave.
    pub async fn fetch(
        &self,
        record: &VersionRecord,
        sources: &[RegionId],
        bindings: &BTreeMap<RegionId, StoreBinding>,
    ) -> Result<(), WorkError> {
        let order: Vec<_> = sources.iter().collect();
        let failed = |region: &RegionId, error: &WorkError| {
            if *region == self.region && error.is_loss() {
                self.doubts.raise(&record.key);
            }
        };
        for file in Files::of(record).0 {
            self.fetch_file(&file, &order, bindings, &|_| (), &failed).await?;
        }
        Ok(())
    }

    /// Re-reads the own store's copy, and reports it as failed if a file is damaged or gone; from then on it is copied
    /// again. The answer is the revision of that, none where it is whole or somebody else was faster.
    ///
    /// # Errors
    /// What kept it from a verdict, or from being heard.
    pub async fn recheck(
        &self,
        record: &VersionRecord,
        attempt: u32,
        bindings: &BTreeMap<RegionId, StoreBinding>,
    ) -> Result<Option<Revision>, WorkError> {
        let key = self.key(record);
        let Err(error) = self.verify_files(record, bindings).await else {
            tracing::info!(%key, "the copy in the own store was doubted, and is whole");
            return Ok(None);
        };
        if !error.is_loss() {
            return Err(error);
        }
        let error = with_causes(&error);
        tracing::warn!(%key, "the copy in the own store is damaged, and is brought anew: {error}");
        let report = ReplicaReport::Failed {
            attempt,
            error,
            digest_mismatch: true,
        };
        match self.control.report_replica(&key, &report).await {
            Ok(replica) => Ok(Some(replica.modified)),
            Err(refusal) if is_over(refusal.reason) => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Re-reads every file in the own store.
    async fn verify_files(
        &self,
        record: &VersionRecord,
        bindings: &BTreeMap<RegionId, StoreBinding>,
    ) -> Result<(), WorkError> {
        let own = self.own(bindings).await?;
        for file in Files::of(record).0 {
            transfer::verify_object(own.as_ref(), &file).await?;
        }
        Ok(())
    }

    async fn copy_files(
        &self,
        record: &VersionRecord,
        source: Option<&RegionId>,
        bindings: &BTreeMap<RegionId, StoreBinding>,
        moved: &AtomicU64,
        stop: &CancellationToken,
    ) -> Result<(), WorkError> {
        let own = self.own(bindings).await?;
        let order: Vec<_> = std::iter::once(&self.region).chain(source).collect();
        let mut before = 0;
        for file in Files::of(record).0 {
            let progress = |step: Progress| {
                if let Progress::Fetched { done, .. } = step {
                    moved.store(before + done.0, Ordering::Relaxed);
                }
            };
            let fetched = self.fetch_file(&file, &order, bindings, &progress, &|_, _| ());
            let given_up = || WorkError::Store("the copy was given up".to_owned());
            // What arrived of it stays, and is gone on from.
            stop.run_until_cancelled(fetched).await.ok_or_else(given_up)??;
            self.store_file(own.as_ref(), &file, stop).await?;
            before += file.size.0;
            moved.store(before, Ordering::Relaxed);
        }
        Ok(())
    }

    /// One file from the cache into the own store. Where that fails because the cached one is damaged, it goes, so that
    /// the next try fetches it anew.
    async fn store_file(
        &self,
        own: &dyn ArtifactStore,
        file: &Artifact,
        stop: &CancellationToken,
    ) -> Result<(), WorkError> {
        let stored = transfer::store_copy(own, file, &self.cache, stop, &|_| ()).await;
        if let Err(TransferError::Damaged(_)) = &stored {
            let (cache, digest) = (self.cache.clone(), file.digest);
            let scrubbed = tokio::task::spawn_blocking(move || cache.scrub(&digest)).await;
            if let Ok(Err(error)) = scrubbed {
                tracing::warn!(%digest, "the cached file cannot be read again: {error}");
            }
        }
        Ok(stored?)
    }

    /// One file into the cache, from the first source that has it whole; `failed` hears of those that had not.
    async fn fetch_file(
        &self,
        file: &Artifact,
        order: &[&RegionId],
        bindings: &BTreeMap<RegionId, StoreBinding>,
        progress: transfer::OnProgress<'_>,
        failed: &(dyn Fn(&RegionId, &WorkError) + Send + Sync),
    ) -> Result<(), WorkError> {
        if self.cache.find(file).is_some() {
            return Ok(());
        }
        let mut last = WorkError::Store(format!("no region is known to hold {}", file.digest));
        for region in order {
            match self.fetch_from(file, region, bindings, progress).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(%region, digest = %file.digest, "source failed, the next one is asked: {error}");
                    failed(region, &error);
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn fetch_from(
        &self,
        file: &Artifact,
        region: &RegionId,
        bindings: &BTreeMap<RegionId, StoreBinding>,
        progress: transfer::OnProgress<'_>,
    ) -> Result<(), WorkError> {
        let store = self.store(region, bindings).await?;
        transfer::fetch(store.as_ref(), file, &self.cache, self.limits, progress).await?;
        self.metrics.pulled(region, file.size.0);
        Ok(())
    }

    async fn own(
        &self,
        bindings: &BTreeMap<RegionId, StoreBinding>,
    ) -> Result<Arc<dyn ArtifactStore>, WorkError> {
        self.store(&self.region, bindings).await
    }

    async fn store(
        &self,
        region: &RegionId,
        bindings: &BTreeMap<RegionId, StoreBinding>,
    ) -> Result<Arc<dyn ArtifactStore>, WorkError> {
        let binding = bindings
            .get(region)
            .ok_or_else(|| WorkError::Store(format!("region {region} has no object store attached yet")))?;
        self.stores.get(region, binding).await.map_err(WorkError::Store)
    }

    fn key(&self, record: &VersionRecord) -> ReplicaKey {
        ReplicaKey {
            version: record.key.clone(),
            region: self.region.clone(),
        }
    }

    async fn start(&self, record: &VersionRecord, source: Option<&RegionId>) -> Result<u32, WorkError> {
        let report = ReplicaReport::Started {
            source: source.cloned(),
        };
        let replica = self.control.report_replica(&self.key(record), &report).await?;
        Ok(replica.attempts)
    }

    async fn finish(
        &self,
        record: &VersionRecord,
        attempt: u32,
        result: Result<(), WorkError>,
    ) -> Result<Revision, WorkError> {
        let report = match &result {
            Ok(()) => ReplicaReport::Verified {
                attempt,
                bytes: record.total_size().0,
            },
            Err(error) => ReplicaReport::Failed {
                attempt,
                error: with_causes(error),
                digest_mismatch: error.is_damage(),
            },
        };
        let told = self.control.report_replica(&self.key(record), &report).await;
        result?;
        Ok(told?.modified)
    }

    /// Says how far a copy is, at most once an interval; ends only when the attempt is no longer ours.
    async fn report_progress(&self, record: &VersionRecord, attempt: u32, moved: &AtomicU64) -> Refusal {
        let (key, mut told) = (self.key(record), 0);
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            let bytes_done = moved.load(Ordering::Relaxed);
            if bytes_done == told {
                continue;
            }
            let report = ReplicaReport::Progress { attempt, bytes_done };
            match self.control.report_replica(&key, &report).await {
                Ok(_) => told = bytes_done,
                Err(refusal) if refusal.reason == Reason::StaleAttempt => return refusal,
                Err(refusal) => tracing::debug!(%key, "progress not reported: {refusal}"),
            }
        }
    }
}

/// The copy is no longer the one that was looked at: another attempt began, or it is known to have failed, or unwanted.
fn is_over(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::StaleAttempt | Reason::IllegalTransition | Reason::ReplicaNotFound | Reason::VersionNotFound
    )
}

/// An error with its causes, cut to what a record may hold.
fn with_causes(error: &WorkError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text.chars().take(500).collect()
}
