//! All that watchers can see.
//!
//! Every event carries the whole record after the change, so that a fold is an upsert, or a delete by key.

use types::{
    AliasName, ExperimentName, ModelName, NodeId, PlanId, RegionId, RoleName,
    experiment::ExperimentRecord,
    model::{AliasRecord, ModelRecord, VersionRecord},
    plan::PlanRecord,
    region::{NodeRecord, RegionRecord},
    replica::{ReplicaKey, ReplicaRecord},
    role::RoleRecord,
    service::{ServiceKey, ServiceRecord},
};

use crate::state::ClusterRecord;

/// One change. Closed: adapters match it without a wildcard. All events of one entry share its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The cluster was named, or its settings changed.
    Cluster(ClusterRecord),
    /// A region is new or changed.
    Region(RegionRecord),
    /// A region is gone.
    RegionDeleted {
        /// The region.
        region: RegionId,
    },
    /// A node is new or changed.
    Node(NodeRecord),
    /// A node is gone.
    NodeDeleted {
        /// The node.
        node: NodeId,
        /// Where it stood.
        region: RegionId,
    },
    /// A model is new or changed.
    Model(ModelRecord),
    /// A version is new or changed; DELETED ones stay as records.
    Version(VersionRecord),
    /// An alias is new or moved.
    Alias(AliasRecord),
    /// An alias is gone.
    AliasDeleted {
        /// The model.
        model: ModelName,
        /// The alias.
        alias: AliasName,
    },
    /// A replication record is new or changed.
    Replica(ReplicaRecord),
    /// A replication record is gone, with its version or its region.
    ReplicaDeleted(ReplicaKey),
    /// A role is new or changed.
    Role(Box<RoleRecord>),
    /// A plan is new or changed.
    Plan(Box<PlanRecord>),
    /// An old plan is forgotten.
    PlanDeleted {
        /// The plan.
        plan: PlanId,
        /// The role that it moved.
        role: RoleName,
    },
    /// An instance of a service is new, otherwise than it was, or as healthy as its node now is.
    Service(Box<ServiceRecord>),
    /// An instance of a service is gone, or the run of the node that hosted it.
    ServiceDeleted {
        /// The instance.
        key: ServiceKey,
        /// The region that it was in.
        region: RegionId,
    },
    /// An experiment is new or changed.
    Experiment(Box<ExperimentRecord>),
    /// An experiment that ended long ago is forgotten.
    ExperimentDeleted {
        /// The model.
        model: ModelName,
        /// The experiment.
        name: ExperimentName,
    },
}
