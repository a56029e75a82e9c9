//! Doors that are fought over, that move, and that somebody else raises (L15).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use artifact_store::{
    ArtifactStore, Fault, FaultyStore, Gate, Operation,
    pointer::{self, PointerChange},
};
use node_agent::Agent;
use proto::convert::watch::Resource;
use types::{
    Digest, Epoch, FencingToken, Revision,
    plan::{PlanState, StepKind},
    region::{FencingDoor, RegionRecord},
};

use crate::{
    coordinator::global,
    records::{
        appointed, calls, east, last_step, plan, plan_at, pointer_epoch, reported, reserved, role,
        stores_attached, switchover, token, token_of,
    },
    world::{World, binding, region_at},
};

/// A writer beside the store, under the old epoch: it writes before each write of the agent arrives, until its door says
/// no. Counts its writes.
fn stale_writer(store: &FaultyStore) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    store.before_each_put(move |store| {
        let counted = Arc::clone(&counted);
        Box::pin(async move {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            let change = PointerChange::Target(Digest::of(n.to_string().as_bytes()));
            drop(pointer::write_pointer(store.as_ref(), &token(1, &east()), &change).await);
        })
    });
    count
}

/// The token under which the pointer in a store stands.
async fn stands_under(store: &Arc<dyn ArtifactStore>) -> Option<FencingToken> {
    let found = pointer::read_pointer(store.as_ref(), &global()).await.unwrap();
    found.map(|pointed| pointed.body.token())
}

async fn until_under(world: &World, store: &str, wanted: &FencingToken) {
    let store = world.stores.of(store);
    let raised = async {
        while stands_under(&store).await.as_ref() != Some(wanted) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), raised).await;
    assert!(
        waited.is_ok(),
        "{:?} and not {wanted}",
        stands_under(&store).await
    );
}

async fn claiming(world: &World, agent: &Agent) {
    stores_attached(world).await;
    world.coordinator.commit(vec![
        role(2, None, Some(reserved(agent.holder()))),
        plan(agent.holder(), StepKind::Claim),
    ]);
}

