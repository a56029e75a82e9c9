//! Events on the wire, and what filters look at of them.

use std::collections::BTreeMap;

use proto::{convert::watch::Resource, v1 as pb};
use state::Event;
use types::{
    ByteCount, ModelVersion, NodeIncarnation, Principal, Revision, UnixMillis,
    epoch::Holder,
    experiment::{ExperimentRecord, ExperimentState, SLOTS, Slots},
    filter::{ResourceKind, Subject},
    model::AliasRecord,
    plan::{PlanKind, PlanRecord, PlanState},
    region::{Endpoints, Health, NodeKind, NodeRecord, NodeStatus, RegionLabels, RegionRecord},
    replica::{ReplicaRecord, ReplicaState},
    service::{ServiceHealth, ServiceProtocol, ServiceRecord},
};

/// What a filter looks at of an event's record; the same of its deletion, so that who saw the one sees the other.
pub(super) fn subject(event: &Event) -> Subject<'_> {
    let of = Subject::of;
    match event {
        Event::Cluster(_) => of(ResourceKind::Timing),
        Event::Region(RegionRecord { region, .. }) | Event::RegionDeleted { region } => Subject {
            region: Some(region),
            ..of(ResourceKind::Region)
        },
        Event::Node(NodeRecord { region, .. }) | Event::NodeDeleted { region, .. } => Subject {
            region: Some(region),
            ..of(ResourceKind::Node)
        },
        Event::Model(m) => Subject {
            model: Some(&m.name),
            ..of(ResourceKind::Model)
        },
        Event::Version(v) => Subject {
            model: Some(&v.key.model),
            region: Some(&v.source_region),
            ..of(ResourceKind::Version)
        },
        Event::Alias(AliasRecord { model, .. }) | Event::AliasDeleted { model, .. } => Subject {
            model: Some(model),
            ..of(ResourceKind::Alias)
        },
        Event::Replica(ReplicaRecord { key, .. }) | Event::ReplicaDeleted(key) => Subject {
            model: Some(&key.version.model),
            region: Some(&key.region),
            ..of(ResourceKind::Replica)
        },
        Event::Role(r) => Subject {
            role: Some(&r.role),
            ..of(ResourceKind::Role)
        },
        Event::Plan(p) => Subject {
            role: Some(&p.role),
            ..of(ResourceKind::Plan)
        },
        Event::Experiment(e) => Subject {
            model: Some(&e.model),
            ..of(ResourceKind::Experiment)
        },
        Event::ExperimentDeleted { model, .. } => Subject {
            model: Some(model),
            ..of(ResourceKind::Experiment)
        },
        Event::Service(s) => Subject {
            region: Some(&s.region),
            ..of(ResourceKind::Service)
        },
        Event::ServiceDeleted { region, .. } => Subject {
            region: Some(region),
            ..of(ResourceKind::Service)
        },
        Event::PlanDeleted { role, .. } => Subject {
            role: Some(role),
            ..of(ResourceKind::Plan)
        },
    }
}

