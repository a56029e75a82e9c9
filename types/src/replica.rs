//! Copies of versions in regions: one replication record per (version, region).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{RegionId, VersionKey},
    revision::Revision,
    time::UnixMillis,
    units::ByteCount,
};

/// Which copy: this version in this region.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaKey {
    /// The version.
    pub version: VersionKey,
    /// The region that holds or shall hold it.
    pub region: RegionId,
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.version, self.region)
    }
}
impl fmt::Debug for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReplicaState {
    /// Wanted; nobody works on it yet.
    Pending,
    /// Bytes are moving.
    Copying,
    /// Re-read from the region's own store; every SHA-256 matched.
    Verified,
    /// The last attempt failed; `error` says how. The agent tries again.
    Failed,
}

impl fmt::Display for ReplicaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "PENDING",
            Self::Copying => "COPYING",
            Self::Verified => "VERIFIED",
            Self::Failed => "FAILED",
        })
    }
}

/// One replication record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// Which copy.
    pub key: ReplicaKey,
    /// How far it is.
    pub state: ReplicaState,
    /// Where the bytes came from; none while pending, and for the region of the upload.
    pub source: Option<RegionId>,
    /// Bytes moved in the current attempt.
    pub bytes_done: ByteCount,
    /// Attempts begun, also the current one.
    pub attempts: u32,
    /// What the last failure was; empty if there was none since.
    pub error: String,
    /// State time at which the current attempt began.
    pub started_at: Option<UnixMillis>,
    /// State time at which it became verified.
    pub completed_at: Option<UnixMillis>,
    /// Revision of the last change.
    pub modified: Revision,
}
