//! The cluster's state as this agent last saw it: a fold of the watch.
//!
//! Absent on purpose: decisions. Events are hints that something changed; only the records in here are acted upon, and
//! they grant nothing (L4). Invariant: after every revision the maps equal the registry's at that revision.

use std::{collections::BTreeMap, sync::Arc};

use proto::convert::watch::Resource;
use types::{
    AliasName, ClusterId, ModelName, NodeId, PlanId, RegionId, Revision, RoleName, VersionKey,
    model::{AliasRecord, ModelRecord, VersionRecord},
    plan::PlanRecord,
    region::{NodeRecord, RegionRecord},
    replica::{ReplicaKey, ReplicaRecord},
    role::{RoleRecord, TimingPolicy},
    service::{ServiceKey, ServiceRecord},
};

/// Everything that the watch carries, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The cluster that it comes from; none before the first list.
    pub cluster_id: Option<ClusterId>,
    /// The revision that it stands at.
    pub revision: Revision,
    /// Regions.
    pub regions: BTreeMap<RegionId, RegionRecord>,
    /// Nodes.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Models.
    pub models: BTreeMap<ModelName, ModelRecord>,
    /// Versions.
    pub versions: BTreeMap<VersionKey, Arc<VersionRecord>>,
    /// Aliases.
    pub aliases: BTreeMap<(ModelName, AliasName), AliasRecord>,
    /// Replication records.
    pub replicas: BTreeMap<ReplicaKey, ReplicaRecord>,
    /// Primary roles.
    pub roles: BTreeMap<RoleName, Arc<RoleRecord>>,
    /// Plans.
    pub plans: BTreeMap<PlanId, Arc<PlanRecord>>,
    /// Instances of services.
    pub services: BTreeMap<ServiceKey, ServiceRecord>,
    /// Cluster-wide timings.
    pub timing: Option<TimingPolicy>,
}

impl View {
    /// Takes a record as it is now.
    pub fn upsert(&mut self, resource: Resource) {
        match resource {
            Resource::Region(r) => drop(self.regions.insert(r.region.clone(), r)),
            Resource::Node(r) => drop(self.nodes.insert(r.node.clone(), r)),
            Resource::Model(r) => drop(self.models.insert(r.name.clone(), r)),
            Resource::Version(r) => drop(self.versions.insert(r.key.clone(), Arc::new(r))),
            Resource::Alias(r) => drop(self.aliases.insert((r.model.clone(), r.alias.clone()), r)),
            Resource::Replica(r) => drop(self.replicas.insert(r.key.clone(), r)),
            Resource::Role(r) => drop(self.roles.insert(r.role.clone(), Arc::new(*r))),
            Resource::Plan(r) => drop(self.plans.insert(r.plan, Arc::new(*r))),
            Resource::Timing(r) => self.timing = Some(r),
            Resource::Service(r) => drop(self.services.insert(r.key.clone(), *r)),
            // An agent serves what aliases point at; who gives requests to versions asks for assignments.
            Resource::Experiment(_) => {}
        }
    }

    /// Forgets a record that was deleted.
    pub fn remove(&mut self, resource: &Resource) {
        match resource {
            Resource::Region(r) => drop(self.regions.remove(&r.region)),
            Resource::Node(r) => drop(self.nodes.remove(&r.node)),
            Resource::Model(r) => drop(self.models.remove(&r.name)),
            Resource::Version(r) => drop(self.versions.remove(&r.key)),
            Resource::Alias(r) => drop(self.aliases.remove(&(r.model.clone(), r.alias.clone()))),
            Resource::Replica(r) => drop(self.replicas.remove(&r.key)),
            Resource::Role(r) => drop(self.roles.remove(&r.role)),
            Resource::Plan(r) => drop(self.plans.remove(&r.plan)),
            Resource::Timing(_) => self.timing = None,
            Resource::Service(r) => drop(self.services.remove(&r.key)),
            Resource::Experiment(_) => {}
        }
    }
}

impl View {
    /// Takes what a watch gave out.
    pub fn apply(&mut self, change: client::watch::Change) {
        use client::watch::Change;
        match change {
            Change::Reset {
                cluster_id,
                revision,
                resources,
            } => {
                *self = Self {
                    cluster_id: Some(cluster_id),
                    revision,
                    ..Self::default()
                };
                resources.into_iter().for_each(|r| self.upsert(r));
            }
            Change::Events { revision, events } => {
                for event in events {
                    if event.deleted {
                        self.remove(&event.resource);
                    } else {
                        self.upsert(event.resource);
                    }
                }
                self.revision = revision;
            }
            Change::Bookmark { revision } => self.revision = revision,
        }
    }
}
