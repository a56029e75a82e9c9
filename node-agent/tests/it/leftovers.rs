//! What killed pushes leave in a store.

use std::time::Duration;

use artifact_store::{Fault, Gate, Operation};

use crate::{records::stores_attached, world::World};

#[tokio::test]
async fn an_agent_looks_for_uploads_that_were_left_behind_in_its_own_store_and_in_no_other() {
    let world = World::new().await;
    let (own, other) = ["west", "east"]
        .map(|name| world.stores.seen_from_afar(name))
        .into();
    let (gate, never) = (Gate::new(), Gate::new());
    own.plan(Operation::AbortUploads, Fault::Wait(gate.clone()));
    other.plan(Operation::AbortUploads, Fault::Wait(never.clone()));
    let agent = world.agent().await;
    stores_attached(&world).await;
    tokio::select! {
        biased;
        () = never.arrived() => panic!("another region's agents do that"),
        () = gate.arrived() => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it never looked"),
    }
    // An end waits for no store.
    agent.shutdown().await.unwrap();
}
