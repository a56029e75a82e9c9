//! Machine-readable refusals. Each says whether a retry may help and whether anything can have happened.
//!
//! Every list here is an exhaustive match: a new reason shows each place that must decide about it.
//! `proto::convert::status` turns a [`Refusal`] into a gRPC status and back; nothing else builds one.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;

/// What kind of answer a reason is; one gRPC code each (style.md 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// The named thing does not exist.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// A rule of the state machine or of a door said no.
    FailedPrecondition,
    /// A compare-and-set lost.
    Aborted,
    /// The request can never be right.
    InvalidArgument,
    /// The identity may not do this.
    PermissionDenied,
    /// A bound was hit; later it may work.
    ResourceExhausted,
    /// A position is outside what is kept.
    OutOfRange,
    /// Surely not proposed; try elsewhere or later.
    Unavailable,
    /// May have happened.
    Unknown,
    /// A defect or a failing disk.
    Internal,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $category:ident;)*) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, for tables and tests.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// `UPPER_SNAKE_CASE`, as in `google.rpc.ErrorInfo.reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }
            /// What kind of answer it is.
            pub const fn category(self) -> Category {
                match self { $(Reason::$name => Category::$category,)* }
            }
        }
    };
}

reasons! {
    /// No such model.
    ModelNotFound = "MODEL_NOT_FOUND", NotFound;
    /// No such version of the model.
    VersionNotFound = "VERSION_NOT_FOUND", NotFound;
    /// No such alias of the model.
    AliasNotFound = "ALIAS_NOT_FOUND", NotFound;
    /// No such region.
    RegionNotFound = "REGION_NOT_FOUND", NotFound;
    /// No such node.
    NodeNotFound = "NODE_NOT_FOUND", NotFound;
    /// No such primary role.
    RoleNotFound = "ROLE_NOT_FOUND", NotFound;
    /// No such plan.
    PlanNotFound = "PLAN_NOT_FOUND", NotFound;
    /// No replication record for this version in this region.
    ReplicaNotFound = "REPLICA_NOT_FOUND", NotFound;
    /// No such experiment of the model.
    ExperimentNotFound = "EXPERIMENT_NOT_FOUND", NotFound;
    /// Something stands in the region, or names it: the operands say what.
    RegionInUse = "REGION_IN_USE", FailedPrecondition;
    /// The node holds a role, or a running plan names it: the operands say which.
    NodeInUse = "NODE_IN_USE", FailedPrecondition;
    /// No such instance of a service.
    ServiceNotFound = "SERVICE_NOT_FOUND", NotFound;
    /// The user has no preferences.
    PreferencesNotFound = "PREFERENCES_NOT_FOUND", NotFound;
    /// The change was made, and what it was about has been deleted since: there is nothing to show of it.
    RecordGone = "RECORD_GONE", NotFound;
    /// What is named does not exist; the text says more. No coordinator sends it: a later version's reason of this kind
    /// comes to it, and a file that is not there.
    NotFound = "NOT_FOUND", NotFound;
    /// The model is not loaded on this node.
    ModelNotLoaded = "MODEL_NOT_LOADED", NotFound;
    /// A thing of this name exists, made by another request.
    AlreadyExists = "ALREADY_EXISTS", AlreadyExists;
    /// The epoch shown is below the current one.
    StaleEpoch = "STALE_EPOCH", FailedPrecondition;
    /// The epoch is current, and somebody else holds it.
    WrongHolder = "WRONG_HOLDER", FailedPrecondition;
    /// The epoch is above everything known, and no coordinator confirmed it.
    EpochUnconfirmed = "EPOCH_UNCONFIRMED", FailedPrecondition;
    /// The token comes from another cluster.
    WrongCluster = "WRONG_CLUSTER", FailedPrecondition;
    /// The token is for another role.
    WrongRole = "WRONG_ROLE", FailedPrecondition;
    /// The lease ended, or was never held.
    LeaseLost = "LEASE_LOST", FailedPrecondition;
    /// A change of this role is under way; renewals wait for its outcome.
    RoleChanging = "ROLE_CHANGING", FailedPrecondition;
    /// The request id was seen with other content or from another caller.
    RequestReused = "REQUEST_REUSED", FailedPrecondition;
    /// The request id is older than what is remembered; it is refused, never run again.
    RequestTooOld = "REQUEST_TOO_OLD", FailedPrecondition;
    /// The request id is more than 60 s ahead of state time.
    RequestFromFuture = "REQUEST_FROM_FUTURE", FailedPrecondition;
    /// The entry's time is more than 10 s ahead of state time.
    TimeAhead = "TIME_AHEAD", FailedPrecondition;
    /// The version is in a state that does not allow this.
    VersionState = "VERSION_STATE", FailedPrecondition;
    /// The region, node, role or replica is in a state that does not allow this.
    IllegalTransition = "ILLEGAL_TRANSITION", FailedPrecondition;
    /// Another process took over as this node; this run of it never comes back.
    StaleIncarnation = "STALE_INCARNATION", FailedPrecondition;
    /// Another plan moves this role.
    PlanRunning = "PLAN_RUNNING", FailedPrecondition;
    /// The plan has ended, or another step is due.
    StepOutOfOrder = "STEP_OUT_OF_ORDER", FailedPrecondition;
    /// A later attempt of the step has begun.
    StaleAttempt = "STALE_ATTEMPT", FailedPrecondition;
    /// The target is not verified able to serve.
    TargetNotQualified = "TARGET_NOT_QUALIFIED", FailedPrecondition;
    /// Failovers of the role are paused or manual.
    FailoverPaused = "FAILOVER_PAUSED", FailedPrecondition;
    /// The entry needs a feature level that the cluster has not switched on.
    FeatureLevel = "FEATURE_LEVEL", FailedPrecondition;
    /// The cluster is not bootstrapped, or is bootstrapped already.
    ClusterState = "CLUSTER_STATE", FailedPrecondition;
    /// The change of membership would cost the majority, the last voter, or the survival of a region's loss.
    MembershipUnsafe = "MEMBERSHIP_UNSAFE", FailedPrecondition;
    /// The coordinator was taken out of the cluster; its disk does not come back.
    NodeRemoved = "NODE_REMOVED", FailedPrecondition;
    /// The store failed the probe and cannot be a fencing door.
    StoreNotQualified = "STORE_NOT_QUALIFIED", FailedPrecondition;
    /// Bytes do not match their digest.
    DigestMismatch = "DIGEST_MISMATCH", FailedPrecondition;
    /// The model's files cannot be loaded.
    ModelInvalid = "MODEL_INVALID", FailedPrecondition;
    /// The etag is not the current one.
    EtagMismatch = "ETAG_MISMATCH", Aborted;
    /// The request is malformed; the message names the field and the value.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument;
    /// The identity may not do this.
    PermissionDenied = "PERMISSION_DENIED", PermissionDenied;
    /// A bound on size or count was hit.
    LimitExceeded = "LIMIT_EXCEEDED", ResourceExhausted;
    /// Too much work is waiting; try again after the time that is named.
    Overloaded = "OVERLOADED", ResourceExhausted;
    /// The leader's disk is full; it goes on by itself once there is room.
    DiskFull = "DISK_FULL", ResourceExhausted;
    /// The watch's start was compacted away; list again.
    Compacted = "COMPACTED", OutOfRange;
    /// The revision lies in the future of this cluster.
    FutureRevision = "FUTURE_REVISION", OutOfRange;
    /// This coordinator does not lead; the hint says who does.
    NotLeader = "NOT_LEADER", Unavailable;
    /// No leader has a quorum now.
    NoQuorum = "NO_QUORUM", Unavailable;
    /// The process is stopping or starting.
    NotServing = "NOT_SERVING", Unavailable;
    /// Something that the call needs could not be reached.
    Unreachable = "UNREACHABLE", Unavailable;
    /// The proposal was sent and its outcome is not known; retry with the same request id.
    OutcomeUnknown = "OUTCOME_UNKNOWN", Unknown;
    /// A defect or a failing disk; the log of the process says more.
    Internal = "INTERNAL", Internal;
}

