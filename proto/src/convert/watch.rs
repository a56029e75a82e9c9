//! What a watch carries: one typed resource per event.

use std::collections::BTreeSet;

use types::{
    WatchFilter,
    experiment::ExperimentRecord,
    filter::{Pattern, ResourceKind, Subject},
    model::{AliasRecord, ModelRecord, VersionRecord},
    plan::PlanRecord,
    region::{NodeRecord, RegionRecord},
    replica::ReplicaRecord,
    role::{RoleRecord, TimingPolicy},
    service::ServiceRecord,
};

use super::{Parsed, enum_table, experiments, primaries, regions, registry, required, services, text};
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
    Experiment(Box<ExperimentRecord>),
    Service(Box<ServiceRecord>),
}

impl Resource {
    /// What a filter looks at.
    pub fn subject(&self) -> Subject<'_> {
        let of = Subject::of;
        match self {
            Self::Region(r) => Subject {
                region: Some(&r.region),
                ..of(ResourceKind::Region)
            },
            Self::Node(r) => Subject {
                region: Some(&r.region),
                ..of(ResourceKind::Node)
            },
            Self::Model(r) => Subject {
                model: Some(&r.name),
                ..of(ResourceKind::Model)
            },
            Self::Version(r) => Subject {
                model: Some(&r.key.model),
                region: Some(&r.source_region),
                ..of(ResourceKind::Version)
            },
            Self::Alias(r) => Subject {
                model: Some(&r.model),
                ..of(ResourceKind::Alias)
            },
            Self::Replica(r) => Subject {
                model: Some(&r.key.version.model),
                region: Some(&r.key.region),
                ..of(ResourceKind::Replica)
            },
            Self::Role(r) => Subject {
                role: Some(&r.role),
                ..of(ResourceKind::Role)
            },
            Self::Plan(r) => Subject {
                role: Some(&r.role),
                ..of(ResourceKind::Plan)
            },
            Self::Timing(_) => of(ResourceKind::Timing),
            Self::Experiment(r) => Subject {
                model: Some(&r.model),
                ..of(ResourceKind::Experiment)
            },
            Self::Service(r) => Subject {
                region: Some(&r.region),
                ..of(ResourceKind::Service)
            },
        }
    }
}

enum_table!(kind_to_pb, kind_from_pb, "filter.kinds", ResourceKind, pb::ResourceKind, {
    ResourceKind::Region = pb::ResourceKind::KindRegion,
    ResourceKind::Node = pb::ResourceKind::KindNode,
    ResourceKind::Model = pb::ResourceKind::KindModel,
    ResourceKind::Version = pb::ResourceKind::KindVersion,
    ResourceKind::Alias = pb::ResourceKind::KindAlias,
    ResourceKind::Replica = pb::ResourceKind::KindReplica,
    ResourceKind::Role = pb::ResourceKind::KindRole,
    ResourceKind::Plan = pb::ResourceKind::KindPlan,
    ResourceKind::Timing = pb::ResourceKind::KindTiming,
    ResourceKind::Experiment = pb::ResourceKind::KindExperiment,
    ResourceKind::Service = pb::ResourceKind::KindService,
});

impl From<&WatchFilter> for pb::WatchFilter {
    fn from(filter: &WatchFilter) -> Self {
        let pattern = |p: &Option<Pattern>| p.as_ref().map(ToString::to_string).unwrap_or_default();
        Self {
            kinds: filter.kinds.iter().map(|kind| kind_to_pb(*kind)).collect(),
            model: pattern(&filter.model),
            region: pattern(&filter.region),
            role: pattern(&filter.role),
            newest_kind: number(ResourceKind::Service),
        }
    }
}

fn number(kind: ResourceKind) -> u32 {
    kind_to_pb(kind).unsigned_abs()
}

/// The kinds that are wanted. Who names none takes all that they can read: a watcher of an older version breaks off where it
/// meets a kind that it does not know, and then for ever.
fn kinds(named: Vec<i32>, newest: u32) -> Parsed<BTreeSet<ResourceKind>> {
    if !named.is_empty() {
        return named.into_iter().map(kind_from_pb).collect();
    }
    // Those that there were before anybody said so.
    let newest = newest.max(number(ResourceKind::Timing));
    let readable = |kind: &ResourceKind| number(*kind) <= newest;
    if ResourceKind::ALL.iter().all(readable) {
        return Ok(BTreeSet::new());
    }
    Ok(ResourceKind::ALL.into_iter().filter(readable).collect())
}

/// Reads a filter; none takes everything that whoever sends none can read.
pub fn filter(value: Option<pb::WatchFilter>) -> Parsed<WatchFilter> {
    let value = value.unwrap_or_default();
    let pattern = |field: &str, value: &str| match value {
        "" => Ok(None),
        value => text(field, value).map(Some),
    };
    Ok(WatchFilter {
        kinds: kinds(value.kinds, value.newest_kind)?,
        model: pattern("filter.model", &value.model)?,
        region: pattern("filter.region", &value.region)?,
        role: pattern("filter.role", &value.role)?,
    })
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
            Resource::Experiment(r) => Wire::Experiment(r.as_ref().into()),
            Resource::Service(r) => Wire::Service(r.as_ref().into()),
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
        Wire::Experiment(r) => Resource::Experiment(Box::new(experiments::experiment(r)?)),
        Wire::Service(r) => Resource::Service(Box::new(services::instance(r)?)),
    })
}
