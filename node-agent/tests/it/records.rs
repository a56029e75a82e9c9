//! Records of roles and plans, and what tests ask of an agent that holds one.

use std::time::Duration;

use artifact_store::pointer;
use client::{agents::AgentClient, guard::BootInstant};
use node_agent::Agent;
use proto::{convert::watch::Resource, v1 as pb};
use types::{
    Epoch, FencingToken, Holder, NodeIncarnation, PlanId, Reason, Revision, UnixMillis,
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepRecord, StepState},
    role::{FailoverMode, Reservation, RoleRecord, TimingPolicy},
};

use crate::{
    coordinator::{CLUSTER, State, global},
    world::World,
};

pub(crate) fn role(counter: u32, holder: Option<Holder>, reservation: Option<Reservation>) -> Resource {
    Resource::Role(Box::new(RoleRecord {
        role: global(),
        epoch: Epoch::new(1, counter),
        holder,
        reservation,
        candidates: vec!["west".parse().unwrap(), "east".parse().unwrap()],
        mode: FailoverMode::Automatic,
        timing: TimingPolicy::fast(),
        outstanding_ttl: Duration::from_secs(2),
        changed_at: UnixMillis(0),
        reason: String::new(),
        modified: Revision(0),
    }))
}

pub(crate) fn plan(target: &Holder, running: StepKind) -> Resource {
    plan_at(target, running, 1)
}

/// A failover to `target` at an attempt of a step.
pub(crate) fn plan_at(target: &Holder, running: StepKind, attempt: u32) -> Resource {
    let step = |kind: StepKind| StepRecord {
        kind,
        state: match kind.cmp(&running) {
            std::cmp::Ordering::Less => StepState::Done,
            std::cmp::Ordering::Equal => StepState::Running,
            std::cmp::Ordering::Greater => StepState::Waiting,
        },
        attempt,
        detail: String::new(),
        started_at: None,
        finished_at: None,
    };
    Resource::Plan(Box::new(PlanRecord {
        plan: PlanId(9),
        role: global(),
        kind: PlanKind::Failover,
        trigger: String::new(),
        from: None,
        from_epoch: Epoch::new(1, 1),
        target: target.clone(),
        target_epoch: Some(Epoch::new(1, 3)),
        steps: StepKind::of(PlanKind::Failover)
            .iter()
            .map(|k| step(*k))
            .collect(),
        state: PlanState::Running,
        reason: String::new(),
        doors: Vec::new(),
        created_at: UnixMillis(0),
        created_by: "spiffe://regent.local/user/admin".parse().unwrap(),
        finished_at: None,
        modified: Revision(0),
    }))
}

/// A switchover from `from` at epoch 1 to `target`, whose PROMOTE runs.
pub(crate) fn switchover(from: &Holder, target: &Holder, state: PlanState) -> Resource {
    let Resource::Plan(mut plan) = plan(target, StepKind::Promote) else {
        unreachable!("it is a plan")
    };
    let steps = StepKind::of(PlanKind::Switchover).iter();
    plan.steps = steps
        .filter_map(|kind| plan.steps.iter().find(|s| s.kind == *kind).cloned())
        .collect();
    plan.steps[0].state = StepState::Done;
    plan.steps[2].state = StepState::Waiting;
    (plan.kind, plan.from, plan.target_epoch, plan.state) =
        (PlanKind::Switchover, Some(from.clone()), None, state);
    Resource::Plan(plan)
}

pub(crate) fn reserved(target: &Holder) -> Reservation {
    Reservation {
        plan: PlanId(9),
        target: target.clone(),
        epoch: Epoch::new(1, 3),
    }
}

pub(crate) fn east() -> Holder {
    Holder {
        region: "east".parse().unwrap(),
        node: "b1".parse().unwrap(),
        incarnation: NodeIncarnation::from_u128(5),
    }
}

pub(crate) fn token(counter: u32, holder: &Holder) -> FencingToken {
    FencingToken {
        cluster_id: CLUSTER,
        role: global(),
        epoch: Epoch::new(1, counter),
        holder: holder.clone(),
    }
}

pub(crate) async fn stores_attached(world: &World) {
    let attached = |s: &State| s.view.regions.values().all(|r| r.store.is_some()) && s.heartbeat.is_some();
    world
        .coordinator
        .until("both stores are attached", attached)
        .await;
}

/// `west/a1` under an epoch of the role; whether it may act already, its doors say.
pub(crate) async fn appointed(world: &World, counter: u32) -> Agent {
    let agent = world.agent().await;
    stores_attached(world).await;
    let me = agent.holder().clone();
    world.coordinator.commit(vec![role(counter, Some(me), None)]);
    agent
}

/// `west/a1` holds the role under epoch 1 and may act; its token was given to nobody.
pub(crate) async fn holder(world: &World) -> Agent {
    let agent = appointed(world, 1).await;
    active(&agent).await;
    agent
}

/// Waits until the agent may act under a role.
pub(crate) async fn active(agent: &Agent) {
    let active = async {
        while agent.roles().held().iter().all(|h| !h.active) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), active)
        .await
        .unwrap();
}

pub(crate) async fn pointer_epoch(world: &World, region: &str) -> Option<Epoch> {
    let found = pointer::read_pointer(world.stores.of(region).as_ref(), &global())
        .await
        .unwrap();
    found.map(|p| p.body.epoch)
}

pub(crate) fn calls(world: &World, agent: &Agent, who: &str) -> AgentClient {
    let endpoint = format!("https://{}", agent.addresses().agent);
    AgentClient::new(&endpoint, &world.ca.issue(who), Duration::from_secs(10)).unwrap()
}

/// Asks until the agent gives its token; the time that takes is bounded.
pub(crate) async fn token_of(calls: &AgentClient) -> FencingToken {
    let asking = async {
        loop {
            match calls.token(&global()).await {
                Ok((token, valid_until)) => {
                    assert!(valid_until <= BootInstant::now().plus(Duration::from_secs(2)));
                    return token;
                }
                Err(refusal) => assert_eq!(refusal.reason, Reason::LeaseLost, "{refusal}"),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking)
        .await
        .unwrap()
}

pub(crate) fn reported(step: StepKind) -> impl Fn(&State) -> bool {
    let wanted = proto::convert::primaries::step_kind_to_pb(step);
    move |s| s.steps.iter().any(|r| r.step == wanted)
}

pub(crate) fn last_step(world: &World) -> pb::ReportStepRequest {
    world.coordinator.lock().steps.last().unwrap().clone()
}