impl Reason {
    /// Whether the same request, with the same request id, may succeed later or elsewhere.
    pub const fn retryable(self) -> bool {
        match self.category() {
            Category::Unavailable | Category::ResourceExhausted | Category::Unknown => {
                !matches!(self, Reason::LimitExceeded)
            }
            Category::NotFound
            | Category::AlreadyExists
            | Category::FailedPrecondition
            | Category::Aborted
            | Category::InvalidArgument
            | Category::PermissionDenied
            | Category::OutOfRange
            | Category::Internal => matches!(self, Reason::RoleChanging),
        }
    }

    /// Whether the request certainly changed nothing.
    pub const fn surely_no_effect(self) -> bool {
        match self.category() {
            Category::Unknown | Category::Internal => false,
            // What a later version says of something that is gone may be said of a change that was made.
            Category::NotFound => !matches!(self, Reason::RecordGone | Reason::NotFound),
            Category::AlreadyExists
            | Category::FailedPrecondition
            | Category::Aborted
            | Category::InvalidArgument
            | Category::PermissionDenied
            | Category::ResourceExhausted
            | Category::OutOfRange
            | Category::Unavailable => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl FromStr for Reason {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let found = Self::ALL.iter().copied().find(|r| r.as_str() == text);
        found.ok_or_else(|| InvalidId::new("reason", text, "must be one of the reasons of regent.v1"))
    }
}
impl From<Reason> for String {
    fn from(reason: Reason) -> String {
        reason.as_str().to_owned()
    }
}
impl TryFrom<String> for Reason {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

/// A refusal as it travels: the reason, its operands by name, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The machine-readable reason.
    pub reason: Reason,
    /// What failed, with its operands; lowercase, no full stop.
    pub message: String,
    /// Operands by name (`shown`, `current`, `holder`, `leader`, `retry_after_ms` …).
    pub operands: BTreeMap<String, String>,
}

impl Refusal {
    /// A refusal without operands.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            operands: BTreeMap::new(),
        }
    }
    /// Adds an operand.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.operands.insert(name.to_owned(), value.to_string());
        self
    }
    /// An operand's text.
    pub fn operand(&self, name: &str) -> Option<&str> {
        self.operands.get(name).map(String::as_str)
    }
}
