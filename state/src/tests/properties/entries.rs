//! The entry that a selector means in the state that it meets.

use std::{collections::BTreeMap, time::Duration};

use types::{
    ByteCount, Digest, PlanId, RequestId, RoleName, UnixMillis,
    model::{Artifact, ArtifactPath, Placement},
    region::{Endpoints, Health, NodeKind, NodeStatus, RegionLabels},
    role::{FailoverMode, TimingPolicy},
};

use super::{
    experiments::experiment,
    history::preferences,
    lineage::{datasets, metrics},
    moves::{guarded, report, step},
    oracle::Oracle,
    picks::{Pick, choose, current, holder, node, region, version},
    services::service,
};
use crate::{
    command::{Command, Entry},
    state::ControlState,
    tests::world::{World, actor, next},
};

/// The entry that a selector means in this state.
pub(super) fn entry(world: &mut World, oracle: &Oracle, pick: Pick, history: &[Entry]) -> Entry {
    let Pick { what, a, b, c } = pick;
    world.now = UnixMillis(world.now.0 + u64::from(c % 2_000));
    world.actor = actor(choose(&["admin", "coordinator/c1"], c));
    if what >= 240 && !history.is_empty() {
        return again(world, history, pick);
    }
    if what >= 220 {
        return record(world, pick);
    }
    let command = match what % 48 {
        0 => Command::RegisterNode {
            node: node(a),
            region: region(if b.is_multiple_of(16) { b } else { a }),
            kind: NodeKind::Agent,
            incarnation: holder(a, b).incarnation,
            endpoints: Endpoints::default(),
            zone: [None, Some("z1"), Some("z2")][usize::from(c % 3)].map(|zone| zone.parse().unwrap()),
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
            datasets: datasets(world, pick),
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
                vec![region(a), region(a.wrapping_add(1))]
            },
        },
        23 => Command::FailPlan {
            plan: plan(&world.state, a),
            reason: "enough".to_owned(),
        },
        24..=31 => return guarded(world, oracle, pick),
        40..=43 => return experiment(world, pick),
        44..=47 => people(&world.state, pick),
        _ => return step(world, pick),
    };
    world.entry(command)
}

/// What versions come from, services and preferences.
fn record(world: &mut World, pick: Pick) -> Entry {
    match pick.what % 20 {
        0..=6 => {
            let command = metrics(&world.state, pick);
            world.entry(command)
        }
        7..=14 => service(world, pick),
        _ => preferences(world, pick),
    }
}

/// What people do to regions, and to agents that are gone.
fn people(state: &ControlState, Pick { what, a, b, c }: Pick) -> Command {
    let region = || choose(&["sa", "ap", "sa", "us", "eu"], a).parse().unwrap();
    let tags = || BTreeMap::from([("team".to_owned(), format!("t{}", c % 3))]);
    match what % 48 {
        44 => Command::CreateRegion {
            region: region(),
            labels: RegionLabels {
                display_name: String::new(),
                provider: choose(&["", "aws"], b).to_owned(),
                cost_tags: if c % 2 == 0 { tags() } else { BTreeMap::new() },
            },
        },
        45 => Command::UpdateRegion {
            region: region(),
            display_name: (b % 2 == 0).then(|| format!("name {}", b % 4)),
            provider: None,
            set_cost_tags: if b % 3 == 0 { tags() } else { BTreeMap::new() },
            remove_cost_tags: (b % 5 == 0).then(|| "team".to_owned()).into_iter().collect(),
        },
        46 => Command::DeleteRegion {
            region: if b % 2 == 0 {
                "sa".parse().unwrap()
            } else {
                region()
            },
        },
        _ => drop_agent(state, a, b),
    }
}

/// Drops who is down, rather a holder, who goes down for it; seldom another one, since who is dropped can be moved to no more.
fn drop_agent(state: &ControlState, a: u16, b: u16) -> Command {
    let down = state.nodes().filter(|n| n.status == NodeStatus::Down);
    let down: Vec<_> = down.map(|n| n.node.clone()).collect();
    let held = state
        .role(&RoleName::global())
        .and_then(|role| role.holder.clone());
    let node = match held {
        Some(holder) if b.is_multiple_of(2) && down.contains(&holder.node) => holder.node,
        Some(holder) if b.is_multiple_of(2) => {
            return Command::SetNodeStatus {
                node: holder.node,
                incarnation: holder.incarnation,
                status: NodeStatus::Down,
            };
        }
        Some(_) | None if b.is_multiple_of(3) && !down.is_empty() => choose(&down, a),
        Some(_) | None => node(a),
    };
    Command::RemoveNode { node }
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
