//! The texts within refusals: what people read, and nothing is decided by.
//!
//! Everything else in a refusal is a name, a number or a choice, which every build makes alike.
//! Invariant: a refusal is as long as its names, and a bounded number of bounded texts, whatever its request quoted.

use super::Rejection;

/// Bytes of a text.
const TEXT_BYTES_MAX: usize = 1_024;

impl Rejection {
    /// With texts of a bounded length, cut between characters: they may quote what the caller sent.
    #[must_use]
    pub(crate) fn bounded(mut self) -> Self {
        for text in self.texts() {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
        self
    }

    /// What does not depend on how a build words its texts.
    #[must_use]
    pub(crate) fn without_texts(mut self) -> Self {
        for text in self.texts() {
            text.clear();
        }
        self
    }

    fn texts(&mut self) -> Vec<&mut String> {
        match self {
            Self::InvalidArgument { field, problem } => vec![field, problem],
            Self::IllegalTransition { what, from, to } => vec![what, from, to],
            Self::AlreadyExists { what, .. }
            | Self::StaleAttempt { what, .. }
            | Self::EtagMismatch { what, .. }
            | Self::LimitExceeded { what, .. } => vec![what],
            Self::VersionState { needs, .. } | Self::PermissionDenied { needs, .. } => vec![needs],
            Self::TargetNotQualified { unmet, .. } => unmet.iter_mut().collect(),
            Self::NotBootstrapped
            | Self::AlreadyBootstrapped { .. }
            | Self::ModelNotFound { .. }
            | Self::VersionNotFound { .. }
            | Self::AliasNotFound { .. }
            | Self::RegionNotFound { .. }
            | Self::NodeNotFound { .. }
            | Self::RoleNotFound { .. }
            | Self::PlanNotFound { .. }
            | Self::ReplicaNotFound { .. }
            | Self::ExperimentNotFound { .. }
            | Self::PreferencesNotFound { .. }
            | Self::ServiceNotFound { .. }
            | Self::Door { .. }
            | Self::WrongSender { .. }
            | Self::RequestReused { .. }
            | Self::RequestTooOld { .. }
            | Self::RequestFromFuture { .. }
            | Self::TimeAhead { .. }
            | Self::RequestsExhausted { .. }
            | Self::VersionInUse { .. }
            | Self::VersionInExperiment { .. }
            | Self::RegionInUse { .. }
            | Self::NodeInUse { .. }
            | Self::StaleIncarnation { .. }
            | Self::PlanRunning { .. }
            | Self::PlanEnded { .. }
            | Self::StepOutOfOrder { .. }
            | Self::StepNotRunning { .. }
            | Self::FailoverPaused { .. }
            | Self::FeatureLevel { .. } => Vec::new(),
        }
    }
}
