//! What a run of the demo saw, as plain data: the only input of [`super::checker`].
//!
//! Absent on purpose: verdicts. The story and the collectors write down what they observed, with times, and decide
//! nothing. A run that was cut short has fewer entries, never invented ones. `run.json` in the demo's directory is
//! this record, and `regent demo --recheck run.json` judges it again.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use types::{Digest, Epoch, Holder, RegionId};

use super::{
    doors::{DoorLog, WriterLog},
    micros::Micros,
};

/// The steps, in the order of the story and of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepName {
    Cluster,
    Push,
    Copies,
    Answers,
    Load,
    Zombies,
    Act1Kill,
    Act1Promote,
    Act1Return,
    Act2Pause,
    Act2Promote,
    Act2Resume,
    Refusals,
    Doors,
    Converged,
}

impl StepName {
    /// Every step, in order.
    pub(crate) const ALL: [StepName; 15] = [
        Self::Cluster,
        Self::Push,
        Self::Copies,
        Self::Answers,
        Self::Load,
        Self::Zombies,
        Self::Act1Kill,
        Self::Act1Promote,
        Self::Act1Return,
        Self::Act2Pause,
        Self::Act2Promote,
        Self::Act2Resume,
        Self::Refusals,
        Self::Doors,
        Self::Converged,
    ];

    /// The name that the report uses.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Push => "push",
            Self::Copies => "copies",
            Self::Answers => "answers",
            Self::Load => "load",
            Self::Zombies => "zombies",
            Self::Act1Kill => "act1_kill",
            Self::Act1Promote => "act1_promote",
            Self::Act1Return => "act1_return",
            Self::Act2Pause => "act2_pause",
            Self::Act2Promote => "act2_promote",
            Self::Act2Resume => "act2_resume",
            Self::Refusals => "refusals",
            Self::Doors => "doors",
            Self::Converged => "converged",
        }
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A step that was begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepTaken {
    /// Which.
    pub(crate) name: StepName,
    /// When it began.
    #[serde(default)]
    pub(crate) at: Micros,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Why it could not be finished; the steps after it were not begun then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl StepTaken {
    /// When it ended.
    pub(crate) fn ended(&self) -> Micros {
        let took = Duration::try_from_secs_f64(self.seconds).unwrap_or_default();
        self.at.plus(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
    }
}

/// Everything that was observed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordedRun {
    /// The regions, in the order in which they were made.
    pub(crate) regions: Vec<RegionId>,
    /// The steps that were begun, in order.
    pub(crate) steps: Vec<StepTaken>,
    /// From the first process's start until the last one had ended.
    #[serde(default)]
    pub(crate) seconds: f64,
    /// How the cluster stood when it had formed.
    pub(crate) cluster: Option<ClusterSeen>,
    /// The versions that were pushed.
    pub(crate) pushed: Vec<PushedVersion>,
    /// Every object that the demo read and hashed itself.
    pub(crate) copies: Vec<CopyRead>,
    /// The answers of each region.
    pub(crate) answers: Vec<AnswersSeen>,
    /// The load that each region got.
    pub(crate) load: Vec<LoadSeen>,
    /// When regions were being hurt.
    pub(crate) faults: Vec<FaultWindow>,
    /// The kill and its failover.
    pub(crate) act1: Option<ActSeen>,
    /// The pause and its failover.
    pub(crate) act2: Option<ActSeen>,
    /// The write in flight of act 2.
    pub(crate) half_put: Option<HalfPutSeen>,
    /// What each door recorded.
    pub(crate) doors: Vec<DoorLog>,
    /// What each zombie writer believes.
    pub(crate) writers: Vec<WriterLog>,
    /// What agents made of the revived store's pointer, for those who read it through them.
    pub(crate) reads: Vec<PointerRead>,
    /// Each pointer as it stood at the end.
    pub(crate) pointers: Vec<PointerAtEnd>,
    /// How the cluster stood at the end.
    pub(crate) converged: Option<ConvergedSeen>,
}

/// A role's committed standing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Standing {
    /// The epoch.
    pub(crate) epoch: Epoch,
    /// Who holds it.
    pub(crate) holder: Holder,
}

/// The cluster when it had formed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterSeen {
    /// Coordinators that vote.
    pub(crate) voters: usize,
    /// Regions whose committed health is HEALTHY.
    pub(crate) healthy: Vec<RegionId>,
    /// The first primary.
    pub(crate) primary: Standing,
    /// TTL of the role's leases, in milliseconds.
    pub(crate) lease_ttl_millis: u64,
    /// The most memory that each coordinator has had resident so far, in bytes.
    pub(crate) coordinator_resident_bytes: Vec<u64>,
}

