//! Random histories. A case is a list of selectors; each becomes a concrete entry in the state that it meets, mostly a
//! sensible one. After every step the rules below are checked, each against bookkeeping of its own (`Oracle`).
//!
//! A failing case prints its seed, and the path of a file with its entries, one line of hex each; `REGENT_REPLAY=path`
//! plays that file alone.

use std::{collections::BTreeMap, time::Duration};

use proptest::{prelude::*, strategy::ValueTree as _};
use types::{
    ByteCount, Digest, Epoch, FencingToken, Holder, ModelVersion, NodeId, NodeIncarnation, PlanId, Principal,
    RegionId, RequestId, RoleName, UnixMillis, VersionKey,
    model::{Artifact, ArtifactPath, Placement},
    plan::{DoorClaim, PlanKind, StepKind},
    region::{Endpoints, FencingDoor, Health, NodeKind, NodeStatus, StoreBinding},
    replica::{ReplicaKey, ReplicaState},
    role::{FailoverMode, TimingPolicy},
};

use super::{
    bytes::{hex, unhex},
    language::CLUSTER,
    world::{START, World, actor, next},
};
use crate::{
    codec::{decode_entry, decode_snapshot, encode_entry, encode_reply, encode_snapshot},
    command::{Command, Entry, ReplicaReport, StepOutcome},
    dump::dump_records,
    event::Event,
    rejection::Rejection,
    reply::{Applied, Reply},
    requests::RequestTable,
    state::ControlState,
};

/// Which command, and three choices in it.
#[derive(Clone, Copy, Debug)]
struct Pick {
    what: u8,
    a: u16,
    b: u16,
    c: u16,
}

fn pick() -> impl Strategy<Value = Pick> {
    (any::<u8>(), any::<u16>(), any::<u16>(), any::<u16>()).prop_map(|(what, a, b, c)| Pick { what, a, b, c })
}

fn choose<T: Clone>(from: &[T], by: u16) -> T {
    from[usize::from(by) % from.len()].clone()
}

const REGIONS: [&str; 3] = ["eu", "us", "ap"];
const NODES: [&str; 3] = ["a1", "b1", "d1"];

fn region(by: u16) -> RegionId {
    choose(&REGIONS, by).parse().unwrap()
}
fn node(by: u16) -> NodeId {
    choose(&NODES, by).parse().unwrap()
}
fn version(by: u16) -> VersionKey {
    VersionKey {
        model: choose(&["m", "n"], by).parse().unwrap(),
        version: ModelVersion(u64::from(by / 2 % 4)),
    }
}
fn agent(by: u16) -> Principal {
    actor(&format!("{}/{}", choose(&REGIONS, by), choose(&NODES, by)))
}
fn holder(by: u16, run: u16) -> Holder {
    let incarnation = NodeIncarnation::from_u128(u128::from(run % 3) + 1);
    Holder {
        region: region(by),
        node: node(by),
        incarnation,
    }
}
/// The current run of a node, if it is registered.
fn current(state: &ControlState, by: u16) -> Holder {
    let run = state
        .node(&node(by))
        .map_or(NodeIncarnation::from_u128(1), |n| n.incarnation);
    Holder {
        incarnation: run,
        ..holder(by, 0)
    }
}

/// What a history remembers beside the state, to judge it.
struct Oracle {
    /// Who was ever named as holder, or promised, of an epoch (I4).
    epochs: BTreeMap<Epoch, Holder>,
    /// The highest epoch whose write the registry accepted (I5).
    accepted: Epoch,
    /// First answers of all requests that were not refused for their id (I9).
    answered: BTreeMap<RequestId, (Entry, Result<Reply, Rejection>)>,
    /// Every token that could be shown.
    tokens: Vec<FencingToken>,
    /// The fold of all events.
    fold: Fold,
}

/// Records as a watcher holds them, by a text of their key.
type Fold = BTreeMap<String, String>;

