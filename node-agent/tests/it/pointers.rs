//! Readers of pointers (I5).

use std::sync::Arc;

use artifact_store::{
    Fault, Gate, Operation,
    pointer::{PointerChange, write_pointer},
};
use node_agent::{Agent, pointer_room::POINTER_READS_PER_REGION};
use types::{Digest, Reason, RegionId};

use crate::{
    coordinator::global,
    records::{calls, east, role, stores_attached, token},
    world::World,
};

/// Writes the pointer in the store of `east` as its agent.
async fn write(world: &World, counter: u32, target: &[u8]) {
    let store = world.stores.of("east");
    let target = PointerChange::Target(Digest::of(target));
    write_pointer(store.as_ref(), &token(counter, &east()), &target)
        .await
        .unwrap();
}

/// Commits an epoch of `east`'s, and waits until the agent was told.
async fn committed(world: &World, agent: &Agent, counter: u32) {
    world.coordinator.commit(vec![role(counter, Some(east()), None)]);
    let seen = world.coordinator.lock().view.revision;
    agent.board().wait_for(|b| b.revision >= seen).await.unwrap();
}

#[tokio::test]
async fn a_pointer_is_used_only_while_its_epoch_is_not_below_the_committed_one() {
    let world = World::new().await;
    let agent = world.agent().await;
    stores_attached(&world).await;
    let region = "east".parse().unwrap();
    let pointers = agent.pointers().clone();
    let read = async || pointers.read(&global(), &region).await;
    let write = async |counter| write(&world, counter, b"x").await;
    committed(&world, &agent, 2).await;
    // Nobody wrote it yet.
    assert_eq!(read().await.unwrap(), None);
    write(1).await;
    let refusal = read().await.unwrap_err();
    assert_eq!(refusal.reason, Reason::StaleEpoch);
    assert_eq!(refusal.operand("shown"), Some("g1.e1"));
    assert_eq!(refusal.operand("current"), Some("g1.e2"));
    write(2).await;
    assert_eq!(read().await.unwrap().unwrap().target, Some(Digest::of(b"x")));
    // A target that claims before its promotion is ahead of the committed epoch.
    write(4).await;
    assert!(read().await.unwrap().is_some());

    for (role, region, reason) in [
        ("primaries/other", "east", Reason::RoleNotFound),
        ("primaries/global", "north", Reason::RegionNotFound),
    ] {
        let refused = pointers
            .read(&role.parse().unwrap(), &region.parse().unwrap())
            .await;
        assert_eq!(refused.unwrap_err().reason, reason);
    }
    agent.shutdown().await.unwrap();
}

/// The others fenced the epoch and could not claim the store; a writer beside it goes on under the old one.
#[tokio::test]
async fn a_reader_that_is_cut_off_uses_no_pointer() {
    let world = World::new().await;
    let agent = world.agent().await;
    stores_attached(&world).await;
    let region = "east".parse().unwrap();
    let pointers = agent.pointers().clone();
    let read = async || pointers.read(&global(), &region).await;
    committed(&world, &agent, 2).await;
    write(&world, 2, b"x").await;
    assert!(read().await.unwrap().is_some());

    world.coordinator.lock().quorum = false;
    world.coordinator.commit_unseen(role(4, Some(east()), None));
    write(&world, 2, b"stale").await;
    let refusal = read().await.unwrap_err();
    assert_eq!(refusal.reason, Reason::NoQuorum, "{refusal}");
    assert_eq!(refusal.operand("shown"), Some("g1.e2"));
    assert_eq!(refusal.operand("region"), Some("east"));
    assert!(refusal.message.contains("try again once"), "{refusal}");

    // Somebody with a quorum answers; no event has told this node of the new epoch yet.
    world.coordinator.lock().quorum = true;
    let refusal = read().await.unwrap_err();
    assert_eq!(refusal.reason, Reason::StaleEpoch, "{refusal}");
    assert_eq!(refusal.operand("current"), Some("g1.e4"));
    write(&world, 4, b"y").await;
    assert_eq!(read().await.unwrap().unwrap().target, Some(Digest::of(b"y")));

    // A claimed pointer is none the better for it: it may be over by now as well.
    world.coordinator.lock().quorum = false;
    assert_eq!(read().await.unwrap_err().reason, Reason::NoQuorum);
    agent.shutdown().await.unwrap();
}

