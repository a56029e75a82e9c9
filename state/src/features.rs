//! Which rules are switched on: one number in the state, raised by `SetFeatureLevel` alone, never by a build's version.
//!
//! Whoever changes what `apply` does to an entry adds a [`Feature`], asks for it in `apply` (and names it in [`Command::needs`], where the
//! command itself is new), raises [`SUPPORTED`], and freezes what the level writes (`tests/frozen.rs`): two
//! builds of one cluster then compute the same state from the same entry. The leader raises the level once all voters have
//! said that their builds know it. What `apply` asks of crate `policy` is part of what it does.
//! Absent on purpose: the way down. A rule that was on has shaped the state.
//! Invariant: a build applies nothing above the level that it knows; it stops ([`TooNew`]).

use types::region::NodeKind;

use crate::{
    command::{Command, Entry},
    state::ControlState,
};

/// The highest level that this build knows.
pub const SUPPORTED: u32 = 12;

/// A list of all rules, from which none can be left out.
macro_rules! features {
    ($($(#[$doc:meta])* $name:ident = $level:literal,)*) => {
        /// A rule that a level switched on. Level 0 is what the log began with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Feature {
            $($(#[$doc])* $name,)*
        }

        impl Feature {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The level from which on it counts.
            pub const fn level(self) -> u32 {
                match self {
                    $(Self::$name => $level,)*
                }
            }
        }
    };
}

features! {
    /// Level 1: a copy that was verified once may be begun without a source, from the disks of its region's agents.
    MendWithoutSource = 1,
    /// Level 2: an entry that is far ahead of state time is refused, unless a time mark was applied (L10).
    TimeMarks = 2,
    /// Level 2: a coordinator that was taken out is remembered, and its disk barred.
    CoordinatorsLeave = 2,
    /// Level 2: the log says how fast elections are, and where the leader should be.
    ElectionSettings = 2,
    /// Level 2: snapshots are written as a stream of frames. No rule of `apply`: all that may have to read one can.
    FramedSnapshots = 2,
    /// Level 2: any entry may say which etag and epoch its record must have ([`crate::Expects`]).
    Expectations = 2,
    /// Level 3: the state says which clusters this one goes on from.
    Rebinds = 3,
    /// Level 4: models have experiments.
    Experiments = 4,
    /// Level 4: coordinators may be witnesses, which have no state.
    Witnesses = 4,
    /// Level 5: nodes say which zone of their region they stand in.
    Zones = 5,
    /// Level 6: a version may name the data sets that it was trained from.
    Datasets = 6,
    /// Level 6: a version has values that were measured of it.
    VersionMetrics = 6,
    /// Level 7: the entry that ends a step of a plan begins the next one, and the one that begins a plan its first.
    ChainedSteps = 7,
    /// Level 8: people make, label and take away regions, and drop agents that are gone.
    Regions = 8,
    /// Level 9: nodes host instances of services.
    Services = 9,
    /// Level 10: moves of aliases and changes of health are remembered.
    Histories = 10,
    /// Level 10: users have preferences.
    Preferences = 10,
    /// Level 11: a model takes tokens of the role alone that guards it ([`policy::fence::guard_of`]).
    GuardedModels = 11,
    /// Level 11: what a refusal quotes is bounded, and its texts are no part of the integrity hash: each build words them for
    /// itself.
    SettledRefusals = 11,
    /// Level 12: what people do to run the cluster has room among the remembered answers when their bulk work has used up its own.
    RoomForOperators = 12,
}

/// The rules that are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// Whether a rule is on.
    pub const fn has(self, feature: Feature) -> bool {
        feature.level() <= self.0
    }

    /// The level: every feature up to it is on.
    pub const fn level(self) -> u32 {
        self.0
    }
}

/// The cluster is ahead of a build, which would apply its entries wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster is at feature level {level}, and this build knows levels up to {known}: upgrade this coordinator; a newer build goes \
     on with the same data_dir, and no older one does"
)]
pub struct TooNew {
    /// The cluster's level.
    pub level: u32,
    /// The highest that the build knows.
    pub known: u32,
}