fn fold(into: &mut Fold, event: &Event) {
    let (key, record) = match event {
        Event::Cluster(c) => ("cluster".to_owned(), Some(format!("{c:?}"))),
        Event::Region(r) => (format!("region {}", r.region), Some(format!("{r:?}"))),
        Event::Node(r) => (format!("node {}", r.node), Some(format!("{r:?}"))),
        Event::Model(r) => (format!("model {}", r.name), Some(format!("{r:?}"))),
        Event::Version(r) => (format!("version {}", r.key), Some(format!("{r:?}"))),
        Event::Alias(r) => (format!("alias {} {}", r.model, r.alias), Some(format!("{r:?}"))),
        Event::AliasDeleted { model, alias } => (format!("alias {model} {alias}"), None),
        Event::Replica(r) => (format!("replica {}", r.key), Some(format!("{r:?}"))),
        Event::ReplicaDeleted(key) => (format!("replica {key}"), None),
        Event::Role(r) => (format!("role {}", r.role), Some(format!("{r:?}"))),
        Event::Plan(r) => (format!("plan {}", r.plan), Some(format!("{r:?}"))),
        Event::PlanDeleted(plan) => (format!("plan {plan}"), None),
    };
    match record {
        Some(record) => into.insert(key, record),
        None => into.remove(&key),
    };
}

/// What a watcher that lists now would hold.
fn listed(s: &ControlState) -> Fold {
    let mut all = Fold::new();
    let mut add = |event: Event| fold(&mut all, &event);
    s.cluster()
        .cloned()
        .map(Event::Cluster)
        .into_iter()
        .for_each(&mut add);
    s.regions.values().cloned().map(Event::Region).for_each(&mut add);
    s.nodes.values().cloned().map(Event::Node).for_each(&mut add);
    s.models.values().cloned().map(Event::Model).for_each(&mut add);
    s.versions
        .values()
        .cloned()
        .map(Event::Version)
        .for_each(&mut add);
    s.aliases.values().cloned().map(Event::Alias).for_each(&mut add);
    s.replicas
        .values()
        .cloned()
        .map(Event::Replica)
        .for_each(&mut add);
    s.roles()
        .cloned()
        .map(|r| Event::Role(Box::new(r)))
        .for_each(&mut add);
    s.plans
        .values()
        .cloned()
        .map(|p| Event::Plan(Box::new(p)))
        .for_each(&mut add);
    all
}

impl Oracle {
    fn new() -> Self {
        Self {
            epochs: BTreeMap::new(),
            accepted: Epoch::ZERO,
            answered: BTreeMap::new(),
            tokens: Vec::new(),
            fold: Fold::new(),
        }
    }

    fn check(&mut self, before: &ControlState, entry: &Entry, applied: &Applied, after: &ControlState) {
        self.one_holder_per_epoch(after);
        self.the_door_accepts_the_committed_token_only(before, entry, applied);
        self.no_target_is_fenced_for_or_promoted_unless_it_can_serve(before, entry, applied);
        self.a_request_runs_once(before, entry, applied, after);
        applied.events.iter().for_each(|e| fold(&mut self.fold, e));
        assert_eq!(
            self.fold,
            listed(after),
            "events do not add up to the state: {entry:?}"
        );
    }

    fn one_holder_per_epoch(&mut self, state: &ControlState) {
        let Some(role) = state.role(&RoleName::global()) else {
            return;
        };
        let held = role.holder.iter().map(|h| (role.epoch, h));
        let reserved = role.reservation.iter().map(|r| (r.epoch, &r.target));
        for (epoch, holder) in held.chain(reserved) {
            let known = self.epochs.entry(epoch).or_insert_with(|| holder.clone());
            assert_eq!(known, holder, "two holders of {epoch}");
            let (cluster_id, role, holder) = (CLUSTER, RoleName::global(), holder.clone());
            let token = FencingToken {
                cluster_id,
                role,
                epoch,
                holder,
            };
            if !self.tokens.contains(&token) {
                self.tokens.push(token);
            }
        }
    }

