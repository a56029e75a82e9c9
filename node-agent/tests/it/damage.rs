//! Copies that were damaged in the own region's store after they were verified.

use std::time::Duration;

use artifact_store::{keys, transfer};
use node_agent::{Agent, serving::ServeError};
use proto::convert::watch::Resource;
use types::{ByteCount, Digest, model::VersionState, replica::ReplicaState};

use crate::{
    coordinator::{State, champion},
    world::{BYTES, World, key, predict, ready},
};

fn in_west(state: &State) -> types::replica::ReplicaRecord {
    let west = |r: &&types::replica::ReplicaRecord| r.key.region.as_str() == "west";
    let found = state.view.replicas.values().find(west).cloned();
    found.unwrap()
}

/// The copy of `digits@1` in the store of west loses its bytes, and the agent that served it all that it had on its disk.
async fn damaged(world: &World) {
    let agent = world.agent().await;
    world.put_champion("digits@1", BYTES).await;
    ready(&agent).await;
    agent.shutdown().await.unwrap();
    let object = keys::artifact(&Digest::of(BYTES));
    let wrong = BYTES.to_ascii_uppercase();
    world.stores.of("west").put(&object, wrong.into()).await.unwrap();
    for part in ["cache", "models"] {
        std::fs::remove_dir_all(world.config.data_dir.join(part)).unwrap();
    }
}

async fn repaired(world: &World) {
    let whole = |s: &State| in_west(s).state == ReplicaState::Verified && in_west(s).attempts == 2;
    world
        .coordinator
        .until("the copy in west is verified again", whole)
        .await;
    let file = transfer::Artifact {
        digest: Digest::of(BYTES),
        size: ByteCount(BYTES.len() as u64),
    };
    transfer::verify_object(world.stores.of("west").as_ref(), &file)
        .await
        .unwrap();
}

async fn serves(agent: &Agent) {
    ready(agent).await;
    assert_eq!(predict(agent).await.0, 200);
}

#[tokio::test]
async fn a_copy_that_a_fetch_finds_damaged_is_reported_and_repaired() {
    let world = World::new().await;
    damaged(&world).await;
    let agent = world.agent().await;
    serves(&agent).await;
    repaired(&world).await;
    let reports = world.coordinator.lock().reports.clone();
    let said: Vec<_> = reports.iter().map(|r| r.rsplit(": ").next().unwrap()).collect();
    assert_eq!(said, ["started", "verified", "failed", "started", "verified"]);
    assert_eq!(predict(&agent).await.0, 200);
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_whole_on_the_disk_is_served_for_as_long_as_the_store_is_not_repaired() {
    let world = World::new().await;
    damaged(&world).await;
    world.coordinator.lock().no_starts = true;
    let agent = world.agent().await;
    let kept = |s: &State| s.reports.iter().any(|r| r.ends_with("kept from starting"));
    world.coordinator.until("a repair is tried", kept).await;
    let record = in_west(&world.coordinator.lock());
    assert_eq!(record.state, ReplicaState::Failed);
    let found = Digest::of(&BYTES.to_ascii_uppercase()).to_string();
    assert!(record.error.contains(&found), "{}", record.error);
    serves(&agent).await;
    agent.shutdown().await.unwrap();

    // Also after a restart, which loads it anew.
    let agent = world.agent().await;
    serves(&agent).await;
    assert!(agent.serving().is_loaded(&key("digits@1")));
    world.coordinator.lock().no_starts = false;
    repaired(&world).await;
    agent.shutdown().await.unwrap();
}

/// A version that cannot be had answers with why, and not that it takes a moment.
#[tokio::test]
async fn a_copy_that_fails_is_named_to_who_asks_for_the_model() {
    let world = World::new().await;
    world.put("digits@1", "east", VersionState::Ready, BYTES).await;
    let object = keys::artifact(&Digest::of(BYTES));
    let wrong = BYTES.to_ascii_uppercase();
    world.stores.of("east").put(&object, wrong.into()).await.unwrap();
    let agent = world.agent().await;
    let failed = |s: &State| in_west(s).state == ReplicaState::Failed;
    world.coordinator.until("the copy failed", failed).await;
    world.coordinator.lock().no_starts = true;
    let kept = |s: &State| s.reports.iter().any(|r| r.ends_with("kept from starting"));
    world.coordinator.until("a try was kept back", kept).await;
    world
        .coordinator
        .commit(vec![Resource::Alias(champion(&key("digits@1")))]);

    let mut changes = agent.serving().changes();
    let named = changes.wait_for(|_| {
        let asked = agent.serving().resolve("digits", None);
        matches!(asked, Err(ServeError::NotCopied { .. }))
    });
    tokio::time::timeout(Duration::from_secs(20), named)
        .await
        .unwrap()
        .unwrap();
    let (status, answer) = predict(&agent).await;
    assert_eq!((status, &answer["error"]["reason"]), (503, &"UNREACHABLE".into()));
    let why = answer["error"]["message"].as_str().unwrap();
    assert!(
        why.starts_with("digits@1 failed to be copied into this region: "),
        "{why}"
    );
    assert!(
        why.contains(&Digest::of(&BYTES.to_ascii_uppercase()).to_string()),
        "{why}"
    );
    agent.shutdown().await.unwrap();
}

/// A store that gives wrong bytes for good costs a try now and then, and no answer.
#[tokio::test]
async fn a_store_that_damages_whatever_it_is_given_is_tried_again_and_never_called_verified() {
    let world = World::new().await;
    damaged(&world).await;
    let west = world.stores.seen_from_afar("west");
    for _ in 0..100 {
        west.plan(artifact_store::Operation::Get, artifact_store::Fault::Corrupt);
    }
    let agent = world.agent().await;
    let failed = |s: &State| s.reports.iter().filter(|r| r.ends_with("failed")).count();
    world
        .coordinator
        .until("three tries failed", |s| failed(s) >= 3)
        .await;
    assert_eq!(in_west(&world.coordinator.lock()).state, ReplicaState::Failed);
    serves(&agent).await;
    agent.shutdown().await.unwrap();
}