/// An event on the wire. A deletion carries a record of which only the key means anything.
pub(super) fn event(event: &Event, revision: Revision) -> pb::Event {
    let (kind, resource, deleted) = match event {
        Event::Cluster(c) => ("cluster_changed", Resource::Timing(c.timing.clone()), false),
        Event::Region(r) => ("region_changed", Resource::Region(r.clone()), false),
        Event::RegionDeleted { region } => {
            let gone = RegionRecord {
                region: region.clone(),
                health: Health::Recovering,
                health_evidence: String::new(),
                health_changed_at: UnixMillis::default(),
                store: None,
                labels: RegionLabels::default(),
                modified: revision,
            };
            ("region_deleted", Resource::Region(gone), true)
        }
        Event::Node(n) => ("node_changed", Resource::Node(n.clone()), false),
        Event::NodeDeleted { node, region } => {
            let gone = NodeRecord {
                node: node.clone(),
                region: region.clone(),
                zone: None,
                kind: NodeKind::Agent,
                incarnation: NodeIncarnation::from_u128(0),
                endpoints: Endpoints::default(),
                status: NodeStatus::Down,
                changed_at: UnixMillis::default(),
                modified: revision,
            };
            ("node_deleted", Resource::Node(gone), true)
        }
        Event::Model(m) => ("model_changed", Resource::Model(m.clone()), false),
        Event::Version(v) => ("version_changed", Resource::Version(v.clone()), false),
        Event::Alias(a) => ("alias_changed", Resource::Alias(a.clone()), false),
        Event::AliasDeleted { model, alias } => {
            let gone = AliasRecord {
                model: model.clone(),
                alias: alias.clone(),
                version: ModelVersion(1),
                reason: String::new(),
                moved_at: UnixMillis::default(),
                moved_by: nobody(),
                modified: revision,
            };
            ("alias_deleted", Resource::Alias(gone), true)
        }
        Event::Replica(r) => ("replica_changed", Resource::Replica(r.clone()), false),
        Event::ReplicaDeleted(key) => {
            let gone = ReplicaRecord {
                key: key.clone(),
                state: ReplicaState::Pending,
                source: None,
                bytes_done: ByteCount(0),
                attempts: 0,
                error: String::new(),
                started_at: None,
                completed_at: None,
                modified: revision,
            };
            ("replica_deleted", Resource::Replica(gone), true)
        }
        Event::Role(r) => ("role_changed", Resource::Role(r.clone()), false),
        Event::Plan(p) => ("plan_changed", Resource::Plan(p.clone()), false),
        Event::PlanDeleted { plan, role } => {
            let gone = PlanRecord {
                plan: *plan,
                role: role.clone(),
                kind: PlanKind::Assign,
                trigger: String::new(),
                from: None,
                from_epoch: types::Epoch::ZERO,
                target: no_holder(),
                target_epoch: None,
                steps: Vec::new(),
                state: PlanState::Failed,
                reason: String::new(),
                doors: Vec::new(),
                created_at: UnixMillis::default(),
                created_by: nobody(),
                finished_at: None,
                modified: revision,
            };
            ("plan_deleted", Resource::Plan(Box::new(gone)), true)
        }
        Event::Service(s) => ("service_changed", Resource::Service(s.clone()), false),
        Event::ServiceDeleted { key, region } => {
            let gone = ServiceRecord {
                key: key.clone(),
                region: region.clone(),
                incarnation: NodeIncarnation::from_u128(0),
                address: String::new(),
                protocol: ServiceProtocol::Tcp,
                labels: BTreeMap::new(),
                health: ServiceHealth::Unhealthy,
                registered_at: UnixMillis::default(),
                registered_by: nobody(),
                modified: revision,
            };
            ("service_deleted", Resource::Service(Box::new(gone)), true)
        }
        Event::Experiment(e) => ("experiment_changed", Resource::Experiment(e.clone()), false),
        Event::ExperimentDeleted { model, name } => {
            let gone = ExperimentRecord {
                model: model.clone(),
                name: name.clone(),
                description: String::new(),
                state: ExperimentState::Ended,
                arms: Vec::new(),
                slots: Slots::new(&[0; SLOTS]).expect("as many as there must be"),
                reason: String::new(),
                created_at: UnixMillis::default(),
                created_by: nobody(),
                ended_at: None,
                modified: revision,
            };
            ("experiment_deleted", Resource::Experiment(Box::new(gone)), true)
        }
    };
    pb::Event {
        kind: kind.to_owned(),
        resource: Some((&resource).into()),
        deleted,
    }
}

fn nobody() -> Principal {
    Principal::User {
        name: "nobody".parse().expect("a valid name"),
    }
}

fn no_holder() -> Holder {
    Holder {
        region: "none".parse().expect("a valid name"),
        node: "none".parse().expect("a valid name"),
        incarnation: NodeIncarnation::from_u128(0),
    }
}