    fn the_door_accepts_the_committed_token_only(
        &mut self,
        before: &ControlState,
        entry: &Entry,
        applied: &Applied,
    ) {
        let Command::SetModelTags {
            token: Some(token), ..
        } = &entry.command
        else {
            assert_eq!(applied.door, None);
            return;
        };
        let Some(door) = &applied.door else { return };
        assert_eq!(door.accepted, applied.outcome.is_ok());
        if !door.accepted {
            return;
        }
        let role = before.role(&token.role).unwrap();
        assert_eq!(
            (role.epoch, role.holder.as_ref()),
            (token.epoch, Some(&token.holder))
        );
        assert_eq!(token.cluster_id, CLUSTER);
        let own = Principal::Agent {
            region: token.holder.region.clone(),
            node: token.holder.node.clone(),
        };
        assert_eq!(entry.actor, own);
        assert!(
            token.epoch >= self.accepted,
            "{} accepted after {}",
            token.epoch,
            self.accepted
        );
        self.accepted = token.epoch;
    }

    /// I8, by the records themselves and not by the function that the rules call.
    fn no_target_is_fenced_for_or_promoted_unless_it_can_serve(
        &self,
        before: &ControlState,
        entry: &Entry,
        applied: &Applied,
    ) {
        let (Command::Fence { plan, .. } | Command::Promote { plan, .. }) = &entry.command else {
            return;
        };
        if applied.outcome.is_err() || applied.events.is_empty() {
            return;
        }
        let target = &before.plan(*plan).unwrap().target;
        let node = before.node(&target.node).unwrap();
        assert_eq!(
            (node.status, node.incarnation),
            (NodeStatus::Up, target.incarnation)
        );
        assert_eq!(before.region(&target.region).unwrap().health, Health::Healthy);
    }

    fn a_request_runs_once(
        &mut self,
        before: &ControlState,
        entry: &Entry,
        applied: &Applied,
        after: &ControlState,
    ) {
        let refused_for_its_id = |r: &Rejection| {
            matches!(
                r,
                Rejection::RequestReused { .. }
                    | Rejection::RequestTooOld { .. }
                    | Rejection::RequestFromFuture { .. }
                    | Rejection::RequestsExhausted { .. }
            )
        };
        let Some((first, outcome)) = self.answered.get(&entry.request_id) else {
            let unanswered = |r: &Rejection| refused_for_its_id(r) || r.is_for_ever();
            if !applied.outcome.as_ref().is_err_and(unanswered) {
                self.answered
                    .insert(entry.request_id, (entry.clone(), applied.outcome.clone()));
            }
            return;
        };
        let same = first.actor == entry.actor && first.command == entry.command;
        let replayed = same && *outcome == applied.outcome;
        let refused = applied.outcome.as_ref().err().is_some_and(refused_for_its_id);
        assert!(
            replayed || refused,
            "{entry:?} was answered {outcome:?}, then {:?}",
            applied.outcome
        );
        assert_eq!(
            dump_records(before),
            dump_records(after),
            "a retry changed something: {entry:?}"
        );
        assert!(applied.events.is_empty());
    }
}

