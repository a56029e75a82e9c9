//! Backups as an operator makes and uses them: saved under writes, checked, and a new cluster founded from one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use client::{Client, Context};
use serde_json::Value;
use tokio::runtime::Runtime;
use types::{FencingToken, ModelName, Reason, RoleName};

use crate::{
    dev::Dev,
    harness::{Ran, Running, regent, run, turn, until},
};

const REGION: &str = "us-west-2";

fn client(context: &Context) -> Client {
    Client::new(context.client_config()).unwrap()
}

/// Creates models until told to stop; their names, once each was acknowledged.
fn write_models(context: &Context, stop: &AtomicBool, made: &dyn Fn(usize)) -> BTreeSet<ModelName> {
    let runtime = Runtime::new().unwrap();
    let mut names = BTreeSet::new();
    runtime.block_on(async {
        let client = client(context);
        while !stop.load(Ordering::Relaxed) {
            let name: ModelName = format!("backup.m{}", names.len()).parse().unwrap();
            client
                .create_model(&name, "", BTreeMap::new(), &Default::default())
                .await
                .unwrap();
            names.insert(name);
            made(names.len());
        }
    });
    names
}

fn held(dev: &Dev) -> Option<FencingToken> {
    let runtime = Runtime::new().unwrap();
    let found = runtime.block_on(async { client(&dev.context()).get_role(&RoleName::global()).await });
    let (role, header) = found.ok()?;
    Some(FencingToken {
        cluster_id: header.cluster_id,
        role: role.role,
        epoch: role.epoch,
        holder: role.holder?,
    })
}

#[test]
fn a_snapshot_is_saved_under_writes_and_a_new_cluster_goes_on_from_it() {
    let _turn = turn();
    let mut dev = Dev::start(1);
    until("the role is held", || held(&dev).is_some());
    let old = held(&dev).unwrap();
    let file = dev.path().join("backup.snap");
    let (before, saved) = save_under_writes(&dev, &file);
    let inspected = inspect(&file, &saved, before);
    damaged_files_are_refused(&dev, &file);
    assert_eq!(dev.stop(), Some(0));
    let config = restored_config(&dev);
    let restored = restore(&file, &config, &inspected);
    let (_coordinator, context) = start(&dev, &config);
    all_is_there(&context, before, &restored);
    its_doors_may_follow(&dev, &context, &restored);
    old_tokens_are_refused(&dev, &context, &old);
}

/// How many models were acknowledged before the save began, and its document.
fn save_under_writes(dev: &Dev, file: &Path) -> (usize, Value) {
    let stop = AtomicBool::new(false);
    let (tell, told) = std::sync::mpsc::channel();
    let context = dev.context();
    thread::scope(|scope| {
        let (context, stop) = (&context, &stop);
        let writer = scope.spawn(move || {
            write_models(context, stop, &|count| {
                let _ = tell.send(count);
            })
        });
        let before = told.iter().find(|count| *count >= 30).unwrap();
        let saved = dev.run(&[
            "cluster",
            "snapshot",
            "save",
            file.to_str().unwrap(),
            "--output",
            "json",
        ]);
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().unwrap();
        assert_eq!(saved.code, Some(0), "{saved:?}");
        assert!(written.len() >= before);
        (before, saved.json())
    })
}

fn inspect(file: &Path, saved: &Value, before: usize) -> Value {
    let ran = run(&[
        "cluster",
        "snapshot",
        "inspect",
        file.to_str().unwrap(),
        "--output",
        "json",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let found = ran.json();
    for same in [
        "sha256",
        "revision",
        "cluster_id",
        "state_hash",
        "size_bytes",
        "counts",
    ] {
        assert_eq!(found[same], saved[same], "{same}: {found} {saved}");
    }
    assert!(
        found["counts"]["models"].as_u64().unwrap() >= before as u64,
        "{found}"
    );
    assert_eq!(found["members"][0]["node"], "us-west-2-c1", "{found}");
    assert_eq!(found["generation"], 1, "{found}");
    let told = run(&["cluster", "snapshot", "inspect", file.to_str().unwrap()]);
    assert!(told.stdout.contains("is whole"), "{told:?}");
    // For its owner alone, and nothing is left of the way to it.
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!file.with_file_name("backup.snap.part").exists());
    found
}

fn damaged_files_are_refused(dev: &Dev, file: &Path) {
    let save = ["cluster", "snapshot", "save", file.to_str().unwrap()];
    dev.run(&save).failed_with(4, &["is there already", "--replace"]);
    let bytes = fs::read(file).unwrap();
    let damaged = dev.path().join("damaged.snap");
    let refused = |bytes: &[u8]| {
        fs::write(&damaged, bytes).unwrap();
        let ran = run(&[
            "cluster",
            "snapshot",
            "inspect",
            damaged.to_str().unwrap(),
            "--output",
            "json",
        ]);
        ran.failed_with(1, &["damaged.snap is no whole snapshot", "offset"]);
        let error = ran.json()["error"].clone();
        assert_eq!(error["reason"], "DIGEST_MISMATCH", "{error}");
        error["operands"]["offset"]
            .as_str()
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    assert!(refused(&changed) <= bytes.len() / 2);
    assert!(refused(&bytes[..bytes.len() - 7]) < bytes.len());
    let missing = run(&["cluster", "snapshot", "inspect", "/no/such/file"]);
    missing.failed_with(3, &["/no/such/file"]);
}

/// The config of the old coordinator, with a data directory of its own and nobody to join.
fn restored_config(dev: &Dev) -> PathBuf {
    let own = dev.path().join("regions").join(REGION).join("coordinator");
    let text = fs::read_to_string(own.join("config.toml")).unwrap();
    let data = dev.path().join("restored").display().to_string();
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("data_dir", _)) => format!("data_dir = {data:?}"),
        Some(("join", _)) => "join = []".to_owned(),
        _ => line.to_owned(),
    });
    let config = dev.path().join("restored.toml");
    fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
    config
}

