//! Entries that follow from what the state is in the middle of: copies, guarded writes, plans.

use types::{
    ByteCount, Epoch, FencingToken, NodeIncarnation, Principal, RoleName,
    plan::{DoorClaim, PlanKind, StepKind},
    replica::{ReplicaKey, ReplicaState},
};

use super::{
    oracle::Oracle,
    picks::{Pick, REGIONS, agent, choose, current, holder, region, version},
};
use crate::{
    command::{Command, Entry, ReplicaReport, StepOutcome},
    tests::{
        language::CLUSTER,
        world::{World, actor},
    },
};

pub(super) fn report(world: &mut World, Pick { a, b, c, .. }: Pick) -> Entry {
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
pub(super) fn guarded(world: &mut World, oracle: &Oracle, Pick { a, b, c, .. }: Pick) -> Entry {
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
pub(super) fn step(world: &mut World, Pick { a, b, c, .. }: Pick) -> Entry {
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
