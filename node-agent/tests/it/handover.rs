//! Giving a role back in a switchover, and releasing it at the end (L11).

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use artifact_store::{
    Fault, FaultyStore, Gate, Operation,
    pointer::{PointerChange, PointerError, Written},
};
use client::guard::BootInstant;
use node_agent::{
    Agent,
    desired::{RolePhase, RoleWish},
    doors::AllDoors,
    roles::GuardedError,
};
use proto::convert::watch::Resource;
use tokio::task::JoinHandle;
use types::{Digest, Epoch, Reason, plan::PlanState, region::FencingDoor, role::TimingPolicy};

use crate::{
    coordinator::global,
    records::{
        active, calls, east, holder, pointer_epoch, role, stores_attached, switchover, token, token_of,
    },
    world::{World, binding},
};

const E1: u64 = Epoch::new(1, 1).as_u64();
const E2: u64 = Epoch::new(1, 2).as_u64();

async fn none_held(agent: &Agent) {
    let lost = async {
        while !agent.roles().held().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), lost).await.unwrap();
}

fn released(world: &World) -> Vec<u64> {
    world.coordinator.lock().released.clone()
}

#[tokio::test]
async fn a_switchover_that_promotes_is_told_at_once_that_the_holder_has_stopped_and_told_again() {
    let world = World::new().await;
    let agent = holder(&world).await;
    let asked = Instant::now();
    world
        .coordinator
        .commit(vec![switchover(agent.holder(), &east(), PlanState::Running)]);
    world
        .coordinator
        .until("the lease is released", |s| !s.released.is_empty())
        .await;
    // Its rest would last longer than this.
    assert!(
        asked.elapsed() < Duration::from_millis(1500),
        "{:?}",
        asked.elapsed()
    );
    let refusal = agent.token(&global()).unwrap_err();
    assert_eq!(refusal.reason, Reason::LeaseLost);
    assert!(agent.roles().held().iter().all(|h| h.lease_left.is_zero()));
    // A leader that was elected since would not know.
    world
        .coordinator
        .until("it is said again", |s| s.released.len() > 1)
        .await;
    assert!(released(&world).iter().all(|epoch| *epoch == E1));

    // Whoever said so never acts under this epoch again, also if the switchover fails now.
    world
        .coordinator
        .commit(vec![switchover(agent.holder(), &east(), PlanState::Failed)]);
    world
        .coordinator
        .until("it stays so", |s| s.released.len() > 3)
        .await;
    assert!(agent.token(&global()).is_err());
    // Nor if the state was old news for a moment.
    world.coordinator.commit(vec![role(0, None, None)]);
    none_held(&agent).await;
    world
        .coordinator
        .commit(vec![role(1, Some(agent.holder().clone()), None)]);
    let said = released(&world).len();
    world
        .coordinator
        .until("it is said still", |s| s.released.len() > said + 2)
        .await;
    assert!(agent.token(&global()).is_err());
    // The next epoch is another thing.
    world
        .coordinator
        .commit(vec![role(3, Some(agent.holder().clone()), None)]);
    active(&agent).await;
    assert_eq!(agent.token(&global()).unwrap().0, token(3, agent.holder()));
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn nothing_is_released_while_somebody_else_may_act_and_a_failed_switchover_lets_the_holder_go_on() {
    let world = World::new().await;
    let agent = holder(&world).await;
    let own = calls(&world, &agent, "region/west/node/a1");
    own.token(&global()).await.unwrap();
    world
        .coordinator
        .commit(vec![switchover(agent.holder(), &east(), PlanState::Running)]);
    let refused = async {
        while agent.token(&global()).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused)
        .await
        .unwrap();
    world
        .coordinator
        .commit(vec![switchover(agent.holder(), &east(), PlanState::Failed)]);
    // Nothing was said, so the same epoch goes on.
    let own = calls(&world, &agent, "region/west/node/a1");
    assert_eq!(token_of(&own).await, token(1, agent.holder()));
    let until = own.token(&global()).await.unwrap().1;
    assert_eq!(released(&world), Vec::<u64>::new());

    world
        .coordinator
        .commit(vec![switchover(agent.holder(), &east(), PlanState::Running)]);
    world
        .coordinator
        .until("the lease is released", |s| !s.released.is_empty())
        .await;
    let now = BootInstant::now();
    assert!(now >= until, "{:?} too early", until.since(now));
    agent.shutdown().await.unwrap();
}

/// Of the lease more is left than is asked for, and less than an hour.
#[tokio::test]
async fn a_token_is_good_for_as_long_as_was_asked_for_and_a_switchover_waits_for_that() {
    let world = World::new().await;
    let agent = holder(&world).await;
    let own = calls(&world, &agent, "region/west/node/a1");
    let (short, long) = (Duration::from_millis(100), Duration::from_secs(3600));
    let ttl = TimingPolicy::fast().lease_ttl;
    let (_, until) = agent.roles().token_for(&global(), long).unwrap();
    assert!(until.since(BootInstant::now()) <= ttl);
    // Looked at in a loop: a lease of which little is left is renewed.
    let whole = async {
        loop {
            let asked = BootInstant::now();
            let (_, until) = agent.roles().token_for(&global(), short).unwrap();
            assert!(
                until <= BootInstant::now().plus(short),
                "{:?}",
                until.since(asked)
            );
            if until >= asked.plus(short) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), whole).await.unwrap();
    // An agent that is asked over the wire gives it for so long, by another clock a tenth less.
    let asked = BootInstant::now();
    let (_, until) = own.token_for(&global(), short).await.unwrap();
    assert!(
        until <= asked.plus(short - short / 10),
        "{:?}",
        until.since(asked)
    );
    world
        .coordinator
        .commit(vec![switchover(agent.holder(), &east(), PlanState::Running)]);
    world
        .coordinator
        .until("the lease is released", |s| !s.released.is_empty())
        .await;
    assert!(BootInstant::now() >= until);
    agent.shutdown().await.unwrap();
}

/// Before the keeper of the lease had a chance to hear of it.
#[tokio::test]
async fn no_token_is_given_from_the_moment_at_which_the_switchover_is_seen() {
    let world = World::new().await;
    let agent = holder(&world).await;
    let (token, _) = agent.token(&global()).unwrap();
    let wish = RoleWish {
        timing: TimingPolicy::fast(),
        phase: RolePhase::Yielding,
        token,
    };
    let stores = ["west", "east"].map(|name| (name.parse().unwrap(), binding(name, FencingDoor::Qualified)));
    agent.roles().update(
        &[(global(), wish)].into(),
        AllDoors::of_stores(&BTreeMap::from(stores)),
    );
    let refusal = agent.token(&global()).unwrap_err();
    assert!(refusal.message.contains("handed over"), "{refusal}");
    agent.shutdown().await.unwrap();
}

/// A guarded write of this agent to its own store, which has come as far as the gate.
async fn write_at(
    gate: &Arc<Gate>,
    store: &FaultyStore,
    agent: &Agent,
) -> JoinHandle<Result<Written, GuardedError>> {
    store.plan(Operation::Put, Fault::Wait(Arc::clone(gate)));
    let roles = agent.roles().clone();
    let writing = tokio::spawn(async move {
        let target = PointerChange::Target(Digest::of(b"x"));
        let binding = binding("west", FencingDoor::Qualified);
        let (role, region, limit) = (global(), "west".parse().unwrap(), Duration::from_secs(5));
        roles.write_pointer(&role, &region, &binding, target, limit).await
    });
    gate.arrived().await;
    writing
}

#[tokio::test]
async fn nothing_is_written_where_a_conditional_write_guards_nothing() {
    let world = World::new().await;
    let agent = holder(&world).await;
    let reason = "2 winners".to_owned();
    let binding = binding("west", FencingDoor::Refused { reason });
    let (role, region, limit) = (global(), "west".parse().unwrap(), Duration::from_secs(5));
    let target = PointerChange::Target(Digest::of(b"x"));
    let written = agent
        .roles()
        .write_pointer(&role, &region, &binding, target, limit)
        .await;
    let text = written.unwrap_err().to_string();
    assert!(
        text.contains("the store of west guards no pointers: 2 winners"),
        "{text}"
    );
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn nothing_is_released_at_the_end_while_a_guarded_write_is_under_way() {
    let world = World::new().await;
    let store = world.stores.seen_from_afar("west");
    let agent = holder(&world).await;
    let gate = Gate::new();
    let writing = write_at(&gate, &store, &agent).await;
    agent.shutdown().await.unwrap();
    assert_eq!(released(&world), Vec::<u64>::new());
    gate.release();
    // Whatever became of it: the lease was not over for anybody else.
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn nothing_is_released_while_a_guarded_write_is_under_way() {
    let world = World::new().await;
    let store = world.stores.seen_from_afar("west");
    let agent = holder(&world).await;
    let gate = Gate::new();
    let writing = write_at(&gate, &store, &agent).await;
    world
        .coordinator
        .commit(vec![switchover(agent.holder(), &east(), PlanState::Running)]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        assert_eq!(released(&world), Vec::<u64>::new());
        tokio::task::yield_now().await;
    }
    gate.release();
    world
        .coordinator
        .until("the lease is released", |s| !s.released.is_empty())
        .await;
    writing.await.unwrap().unwrap();
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_write_whose_store_opens_too_late_is_not_begun() {
    let world = World::new().await;
    let store = world.stores.seen_from_afar("annex");
    let agent = holder(&world).await;
    let opening = world.stores.hold_opening("annex");
    let roles = agent.roles().clone();
    let writing = tokio::spawn(async move {
        let target = PointerChange::Target(Digest::of(b"x"));
        let binding = binding("annex", FencingDoor::Qualified);
        let (role, region, limit) = (global(), "annex".parse().unwrap(), Duration::from_secs(5));
        roles.write_pointer(&role, &region, &binding, target, limit).await
    });
    opening.arrived().await;
    world
        .coordinator
        .commit(vec![switchover(agent.holder(), &east(), PlanState::Running)]);
    world
        .coordinator
        .until("the lease is released", |s| !s.released.is_empty())
        .await;
    // A write that were begun now would leave this behind.
    store.plan(Operation::Get, Fault::Fail);
    opening.release();
    let error = writing.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, GuardedError::NotHeld(r) if r.reason == Reason::LeaseLost),
        "{error:?}"
    );
    assert!(!matches!(error, GuardedError::Pointer(PointerError::Store(_))));
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_stops_releases_nothing_that_others_may_use() {
    let world = World::new().await;
    let agent = holder(&world).await;
    let own = calls(&world, &agent, "region/west/node/a1");
    own.token(&global()).await.unwrap();
    agent.shutdown().await.unwrap();
    assert_eq!(released(&world), Vec::<u64>::new());
}

/// Old news of the state would otherwise end an epoch for ever.
#[tokio::test]
async fn a_role_that_is_gone_from_the_state_is_not_released() {
    let world = World::new().await;
    let agent = holder(&world).await;
    world.coordinator.commit(vec![role(0, None, None)]);
    none_held(&agent).await;
    world
        .coordinator
        .commit(vec![role(1, Some(agent.holder().clone()), None)]);
    active(&agent).await;
    assert_eq!(released(&world), Vec::<u64>::new());
    agent.shutdown().await.unwrap();
    assert_eq!(released(&world), [E1]);
}

/// A switchover from `east/b1` is about to promote this agent, which has asked for its lease.
async fn armed(world: &World) -> Agent {
    let agent = world.agent().await;
    stores_attached(world).await;
    world.coordinator.commit(vec![role(1, Some(east()), None)]);
    world
        .coordinator
        .commit(vec![switchover(&east(), agent.holder(), PlanState::Running)]);
    world
        .coordinator
        .until("the lease is asked for", |s| s.asked == [E2])
        .await;
    agent
}

/// Nothing is held, no token is given and no door is claimed.
async fn holds_nothing(world: &World, agent: &Agent) {
    assert!(
        agent
            .roles()
            .held()
            .iter()
            .all(|h| !h.active && h.lease_left.is_zero())
    );
    assert_eq!(agent.token(&global()).unwrap_err().reason, Reason::LeaseLost);
    for store in ["west", "east"] {
        assert!(
            pointer_epoch(world, store).await < Some(Epoch::new(1, 2)),
            "{store}"
        );
    }
}

#[tokio::test]
async fn a_target_asks_for_its_lease_before_it_is_promoted_and_holds_before_it_hears_of_it() {
    let world = World::new().await;
    let agent = armed(&world).await;
    holds_nothing(&world, &agent).await;
    // The leader has the entry, and answers; the event is on its way for longer than this test.
    world
        .coordinator
        .commit_unseen(role(2, Some(agent.holder().clone()), None));
    active(&agent).await;
    assert_eq!(agent.token(&global()).unwrap().0, token(2, agent.holder()));
    for store in ["west", "east"] {
        assert_eq!(
            pointer_epoch(&world, store).await,
            Some(Epoch::new(1, 2)),
            "{store}"
        );
    }
    // Other news in between does not make it wait again.
    let wish = RoleWish {
        timing: TimingPolicy::fast(),
        phase: RolePhase::Expected,
        token: token(2, agent.holder()),
    };
    let stores = ["west", "east"].map(|name| (name.parse().unwrap(), binding(name, FencingDoor::Qualified)));
    agent.roles().update(
        &[(global(), wish)].into(),
        AllDoors::of_stores(&BTreeMap::from(stores)),
    );
    assert_eq!(agent.token(&global()).unwrap().0, token(2, agent.holder()));
    // The event finds a holder.
    world
        .coordinator
        .commit(vec![role(2, Some(agent.holder().clone()), None)]);
    assert_eq!(agent.token(&global()).unwrap().0, token(2, agent.holder()));
    // What it holds, it hands over as ever.
    let Resource::Plan(mut back) = switchover(agent.holder(), &east(), PlanState::Running) else {
        unreachable!("it is a plan")
    };
    back.from_epoch = Epoch::new(1, 2);
    world.coordinator.commit(vec![Resource::Plan(back)]);
    world
        .coordinator
        .until("the lease is released", |s| !s.released.is_empty())
        .await;
    assert_eq!(released(&world)[0], E2);
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_switchover_that_failed_leaves_its_target_with_nothing() {
    let world = World::new().await;
    let agent = armed(&world).await;
    world
        .coordinator
        .commit(vec![switchover(&east(), agent.holder(), PlanState::Failed)]);
    none_held(&agent).await;
    holds_nothing(&world, &agent).await;
    // The next one asks anew, for the same epoch.
    world
        .coordinator
        .commit(vec![switchover(&east(), agent.holder(), PlanState::Running)]);
    let expected = async {
        while agent.roles().held().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), expected)
        .await
        .unwrap();
    holds_nothing(&world, &agent).await;
    world
        .coordinator
        .commit(vec![role(2, Some(agent.holder().clone()), None)]);
    active(&agent).await;
    agent.shutdown().await.unwrap();
}