/// One pushed version and its manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushedVersion {
    /// `MODEL@VERSION`.
    pub(crate) version: String,
    /// What each file's bytes must hash to.
    pub(crate) artifacts: Vec<Digest>,
}

/// One object, read back from one region's endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CopyRead {
    /// Whose endpoint.
    pub(crate) region: RegionId,
    /// What the manifest says.
    pub(crate) expected: Digest,
    /// What the bytes hash to; none if they could not be read.
    pub(crate) found: Option<Digest>,
}

/// One region's answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswersSeen {
    /// Which region answered.
    pub(crate) region: RegionId,
    /// Held-out digits that were asked.
    pub(crate) digits_asked: usize,
    /// Of these, right.
    pub(crate) digits_right: usize,
    /// Smallest cosine to the reference embeddings.
    pub(crate) cosine_min: f64,
    /// Token ids of the fixture.
    pub(crate) tokens_expected: Vec<u32>,
    /// Token ids of the answer.
    pub(crate) tokens_found: Vec<u32>,
    /// The user's own model, where one was given: its answer or its error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) own_model: Option<Result<String, String>>,
}

/// One region's load, sent open-loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadSeen {
    /// Where the requests went.
    pub(crate) region: RegionId,
    /// Every request, in the order of its intended time.
    pub(crate) requests: Vec<LoadRequest>,
}

/// One request of the load, as it was sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadRequest {
    /// Its place in the load of its region, from 0. The same place twice would be a retry; one that is missing at the
    /// end would be a request that nobody knows the end of.
    pub(crate) place: usize,
    /// When it had to be sent, whatever became of the ones before it.
    pub(crate) at: Micros,
    /// From the intended time to the answer, in microseconds.
    pub(crate) took: u64,
    /// What was wrong with the answer; none if it was right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// From just before a region was hurt until it was seen to serve again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultWindow {
    /// The region.
    pub(crate) region: RegionId,
    /// Just before the signal.
    pub(crate) from: Micros,
    /// When its inference endpoint was ready again; none if that was not seen.
    pub(crate) until: Option<Micros>,
}

/// One act: a holder was hurt, another took over, the first came back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActSeen {
    /// Who held the role before.
    pub(crate) before: Standing,
    /// Just before the signal was sent.
    pub(crate) struck: Micros,
    /// Processes that got it, by name.
    pub(crate) processes: Vec<String>,
    /// The most memory that each coordinator had had resident just before it, in bytes.
    #[serde(default)]
    pub(crate) coordinator_resident_bytes: Vec<u64>,
    /// When another holder was first seen.
    pub(crate) promoted: Option<Micros>,
    /// Who held it then.
    pub(crate) after: Option<Standing>,
    /// When the region's object store answered again; only where it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) store_returned: Option<Micros>,
    /// When the processes were let go on, or had been started again.
    pub(crate) released: Option<Micros>,
    /// When the region's inference endpoint was ready again.
    pub(crate) ready: Option<Micros>,
}

/// A PUT that had sent half of its body when its writer was paused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HalfPutSeen {
    /// The door that it went to, `pointer/R`.
    pub(crate) door: String,
    /// The nonce of its body.
    pub(crate) id: String,
    /// The epoch of its body.
    pub(crate) shown: Epoch,
    /// The ETag that had to match.
    pub(crate) if_match: String,
    /// When the first half was sent.
    pub(crate) half_sent: Micros,
    /// When the answer came.
    pub(crate) answered: Option<Micros>,
    /// The HTTP status of the answer.
    pub(crate) status: Option<u16>,
}

/// One look at a pointer through an agent, which gave it out or refused it (I5).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PointerRead {
    /// When.
    pub(crate) at: Micros,
    /// The door, `pointer/R`.
    pub(crate) door: String,
    /// The agent that was asked, `agent/R`.
    #[serde(default)]
    pub(crate) reader: String,
    /// The epoch of the body.
    pub(crate) found: Epoch,
    /// The nonce of the body; none where it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// An epoch that the demo had seen committed before it asked. The agent was not told.
    pub(crate) committed: Epoch,
    /// Whether the agent gave it out.
    pub(crate) used: bool,
}

/// A pointer at the end, read through its endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PointerAtEnd {
    /// The door, `pointer/R`.
    pub(crate) door: String,
    /// The epoch of the body.
    pub(crate) epoch: Epoch,
    /// The nonce of the body.
    pub(crate) id: String,
}

/// The cluster at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConvergedSeen {
    /// Regions whose committed health is HEALTHY.
    pub(crate) healthy: Vec<RegionId>,
    /// Replication records that are not VERIFIED.
    pub(crate) replicas_behind: usize,
    /// Replication records in all.
    pub(crate) replicas: usize,
    /// The most memory that each coordinator has had resident so far, in bytes.
    pub(crate) coordinator_resident_bytes: Vec<u64>,
}
