//! What one Raft node needs to know before it starts.

use std::{fmt, path::PathBuf, sync::Arc};

use policy::compaction::GrowthBounds;
use types::{
    NodeId, RegionId, UnixMillis,
    role::TimingPolicy,
    time::{Clock, SystemClock},
};

/// Who this node is, where its disk is, and how fast Raft beats.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This machine.
    pub node: NodeId,
    /// Its region.
    pub region: RegionId,
    /// It stores the log and votes, and keeps no state: it serves nobody, and leads only to hand leadership over. A data
    /// directory is a witness's or not, for ever.
    pub witness: bool,
    /// Holds log, snapshots, identity and door record; locked while the node runs.
    pub data_dir: PathBuf,
    /// Where clients reach this node's API now, `https://host:port`.
    pub api_endpoint: String,
    /// Where other coordinators reach this node's Raft port now, `https://host:port`.
    pub raft_endpoint: String,
    /// Set on exactly one node of a new cluster: it founds the cluster, with these timings. A data directory that has
    /// seen a cluster id never bootstraps, whatever this says.
    pub bootstrap: Option<TimingPolicy>,
    /// Heartbeats and elections, until the log says how fast they are.
    pub timing: RaftTiming,
    /// Somebody chose [`Self::timing`], be it the default: a founder fixes it for the cluster.
    pub timing_fixed: bool,
    /// Bounds on log, snapshots and queues.
    pub limits: RaftLimits,
    /// What this node says the time is, where it is asked: one voice of the voters' (L10).
    pub clock: WallClock,
    /// Up to which feature level this node goes, and says that it knows the rules: `state::features::SUPPORTED`, but where a
    /// test has an older build.
    pub supported_level: u32,
}

/// A wall clock that is handed in.
#[derive(Clone)]
pub struct WallClock(pub Arc<dyn Clock>);

impl WallClock {
    /// The machine's.
    pub fn system() -> Self {
        Self(Arc::new(SystemClock))
    }

    /// Its time.
    pub fn now(&self) -> UnixMillis {
        self.0.now()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WallClock").field(&self.now()).finish()
    }
}

/// Heartbeats and elections.
pub use types::election::ElectionTiming as RaftTiming;

/// Bounds on log, snapshots and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftLimits {
    /// A snapshot is taken after this many entries at the latest: a restart applies those after the last one again.
    /// Default 250,000.
    pub snapshot_after: u64,
    /// A snapshot is taken earlier once the entries since the last one have this many bytes, and as many as that snapshot
    /// has. Default 64 MiB.
    pub snapshot_log_bytes: u64,
    /// Entries kept behind a snapshot, so that a node that was away a moment needs no snapshot. Default 10,000.
    pub logs_kept: u64,
    /// Proposals in flight at once; one more is refused as overloaded. Default 1,024.
    pub proposals_in_flight: usize,
}

impl Default for RaftLimits {
    fn default() -> Self {
        Self {
            snapshot_after: 250_000,
            snapshot_log_bytes: 64 << 20,
            logs_kept: 10_000,
            proposals_in_flight: 1_024,
        }
    }
}

impl RaftLimits {
    /// How far the log may grow before a snapshot is due.
    pub(crate) fn growth(&self) -> GrowthBounds {
        GrowthBounds {
            entries: self.snapshot_after,
            log_bytes: self.snapshot_log_bytes,
        }
    }
}