/// The entry that a selector means in this state.
fn entry(world: &mut World, oracle: &Oracle, pick: Pick, history: &[Entry]) -> Entry {
    let Pick { what, a, b, c } = pick;
    world.now = UnixMillis(world.now.0 + u64::from(c % 2_000));
    world.actor = actor(choose(&["admin", "coordinator/c1"], c));
    if what >= 240 && !history.is_empty() {
        return again(world, history, pick);
    }
    let command = match what % 40 {
        0 => Command::RegisterNode {
            node: node(a),
            region: region(if b.is_multiple_of(16) { b } else { a }),
            kind: NodeKind::Agent,
            incarnation: holder(a, b).incarnation,
            endpoints: Endpoints::default(),
        },
        1 => Command::SetNodeStatus {
            node: node(a),
            incarnation: if b % 4 == 0 {
                holder(a, b).incarnation
            } else {
                current(&world.state, a).incarnation
            },
            status: if b % 3 == 0 {
                NodeStatus::Down
            } else {
                NodeStatus::Up
            },
        },
        2 | 3 => {
            let all = [Health::Healthy, Health::Recovering, Health::Unhealthy];
            let from = world
                .state
                .region(&region(a))
                .map_or(Health::Healthy, |r| r.health);
            Command::SetRegionHealth {
                region: region(a),
                from,
                to: choose(&all, b),
                evidence: "seen".to_owned(),
            }
        }
        4 => Command::CreateModel {
            name: choose(&["m", "n"], a).parse().unwrap(),
            description: String::new(),
            tags: BTreeMap::new(),
            placement: if b % 2 == 0 {
                Placement::Everywhere
            } else {
                Placement::Regions(vec![region(b)])
            },
        },
        5 | 6 => Command::CreateVersion {
            model: choose(&["m", "n"], a).parse().unwrap(),
            source_region: region(b),
            artifacts: vec![Artifact {
                path: ArtifactPath::new("model").unwrap(),
                size: ByteCount(u64::from(c % 3)),
                digest: Digest::of(b"model"),
                media_type: String::new(),
            }],
            framework: "bert".to_owned(),
            metadata: BTreeMap::new(),
        },
        7 | 8 => Command::CompleteUpload { version: version(a) },
        9 => Command::AbortVersion {
            version: version(a),
            reason: String::new(),
        },
        10 => Command::DeprecateVersion {
            version: version(a),
            reason: String::new(),
        },
        11 => Command::DeleteVersion {
            version: version(a),
            reason: String::new(),
        },
        12 => Command::SetAlias {
            model: version(a).model,
            alias: choose(&["champion", "candidate"], b).parse().unwrap(),
            version: version(a).version,
            reason: String::new(),
            etag: None,
        },
        13 => Command::DeleteAlias {
            model: version(a).model,
            alias: choose(&["champion", "candidate"], b).parse().unwrap(),
            etag: None,
        },
        14..=19 => return report(world, pick),
        20 => Command::SetRoleMode {
            role: RoleName::global(),
            mode: choose(
                &[
                    FailoverMode::Automatic,
                    FailoverMode::Manual,
                    FailoverMode::Paused {
                        until: world.now.plus(Duration::from_secs(2)),
                    },
                ],
                a,
            ),
        },
        21 if a % 4 == 0 => {
            world.actor = actor("coordinator/c1");
            let former = world.state.former_ttl(&RoleName::global());
            Command::RetireTtl {
                role: RoleName::global(),
                ttl: former.map_or(Duration::from_secs(2), |f| f.ttl),
                since: former.map_or_else(|| next(&world.state), |f| f.since),
            }
        }
        21 => Command::SetRoleTiming {
            role: RoleName::global(),
            timing: choose(
                &[
                    TimingPolicy::fast(),
                    TimingPolicy::standard(),
                    TimingPolicy::conservative(),
                ],
                a,
            ),
        },
        22 => Command::SetRoleCandidates {
            role: RoleName::global(),
            candidates: if a % 2 == 0 {
                Vec::new()
            } else {
                vec![region(a), region(a + 1)]
            },
        },
        23 => Command::FailPlan {
            plan: plan(&world.state, a),
            reason: "enough".to_owned(),
        },
        24..=31 => return guarded(world, oracle, pick),
        _ => return step(world, pick),
    };
    world.entry(command)
}

/// An earlier entry again: as it was, with another command, by another caller, or under a very old or early id.
fn again(world: &mut World, history: &[Entry], pick: Pick) -> Entry {
    let old = choose(history, pick.a);
    let proposed_at = world.now;
    match pick.b % 5 {
        0 => Entry {
            command: Command::SetFeatureLevel {
                level: u32::from(pick.c),
            },
            proposed_at,
            ..old
        },
        1 => Entry {
            actor: actor("thief"),
            proposed_at,
            ..old
        },
        2 => Entry {
            request_id: RequestId::v7_from_parts(world.now.0 + 61_000, 1),
            proposed_at,
            ..old
        },
        _ => Entry { proposed_at, ..old },
    }
}

