//! From an upload to an answer, over restarts and without coordinators.

use artifact_store::{Fault, Operation, keys, pointer};
use node_agent::serving::ServeError;
use proto::convert::watch::Resource;
use types::{Digest, Reason, model::VersionState};

use crate::{
    coordinator::{champion, global},
    world::{BYTES, World, key, predict, ready},
};

#[tokio::test]
async fn the_own_store_is_probed_and_attached() {
    let world = World::new().await;
    let agent = world.agent().await;
    let attached = |s: &crate::coordinator::State| s.view.regions.values().all(|r| r.store.is_some());
    world
        .coordinator
        .until("the store of west is attached", attached)
        .await;
    let west = world.coordinator.lock().view.regions[&"west".parse().unwrap()]
        .store
        .clone()
        .unwrap();
    assert_eq!(west.fencing_door, types::region::FencingDoor::Qualified);
    agent.shutdown().await.unwrap();
}

/// Tries that nothing can come of would be entries of the log, and each makes the wait for the next one longer.
#[tokio::test]
async fn work_on_copies_waits_for_the_own_store() {
    let world = World::new().await;
    let gate = world.stores.hold_opening("west");
    let agent = world.agent().await;
    gate.arrived().await;
    world.put_champion("digits@1", BYTES).await;
    let committed = world.coordinator.lock().view.revision;
    let mut board = agent.board();
    board.wait_for(|b| b.revision >= committed).await.unwrap();
    gate.release();
    ready(&agent).await;
    let reports = world.coordinator.lock().reports.clone();
    assert_eq!(
        reports,
        ["digits@1 in west: started", "digits@1 in west: verified"]
    );
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_upload_is_verified_loaded_and_answers_and_the_heartbeat_says_so() {
    let world = World::new().await;
    let agent = world.agent().await;
    world
        .put("digits@1", "west", VersionState::Verifying, BYTES)
        .await;
    ready(&agent).await;
    let (status, body) = predict(&agent).await;
    assert_eq!((status, &body["model_id"]), (200, &"digits@1".into()), "{body}");
    let told = |s: &crate::coordinator::State| {
        s.heartbeat
            .as_ref()
            .is_some_and(|h| h.ready && h.loaded.len() == 1)
    };
    world
        .coordinator
        .until("a heartbeat says that digits@1 is loaded", told)
        .await;
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_upload_with_other_bytes_than_announced_is_ended() {
    let world = World::new().await;
    let wrong = keys::artifact(&Digest::of(BYTES));
    let agent = world.agent().await;
    let attached = |s: &crate::coordinator::State| s.view.regions.values().all(|r| r.store.is_some());
    world
        .coordinator
        .until("the store of west is attached", attached)
        .await;
    // The store of the agent is up; the object changes between upload and verification.
    world
        .put("digits@1", "west", VersionState::PendingUpload, BYTES)
        .await;
    world
        .stores
        .of("west")
        .put(&wrong, vec![b'x'; BYTES.len()].into())
        .await
        .unwrap();
    let mut version = world.coordinator.lock().view.versions[&key("digits@1")]
        .as_ref()
        .clone();
    version.state = VersionState::Verifying;
    world.coordinator.commit(vec![Resource::Version(version)]);
    let ended =
        |s: &crate::coordinator::State| s.view.versions[&key("digits@1")].state == VersionState::Deleted;
    world.coordinator.until("the version is ended", ended).await;
    assert_eq!(predict(&agent).await.0, 404);
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_copy_comes_from_another_region_and_a_new_champion_replaces_the_old_without_a_gap() {
    let world = World::new().await;
    let agent = world.agent().await;
    world.put_champion("digits@1", BYTES).await;
    ready(&agent).await;
    let digest = Digest::of(BYTES);
    assert!(
        world
            .stores
            .of("west")
            .head(&keys::artifact(&digest))
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(predict(&agent).await.1["model_id"], "digits@1");

    // Requests go on all through the switch; none fails.
    world
        .put_champion("digits@2", b"{\"kind\":\"digits\",\"better\":true}")
        .await;
    let mut answers = Vec::new();
    while answers.last().map(String::as_str) != Some("digits@2") {
        let (status, body) = predict(&agent).await;
        assert_eq!(
            status,
            200,
            "{body} {:?} {:?}",
            agent.serving().active(),
            agent.serving().memory()
        );
        answers.push(body["model_id"].as_str().unwrap().to_owned());
        assert!(answers.len() < 100_000);
    }
    let mut changes = agent.serving().changes();
    let gone = changes.wait_for(|_| agent.serving().memory().len() == 1);
    tokio::time::timeout(std::time::Duration::from_secs(10), gone)
        .await
        .unwrap()
        .unwrap();
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_model_that_nobody_can_load_is_named_and_leaves_the_node_fit_for_the_others() {
    let world = World::new().await;
    world.put_champion("digits@1", b"broken").await;
    let agent = world.agent().await;
    // Once its load has failed, who asks is told so.
    let mut changes = agent.serving().changes();
    let failed = changes.wait_for(|_| {
        let asked = agent.serving().resolve("digits", None);
        matches!(asked, Err(ServeError::NotLoadable { .. }))
    });
    tokio::time::timeout(std::time::Duration::from_secs(20), failed)
        .await
        .unwrap()
        .unwrap();
    let (status, answer) = predict(&agent).await;
    assert_eq!(
        (status, &answer["error"]["reason"]),
        (500, &"MODEL_INVALID".into())
    );
    assert!(answer.to_string().contains("it is broken"), "{answer}");
    assert!(agent.board().borrow().load_errors[&key("digits@1")].contains("it is broken"));
    assert_eq!(agent.board().borrow().ready, Ok(()));
    let fit = |s: &crate::coordinator::State| {
        let failed =
            |h: &proto::v1::Heartbeat| h.failed.iter().any(|v| v.model == "digits" && v.version == 1);
        s.heartbeat.as_ref().is_some_and(|h| h.ready && failed(h))
    };
    world
        .coordinator
        .until(
            "a heartbeat says that it is ready, and that digits@1 did not load",
            fit,
        )
        .await;
    let url = format!("http://{}/health", agent.addresses().inference);
    let health: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let models = health["checks"]["models"]["detail"].as_str().unwrap();
    assert!(
        models.starts_with("0 versions loaded; digits@1 does not load: "),
        "{models}"
    );
    assert!(models.contains("it is broken"), "{models}");
    agent.shutdown().await.unwrap();
}

/// For as long as it takes nobody is unfit for it; others are told, who may serve it.
#[tokio::test]
async fn a_version_that_this_node_fails_to_load_again_and_again_is_no_longer_on_its_way() {
    let world = World::new().await;
    let agent = world.agent().await;
    world.put_champion("digits@1", BYTES).await;
    ready(&agent).await;
    world.put_champion("digits@2", b"unreadable").await;
    let told = |s: &crate::coordinator::State| {
        let second = |h: &proto::v1::Heartbeat| h.failed.iter().map(|v| v.version).eq([2]);
        s.heartbeat.as_ref().is_some_and(|h| h.ready && second(h))
    };
    world
        .coordinator
        .until("a heartbeat says that digits@2 did not load", told)
        .await;
    let url = format!("http://{}/metrics", agent.addresses().inference);
    let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
    let counted = r#"regent_models_unloaded{why="failed"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert_eq!(predict(&agent).await.1["model_id"], "digits@1");
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_version_whose_files_cannot_be_fetched_is_named_with_why_wherever_one_looks() {
    let world = World::new().await;
    let agent = world.agent().await;
    world.put_champion("digits@1", BYTES).await;
    ready(&agent).await;
    agent.shutdown().await.unwrap();
    for part in ["cache", "models"] {
        std::fs::remove_dir_all(world.config.data_dir.join(part)).unwrap();
    }
    world
        .stores
        .east_up
        .store(false, std::sync::atomic::Ordering::SeqCst);
    let west = world.stores.seen_from_afar("west");
    for _ in 0..1_000 {
        west.plan(Operation::Get, Fault::Fail);
        west.plan(Operation::GetRange, Fault::Fail);
    }
    let agent = world.agent().await;
    let told = |s: &crate::coordinator::State| {
        let first = |h: &proto::v1::Heartbeat| h.failed.iter().map(|v| v.version).eq([1]);
        s.heartbeat.as_ref().is_some_and(first)
    };
    world
        .coordinator
        .until("a heartbeat says that digits@1 did not load", told)
        .await;
    let why = agent
        .board()
        .borrow()
        .why_unloaded(&key("digits@1"))
        .map(str::to_owned);
    assert_eq!(why.as_deref(), Some("the store of east does not answer"));
    // Whoever asks for it is not told that the model is at fault.
    assert!(agent.board().borrow().load_errors.is_empty());
    agent.shutdown().await.unwrap();
}

/// A push that hurt nobody when it came must not be an outage at the next restart.
#[tokio::test]
async fn the_version_before_one_that_does_not_load_goes_on_answering_also_after_a_restart() {
    let world = World::new().await;
    let agent = world.agent().await;
    world.put_champion("digits@1", BYTES).await;
    ready(&agent).await;
    world.put_champion("digits@2", b"broken").await;
    let failed = async |agent: &node_agent::Agent| {
        let mut board = agent.board();
        let failed = board.wait_for(|b| b.load_errors.contains_key(&key("digits@2")));
        tokio::time::timeout(std::time::Duration::from_secs(20), failed)
            .await
            .unwrap()
            .unwrap();
    };
    failed(&agent).await;
    assert_eq!(predict(&agent).await.1["model_id"], "digits@1");
    agent.shutdown().await.unwrap();

    let agent = world.agent().await;
    failed(&agent).await;
    let mut changes = agent.serving().changes();
    let answers = changes.wait_for(|_| agent.serving().resolve("digits", None).is_ok());
    tokio::time::timeout(std::time::Duration::from_secs(20), answers)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(predict(&agent).await.1["model_id"], "digits@1");
    assert_eq!(agent.board().borrow().ready, Ok(()));

    // The next one that loads takes over.
    world
        .put_champion("digits@3", b"{\"kind\":\"digits\",\"n\":3}")
        .await;
    let third = key("digits@3");
    let switched = changes.wait_for(|_| agent.serving().active().get(&third.model) == Some(&third.version));
    tokio::time::timeout(std::time::Duration::from_secs(20), switched)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(predict(&agent).await.1["model_id"], "digits@3");
    agent.shutdown().await.unwrap();
}

/// Damaged weights may load, and answer nonsense: what is on the disk counts, not what was verified when it came.
#[tokio::test]
async fn what_the_disk_damaged_since_is_fetched_again_before_it_is_served() {
    let world = World::new().await;
    let agent = world.agent().await;
    world.put_champion("digits@1", BYTES).await;
    ready(&agent).await;
    agent.shutdown().await.unwrap();
    let file = world.config.data_dir.join("models/digits/1/config.json");
    assert_eq!(std::fs::read(&file).unwrap(), BYTES);
    // In place, and of the same length: the cache has the same file under the digest's name.
    std::fs::write(&file, BYTES.to_ascii_uppercase()).unwrap();

    let agent = world.agent().await;
    ready(&agent).await;
    assert_eq!(predict(&agent).await.0, 200);
    assert_eq!(std::fs::read(&file).unwrap(), BYTES);
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_restart_without_coordinators_serves_on_and_refuses_privileged_calls() {
    let mut world = World::new().await;
    let agent = world.agent().await;
    let addresses = agent.addresses();
    world
        .put("digits@1", "west", VersionState::Verifying, BYTES)
        .await;
    ready(&agent).await;
    agent.shutdown().await.unwrap();
    world.running.take().unwrap().stop().await;

    let agent = world.agent().await;
    assert_eq!(agent.addresses(), addresses, "the ports are kept");
    let mut board = agent.board();
    let fit = board.wait_for(|b| b.ready.is_ok());
    tokio::time::timeout(std::time::Duration::from_secs(10), fit)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(predict(&agent).await.1["model_id"], "digits@1");

    let tls = world.config.tls.clone();
    let endpoint = format!("https://{}", addresses.agent);
    let calls =
        client::agents::AgentClient::new(&endpoint, &tls, std::time::Duration::from_secs(10)).unwrap();
    let token = types::FencingToken {
        cluster_id: crate::coordinator::CLUSTER,
        role: global(),
        epoch: types::Epoch::new(1, 1),
        holder: agent.holder().clone(),
    };
    let refusal = calls.serve_version(&token, &key("digits@1")).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::NoQuorum);
    assert!(
        pointer::read_pointer(world.stores.of("west").as_ref(), &global())
            .await
            .unwrap()
            .is_none()
    );
    agent.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_data_directory_and_a_port_have_one_agent() {
    let world = World::new().await;
    let agent = world.agent().await;
    let again = node_agent::Agent::builder(world.config.clone()).start().await;
    let error = again.err().unwrap().to_string();
    assert!(error.contains("is in use by another agent"), "{error}");

    let mut other = world.config.clone();
    other.data_dir = world.dir.path().join("a2");
    other.listen_inference = agent.addresses().inference;
    let error = node_agent::Agent::builder(other)
        .start()
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains(&agent.addresses().inference.to_string()),
        "{error}"
    );
    assert!(error.contains("change listen_inference"), "{error}");
    agent.shutdown().await.unwrap();
}

/// How many files are under a directory.
fn files_under(dir: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let count = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => files_under(&entry.path()),
        false => 1,
    };
    entries.map(|entry| count(entry.unwrap())).sum()
}

async fn disk_is_empty(world: &World) {
    let disk = [
        world.config.data_dir.join("cache"),
        world.config.data_dir.join("models"),
    ];
    let empty = async {
        while disk.iter().map(|dir| files_under(dir)).sum::<usize>() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), empty).await;
    assert!(waited.is_ok(), "{disk:?} are not empty");
}

fn delete(world: &World, name: &str) {
    let mut version = world.coordinator.lock().view.versions[&key(name)]
        .as_ref()
        .clone();
    version.state = VersionState::Deleted;
    world.coordinator.commit(vec![Resource::Version(version)]);
}

#[tokio::test]
async fn the_files_of_a_deleted_version_leave_the_disk_also_if_it_was_deleted_meanwhile() {
    let world = World::new().await;
    let agent = world.agent().await;
    world.put_champion("digits@1", BYTES).await;
    ready(&agent).await;
    assert_eq!(predict(&agent).await.0, 200);
    delete(&world, "digits@1");
    disk_is_empty(&world).await;

    world.put("digits@2", "east", VersionState::Ready, BYTES).await;
    let mut board = agent.board();
    board
        .wait_for(|b| b.copies.contains_key(&key("digits@2")))
        .await
        .unwrap();
    agent.shutdown().await.unwrap();
    assert!(files_under(&world.config.data_dir.join("cache")) > 0);
    delete(&world, "digits@2");
    let agent = world.agent().await;
    disk_is_empty(&world).await;
    agent.shutdown().await.unwrap();
}

/// The registry says that a version is READY and where it is; the bytes there are not what it was.
#[tokio::test]
async fn bytes_that_changed_in_the_source_store_are_never_verified_stored_or_served() {
    let world = World::new().await;
    world.put("digits@1", "east", VersionState::Ready, BYTES).await;
    let object = keys::artifact(&Digest::of(BYTES));
    let mut wrong = BYTES.to_vec();
    wrong[2] ^= 1;
    let source = world.stores.of("east");
    source.put(&object, wrong.into()).await.unwrap();
    let agent = world.agent().await;
    world
        .coordinator
        .commit(vec![Resource::Alias(champion(&key("digits@1")))]);
    let told = |word: &'static str| {
        move |s: &crate::coordinator::State| s.reports.iter().filter(|r| r.ends_with(word)).count() > 0
    };
    // It tries again; that does not make them right.
    let failures = |s: &crate::coordinator::State| s.reports.iter().filter(|r| r.ends_with("failed")).count();
    world
        .coordinator
        .until("two copies failed", |s| failures(s) >= 2)
        .await;
    assert!(!told("verified")(&world.coordinator.lock()));
    assert_eq!(world.stores.of("west").head(&object).await.unwrap(), None);
    assert!(agent.serving().memory().is_empty());
    assert_ne!(predict(&agent).await.0, 200);
    assert_eq!(files_under(&world.config.data_dir.join("models")), 0);

    // What was announced arrives in the end.
    source.put(&object, BYTES.into()).await.unwrap();
    ready(&agent).await;
    assert!(told("verified")(&world.coordinator.lock()));
    assert_eq!(predict(&agent).await.0, 200);
    agent.shutdown().await.unwrap();
}
