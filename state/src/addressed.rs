//! Which record a command is about: what an etag or an expected epoch is compared with.
//!
//! Absent on purpose: rules. A command may touch other records too; it addresses one.
//! Invariant: exhaustive, so that a new command says what it addresses.

use std::fmt;

use types::{
    AliasName, ExperimentName, ModelName, NodeId, PlanId, Principal, RegionId, Revision, RoleName,
    VersionKey, replica::ReplicaKey, role::RoleRecord, service::ServiceKey,
};

use crate::{command::Command, rejection::Rejection, state::ControlState};

/// The record that a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressed<'a> {
    /// The cluster's name and settings.
    Cluster,
    /// A region.
    Region(&'a RegionId),
    /// A node.
    Node(&'a NodeId),
    /// A model.
    Model(&'a ModelName),
    /// A version.
    Version(&'a VersionKey),
    /// An alias of a model.
    Alias(&'a ModelName, &'a AliasName),
    /// An experiment of a model.
    Experiment(&'a ModelName, &'a ExperimentName),
    /// A user's preferences.
    Preferences(&'a Principal),
    /// An instance of a service.
    Service(&'a ServiceKey),
    /// A replication record.
    Replica(&'a ReplicaKey),
    /// A primary role.
    Role(&'a RoleName),
    /// A plan, and so the role that it moves.
    Plan(PlanId),
}

impl Command {
    /// The record that it is about. A version that is announced has no number yet: it is its model that is addressed.
    pub fn addressed(&self) -> Addressed<'_> {
        match self {
            Self::InitCluster { .. }
            | Self::SetTiming { .. }
            | Self::MarkTime { .. }
            | Self::SetElectionTiming { .. }
            | Self::SetLeaderPreference { .. }
            | Self::RecordRebind { .. }
            | Self::SetFeatureLevel { .. } => Addressed::Cluster,
            Self::RegisterRegion { region }
            | Self::CreateRegion { region, .. }
            | Self::UpdateRegion { region, .. }
            | Self::DeleteRegion { region }
            | Self::AttachStore { region, .. }
            | Self::SetRegionHealth { region, .. } => Addressed::Region(region),
            Self::RegisterNode { node, .. }
            | Self::SetNodeStatus { node, .. }
            | Self::RemoveNode { node }
            | Self::RemoveCoordinator { node, .. } => Addressed::Node(node),
            Self::CreateModel { name: model, .. }
            | Self::SetModelTags { model, .. }
            | Self::CreateVersion { model, .. } => Addressed::Model(model),
            Self::CompleteUpload { version }
            | Self::AbortVersion { version, .. }
            | Self::DeprecateVersion { version, .. }
            | Self::SetVersionMetrics { version, .. }
            | Self::DeleteVersion { version, .. } => Addressed::Version(version),
            Self::SetAlias { model, alias, .. } | Self::DeleteAlias { model, alias, .. } => {
                Addressed::Alias(model, alias)
            }
            Self::CreateExperiment { model, name, .. }
            | Self::SetExperimentSplit { model, name, .. }
            | Self::ReportExperiment { model, name, .. }
            | Self::EndExperiment { model, name, .. } => Addressed::Experiment(model, name),
            Self::RegisterService { key, .. } | Self::DeregisterService { key, .. } => {
                Addressed::Service(key)
            }
            Self::SetPreferences { principal, .. } => Addressed::Preferences(principal),
            Self::ReportReplica { key, .. } => Addressed::Replica(key),
            Self::CreateRole { role, .. }
            | Self::SetRoleMode { role, .. }
            | Self::SetRoleTiming { role, .. }
            | Self::RetireTtl { role, .. }
            | Self::SetRoleCandidates { role, .. }
            | Self::StartPlan { role, .. } => Addressed::Role(role),
            Self::StartStep { plan, .. }
            | Self::FinishStep { plan, .. }
            | Self::Fence { plan, .. }
            | Self::Promote { plan, .. }
            | Self::FailPlan { plan, .. } => Addressed::Plan(*plan),
        }
    }
}

impl Addressed<'_> {
    /// The refusal of whoever believes something of a record that does not exist.
    pub(crate) fn not_found(self) -> Rejection {
        match self {
            Self::Cluster => Rejection::NotBootstrapped,
            Self::Region(region) => Rejection::RegionNotFound {
                region: region.clone(),
            },
            Self::Node(node) => Rejection::NodeNotFound { node: node.clone() },
            Self::Model(model) => Rejection::ModelNotFound { model: model.clone() },
            Self::Version(version) => Rejection::VersionNotFound {
                version: version.clone(),
            },
            Self::Alias(model, alias) => Rejection::AliasNotFound {
                model: model.clone(),
                alias: alias.clone(),
            },
            Self::Experiment(model, experiment) => Rejection::ExperimentNotFound {
                model: model.clone(),
                experiment: experiment.clone(),
            },
            Self::Preferences(principal) => Rejection::PreferencesNotFound {
                principal: principal.clone(),
            },
            Self::Service(key) => Rejection::ServiceNotFound { key: key.clone() },
            Self::Replica(key) => Rejection::ReplicaNotFound { key: key.clone() },
            Self::Role(role) => Rejection::RoleNotFound { role: role.clone() },
            Self::Plan(plan) => Rejection::PlanNotFound { plan },
        }
    }
}

impl fmt::Display for Addressed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Region(region) => write!(f, "region {region}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Model(model) => write!(f, "model {model}"),
            Self::Version(version) => write!(f, "version {version}"),
            Self::Alias(model, alias) => write!(f, "alias {alias} of {model}"),
            Self::Experiment(model, name) => write!(f, "experiment {name} of {model}"),
            Self::Preferences(principal) => write!(f, "the preferences of {principal}"),
            Self::Service(key) => write!(f, "service {key}"),
            Self::Replica(key) => write!(f, "the copy of {key}"),
            Self::Role(role) => write!(f, "role {role}"),
            Self::Plan(plan) => write!(f, "plan {plan}"),
        }
    }
}

impl ControlState {
    /// The etag of a record; none if there is no such record.
    pub fn etag_of(&self, addressed: Addressed<'_>) -> Option<Revision> {
        match addressed {
            Addressed::Cluster => self.cluster().map(|r| r.modified),
            Addressed::Region(region) => self.region(region).map(|r| r.modified),
            Addressed::Node(node) => self.node(node).map(|r| r.modified),
            Addressed::Model(model) => self.model(model).map(|r| r.modified),
            Addressed::Version(version) => self.version(version).map(|r| r.modified),
            Addressed::Alias(model, alias) => self.alias(model, alias).map(|r| r.modified),
            Addressed::Experiment(model, name) => self.experiment(model, name).map(|r| r.modified),
            Addressed::Preferences(principal) => self.preferences(principal).map(|r| r.modified),
            Addressed::Service(key) => self.service(key).map(|r| r.modified),
            Addressed::Replica(key) => self.replica(key).map(|r| r.modified),
            Addressed::Role(role) => self.role(role).map(|r| r.modified),
            Addressed::Plan(plan) => self.plan(plan).map(|r| r.modified),
        }
    }

    /// The role that is addressed, or whose plan is; refused where there is none.
    pub(crate) fn role_of(&self, addressed: Addressed<'_>) -> Result<&RoleRecord, Rejection> {
        let role = match addressed {
            Addressed::Role(role) => role,
            Addressed::Plan(plan) => &self.plan(plan).ok_or_else(|| addressed.not_found())?.role,
            Addressed::Cluster
            | Addressed::Region(_)
            | Addressed::Node(_)
            | Addressed::Model(_)
            | Addressed::Version(_)
            | Addressed::Alias(..)
            | Addressed::Experiment(..)
            | Addressed::Service(_)
            | Addressed::Preferences(_)
            | Addressed::Replica(_) => {
                let problem = format!("{addressed} has no epoch; roles have, and plans by their role");
                return Err(Rejection::invalid("expected_epoch", problem));
            }
        };
        self.role(role).ok_or_else(|| Addressed::Role(role).not_found())
    }
}