fn plan(state: &ControlState, by: u16) -> PlanId {
    let known: Vec<_> = state.plans.keys().copied().collect();
    match state.running_plan(&RoleName::global()) {
        Some(running) if !by.is_multiple_of(8) => running.plan,
        Some(_) | None if known.is_empty() => PlanId(u64::from(by)),
        Some(_) | None => choose(&known, by),
    }
}

fn report(world: &mut World, Pick { a, b, c, .. }: Pick) -> Entry {
    let known: Vec<_> = world.state.replicas.values().cloned().collect();
    let anything = ReplicaKey {
        version: version(a),
        region: region(b),
    };
    let record = (!known.is_empty()).then(|| choose(&known, a));
    let key = record.as_ref().map_or(anything, |r| r.key.clone());
    let place = REGIONS
        .iter()
        .position(|r| *r == key.region.as_str())
        .unwrap_or_default();
    world.actor = agent(if c % 16 == 0 {
        c
    } else {
        u16::try_from(place).unwrap()
    });
    let attempt = record
        .as_ref()
        .map_or(1, |r| r.attempts)
        .saturating_sub(u32::from(b % 8 == 0));
    let size = world
        .state
        .version(&key.version)
        .map_or(ByteCount(1), |v| v.total_size());
    let copying = record.is_some_and(|r| r.state == ReplicaState::Copying);
    let report = match b % 8 {
        1 => ReplicaReport::Progress {
            attempt,
            bytes_done: ByteCount(u64::from(c % 4)),
        },
        2 => ReplicaReport::Failed {
            attempt,
            digest_mismatch: c % 2 == 0,
            error: "e".to_owned(),
        },
        _ if copying => ReplicaReport::Verified { attempt, bytes: size },
        _ => {
            let uploaded = world.state.version(&key.version).map(|v| v.source_region.clone());
            let sensible = uploaded.filter(|source| *source != key.region);
            ReplicaReport::Started {
                source: if b % 16 == 0 { Some(region(c)) } else { sensible },
            }
        }
    };
    world.entry(Command::ReportReplica { key, report })
}

/// A write with any token that was ever issued or promised, by anybody, from anywhere.
fn guarded(world: &mut World, oracle: &Oracle, Pick { a, b, c, .. }: Pick) -> Entry {
    let invented = FencingToken {
        cluster_id: CLUSTER,
        role: RoleName::global(),
        epoch: Epoch::new(1, u32::from(b % 12)),
        holder: holder(a, b),
    };
    let mut token = if oracle.tokens.is_empty() || a % 8 == 0 {
        invented
    } else {
        choose(&oracle.tokens, b)
    };
    if let Some(role) = world.state.role(&RoleName::global())
        && a % 8 == 1
    {
        token.epoch = role.epoch;
    }
    if c % 32 == 0 {
        token.cluster_id = types::ClusterId::from_u128(9);
    }
    let own = Principal::Agent {
        region: token.holder.region.clone(),
        node: token.holder.node.clone(),
    };
    world.actor = if c % 16 == 1 { agent(c) } else { own };
    world.entry(Command::SetModelTags {
        model: choose(&["m", "n"], a).parse().unwrap(),
        set: [("demo.fence".to_owned(), c.to_string())].into(),
        remove: Default::default(),
        etag: None,
        token: Some(token),
    })
}