#[tokio::test]
async fn a_pointer_that_answers_and_is_not_claimed_ends_no_claim_and_lets_nobody_act() {
    let world = World::new().await;
    let far = world.stores.seen_from_afar("east");
    let writes = stale_writer(&far);
    let agent = world.agent().await;
    claiming(&world, &agent).await;
    world
        .coordinator
        .until("CLAIM is reported", reported(StepKind::Claim))
        .await;
    let failed = last_step(&world);
    assert!(!failed.done, "{failed:?}");
    assert!(
        failed.detail.contains("pointer/east") && failed.detail.contains("other writers were faster"),
        "{}",
        failed.detail
    );
    assert_eq!(pointer_epoch(&world, "west").await, Some(Epoch::new(1, 3)));
    assert_eq!(pointer_epoch(&world, "east").await, Some(Epoch::new(1, 1)));

    // Promoted all the same, it does not act.
    let me = agent.holder().clone();
    world.coordinator.commit(vec![role(3, Some(me.clone()), None)]);
    let held = async {
        while agent.roles().held()[0].lease_left.is_zero() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), held).await.unwrap();
    // Some rounds of the claim's own loop, each of which ends with all writes lost.
    let enough = writes.load(Ordering::SeqCst) + 40;
    while writes.load(Ordering::SeqCst) < enough {
        let refusal = agent.token(&global()).unwrap_err();
        assert!(refusal.message.contains("claimed"), "{refusal}");
        tokio::task::yield_now().await;
    }
    far.puts_are_undisturbed();
    assert_eq!(
        token_of(&calls(&world, &agent, "region/west/node/a1")).await,
        token(3, &me)
    );
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_agent_beside_the_store_raises_it_for_a_target_that_would_lose_every_race() {
    let world = World::new().await;
    let far = world.stores.seen_from_afar("east");
    stale_writer(&far);
    let agent = world.agent().await;
    let beside = world.agent_in_east().await;
    claiming(&world, &agent).await;
    world
        .coordinator
        .until("CLAIM is reported", reported(StepKind::Claim))
        .await;
    let claimed = last_step(&world);
    assert!(
        claimed.done && claimed.doors.iter().all(|d| d.claimed),
        "{claimed:?}"
    );
    until_under(&world, "east", &token(3, agent.holder())).await;
    agent.shutdown().await.unwrap();
    beside.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_second_attempt_of_the_claim_tells_how_it_stands_then() {
    let world = World::new().await;
    let far = world.stores.seen_from_afar("east");
    stale_writer(&far);
    let agent = world.agent().await;
    claiming(&world, &agent).await;
    world
        .coordinator
        .until("CLAIM is reported", reported(StepKind::Claim))
        .await;
    far.puts_are_undisturbed();
    let again = plan_at(agent.holder(), StepKind::Claim, 2);
    world.coordinator.commit(vec![again]);
    world
        .coordinator
        .until("the second attempt is reported", |s| {
            s.steps.iter().any(|r| r.attempt == 2)
        })
        .await;
    let claimed = last_step(&world);
    assert!(
        claimed.done && claimed.doors.iter().all(|d| d.claimed),
        "{claimed:?}"
    );
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_own_store_is_raised_for_a_holder_elsewhere_also_when_it_is_attached_or_moves_later() {
    let world = World::new().await;
    world.coordinator.commit(vec![role(1, Some(east()), None)]);
    // At its start the registry knows no store of this region.
    let agent = world.agent().await;
    until_under(&world, "west", &token(1, &east())).await;
    world.coordinator.commit(vec![role(2, Some(east()), None)]);
    until_under(&world, "west", &token(2, &east())).await;
    let annex = binding("annex", FencingDoor::Qualified);
    world.coordinator.commit(vec![region_at("west", Some(annex))]);
    until_under(&world, "annex", &token(2, &east())).await;
    // Only its own: the other region's store has agents of its own.
    assert_eq!(stands_under(&world.stores.of("east")).await, None);
    agent.shutdown().await.unwrap();
}

/// Its record knows no store then, and the agent went on all the while.
#[tokio::test]
async fn a_region_that_was_made_anew_is_given_its_store_again() {
    let world = World::new().await;
    let agent = world.agent().await;
    stores_attached(&world).await;
    let Resource::Region(anew) = region_at("west", None) else {
        unreachable!("a region")
    };
    world.coordinator.commit(vec![Resource::Region(RegionRecord {
        modified: Revision(anew.modified.0 + 1),
        ..anew
    })]);
    stores_attached(&world).await;
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_holder_claims_a_store_that_moves_or_may_guard_only_later() {
    let world = World::new().await;
    let refused = FencingDoor::Refused {
        reason: "50 writers, 2 winners".to_owned(),
    };
    let unfit = binding("east", refused);
    world.coordinator.commit(vec![region_at("east", Some(unfit))]);
    let agent = appointed(&world, 1).await;
    let me = agent.holder().clone();
    let own = calls(&world, &agent, "region/west/node/a1");
    token_of(&own).await;
    assert_eq!(stands_under(&world.stores.of("east")).await, None);

    let fit = binding("east", FencingDoor::Qualified);
    world.coordinator.commit(vec![region_at("east", Some(fit))]);
    until_under(&world, "east", &token(1, &me)).await;
    let moved = binding("annex", FencingDoor::Qualified);
    world.coordinator.commit(vec![region_at("east", Some(moved))]);
    until_under(&world, "annex", &token(1, &me)).await;
    token_of(&own).await;
    agent.shutdown().await.unwrap();
}

/// The door of a store that was taken away does not hold up the holder.
#[tokio::test]
async fn a_store_that_is_detached_is_no_door_any_more() {
    let world = World::new().await;
    let far = world.stores.seen_from_afar("east");
    let writes = stale_writer(&far);
    let agent = appointed(&world, 2).await;
    while writes.load(Ordering::SeqCst) < 20 {
        tokio::task::yield_now().await;
    }
    assert!(agent.token(&global()).is_err());
    world.coordinator.commit(vec![region_at("east", None)]);
    token_of(&calls(&world, &agent, "region/west/node/a1")).await;
    let ended = writes.load(Ordering::SeqCst);
    agent.shutdown().await.unwrap();
    // At most the try that was under way went on.
    assert!(writes.load(Ordering::SeqCst) <= ended + 1);
}

#[tokio::test]
async fn a_claim_under_a_committed_epoch_goes_on_no_longer_than_its_lease() {
    let world = World::new().await;
    let far = world.stores.seen_from_afar("east");
    let gate = Gate::new();
    // No try gets through, however often it is made.
    for _ in 0..100 {
        far.plan(Operation::Put, Fault::Wait(Arc::clone(&gate)));
    }
    let agent = appointed(&world, 1).await;
    gate.arrived().await;
    world.coordinator.lock().quorum = false;
    let lapsed = async {
        while !agent.roles().held()[0].lease_left.is_zero() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), lapsed)
        .await
        .unwrap();
    // A write that still waited would arrive now.
    gate.release();
    nothing_arrives(&world, "east").await;
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_claim_that_is_under_way_ends_when_a_switchover_asks_for_the_role() {
    let world = World::new().await;
    let far = world.stores.seen_from_afar("east");
    let gate = Gate::new();
    for _ in 0..100 {
        far.plan(Operation::Put, Fault::Wait(Arc::clone(&gate)));
    }
    let agent = appointed(&world, 1).await;
    let me = agent.holder().clone();
    gate.arrived().await;
    world
        .coordinator
        .commit(vec![switchover(&me, &east(), PlanState::Running)]);
    world
        .coordinator
        .until("the lease is released", |s| !s.released.is_empty())
        .await;
    gate.release();
    nothing_arrives(&world, "east").await;
    agent.shutdown().await.unwrap();
}

/// For long enough that a write which was let go would have been seen.
async fn nothing_arrives(world: &World, store: &str) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(200) {
        assert_eq!(stands_under(&world.stores.of(store)).await, None);
    }
}