fn restore(file: &Path, config: &Path, inspected: &Value) -> Value {
    let damaged = file.with_file_name("damaged.snap");
    let certs = file.with_file_name("certs");
    let restore_with = |file: &Path, key: &str| -> Ran {
        run(&[
            "cluster",
            "snapshot",
            "restore",
            file.to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
            "--ca-key",
            certs.join(key).to_str().unwrap(),
            "--output",
            "json",
        ])
    };
    let restore = |file: &Path| restore_with(file, "ca.key");
    restore(&damaged).failed_with(1, &["no whole snapshot"]);
    let agents_key = format!("{REGION}-agent.key");
    restore_with(file, &agents_key).failed_with(2, &["is not the key of any certificate"]);
    assert!(!file.with_file_name("restored").exists());
    let done = restore(file);
    assert_eq!(done.code, Some(0), "{done:?}");
    let restored = done.json();
    assert_ne!(restored["cluster_id"], inspected["cluster_id"], "{restored}");
    assert_eq!(restored["generation"], 2, "{restored}");
    assert_eq!(restored["from"]["sha256"], inspected["sha256"], "{restored}");
    let rebind = &restored["rebinds"][0];
    assert_eq!(rebind["supersedes"], inspected["cluster_id"], "{restored}");
    assert_eq!(rebind["signed"], true, "{restored}");
    restore(file).failed_with(5, &["is not empty"]);
    restored
}

/// The coordinator of the new cluster, and how it is reached.
fn start(dev: &Dev, config: &Path) -> (Running, Context) {
    let mut command = regent();
    command.arg("coordinator").arg("--config").arg(config);
    let running = Running(
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let listen = dev.path().join("restored/listen.json");
    let api = || {
        let text = fs::read_to_string(&listen).ok()?;
        let listen: Value = serde_json::from_str(&text).ok()?;
        Some(format!("https://{}", listen["api"].as_str()?))
    };
    until("it listens", || api().is_some());
    let context = Context {
        endpoints: vec![api().unwrap()],
        ..dev.context()
    };
    let runtime = Runtime::new().unwrap();
    until("it leads", || {
        runtime.block_on(async { client(&context).list_models().await.is_ok() })
    });
    (running, context)
}

fn all_is_there(context: &Context, before: usize, restored: &Value) {
    Runtime::new().unwrap().block_on(async {
        let client = client(context);
        let models = client.list_models().await.unwrap();
        let names: BTreeSet<String> = models.iter().map(|m| m.name.to_string()).collect();
        for n in 0..before {
            assert!(
                names.contains(&format!("backup.m{n}")),
                "m{n} of {before}: {names:?}"
            );
        }
        let (role, header) = client.get_role(&RoleName::global()).await.unwrap();
        assert_eq!(Value::from(header.cluster_id.to_string()), restored["cluster_id"]);
        assert_eq!((role.epoch.to_string().as_str(), role.holder), ("g2.e0", None));
        let name: ModelName = "backup.after".parse().unwrap();
        client
            .create_model(&name, "", BTreeMap::new(), &Default::default())
            .await
            .unwrap();
    });
}

/// The statement that was signed as the state was restored stands in the new cluster, for whoever asks.
fn its_doors_may_follow(dev: &Dev, context: &Context, restored: &Value) {
    let (file, endpoint) = (dev.context_file(), &context.endpoints[0]);
    let fixed = ["--context", file.to_str().unwrap(), "--endpoint", endpoint];
    let list = ["cluster", "rebind", "list", "--output", "json"];
    let listed = run(&[&fixed, &list[..]].concat()).json();
    assert_eq!(listed["rebinds"], restored["rebinds"], "{listed}");
}

/// By the state machine, under the very certificate of its holder; also where it names the new cluster.
fn old_tokens_are_refused(dev: &Dev, context: &Context, old: &FencingToken) {
    let mut as_agent = context.clone();
    let certs = dev.path().join("certs");
    as_agent.tls.cert_file = certs.join("us-west-2-agent.pem");
    as_agent.tls.key_file = certs.join("us-west-2-agent.key");
    Runtime::new().unwrap().block_on(async {
        let agent = client(&as_agent);
        let (_, header) = agent.get_role(&RoleName::global()).await.unwrap();
        let model: ModelName = "backup.m0".parse().unwrap();
        let tags = BTreeMap::from([("by".to_owned(), "zombie".to_owned())]);
        let write = |token: FencingToken| {
            let (agent, model, tags) = (agent.clone(), model.clone(), tags.clone());
            async move {
                let written = agent
                    .set_model_tags(&model, tags, vec![], None, Some(&token))
                    .await;
                written.map(|_| ()).unwrap_err().reason
            }
        };
        assert_eq!(write(old.clone()).await, Reason::WrongCluster);
        let renamed = FencingToken {
            cluster_id: header.cluster_id,
            ..old.clone()
        };
        assert_eq!(write(renamed).await, Reason::StaleEpoch);
        let lease = agent.renew_lease(old).await.map(|_| ());
        assert_eq!(lease.unwrap_err().reason, Reason::WrongCluster);
    });
}
