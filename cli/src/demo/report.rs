//! The document that the demo prints: the verdict on every step, and the figures that others compare.

use serde::Serialize;

use super::record::StepName;

/// The verdict on a run. The names of its fields are a contract (design.md section 11).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Every step held.
    pub(crate) ok: bool,
    /// Each step, in order; a step that was not reached did not hold.
    pub(crate) steps: Vec<StepReport>,
    /// The whole run, from the first process's start until the last one had ended.
    pub(crate) seconds: f64,
    /// From the kill to the first write accepted from the new primary; none if there was none.
    pub(crate) failover_seconds: Option<f64>,
    /// The first primary's epoch, as the number that compares.
    pub(crate) epoch_before: Option<u64>,
    /// The last primary's epoch, as the number that compares.
    pub(crate) epoch_after: Option<u64>,
    /// Stale writes that reached a door.
    pub(crate) stale_writes_attempted: u64,
    /// Stale writes that a door accepted.
    pub(crate) stale_writes_accepted: u64,
    /// The same for each door.
    pub(crate) doors: Vec<DoorReport>,
    /// Requests of the load to regions that were up.
    pub(crate) inference_requests: u64,
    /// Of these, those without the right answer within the deadline.
    pub(crate) inference_failures: u64,
    /// The most memory that any coordinator had resident; none if that was not seen.
    pub(crate) coordinator_resident_bytes: Option<u64>,
    /// Where everything still is; only after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<String>,
}

/// The verdict on one step.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StepReport {
    /// Which.
    pub(crate) name: StepName,
    /// It held.
    pub(crate) ok: bool,
    /// How long it took.
    pub(crate) seconds: f64,
    /// What was seen, or what was wrong.
    pub(crate) detail: String,
}

/// What stale writers achieved at one door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DoorReport {
    /// `registry`, `agent/R` or `pointer/R`.
    pub(crate) name: String,
    /// Stale writes that reached it.
    pub(crate) attempted: u64,
    /// Of these, accepted.
    pub(crate) accepted: u64,
    /// Writes below the committed epoch that it accepted before the new epoch had been shown to it.
    pub(crate) accepted_before_claim: u64,
}

impl Report {
    /// 0 only if every step held.
    pub(crate) fn exit_code(&self) -> u8 {
        u8::from(!self.ok)
    }
}
