//! What is true of this node, as last seen.
//!
//! Absent on purpose: what should be. Invariant: what nobody looked at is [`Copied::Unknown`], never absent.

use std::collections::{BTreeMap, BTreeSet};

use types::{ModelName, ModelVersion, VersionKey};

/// Whether all files of a version are in the local cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Copied {
    /// At least one file is missing.
    Absent,
    /// Nobody looked since the start.
    #[default]
    Unknown,
    /// All are there; each was verified when it was stored.
    Present,
}

/// A version in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Answers requests, and answered its self-test.
    Loaded,
    /// Answers what it took, and takes nothing more.
    Draining,
}

/// Work of which at most one piece runs at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Re-read an upload in the own store.
    Verify(VersionKey),
    /// Bring a copy into the own store.
    Copy(VersionKey),
    /// Bring files into the local cache.
    Fetch(VersionKey),
    /// Re-read the own store's verified copy, of which a fetch got wrong bytes, and say so if it is damaged.
    Recheck(VersionKey),
    /// Bring a version into memory.
    Load(VersionKey),
    /// Drain a version and let it go.
    Unload(VersionKey),
    /// Remove a deleted version's files from the local disk.
    Evict(VersionKey),
}

/// What is true of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The local cache, by version.
    pub cached: BTreeMap<VersionKey, Copied>,
    /// Versions in memory.
    pub memory: BTreeMap<VersionKey, Memory>,
    /// Active versions.
    pub active: BTreeMap<ModelName, ModelVersion>,
    /// Work in hand.
    pub running: BTreeSet<Job>,
    /// Verified copies in the own store of which a fetch got wrong bytes, or none.
    pub doubted: BTreeSet<VersionKey>,
    /// Work that failed and waits for its next try.
    pub backing_off: BTreeSet<Job>,
    /// Versions that did not load for a defect of their own.
    pub unservable: BTreeSet<VersionKey>,
}

impl Observed {
    /// Whether a version answers requests.
    pub fn is_loaded(&self, key: &VersionKey) -> bool {
        self.memory.get(key) == Some(&Memory::Loaded)
    }
    /// The models of which a version answers requests.
    pub fn served(&self) -> impl Iterator<Item = &ModelName> {
        let memory = self.memory.iter();
        memory.filter_map(|(key, memory)| (*memory == Memory::Loaded).then_some(&key.model))
    }
    /// Whether a version's files are on the local disk.
    pub fn copied(&self, key: &VersionKey) -> Copied {
        self.cached.get(key).copied().unwrap_or_default()
    }
}
