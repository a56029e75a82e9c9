//! Writes snapshots, off the way of what is applied, and has Raft take note of them.
//!
//! openraft stops a node whose snapshot cannot be written, and a full disk is no reason to stop: so the file is written
//! here, from a view of the state, and openraft is told to look for it only when it is there. Until it is, the log grows,
//! and the writing is tried again.
//! Absent on purpose: when one is due ([`policy::compaction`]).

use std::{io, time::Duration};

use openraft::{RaftMetrics, async_runtime::WatchReceiver as _};
use policy::compaction::{Growth, GrowthBounds, is_due};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};
use types::Revision;

use super::{
    RaftNode,
    snapshot::SnapshotFile,
    types::{LogId, TypeConfig},
};

/// Pause after a snapshot that could not be written. Long enough for a full disk to be no reason for a busy one.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Raft is told again of a snapshot of which it has not taken note in this time.
const TELL_AGAIN: Duration = Duration::from_millis(100);
/// For so long.
const TELL_WITHIN: Duration = Duration::from_secs(30);

/// How the log grows, and whether that was said.
#[derive(Debug)]
pub(crate) struct Log {
    growth: Growth,
    bounds: GrowthBounds,
}

impl Log {
    pub(crate) fn new(bounds: GrowthBounds, snapshot_bytes: u64) -> Self {
        let growth = Growth {
            snapshot_bytes,
            ..Growth::default()
        };
        Self { growth, bounds }
    }

    /// An entry of so many bytes was applied; whether a snapshot is due.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        self.growth.entries += 1;
        self.growth.log_bytes += bytes as u64;
        self.is_due()
    }

    pub(crate) fn is_due(&self) -> bool {
        is_due(&self.growth, &self.bounds)
    }

    /// What it is now, to be handed to [`Self::covered`] once there is a snapshot of now.
    pub(crate) fn growth(&self) -> Growth {
        self.growth
    }

    /// A snapshot of `snapshot_bytes` covers everything but the last `rest` entries.
    pub(crate) fn covered_but(&mut self, rest: u64, snapshot_bytes: u64) {
        let grown = self.growth;
        // Which of the bytes are theirs was not kept; entries are alike in the long run.
        let part = u128::from(grown.log_bytes) * u128::from(rest.min(grown.entries));
        let log_bytes = part / u128::from(grown.entries.max(1));
        self.growth = Growth {
            entries: rest.min(grown.entries),
            log_bytes: u64::try_from(log_bytes).unwrap_or(u64::MAX),
            snapshot_bytes,
        };
    }

    /// A snapshot of `snapshot_bytes` covers everything up to `growth`.
    pub(crate) fn covered(&mut self, growth: Growth, snapshot_bytes: u64) {
        self.growth = Growth {
            entries: self.growth.entries.saturating_sub(growth.entries),
            log_bytes: self.growth.log_bytes.saturating_sub(growth.log_bytes),
            snapshot_bytes,
        };
    }
}

impl RaftNode {
    /// Takes a snapshot whenever one is due, until the node stops.
    pub(crate) async fn compact(self) {
        loop {
            self.store().due().await;
            let taken = match self.is_witness() {
                true => self.take_anothers_snapshot().await,
                false => self.take_snapshot().await.map(drop),
            };
            if let Err(error) = taken {
                warn!(%error, again_after = ?AGAIN_AFTER, "no snapshot could be had; the log grows until one is");
                sleep(AGAIN_AFTER).await;
            }
        }
    }

    /// Writes a snapshot of now, and lets the log before it go. An error leaves everything as it was. Whoever wants a snapshot of
    /// this node's own asks for it here: one that Raft was not told of would count as growth that is over, and no entry would go.
    pub(crate) async fn take_snapshot(&self) -> io::Result<SnapshotFile> {
        let _turn = self.store().take_turns().await;
        let store = self.store().clone();
        let written = tokio::task::spawn_blocking(move || store.write_snapshot()).await;
        let file = written.map_err(io::Error::other)??;
        debug!(path = %file.path().display(), bytes = file.size(), "snapshot written");
        self.tell_of_snapshot().await;
        Ok(file)
    }

    /// Has Raft look at the newest snapshot, and purge the log behind it. It takes no notice while it looks at another one, so it
    /// is told until it has. Not for whoever holds apply back: Raft looks once it has applied what came before.
    pub(super) async fn tell_of_snapshot(&self) {
        let wanted = self.store().covered();
        let raft = self.raft();
        let mut metrics = raft.metrics();
        let covered = |metrics: &RaftMetrics<TypeConfig>| metrics.snapshot.as_ref().map_or(0, LogId::index);
        let began = Instant::now();
        loop {
            let known = covered(&metrics.borrow_watched());
            if Revision(known) >= wanted {
                return;
            }
            if began.elapsed() > TELL_WITHIN {
                return warn!(%wanted, "raft takes no notice of a snapshot; the log stays as long as it is until the next one");
            }
            // An error says that Raft has stopped, which is told elsewhere.
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
            let news = async {
                while covered(&metrics.borrow_watched()) == known && metrics.changed().await.is_ok() {}
            };
            // In time or not: it is looked at again.
            let _ = timeout(TELL_AGAIN, news).await;
        }
    }

    /// The newest snapshot, or one that is written now where that is older than `index`.
    pub(super) async fn snapshot_at_least(&self, index: u64) -> io::Result<SnapshotFile> {
        let store = self.store().clone();
        let find = move || store.newest_from(index);
        let newest = tokio::task::spawn_blocking(find).await;
        match newest.map_err(io::Error::other)?? {
            Some(file) => Ok(file),
            None => self.take_snapshot().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_voters_snapshot_does_not_cover_stays_grown() {
        let bounds = GrowthBounds {
            entries: 100,
            log_bytes: 1_000,
        };
        for (grown, rest, expected) in [
            (10, 4, (4, 40)),
            (10, 0, (0, 0)),
            (10, 12, (10, 100)),
            (0, 3, (0, 0)),
        ] {
            let mut log = Log::new(bounds, 0);
            for _ in 0..grown {
                log.grow(10);
            }
            log.covered_but(rest, 7);
            let left = log.growth();
            assert_eq!((left.entries, left.log_bytes), expected, "{grown} but {rest}");
            assert_eq!(left.snapshot_bytes, 7);
        }
    }
}
