//! Models, their immutable versions, and the aliases that move between them (design.md section 5).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    ids::{AliasName, DatasetName, InvalidId, MetricName, ModelName, ModelVersion, RegionId, VersionKey},
    micros::Micros,
    principal::Principal,
    revision::Revision,
    time::UnixMillis,
    units::ByteCount,
};

/// Where copies of a model must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "regions", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Placement {
    /// In every region, also those that join later.
    #[default]
    Everywhere,
    /// In these regions.
    Regions(Vec<RegionId>),
}

/// A named line of versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Its dotted name.
    pub name: ModelName,
    /// For people.
    pub description: String,
    /// Free key and value pairs; `demo.fence` is written under `primaries/global` by the demo.
    pub tags: BTreeMap<String, String>,
    /// Where copies must be.
    pub placement: Placement,
    /// Number that the next version gets; numbers are never used twice.
    pub next_version: ModelVersion,
    /// State time of creation.
    pub created_at: UnixMillis,
    /// Who created it.
    pub created_by: Principal,
    /// Revision of the last change; its etag.
    pub modified: Revision,
}

/// A file of a version: a relative path inside the model directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactPath(String);

impl ArtifactPath {
    /// Checks that the path stays inside its directory: relative, `/` between parts, no `.` or `..`, no control
    /// characters or backslashes, 200 bytes at most.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
        let text = text.into();
        let part_ok = |p: &str| {
            !p.is_empty() && p != "." && p != ".." && !p.contains(|c: char| c.is_control() || c == '\\')
        };
        if text.len() <= 200 && text.split('/').all(part_ok) {
            Ok(Self(text))
        } else {
            let rule =
                "must be a relative path of at most 200 bytes without '.', '..', backslash or empty parts";
            Err(InvalidId::new("artifact path", &text, rule))
        }
    }
    /// The path with `/` between parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl TryFrom<String> for ArtifactPath {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}
impl From<ArtifactPath> for String {
    fn from(path: ArtifactPath) -> String {
        path.0
    }
}
impl fmt::Display for ArtifactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ArtifactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One file of a version, named by the digest of its bytes (I3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Where it stands in the model directory.
    pub path: ArtifactPath,
    /// Its length.
    pub size: ByteCount,
    /// SHA-256 of its bytes; also its object key.
    pub digest: Digest,
    /// Media type, for people and caches; empty if unknown.
    pub media_type: String,
}

/// Where a version is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VersionState {
    /// Announced; its bytes are on the way to the store.
    PendingUpload,
    /// The bytes are said to be there; an agent of that region re-reads and hashes them.
    Verifying,
    /// At least one region holds verified copies; immutable from here on.
    Ready,
    /// Still served, no longer recommended.
    Deprecated,
    /// Gone, or never became ready; `state_reason` says which.
    Deleted,
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PendingUpload => "PENDING_UPLOAD",
            Self::Verifying => "VERIFYING",
            Self::Ready => "READY",
            Self::Deprecated => "DEPRECATED",
            Self::Deleted => "DELETED",
        })
    }
}

/// A measured value, and who said it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The value, exact; its unit is in its name.
    pub value: Micros,
    /// State time at which it was said.
    pub at: UnixMillis,
    /// Who said it.
    pub by: Principal,
}

/// One version: immutable from READY on, but for what is measured of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Model and number.
    pub key: VersionKey,
    /// Where it is in its life.
    pub state: VersionState,
    /// Why the last change of state happened; empty for the ordinary path.
    pub state_reason: String,
    /// The region whose store the bytes are uploaded to.
    pub source_region: RegionId,
    /// Its files, by path, none twice.
    pub artifacts: Vec<Artifact>,
    /// Which loader reads it: `bert`, `digits-cnn`, `llama`.
    pub framework: String,
    /// Free key and value pairs (owner, training run).
    pub metadata: BTreeMap<String, String>,
    /// What it was trained from, as whoever announced it said; never changed.
    #[serde(default)]
    pub datasets: BTreeSet<DatasetName>,
    /// What was measured of it, as it was said last; the one part of a READY version that changes.
    #[serde(default)]
    pub metrics: BTreeMap<MetricName, Measured>,
    /// State time of creation.
    pub created_at: UnixMillis,
    /// Who created it.
    pub created_by: Principal,
    /// Revision of the last change; its etag.
    pub modified: Revision,
}

impl VersionRecord {
    /// Bytes of all files together.
    pub fn total_size(&self) -> ByteCount {
        ByteCount(
            self.artifacts
                .iter()
                .map(|a| a.size.0)
                .fold(0, u64::saturating_add),
        )
    }
    /// Whether copies of it are wanted in the regions of its placement.
    pub fn is_replicated(&self) -> bool {
        matches!(self.state, VersionState::Ready | VersionState::Deprecated)
    }
}

/// A name that points at one version of its model and moves by compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRecord {
    /// The model.
    pub model: ModelName,
    /// The name; `champion` is set by the first version that becomes ready.
    pub alias: AliasName,
    /// The version that it points at.
    pub version: ModelVersion,
    /// Why it was moved last, for people.
    pub reason: String,
    /// State time of the last move.
    pub moved_at: UnixMillis,
    /// Who moved it last.
    pub moved_by: Principal,
    /// Revision of the last move; its etag.
    pub modified: Revision,
}
