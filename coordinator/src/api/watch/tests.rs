//! Random histories, filters, and watchers that come and go: what each folds is the filtered state, and no event comes twice.
//! And a watcher that never reads: what it costs, and whom.

mod histories;
mod stalled;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use proptest::prelude::*;
use proto::{convert::watch::Resource, v1::watch_service_server::WatchServiceServer};
use state::{Command, Entry, Event, Expects, requests::RequestTable};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Endpoint, Server, server::TcpIncoming};
use types::{
    PlanId, Principal, RegionId, RequestId, RoleName, UnixMillis, VersionKey,
    model::{Artifact, ArtifactPath, Placement},
    region::{Endpoints, FencingDoor, NodeKind, StoreBinding},
    replica::ReplicaKey,
    role::{FailoverMode, TimingPolicy},
};

use super::{events::event, stream::part, *};
use crate::{
    raft::Published,
    watch_hub::{Batch, WatchHub},
};

const START: u64 = 1_700_000_000_000;

fn watching(hub: &WatchHub, filter: &WatchFilter, after: Revision, bytes: usize) -> Watching<()> {
    Watching {
        hub: hub.clone(),
        header: pb::ResponseHeader::default(),
        filter: filter.clone(),
        position: after,
        last: hub.last(),
        shutdown: CancellationToken::new(),
        silence: Duration::from_millis(1),
        bytes,
        begun: None,
        _open: (),
    }
}

fn user(name: &str) -> Principal {
    format!("spiffe://regent.local/user/{name}").parse().unwrap()
}

/// A state with its hub, and all that it ever was.
struct World {
    state: ControlState,
    hub: WatchHub,
    /// By revision, from 0.
    history: Vec<(ControlState, Vec<Event>)>,
}

impl World {
    /// The hub keeps eight revisions with events.
    fn new() -> Self {
        let state = ControlState::with_limits(RequestTable::new(), 1);
        let mut world = Self {
            history: vec![(state.clone(), Vec::new())],
            state,
            hub: WatchHub::with_limits(Revision(0), 8, usize::MAX),
        };
        world.apply(
            user("admin"),
            Command::InitCluster {
                cluster_id: ClusterId::from_u128(7),
                generation: 1,
                timing: TimingPolicy::fast(),
            },
        );
        world.apply(
            user("admin"),
            Command::SetFeatureLevel {
                level: state::features::SUPPORTED,
            },
        );
        for n in 0..2 {
            let (region, store) = (region(n), store());
            world.apply(
                user("admin"),
                Command::RegisterRegion {
                    region: region.clone(),
                },
            );
            world.apply(agent(n), Command::AttachStore { region, store });
        }
        world
    }

    fn apply(&mut self, actor: Principal, command: Command) {
        let revision = Revision(self.history.len() as u64);
        let entry = Entry {
            proposed_at: UnixMillis(START),
            request_id: RequestId::v7_from_parts(START, u128::from(revision.0)),
            actor,
            command,
            expects: Expects::default(),
        };
        let events = self.state.apply(revision, &entry).events;
        self.history.push((self.state.clone(), events.clone()));
        self.hub.record(Published::Applied {
            revision,
            events: events.into(),
        });
    }

    fn last(&self) -> Revision {
        Revision(self.history.len() as u64 - 1)
    }

    /// What a list with this filter would hold at a revision.
    fn listed(&self, at: Revision, filter: &WatchFilter) -> Fold {
        let state = &self.state_at(at).0;
        let (mut listed, mut place) = (Fold::new(), Some(Place::default()));
        while let Some(from) = place {
            let (resources, next) = fill_from(state, from, 3, filter);
            listed.extend(resources.into_iter().map(|r| (key(&r), r)));
            place = next;
        }
        listed
    }

    fn state_at(&self, at: Revision) -> &(ControlState, Vec<Event>) {
        &self.history[usize::try_from(at.0).unwrap()]
    }

    /// Every event that the filter takes after one revision up to another, as it should come.
    fn expected(&self, filter: &WatchFilter, after: Revision, to: Revision) -> Vec<(u64, pb::Event)> {
        let revisions = after.0 + 1..=to.0;
        let of = |at: u64| {
            let events = &self.state_at(Revision(at)).1;
            let wanted = events.iter().filter(|e| {
                // By the resource as it is on the wire, and not by the function that the watch uses.
                let resource = conv::resource(event(e, Revision(at)).resource).unwrap();
                filter.takes(&resource.subject())
            });
            wanted
                .map(move |e| (at, event(e, Revision(at))))
                .collect::<Vec<_>>()
        };
        revisions.flat_map(of).collect()
    }
}