/// What was confirmed before the bytes were read says nothing of them: they may have been written after the fence.
#[tokio::test]
async fn an_epoch_that_ends_while_its_pointer_is_read_is_over() {
    let world = World::new().await;
    let store = world.stores.seen_from_afar("east");
    let agent = world.agent().await;
    stores_attached(&world).await;
    committed(&world, &agent, 2).await;
    write(&world, 2, b"x").await;
    let (pointers, region) = (agent.pointers().clone(), "east".parse().unwrap());
    assert!(pointers.read(&global(), &region).await.unwrap().is_some());

    let gate = Gate::new();
    store.plan(Operation::Get, Fault::Wait(Arc::clone(&gate)));
    let reading = tokio::spawn(async move { pointers.read(&global(), &region).await });
    gate.arrived().await;
    world.coordinator.commit_unseen(role(4, Some(east()), None));
    write(&world, 2, b"stale").await;
    gate.release();
    let refusal = reading.await.unwrap().unwrap_err();
    assert_eq!(refusal.reason, Reason::StaleEpoch, "{refusal}");
    agent.shutdown().await.unwrap();
}

/// Processes that do not embed the agent read through it, by the same rule.
#[tokio::test]
async fn a_pointer_is_read_over_the_wire_by_the_same_rule() {
    let world = World::new().await;
    let agent = world.agent().await;
    stores_attached(&world).await;
    let region = "east".parse().unwrap();
    let own = calls(&world, &agent, "region/west/node/a2");
    let read = async || own.read_pointer(&global(), &region).await;
    committed(&world, &agent, 2).await;
    assert_eq!(read().await.unwrap(), None);
    write(&world, 2, b"x").await;
    let pointer = read().await.unwrap().unwrap();
    assert_eq!((pointer.token, pointer.sequence), (token(2, &east()), 1));
    assert_eq!(
        (pointer.target, pointer.tombstone),
        (Some(Digest::of(b"x")), false)
    );

    world.coordinator.commit_unseen(role(4, Some(east()), None));
    let refusal = read().await.unwrap_err();
    assert_eq!(refusal.reason, Reason::StaleEpoch, "{refusal}");
    assert_eq!(
        (refusal.operand("shown"), refusal.operand("current")),
        (Some("g1.e2"), Some("g1.e4"))
    );
    world.coordinator.lock().quorum = false;
    write(&world, 4, b"y").await;
    assert_eq!(read().await.unwrap_err().reason, Reason::NoQuorum);
    agent.shutdown().await.unwrap();
}

/// Agents of any region and people follow pointers; coordinators do not.
#[tokio::test]
async fn pointers_are_read_for_agents_and_users() {
    let world = World::new().await;
    let agent = world.agent().await;
    stores_attached(&world).await;
    committed(&world, &agent, 2).await;
    write(&world, 2, b"x").await;
    let region = "east".parse().unwrap();
    for (who, expected) in [
        ("region/east/node/a1", None),
        ("user/admin", None),
        ("region/west/coordinator/c1", Some(Reason::PermissionDenied)),
    ] {
        let read = calls(&world, &agent, who).read_pointer(&global(), &region).await;
        assert_eq!(read.err().map(|refusal| refusal.reason), expected, "{who}");
    }
    agent.shutdown().await.unwrap();
}

/// A store that hangs takes no room from the others.
#[tokio::test]
async fn more_reads_than_a_region_has_room_for_are_refused_at_once() {
    let world = World::new().await;
    let store = world.stores.seen_from_afar("east");
    let agent = world.agent().await;
    stores_attached(&world).await;
    committed(&world, &agent, 2).await;
    write(&world, 2, b"x").await;
    let calls = calls(&world, &agent, "user/admin");
    let read = |region: &str| {
        let (calls, region): (_, RegionId) = (calls.clone(), region.parse().unwrap());
        tokio::spawn(async move { calls.read_pointer(&global(), &region).await })
    };
    let gates: Vec<_> = (0..POINTER_READS_PER_REGION).map(|_| Gate::new()).collect();
    for gate in &gates {
        store.plan(Operation::Get, Fault::Wait(Arc::clone(gate)));
    }
    let reading: Vec<_> = gates.iter().map(|_| read("east")).collect();
    for gate in &gates {
        gate.arrived().await;
    }
    let refusal = read("east").await.unwrap().unwrap_err();
    assert_eq!(refusal.reason, Reason::Overloaded, "{refusal}");
    assert_eq!(refusal.operand("retry_after_ms"), Some("100"));
    assert_eq!(refusal.operand("region"), Some("east"));
    assert!(refusal.message.contains("the store of east"), "{refusal}");
    // Whether the agent has raised its own one for the epoch by now is its own affair.
    read("west").await.unwrap().unwrap();
    gates.iter().for_each(|gate| gate.release());
    for reading in reading {
        assert!(reading.await.unwrap().unwrap().is_some());
    }
    assert!(read("east").await.unwrap().unwrap().is_some());
    agent.shutdown().await.unwrap();
}