/// Mostly the next thing that moves the role; sometimes a wrong step or attempt.
fn step(world: &mut World, Pick { a, b, c, .. }: Pick) -> Entry {
    let state = &world.state;
    let Some(running) = state.running_plan(&RoleName::global()).cloned() else {
        let role = state.role(&RoleName::global());
        let held = role.is_some_and(|r| r.holder.is_some());
        let expected_epoch = role.map_or(Epoch::ZERO, |r| r.epoch);
        let kind = match (held, b % 8) {
            (_, 0) => choose(&[PlanKind::Assign, PlanKind::Failover, PlanKind::Switchover], c),
            (true, 1..=3) => PlanKind::Switchover,
            (true, _) => PlanKind::Failover,
            (false, _) => PlanKind::Assign,
        };
        let target = if b % 16 == 1 {
            holder(a, b)
        } else {
            current(state, a)
        };
        let trigger = "selected".to_owned();
        return world.entry(Command::StartPlan {
            role: RoleName::global(),
            kind,
            target,
            trigger,
            expected_epoch,
        });
    };
    let (id, due) = (running.plan, running.current_step().unwrap().clone());
    let wrong = a % 16 == 0;
    let kind = if wrong {
        choose(StepKind::of(running.kind), b)
    } else {
        due.kind
    };
    let attempt = if wrong { u32::from(b % 4) } else { due.attempt };
    let begun = due.state == types::plan::StepState::Running;
    if c % 3 == 0 && kind.runs_in_agent() {
        world.actor = Principal::Agent {
            region: running.target.region.clone(),
            node: running.target.node.clone(),
        };
    }
    let command = if !begun || a % 16 == 1 {
        world.actor = actor("coordinator/c1");
        Command::StartStep {
            plan: id,
            step: kind,
            attempt: attempt + 1,
        }
    } else {
        match kind {
            StepKind::Fence => Command::Fence { plan: id, attempt },
            StepKind::Promote => Command::Promote { plan: id, attempt },
            StepKind::Detect | StepKind::VerifyTarget | StepKind::Claim | StepKind::WaitLease => {
                let detail = "d".to_owned();
                let doors = || DoorClaim {
                    door: "pointer/eu".to_owned(),
                    claimed: false,
                    error: String::new(),
                };
                let outcome = if b % 8 == 0 {
                    StepOutcome::Failed { detail }
                } else {
                    StepOutcome::Done {
                        detail,
                        doors: (b % 8 > 1).then(doors).into_iter().collect(),
                    }
                };
                let run = match b % 16 {
                    2 => None,
                    3 => Some(NodeIncarnation::from_u128(u128::from(c % 3) + 1)),
                    _ => Some(running.target.incarnation),
                };
                Command::FinishStep {
                    plan: id,
                    step: kind,
                    attempt,
                    reporter: run,
                    outcome,
                }
            }
        }
    };
    world.entry(command)
}

/// The first entries of every history: without them most selectors would only be refused.
fn prelude(world: &mut World) -> Vec<Entry> {
    let mut commands = vec![Command::InitCluster {
        cluster_id: CLUSTER,
        generation: 1,
        timing: TimingPolicy::fast(),
    }];
    for by in 0..3 {
        let store = StoreBinding {
            endpoint: "http://s".to_owned(),
            bucket: "b".to_owned(),
            fencing_door: FencingDoor::Qualified,
        };
        let incarnation = NodeIncarnation::from_u128(1);
        let endpoints = Endpoints::default();
        commands.extend([
            Command::RegisterRegion { region: region(by) },
            Command::AttachStore {
                region: region(by),
                store,
            },
            Command::RegisterNode {
                node: node(by),
                region: region(by),
                kind: NodeKind::Agent,
                incarnation,
                endpoints,
            },
            Command::SetRegionHealth {
                region: region(by),
                from: Health::Recovering,
                to: Health::Healthy,
                evidence: String::new(),
            },
        ]);
    }
    commands.into_iter().map(|c| world.entry(c)).collect()
}

fn small() -> ControlState {
    ControlState::with_limits(RequestTable::with_limits(8, Duration::from_secs(10)), 2)
}