fn region(n: u8) -> RegionId {
    ["eu", "us", "ap"][usize::from(n % 3)].parse().unwrap()
}
fn agent(n: u8) -> Principal {
    let (region, node) = (region(n), ["a1", "b1", "d1"][usize::from(n % 3)]);
    format!("spiffe://regent.local/region/{region}/node/{node}")
        .parse()
        .unwrap()
}
fn store() -> StoreBinding {
    StoreBinding {
        endpoint: "http://s".to_owned(),
        bucket: "b".to_owned(),
        fencing_door: FencingDoor::Qualified,
    }
}
fn model(n: u8) -> types::ModelName {
    ["fraud.scorer", "fraud.embed", "churn"][usize::from(n % 3)]
        .parse()
        .unwrap()
}
fn role(n: u8) -> RoleName {
    ["primaries/global", "primaries/fraud.scorer"][usize::from(n % 2)]
        .parse()
        .unwrap()
}
fn version(n: u8) -> VersionKey {
    VersionKey {
        model: model(n),
        version: types::ModelVersion(u64::from(n / 3 % 3) + 1),
    }
}

fn service(n: u8) -> types::service::ServiceKey {
    ["store/a1:7", "store/b1:7", "cache/a1:8", "store/c1:7"][usize::from(n % 4)]
        .parse()
        .unwrap()
}

/// What a selector means; much of it is refused, and has no events.
fn command(world: &World, (what, a, b): (u8, u8, u8)) -> (Principal, Command) {
    let admin = user("admin");
    let command = match what % 18 {
        0 => Command::RegisterRegion { region: region(a) },
        1 => Command::RegisterNode {
            node: ["a1", "b1", "d1"][usize::from(a % 3)].parse().unwrap(),
            region: region(a),
            kind: NodeKind::Agent,
            incarnation: types::NodeIncarnation::from_u128(u128::from(b % 4) + 1),
            endpoints: Endpoints::default(),
            zone: None,
        },
        2 => Command::CreateModel {
            name: model(a),
            description: "d".repeat(usize::from(b)),
            tags: BTreeMap::new(),
            placement: Placement::Everywhere,
        },
        3 | 4 => Command::CreateVersion {
            model: model(a),
            source_region: region(b % 2),
            artifacts: vec![Artifact {
                path: ArtifactPath::new("model").unwrap(),
                size: types::ByteCount(3),
                digest: types::Digest::of(b"abc"),
                media_type: String::new(),
            }],
            framework: "bert".to_owned(),
            metadata: BTreeMap::new(),
            datasets: Default::default(),
        },
        5 => Command::CompleteUpload { version: version(a) },
        6 | 7 => {
            let version = version(a);
            let at = world
                .state
                .version(&version)
                .map_or_else(|| region(0), |v| v.source_region.clone());
            let attempt = world.state.replica(&ReplicaKey {
                version: version.clone(),
                region: at.clone(),
            });
            let attempt = attempt.map_or(0, |r| r.attempts);
            let report = match b % 2 {
                0 => state::ReplicaReport::Started { source: None },
                _ => state::ReplicaReport::Verified {
                    attempt,
                    bytes: types::ByteCount(3),
                },
            };
            let by = agent(if at == region(0) { 0 } else { 1 });
            return (
                by,
                Command::ReportReplica {
                    key: ReplicaKey { version, region: at },
                    report,
                },
            );
        }
        8 => Command::SetAlias {
            model: model(a),
            alias: "candidate".parse().unwrap(),
            version: version(a).version,
            reason: String::new(),
            etag: None,
        },
        9 => Command::DeleteAlias {
            model: model(a),
            alias: ["candidate", "champion"][usize::from(b % 2)].parse().unwrap(),
            etag: None,
        },
        10 => Command::DeleteVersion {
            version: version(a),
            reason: String::new(),
        },
        11 => Command::CreateRole {
            role: role(a),
            candidates: Vec::new(),
            mode: FailoverMode::Automatic,
            timing: None,
        },
        13 => Command::CreateExperiment {
            model: model(a),
            name: ["march", "april"][usize::from(b % 2)].parse().unwrap(),
            description: String::new(),
            split: (1..3)
                .map(|version| types::experiment::Share {
                    version: types::ModelVersion(version),
                    percent: 50,
                })
                .collect(),
        },
        14 => Command::EndExperiment {
            model: model(a),
            name: ["march", "april"][usize::from(b % 2)].parse().unwrap(),
            reason: "d".repeat(usize::from(b)),
        },
        16 => Command::RegisterService {
            key: service(a),
            incarnation: None,
            address: "x".repeat(usize::from(b % 64) + 1),
            protocol: types::service::ServiceProtocol::Http,
            labels: BTreeMap::new(),
        },
        17 => Command::DeregisterService {
            key: service(a),
            incarnation: None,
        },
        12 => Command::SetRoleMode {
            role: role(a),
            mode: FailoverMode::Manual,
        },
        _ => {
            // Plans that fail at once, so that old ones are forgotten.
            let running = world.state.running_plan(&role(a)).map(|p| p.plan);
            match running {
                Some(plan) => Command::FailPlan {
                    plan,
                    reason: String::new(),
                },
                None => Command::StartPlan {
                    role: role(a),
                    kind: types::plan::PlanKind::Assign,
                    target: types::Holder {
                        region: region(0),
                        node: "a1".parse().unwrap(),
                        incarnation: world
                            .state
                            .node(&"a1".parse().unwrap())
                            .map_or(types::NodeIncarnation::from_u128(1), |n| n.incarnation),
                    },
                    trigger: String::new(),
                    expected_epoch: world.state.role(&role(a)).map_or(types::Epoch::ZERO, |r| r.epoch),
                },
            }
        }
    };
    (admin, command)
}

