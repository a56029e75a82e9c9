//! Experiments: which users get which version of a model, and what was measured of each.
//!
//! Absent on purpose: who is assigned to what (`policy::experiment`), and the rules of changes (`state::apply`).

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{ExperimentName, MetricName, ModelName, ModelVersion, VersionKey},
    micros::Micros,
    principal::Principal,
    revision::Revision,
    time::UnixMillis,
};

/// Parts that users are divided into; a percent is one slot.
pub const SLOTS: usize = 100;

/// Which arm each slot belongs to, by the arm's position in [`ExperimentRecord::arms`]. Always [`SLOTS`] of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Slots([u8; SLOTS]);

impl Slots {
    /// From the owner of each slot; none where these are not exactly [`SLOTS`].
    pub fn new(owners: &[u8]) -> Option<Self> {
        owners.try_into().ok().map(Self)
    }

    /// The owner of each slot.
    pub fn owners(&self) -> &[u8; SLOTS] {
        &self.0
    }

    /// How many slots an arm has.
    pub fn count(&self, arm: usize) -> usize {
        self.0.iter().filter(|owner| usize::from(**owner) == arm).count()
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl From<Slots> for Vec<u8> {
    fn from(slots: Slots) -> Self {
        slots.0.to_vec()
    }
}
impl TryFrom<Vec<u8>> for Slots {
    type Error = String;
    fn try_from(owners: Vec<u8>) -> Result<Self, String> {
        Self::new(&owners).ok_or_else(|| format!("{} slots, not {SLOTS}", owners.len()))
    }
}

/// One version in an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// The version; each at most once in an experiment.
    pub version: ModelVersion,
    /// Its share of the users, 0 to 100; those of all arms add up to 100.
    pub percent: u32,
    /// What was measured of it, as it was reported last.
    pub metrics: BTreeMap<MetricName, Micros>,
}

/// What an experiment's split shall be, or was asked to be: a version and its percent, the first one the fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The version.
    pub version: ModelVersion,
    /// Its share of the users.
    pub percent: u32,
}

/// Whether an experiment runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExperimentState {
    /// Users are assigned; its versions cannot be deleted.
    Running,
    /// Over, for ever; a record of what was measured.
    Ended,
}

impl fmt::Display for ExperimentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "RUNNING",
            Self::Ended => "ENDED",
        })
    }
}

/// A split of a model's users over versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExperimentRecord {
    /// The model.
    pub model: ModelName,
    /// Its name, unique within the model. Who gets which slot depends on both names, and on nothing else.
    pub name: ExperimentName,
    /// For people.
    pub description: String,
    /// Whether it runs.
    pub state: ExperimentState,
    /// In the order in which they came to it: the first one is the fallback, and stays it.
    pub arms: Vec<Arm>,
    /// Which arm each slot of users belongs to.
    pub slots: Slots,
    /// Why it ended, for people; empty while it runs.
    pub reason: String,
    /// State time of creation.
    pub created_at: UnixMillis,
    /// Who created it.
    pub created_by: Principal,
    /// State time of its end.
    pub ended_at: Option<UnixMillis>,
    /// Revision of the last change; its etag.
    pub modified: Revision,
}

impl ExperimentRecord {
    /// Whether users are assigned.
    pub fn is_running(&self) -> bool {
        self.state == ExperimentState::Running
    }

    /// The versions of its arms.
    pub fn versions(&self) -> impl Iterator<Item = VersionKey> {
        self.arms.iter().map(|arm| VersionKey {
            model: self.model.clone(),
            version: arm.version,
        })
    }
}
