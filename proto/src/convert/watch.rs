//! What a watch carries: one typed resource per event.

use types::{
    model::{AliasRecord, ModelRecord, VersionRecord},
    plan::PlanRecord,
    region::{NodeRecord, RegionRecord},
    replica::ReplicaRecord,
    role::{RoleRecord, TimingPolicy},
};

use super::{Parsed, primaries, regions, registry, required};
use crate::v1::{self as pb, resource::Resource as Wire};

/// A resource of any kind, as a list or an event carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the record of that name")]
pub enum Resource {
    Region(RegionRecord),
    Node(NodeRecord),
    Model(ModelRecord),
    Version(VersionRecord),
    Alias(AliasRecord),
    Replica(ReplicaRecord),
    Role(Box<RoleRecord>),
    Plan(Box<PlanRecord>),
    Timing(TimingPolicy),
}

impl From<&Resource> for pb::Resource {
    fn from(resource: &Resource) -> Self {
        let wire = match resource {
            Resource::Region(r) => Wire::Region(r.into()),
            Resource::Node(r) => Wire::Node(r.into()),
            Resource::Model(r) => Wire::Model(r.into()),
            Resource::Version(r) => Wire::Version(r.into()),
            Resource::Alias(r) => Wire::Alias(r.into()),
            Resource::Replica(r) => Wire::Replica(r.into()),
            Resource::Role(r) => Wire::Role(r.as_ref().into()),
            Resource::Plan(r) => Wire::Plan(r.as_ref().into()),
            Resource::Timing(r) => Wire::Timing(r.into()),
        };
        Self { resource: Some(wire) }
    }
}

/// Reads a resource. One of a kind that this version does not know is an error that says so.
pub fn resource(value: Option<pb::Resource>) -> Parsed<Resource> {
    Ok(match required("resource", value.and_then(|r| r.resource))? {
        Wire::Region(r) => Resource::Region(regions::region(r)?),
        Wire::Node(r) => Resource::Node(regions::node(r)?),
        Wire::Model(r) => Resource::Model(registry::model(r)?),
        Wire::Version(r) => Resource::Version(registry::version(r)?),
        Wire::Alias(r) => Resource::Alias(registry::alias(r)?),
        Wire::Replica(r) => Resource::Replica(registry::replica(r)?),
        Wire::Role(r) => Resource::Role(Box::new(primaries::role(r)?)),
        Wire::Plan(r) => Resource::Plan(Box::new(primaries::plan(r)?)),
        Wire::Timing(r) => Resource::Timing(primaries::timing(Some(r))?),
    })
}