/// Resources as a watcher holds them.
type Fold = BTreeMap<String, pb::Resource>;

fn key(resource: &pb::Resource) -> String {
    match conv::resource(Some(resource.clone())).unwrap() {
        Resource::Region(r) => format!("region {}", r.region),
        Resource::Node(r) => format!("node {}", r.node),
        Resource::Model(r) => format!("model {}", r.name),
        Resource::Version(r) => format!("version {}", r.key),
        Resource::Alias(r) => format!("alias {} {}", r.model, r.alias),
        Resource::Replica(r) => format!("replica {}", r.key),
        Resource::Role(r) => format!("role {}", r.role),
        Resource::Plan(r) => format!("plan {}", r.plan),
        Resource::Timing(_) => "timing".to_owned(),
        Resource::Experiment(r) => format!("experiment {} {}", r.model, r.name),
        Resource::Service(r) => format!("service {}", r.key),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// A region that joins late is to have a copy of every version: one entry, and an event for each.
#[test]
fn the_events_of_a_revision_come_in_parts_that_fit_each_once() {
    let pending = |n: u64| {
        Event::ReplicaDeleted(ReplicaKey {
            version: VersionKey {
                model: "m".parse().unwrap(),
                version: types::ModelVersion(n),
            },
            region: RegionId::new("r".repeat(60)).unwrap(),
        })
    };
    let batch = Batch {
        revision: Revision(7),
        events: (1..=60_000).map(pending).collect(),
    };
    let to_wire = |e| event(e, batch.revision);
    let (mut seen, mut parts, mut from) = (Vec::new(), 0, Some(0));
    while let Some(at) = from {
        let (next, rest) = part((&batch.events, at), (usize::MAX, list::BYTES), |_| true, to_wire);
        let bytes: usize = next.iter().map(prost::Message::encoded_len).sum();
        assert!(!next.is_empty() && bytes <= list::BYTES, "{bytes}");
        seen.extend(next);
        parts += 1;
        from = rest;
    }
    assert!(parts > 1);
    let whole: Vec<_> = batch.events.iter().map(|e| event(e, batch.revision)).collect();
    assert!(seen == whole);
}

#[test]
fn a_watch_whose_filter_takes_nothing_moves_on_while_others_happen() {
    runtime().block_on(async {
        let hub = WatchHub::new(Revision(0));
        let record = |revision| {
            hub.record(Published::Applied {
                revision: Revision(revision),
                events: [large(revision, 10)].into(),
            });
        };
        let nothing = WatchFilter {
            kinds: [types::filter::ResourceKind::Timing].into(),
            ..WatchFilter::default()
        };
        let mut watch = watching(&hub, &nothing, Revision(0), list::BYTES);
        for round in 1..=3 {
            (1..=500).for_each(|n| record((round - 1) * 500 + n));
            // Bookmarks alone, up to the last revision.
            loop {
                let bookmark = watch.next().await.unwrap();
                assert!(bookmark.events.is_empty());
                if bookmark.header.unwrap().revision == round * 500 {
                    break;
                }
            }
        }
    });
}

/// An event of about so many bytes.
fn large(revision: u64, bytes: usize) -> Event {
    Event::PlanDeleted {
        plan: PlanId(revision),
        role: format!("primaries/{}", "r".repeat(bytes.min(60)))
            .parse()
            .unwrap(),
    }
}
