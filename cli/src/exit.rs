//! Exit codes, and the one place that gives each refusal its own. Scripts rely on them: they never change their meaning.
//! 0 is success.

use std::io;
use std::process::ExitCode;

use types::Reason;

/// How a run of `regent` ended. The numbers are those of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It failed for a reason that has no number of its own.
    Error = 1,
    /// The command line, a config or an input is malformed.
    Usage = 2,
    /// The named thing does not exist.
    NotFound = 3,
    /// Something is not as the caller believed: an epoch, an etag, a state.
    Precondition = 4,
    /// A rule that keeps the platform safe said no.
    Safety = 5,
    /// No quorum, no leader, or nobody could be reached; nothing changed.
    Unavailable = 6,
    /// The identity may not do this.
    Denied = 7,
    /// It is done, and what was found on the way needs somebody.
    Findings = 8,
    /// It may have happened; the request id to retry with is printed.
    Unknown = 9,
}

impl Exit {
    /// The exit code of a refusal.
    pub(crate) const fn of(reason: Reason) -> Self {
        match reason {
            Reason::ModelNotFound
            | Reason::VersionNotFound
            | Reason::AliasNotFound
            | Reason::RegionNotFound
            | Reason::NodeNotFound
            | Reason::RoleNotFound
            | Reason::PlanNotFound
            | Reason::ReplicaNotFound
            | Reason::ExperimentNotFound
            | Reason::ServiceNotFound
            | Reason::PreferencesNotFound
            | Reason::NotFound
            | Reason::ModelNotLoaded => Self::NotFound,
            Reason::AlreadyExists
            | Reason::StaleEpoch
            | Reason::WrongHolder
            | Reason::EpochUnconfirmed
            | Reason::WrongCluster
            | Reason::WrongRole
            | Reason::LeaseLost
            | Reason::RoleChanging
            | Reason::RequestReused
            | Reason::RequestTooOld
            | Reason::RequestFromFuture
            | Reason::TimeAhead
            | Reason::VersionState
            | Reason::RegionInUse
            | Reason::NodeInUse
            | Reason::IllegalTransition
            | Reason::StaleIncarnation
            | Reason::StepOutOfOrder
            | Reason::StaleAttempt
            | Reason::FeatureLevel
            | Reason::ClusterState
            | Reason::EtagMismatch
            | Reason::Compacted
            | Reason::FutureRevision => Self::Precondition,
            Reason::PlanRunning
            | Reason::TargetNotQualified
            | Reason::FailoverPaused
            | Reason::MembershipUnsafe
            | Reason::NodeRemoved
            | Reason::StoreNotQualified => Self::Safety,
            Reason::InvalidArgument => Self::Usage,
            Reason::PermissionDenied => Self::Denied,
            Reason::Overloaded
            | Reason::DiskFull
            | Reason::NotLeader
            | Reason::NoQuorum
            | Reason::NotServing
            | Reason::Unreachable => Self::Unavailable,
            Reason::OutcomeUnknown => Self::Unknown,
            // Done, and somebody has undone it.
            Reason::RecordGone => Self::Findings,
            Reason::DigestMismatch | Reason::ModelInvalid | Reason::LimitExceeded | Reason::Internal => {
                Self::Error
            }
        }
    }
    /// The exit code where a file or directory that was named could not be used.
    pub(crate) const fn of_io(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::NotFound => Self::NotFound,
            _ => Self::Error,
        }
    }
    /// The reason of a failure of which no more is known than how it ended.
    pub(crate) const fn usual_reason(self) -> Option<Reason> {
        match self {
            Self::Usage => Some(Reason::InvalidArgument),
            Self::NotFound => Some(Reason::NotFound),
            Self::Unavailable => Some(Reason::Unreachable),
            Self::Denied => Some(Reason::PermissionDenied),
            Self::Unknown => Some(Reason::OutcomeUnknown),
            Self::Error | Self::Precondition | Self::Safety | Self::Findings => None,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
