//! The work on copies: re-reading uploads, bringing copies into the own region's store, filling the local cache.
//!
//! Absent on purpose: when to work and how often to try again ([`crate::reconcile`], [`crate::jobs`]).
//! Invariants: nothing is visible before its SHA-256 matched; a copy is reported as verified only after it was read
//! back from the own store (I3). Dropping any of these futures loses time and nothing else.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use artifact_store::{
    ArtifactStore,
    cache::LocalCache,
    transfer::{self, Artifact, Progress, TransferError, TransferLimits},
};
use client::calls::ReplicaReport;
use types::{
    Reason, RegionId, Revision, model::VersionRecord, reason::Refusal, region::StoreBinding,
    replica::ReplicaKey,
};

use crate::{control::Control, desired::Files, metrics::Metrics, stores::Stores};

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
    /// How hard one transfer pulls.
    pub limits: TransferLimits,
    /// What is counted.
    pub metrics: Metrics,
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
        let work = async {
            let own = self.own(bindings).await?;
            for file in Files::of(record).0 {
                transfer::verify_object(own.as_ref(), &file).await?;
            }
            Ok(())
        };
        let result = work.await;
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
        let attempt = self.start(record, source).await?;
        let moved = AtomicU64::new(0);
        let work = self.copy_files(record, source, bindings, &moved);
        let result = tokio::select! {
            result = work => result,
            refusal = self.report_progress(record, attempt, &moved) => Err(refusal.into()),
        };
        self.metrics
            .replicated(if result.is_ok() { "verified" } else { "failed" });
        self.finish(record, attempt, result).await
    }

    /// Fills the local cache for a version, file by file: what is on the disk, then the own store, then the others in
    /// the order given (P16).
    ///
    /// # Errors
    /// The last source's failure for the first file that none of them gave.
    pub async fn fetch(
        &self,
        record: &VersionRecord,
        sources: &[RegionId],
        bindings: &BTreeMap<RegionId, StoreBinding>,
    ) -> Result<(), WorkError> {
        let own_first = std::iter::once(&self.region).chain(sources.iter().filter(|r| **r != self.region));
        let order: Vec<_> = own_first.collect();
        for file in Files::of(record).0 {
            self.fetch_file(&file, &order, bindings, &|_| ()).await?;
        }
        Ok(())
    }

    async fn copy_files(
        &self,
        record: &VersionRecord,
        source: Option<&RegionId>,
        bindings: &BTreeMap<RegionId, StoreBinding>,
        moved: &AtomicU64,
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
            self.fetch_file(&file, &order, bindings, &progress).await?;
            transfer::store_copy(own.as_ref(), &file, &self.cache, &|_| ()).await?;
            before += file.size.0;
            moved.store(before, Ordering::Relaxed);
        }
        Ok(())
    }

    /// One file into the cache, from the first source that has it whole.
    async fn fetch_file(
        &self,
        file: &Artifact,
        order: &[&RegionId],
        bindings: &BTreeMap<RegionId, StoreBinding>,
        progress: transfer::OnProgress<'_>,
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
