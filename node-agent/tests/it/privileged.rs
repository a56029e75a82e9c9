//! What a privileged call leaves behind when it is refused: nothing.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex},
};

use inference::{Engine, LoadError};
use node_agent::{Agent, pins::Pins, serving::LoadModel};
use types::{Epoch, FencingToken, Reason, model::VersionState};

use crate::{
    records::{calls, east, role, stores_attached, token_of},
    world::{BYTES, FakeLoader, World, key, ready},
};

/// Loads as the other one does, once the test lets it.
#[derive(Default)]
struct SlowLoader {
    held: Mutex<bool>,
    waits: tokio::sync::Notify,
    go_on: Condvar,
}

impl SlowLoader {
    fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }
    fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.go_on.notify_all();
    }
}

impl LoadModel for SlowLoader {
    fn load(&self, dir: &Path) -> Result<Arc<dyn Engine>, LoadError> {
        let mut held = self.held.lock().unwrap();
        if *held {
            self.waits.notify_one();
        }
        while *held {
            held = self.go_on.wait(held).unwrap();
        }
        drop(held);
        FakeLoader.load(dir)
    }
}

/// `west/a1` serves digits@1, has the files of digits@2, and holds the role.
async fn holder(world: &World, loader: Arc<dyn LoadModel>, second: &[u8]) -> (Agent, FencingToken) {
    let agent = world.agent_with(loader).await;
    world
        .put("digits@1", "west", VersionState::Verifying, BYTES)
        .await;
    ready(&agent).await;
    world.put("digits@2", "east", VersionState::Ready, second).await;
    stores_attached(world).await;
    let mut board = agent.board();
    board
        .wait_for(|b| b.copies.contains_key(&key("digits@2")))
        .await
        .unwrap();
    let me = agent.holder().clone();
    world.coordinator.commit(vec![role(1, Some(me), None)]);
    let token = token_of(&calls(world, &agent, "region/west/node/a1")).await;
    (agent, token)
}

/// The version is neither in memory nor wanted there, and digits@1 answers as before, also after a restart.
async fn nothing_remains(world: &World, agent: Agent) {
    let (serving, board) = (agent.serving().clone(), agent.board());
    let (mut changes, mut looks) = (serving.changes(), board.clone());
    let gone = async {
        loop {
            let (loaded, failed) = (
                serving.memory().contains_key(&key("digits@2")),
                looks
                    .borrow_and_update()
                    .load_errors
                    .contains_key(&key("digits@2")),
            );
            if !loaded && !failed {
                return;
            }
            tokio::select! {
                _ = changes.changed() => {}
                _ = looks.changed() => {}
            }
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(5), gone).await;
    assert!(
        waited.is_ok(),
        "digits@2 is still wanted: {:?}",
        board.borrow().load_errors
    );
    assert_eq!(serving.active()[&key("digits@1").model], key("digits@1").version);
    agent.shutdown().await.unwrap();
    let pins = Pins::open(&world.config.data_dir.join("pins.json")).unwrap();
    assert!(pins.all().is_empty(), "{:?}", pins.all());
}

#[tokio::test]
async fn a_version_that_cannot_be_loaded_is_not_wanted_any_more_and_not_pinned() {
    let world = World::new().await;
    let (agent, mine) = holder(&world, Arc::new(FakeLoader), b"{\"broken\":true}").await;
    let own = calls(&world, &agent, "region/west/node/a1");
    let refusal = own.serve_version(&mine, &key("digits@2")).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::ModelInvalid, "{refusal}");
    nothing_remains(&world, agent).await;
}

#[tokio::test]
async fn a_version_that_was_loaded_for_a_token_that_is_stale_by_then_goes_again() {
    let world = World::new().await;
    let loader = Arc::new(SlowLoader::default());
    let (agent, mine) = holder(&world, Arc::clone(&loader) as _, b"{\"kind\":\"digits\",\"n\":2}").await;
    let own = calls(&world, &agent, "region/west/node/a1");
    loader.hold();
    let wanted = key("digits@2");
    let call = own.serve_version(&mine, &wanted);
    let moves_on = async {
        loader.waits.notified().await;
        world.coordinator.commit(vec![role(2, Some(east()), None)]);
        while own.status().await.unwrap().floors[0].epoch < Epoch::new(1, 2).as_u64() {}
        loader.release();
    };
    let (refused, ()) = tokio::join!(call, moves_on);
    assert_eq!(refused.unwrap_err().reason, Reason::StaleEpoch);
    nothing_remains(&world, agent).await;
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_no_wish() {
    let world = World::new().await;
    let loader = Arc::new(SlowLoader::default());
    let (agent, mine) = holder(&world, Arc::clone(&loader) as _, b"{\"kind\":\"digits\",\"n\":2}").await;
    let own = calls(&world, &agent, "region/west/node/a1");
    loader.hold();
    let wanted = key("digits@2");
    tokio::select! {
        answer = own.serve_version(&mine, &wanted) => panic!("{answer:?}"),
        () = loader.waits.notified() => {}
    }
    loader.release();
    nothing_remains(&world, agent).await;
}

#[tokio::test]
async fn a_call_that_is_let_in_brings_even_an_unloaded_version_back_and_pins_it() {
    let world = World::new().await;
    let (agent, mine) = holder(&world, Arc::new(FakeLoader), b"{\"kind\":\"digits\",\"n\":2}").await;
    let http = reqwest::Client::new();
    let inference = agent.addresses().inference;
    let unload = http.post(format!("http://{inference}/models/digits@2/unload"));
    assert!(unload.send().await.unwrap().status().is_success());
    let own = calls(&world, &agent, "region/west/node/a1");
    own.serve_version(&mine, &key("digits@2")).await.unwrap();
    assert_eq!(
        agent.serving().active()[&key("digits@2").model],
        key("digits@2").version
    );
    agent.shutdown().await.unwrap();
    let pins = Pins::open(&world.config.data_dir.join("pins.json")).unwrap();
    assert_eq!(
        pins.all()[&key("digits@2").model].version,
        key("digits@2").version
    );
}
