//! Regions and the nodes in them, as the registry records them.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{NodeId, NodeIncarnation, RegionId, ZoneName},
    revision::Revision,
    time::UnixMillis,
};

/// A region's committed verdict; separate from its role. Only transitions go through the log, with evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Health {
    /// Its agents keep their sessions and answer the probes of the other regions.
    Healthy,
    /// No session, and a majority of vantages cannot reach it.
    Unhealthy,
    /// Back, but not yet verified able to serve: copies or models are still missing.
    Recovering,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
            Self::Recovering => "RECOVERING",
        })
    }
}

/// Whether a store's conditional writes were seen to work (design.md L16), so that it may be a fencing door.
/// In documents, `fencing_door` and, where it was refused, `fencing_refusal`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fencing_door", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FencingDoor {
    /// The probe passed: a wrong ETag was refused and 50 racing writers had one winner.
    Qualified,
    /// The probe failed; the store may hold artifacts and guards nothing.
    Refused {
        /// What the probe saw.
        #[serde(rename = "fencing_refusal")]
        reason: String,
    },
}

/// How a region's object store is reached, by every agent. Credentials are never in the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreBinding {
    /// `http(s)://host:port` of an S3 endpoint, or `file:///path` of a local directory.
    pub endpoint: String,
    /// The bucket; a directory name for `file:`.
    pub bucket: String,
    /// What the probe at attach said.
    #[serde(flatten)]
    pub fencing_door: FencingDoor,
}

/// What people say of a region, for people and for whoever adds costs up. Nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionLabels {
    /// As people call it: `US West (Oregon)`; empty: by its name.
    pub display_name: String,
    /// Who runs its machines: `aws`, `gcp`, `on-premises`; empty: nobody said.
    pub provider: String,
    /// By which its costs are allocated: `environment`, `service`, `team`.
    pub cost_tags: BTreeMap<String, String>,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionRecord {
    /// Its name.
    pub region: RegionId,
    /// The committed verdict.
    pub health: Health,
    /// Why the verdict is what it is, in words, with the observations that led to it.
    pub health_evidence: String,
    /// State time of the last transition.
    pub health_changed_at: UnixMillis,
    /// The region's object store, once an agent attached one.
    pub store: Option<StoreBinding>,
    /// What people say of it.
    #[serde(flatten)]
    pub labels: RegionLabels,
    /// Revision of the last change; its etag.
    pub modified: Revision,
}

/// What a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NodeKind {
    /// A Raft voter with the API.
    Coordinator,
    /// A node agent.
    Agent,
    /// A Raft voter that stores the log and serves nobody.
    Witness,
}

/// A node's committed standing; sessions, which are soft, lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NodeStatus {
    /// Has a live session.
    Up,
    /// Its session was lost.
    Down,
    /// A person took it out of the cluster; this run of it never comes back.
    Removed,
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "UP",
            Self::Down => "DOWN",
            Self::Removed => "REMOVED",
        })
    }
}

/// Where a node can be called. Empty text: it does not serve this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// gRPC `regent.v1` (coordinators), `https://host:port`.
    pub api: String,
    /// Raft peers (coordinators), `https://host:port`.
    pub raft: String,
    /// gRPC of the agent, `https://host:port`.
    pub agent: String,
    /// Inference HTTP of the agent, `http://host:port`.
    pub inference: String,
}

/// A node: one machine and its current run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The machine.
    pub node: NodeId,
    /// Its region; a node never moves to another.
    pub region: RegionId,
    /// Its zone there, as its own config says at its start; none where that says none.
    pub zone: Option<ZoneName>,
    /// What it runs.
    pub kind: NodeKind,
    /// The run that the registry knows.
    pub incarnation: NodeIncarnation,
    /// Where it can be called.
    pub endpoints: Endpoints,
    /// The committed standing.
    pub status: NodeStatus,
    /// State time of the last change of standing or incarnation.
    pub changed_at: UnixMillis,
    /// Revision of the last change.
    pub modified: Revision,
}