impl ControlState {
    /// The rules that are on; those of level 0 before the first entry.
    pub fn features(&self) -> Features {
        Features(self.cluster.as_ref().map_or(0, |cluster| cluster.feature_level))
    }

    /// Whether a build that knows levels up to `known` may go on from this state: this one's is [`SUPPORTED`].
    pub fn check_features(&self, known: u32) -> Result<(), TooNew> {
        check(self.features().level(), known)
    }
}

impl Entry {
    /// Whether a build that knows levels up to `known` may apply this entry.
    pub fn check_features(&self, known: u32) -> Result<(), TooNew> {
        if let Command::SetFeatureLevel { level } = self.command {
            return check(level, known);
        }
        check(self.command.needs().map_or(0, Feature::level), known)
    }
}

impl Command {
    /// The rule that it came with: a build from before it cannot read the entry, and stops, so nobody proposes it earlier.
    /// `None`: every build knows it.
    pub fn needs(&self) -> Option<Feature> {
        match self {
            Self::MarkTime { .. } => Some(Feature::TimeMarks),
            Self::RemoveCoordinator { .. } => Some(Feature::CoordinatorsLeave),
            Self::SetElectionTiming { .. } | Self::SetLeaderPreference { .. } => {
                Some(Feature::ElectionSettings)
            }
            Self::RecordRebind { .. } => Some(Feature::Rebinds),
            Self::CreateExperiment { .. }
            | Self::SetExperimentSplit { .. }
            | Self::ReportExperiment { .. }
            | Self::EndExperiment { .. } => Some(Feature::Experiments),
            Self::CreateRegion { .. }
            | Self::UpdateRegion { .. }
            | Self::DeleteRegion { .. }
            | Self::RemoveNode { .. } => Some(Feature::Regions),
            Self::RegisterNode { zone: Some(_), .. } => Some(Feature::Zones),
            Self::RegisterNode {
                kind: NodeKind::Witness,
                ..
            } => Some(Feature::Witnesses),
            Self::CreateVersion { datasets, .. } if !datasets.is_empty() => Some(Feature::Datasets),
            Self::SetVersionMetrics { .. } => Some(Feature::VersionMetrics),
            Self::SetPreferences { .. } => Some(Feature::Preferences),
            Self::RegisterService { .. } | Self::DeregisterService { .. } => Some(Feature::Services),
            Self::InitCluster { .. }
            | Self::SetTiming { .. }
            | Self::SetFeatureLevel { .. }
            | Self::RegisterRegion { .. }
            | Self::AttachStore { .. }
            | Self::SetRegionHealth { .. }
            | Self::RegisterNode {
                kind: NodeKind::Coordinator | NodeKind::Agent,
                ..
            }
            | Self::SetNodeStatus { .. }
            | Self::CreateModel { .. }
            | Self::SetModelTags { .. }
            | Self::CreateVersion { .. }
            | Self::CompleteUpload { .. }
            | Self::AbortVersion { .. }
            | Self::DeprecateVersion { .. }
            | Self::DeleteVersion { .. }
            | Self::SetAlias { .. }
            | Self::DeleteAlias { .. }
            | Self::ReportReplica { .. }
            | Self::CreateRole { .. }
            | Self::SetRoleMode { .. }
            | Self::SetRoleTiming { .. }
            | Self::RetireTtl { .. }
            | Self::SetRoleCandidates { .. }
            | Self::StartPlan { .. }
            | Self::StartStep { .. }
            | Self::FinishStep { .. }
            | Self::Fence { .. }
            | Self::Promote { .. }
            | Self::FailPlan { .. } => None,
        }
    }
}

fn check(level: u32, known: u32) -> Result<(), TooNew> {
    if level <= known {
        Ok(())
    } else {
        Err(TooNew { level, known })
    }
}
