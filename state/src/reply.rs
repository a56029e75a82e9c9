//! What `apply` answers when it said yes.
//!
//! Replies are small, because at least 100,000 of them are kept for retries: they name what changed; whoever wants the
//! record reads it from the state.

use types::{Epoch, Holder, PlanId, Revision, RoleName, VersionKey, plan::StepKind};

use crate::{event::Event, rejection::Rejection};

/// What `apply` answers when it said yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The change took effect.
    Done {
        /// The record's new etag; an older one if the record already said what was asked.
        modified: Revision,
    },
    /// A version was announced.
    Version {
        /// Its model and the number it got.
        key: VersionKey,
        /// Its etag.
        modified: Revision,
    },
    /// An attempt to make a copy was accepted.
    Replica {
        /// The attempt's number.
        attempt: u32,
        /// The replication record's etag.
        modified: Revision,
    },
    /// A plan began.
    Plan {
        /// Its number.
        plan: PlanId,
    },
    /// An attempt of a step began or ended.
    Step {
        /// The plan.
        plan: PlanId,
        /// The step.
        step: StepKind,
        /// The attempt.
        attempt: u32,
    },
    /// A role changed hands.
    Role {
        /// The role.
        role: RoleName,
        /// Its new epoch.
        epoch: Epoch,
        /// Its new holder; nobody after a fence.
        holder: Option<Holder>,
        /// The epoch that is reserved for the plan's target, after a fence.
        reserved: Option<Epoch>,
    },
}

/// The whole result of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer for the caller: done, or refused by rule.
    pub outcome: Result<Reply, Rejection>,
    /// What changed, in order; empty for a refusal and for a retry.
    pub events: Vec<Event>,
    /// What the registry's fencing door saw, if the command showed a token; none for a retry, which reaches no door.
    pub door: Option<DoorRecord>,
}

/// What the registry's fencing door saw and decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorRecord {
    /// The role of the token.
    pub role: RoleName,
    /// The epoch that was shown.
    pub shown: Epoch,
    /// The holder that was shown.
    pub shown_holder: Holder,
    /// The role's committed epoch; zero if there is no such role.
    pub current: Epoch,
    /// The role's committed holder.
    pub holder: Option<Holder>,
    /// Whether the write took effect.
    pub accepted: bool,
    /// Why it did not.
    pub reason: Option<types::Reason>,
}
