//! Doors and writers as data: what a door recorded of each guarded write, and what its writer believes.
//!
//! Absent on purpose: how the records are read (`collect`) and what they prove (`checker`).

use serde::{Deserialize, Serialize};
use types::{Epoch, Holder, RegionId};

use super::micros::Micros;

/// The name of the registry's door.
pub(crate) const REGISTRY: &str = "registry";

/// The name of an agent's door.
pub(crate) fn agent_door(region: &RegionId) -> String {
    format!("agent/{region}")
}

/// The name of the door that a region's store is, for the pointer of the role.
pub(crate) fn pointer_door(region: &RegionId) -> String {
    format!("pointer/{region}")
}

/// Every door of a cluster of these regions.
pub(crate) fn all_doors(regions: &[RegionId]) -> Vec<String> {
    let agents = regions.iter().map(agent_door);
    let pointers = regions.iter().map(pointer_door);
    std::iter::once(REGISTRY.to_owned())
        .chain(agents)
        .chain(pointers)
        .collect()
}

/// What one door recorded, in the order in which it decided.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DoorLog {
    /// `registry`, `agent/R` or `pointer/R`.
    pub(crate) name: String,
    /// Its decisions.
    pub(crate) records: Vec<DoorRecord>,
    /// What is wrong with the record itself: torn lines, copies that disagree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) defects: Vec<String>,
}

/// One guarded write, as its door saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DoorRecord {
    /// When the door decided.
    pub(crate) at: Micros,
    /// The epoch that was shown; none where the write carried none.
    pub(crate) shown: Option<Epoch>,
    /// Whose epoch it was said to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) writer: Option<Holder>,
    /// The epoch that the door held when the write arrived.
    pub(crate) current: Option<Epoch>,
    /// Whether the write took effect.
    pub(crate) accepted: bool,
    /// Why it did not: a reason of `regent.v1`, or an S3 error code.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    /// The request id or nonce, where the door records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// The ETag that had to match (pointers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) if_match: Option<String>,
    /// The ETag that an accepted write left behind (pointers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
}

/// What one zombie writer logged.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriterLog {
    /// Its region.
    pub(crate) region: RegionId,
    /// Every write that it tried, in the order of their ends.
    pub(crate) attempts: Vec<Attempt>,
    /// Lines that could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) defects: Vec<String>,
}

/// What became of a write, as its writer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The door took it.
    Accepted,
    /// The door refused it because of its epoch.
    Refused,
    /// It surely had no effect, for another reason: no connection, no leader, another holder.
    NoEffect,
    /// No answer, or one that does not say: it may have happened.
    Unknown,
}

/// One write of a zombie.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attempt {
    /// When it was sent.
    pub(crate) at: Micros,
    /// Until its answer, in microseconds.
    pub(crate) took: u64,
    /// The door.
    pub(crate) door: String,
    /// The request id or nonce.
    pub(crate) id: String,
    /// The epoch that was shown.
    pub(crate) shown: Epoch,
    /// Whose token it was.
    pub(crate) holder: Holder,
    /// What the writer was told.
    pub(crate) outcome: Outcome,
    /// The epoch that the refusal named; at a pointer, the epoch that a read after it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) named: Option<Epoch>,
    /// The reason as it came: a reason of `regent.v1`, an HTTP status, a transport error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
}

impl Attempt {
    /// When the answer came.
    pub(crate) fn ended(&self) -> Micros {
        self.at.plus(self.took)
    }
}