/// Makes the history concrete while it is played, checks every step, and then plays it on other replicas.
fn history(picks: &[Pick]) -> Vec<Entry> {
    let mut world = World::with(small());
    world.now = UnixMillis(START);
    let mut oracle = Oracle::new();
    let mut entries = prelude(&mut world);
    for entry in &entries {
        checked(&mut world, &mut oracle, entry);
    }
    for pick in picks {
        let entry = entry(&mut world, &oracle, *pick, &entries);
        entries.push(entry.clone());
        Recorder(&entries).watch(|| checked(&mut world, &mut oracle, &entry));
    }
    entries
}

fn checked(world: &mut World, oracle: &mut Oracle, entry: &Entry) {
    let before = world.state.clone();
    let applied = world.apply(entry);
    oracle.check(&before, entry, &applied, &world.state);
}

/// Writes the entries to a file where a check fails, and says where.
struct Recorder<'a>(&'a [Entry]);

impl Recorder<'_> {
    fn watch(&self, check: impl FnOnce()) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        if let Err(panic) = result {
            let path = std::env::temp_dir().join("regent-state-history.hex");
            let lines: String = self.0.iter().map(|e| hex(&encode_entry(e)) + "\n").collect();
            std::fs::write(&path, lines).unwrap();
            eprintln!("replay with REGENT_REPLAY={}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
}

/// Two replicas that read bytes, one of which goes through a snapshot on the way, end as the first one did.
fn replicas_agree(entries: &[Entry], cut: usize) {
    let (mut first, mut second, mut third) = (small(), small(), small());
    for (n, entry) in entries.iter().enumerate() {
        let read = decode_entry(&encode_entry(entry)).unwrap();
        assert_eq!(&read, entry);
        let revision = next(&first);
        let answers = [&mut first, &mut second, &mut third].map(|s| s.apply(revision, &read));
        assert_eq!(
            encode_reply(&answers[0].outcome),
            encode_reply(&answers[1].outcome)
        );
        assert_eq!(answers[0], answers[2]);
        if n == cut {
            third = decode_snapshot(&encode_snapshot(&third)).unwrap();
        }
    }
    assert_eq!(encode_snapshot(&first), encode_snapshot(&second));
    assert_eq!(encode_snapshot(&first), encode_snapshot(&third));
    assert_eq!(crate::dump::dump(&first), crate::dump::dump(&third));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_history_breaks_a_rule(picks in prop::collection::vec(pick(), 1..160), cut: prop::sample::Index) {
        let entries = history(&picks);
        replicas_agree(&entries, cut.index(entries.len()));
    }
}

/// That the selectors reach what they are meant to attack; else the property above would say nothing.
#[test]
fn histories_move_roles_and_show_stale_tokens() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut promoted, mut burned, mut stale, mut accepted, mut too_old) = (0, 0, 0, 0, 0);
    for _ in 0..40 {
        let picks = prop::collection::vec(pick(), 160)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let mut state = small();
        for entry in history(&picks) {
            let applied = state.apply(next(&state), &entry);
            match (&entry.command, &applied.outcome) {
                (Command::Promote { .. }, Ok(_)) => promoted += 1,
                (Command::FailPlan { .. }, Ok(_)) if applied.events.len() > 1 => burned += 1,
                (Command::SetModelTags { .. }, Ok(_)) => accepted += 1,
                (Command::SetModelTags { .. }, Err(Rejection::Door { .. })) => stale += 1,
                (_, Err(Rejection::RequestTooOld { .. })) => too_old += 1,
                _ => {}
            }
        }
    }
    let reached = [promoted, burned, stale, accepted, too_old];
    assert!(
        reached.iter().all(|n| *n > 5),
        "promoted, burned, stale, accepted, too old: {reached:?}"
    );
}

#[test]
fn a_recorded_history_is_replayed() {
    let Some(path) = std::env::var_os("REGENT_REPLAY") else {
        return;
    };
    let mut world = World::with(small());
    let mut oracle = Oracle::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let entry = decode_entry(&unhex(line)).unwrap();
        checked(&mut world, &mut oracle, &entry);
    }
}
