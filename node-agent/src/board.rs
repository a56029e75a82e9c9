//! How this node stands, for everyone who tells it on: heartbeats, HTTP, gRPC. Written by few, read by many.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use types::{
    ClusterId, DatabaseName, Holder, ModelName, ModelVersion, NodeId, RegionId, Revision, VersionKey,
    model::VersionRecord, role::TimingPolicy,
};

/// A picture of the node; `tokio::sync::watch` carries it.
#[derive(Clone, Debug)]
pub struct Board {
    /// This run of this node.
    pub me: Holder,
    /// The cluster, once it was heard of.
    pub cluster_id: Option<ClusterId>,
    /// The revision that the desired state comes from.
    pub revision: Revision,
    /// Endpoint of the coordinator that a session is open with.
    pub session: Option<String>,
    /// The cluster's timings, once they were heard of.
    pub timing: Option<TimingPolicy>,
    /// Whether this node is fit to serve ([`crate::readiness`]); else why not.
    pub ready: Result<(), String>,
    /// Served versions that belong here, could be had, and are not verified here yet.
    pub missing: Vec<VersionKey>,
    /// Versions that it should have in memory and has not, ready or not.
    pub unloaded: Vec<VersionKey>,
    /// Those of them that did not load or could not be fetched here, for a defect of theirs or several times in a row.
    pub failed: BTreeSet<VersionKey>,
    /// Versions whose copies in this region are verified.
    pub copies: BTreeMap<VersionKey, Arc<VersionRecord>>,
    /// What the alias `champion` points at.
    pub champions: BTreeMap<ModelName, ModelVersion>,
    /// At which revision it was moved last.
    pub moved: BTreeMap<ModelName, Revision>,
    /// Why versions did not come into memory the last time.
    pub load_errors: BTreeMap<VersionKey, String>,
    /// Why files of versions that should be in memory are not on this node's disk, or not as they were, since their last load.
    pub fetch_errors: BTreeMap<VersionKey, String>,
    /// What the last try said of versions whose copies in this region are FAILED.
    pub copy_errors: BTreeMap<VersionKey, String>,
    /// Those that did not for a defect of their own.
    pub defective: BTreeSet<VersionKey>,
    /// Agents of other regions: region and inference endpoint.
    pub peers: BTreeMap<NodeId, (RegionId, String)>,
    /// What the probes of them saw.
    pub probes: BTreeMap<NodeId, Probe>,
    /// Why it stays with its cluster while coordinators of another one answer; none where nobody else does, or it need not follow.
    pub stays_behind: Option<String>,
    /// The databases of this agent's config: fencing doors, or why not.
    pub databases: BTreeMap<DatabaseName, Result<String, String>>,
}

/// What the probes of one agent saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its region.
    pub region: RegionId,
    /// Failures in a row; 0 after a success.
    pub consecutive_failures: u32,
    /// What the last failure was; empty if there was none since.
    pub error: String,
}

impl Board {
    /// A node that knows nothing yet.
    pub fn new(me: Holder) -> Self {
        Self {
            me,
            cluster_id: None,
            revision: Revision::default(),
            session: None,
            timing: None,
            ready: Err("the desired state was not read yet".to_owned()),
            missing: Vec::new(),
            unloaded: Vec::new(),
            failed: BTreeSet::new(),
            copies: BTreeMap::new(),
            champions: BTreeMap::new(),
            moved: BTreeMap::new(),
            load_errors: BTreeMap::new(),
            fetch_errors: BTreeMap::new(),
            copy_errors: BTreeMap::new(),
            defective: BTreeSet::new(),
            peers: BTreeMap::new(),
            probes: BTreeMap::new(),
            stays_behind: None,
            databases: BTreeMap::new(),
        }
    }

    /// Why a version is not in memory; none while it is on its way, as far as this node knows.
    pub fn why_unloaded(&self, key: &VersionKey) -> Option<&str> {
        let errors = [&self.load_errors, &self.fetch_errors, &self.copy_errors];
        errors
            .iter()
            .find_map(|errors| errors.get(key))
            .map(String::as_str)
    }
}
