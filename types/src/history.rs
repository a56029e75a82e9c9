//! What happened: which version took which one's place, and how regions and nodes have stood. Written by the rules alone, each
//! with the change that it tells of, and never by itself.
//!
//! Absent on purpose: what is so now, which the records of aliases, regions and nodes say.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{AliasName, InvalidId, ModelName, ModelVersion, NodeId, RegionId},
    principal::Principal,
    region::{Health, NodeStatus},
    revision::Revision,
    time::UnixMillis,
};

/// One move of an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    /// The model.
    pub model: ModelName,
    /// The revision that moved the alias; with the model its key.
    pub revision: Revision,
    /// The alias.
    pub alias: AliasName,
    /// The version that it pointed at before; none where it was new.
    pub from: Option<ModelVersion>,
    /// The version that it points at since; none where it was removed.
    pub to: Option<ModelVersion>,
    /// Why, for people.
    pub reason: String,
    /// State time of the move.
    pub at: UnixMillis,
    /// Who moved it.
    pub by: Principal,
}

/// What a change of health is about; shown `regions/eu` or `nodes/eu-a1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HealthSubject {
    /// A region's committed verdict.
    Region(RegionId),
    /// A node's committed standing.
    Node(NodeId),
}

impl fmt::Display for HealthSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => write!(f, "regions/{region}"),
            Self::Node(node) => write!(f, "nodes/{node}"),
        }
    }
}
impl fmt::Debug for HealthSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for HealthSubject {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('/') {
            Some(("regions", region)) => region.parse().map(Self::Region),
            Some(("nodes", node)) => node.parse().map(Self::Node),
            _ => Err(InvalidId::new(
                "subject of health",
                text,
                "write regions/REGION or nodes/NODE",
            )),
        }
    }
}
impl From<HealthSubject> for String {
    fn from(subject: HealthSubject) -> String {
        subject.to_string()
    }
}
impl TryFrom<String> for HealthSubject {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

/// How a region or a node stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Standing {
    /// Of a region: [`Health::Healthy`].
    Healthy,
    /// Of a region: [`Health::Unhealthy`].
    Unhealthy,
    /// Of a region: [`Health::Recovering`].
    Recovering,
    /// Of a node: [`NodeStatus::Up`].
    Up,
    /// Of a node: [`NodeStatus::Down`].
    Down,
    /// Of a node: [`NodeStatus::Removed`].
    Removed,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
            Self::Recovering => "RECOVERING",
            Self::Up => "UP",
            Self::Down => "DOWN",
            Self::Removed => "REMOVED",
        })
    }
}
impl From<Health> for Standing {
    fn from(health: Health) -> Self {
        match health {
            Health::Healthy => Self::Healthy,
            Health::Unhealthy => Self::Unhealthy,
            Health::Recovering => Self::Recovering,
        }
    }
}
impl From<NodeStatus> for Standing {
    fn from(status: NodeStatus) -> Self {
        match status {
            NodeStatus::Up => Self::Up,
            NodeStatus::Down => Self::Down,
            NodeStatus::Removed => Self::Removed,
        }
    }
}

/// One change of how a region or a node stands: what the checks came to. What they find while nothing changes is soft state of
/// the leader, and in no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthChange {
    /// What changed.
    pub subject: HealthSubject,
    /// The revision that changed it; with the subject its key.
    pub revision: Revision,
    /// How it stood before; none where it was new.
    pub from: Option<Standing>,
    /// How it stands since.
    pub to: Standing,
    /// What led to it, for people; cut.
    pub evidence: String,
    /// State time of the change.
    pub at: UnixMillis,
    /// Who said so.
    pub by: Principal,
}
