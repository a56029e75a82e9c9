//! A cluster whose majority is lost for good, as an operator goes on from the one survivor; and what the others are worth when they
//! come back after all.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use client::{AgentClient, Client, Context};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;
use types::{FencingToken, ModelName, Reason, RoleName, VersionKey};

use crate::{
    asleep::Asleep,
    dev::Dev,
    harness::{Ran, Running, is_alive, regent, run, turn, until},
};

pub(crate) const HOLDER: &str = "eu-west-1";
pub(crate) const OTHER: &str = "us-west-2";
pub(crate) const SURVIVOR: &str = "ap-southeast-1";

pub(crate) fn kill(dev: &Dev, region: &str, part: &str) {
    let pid = dev.pid_of(region, part);
    dev.signal(pid, Signal::KILL);
    until("it is gone", || !is_alive(pid));
}

pub(crate) fn process(dev: &Dev, region: &str, part: &str) -> PathBuf {
    dev.path().join("regions").join(region).join(part)
}

/// Another run of one of the cluster's processes, with some keys of its config replaced.
pub(crate) fn start(dev: &Dev, region: &str, part: &str, keys: &[(&str, String)]) -> Running {
    start_from(dev, region, part, "config.toml", keys)
}

/// The same, by another of its configs.
pub(crate) fn start_from(
    dev: &Dev,
    region: &str,
    part: &str,
    config: &str,
    keys: &[(&str, String)],
) -> Running {
    let dir = process(dev, region, part);
    let text = fs::read_to_string(dir.join(config)).unwrap();
    let lines = text.lines().map(|line| {
        let key = line.split_once(" = ").map(|(key, _)| key);
        let new = keys.iter().find(|(name, _)| Some(*name) == key);
        new.map_or_else(|| line.to_owned(), |(name, value)| format!("{name} = {value}"))
    });
    let config = dir.join("again.toml");
    fs::write(&config, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let mut command = regent();
    command.arg(part).arg("--config").arg(&config);
    let log = fs::File::create(log(dev, region, part)).unwrap();
    command.stdout(Stdio::null()).stderr(log);
    Running(command.spawn().unwrap())
}

fn log(dev: &Dev, region: &str, part: &str) -> PathBuf {
    process(dev, region, part).join("again.log")
}

pub(crate) fn api(dev: &Dev, region: &str) -> String {
    let listen = process(dev, region, "coordinator").join("data/listen.json");
    let listen: Value = serde_json::from_str(&fs::read_to_string(listen).unwrap()).unwrap();
    format!("https://{}", listen["api"].as_str().unwrap())
}

pub(crate) fn context(dev: &Dev, regions: &[&str]) -> Context {
    Context {
        endpoints: regions.iter().map(|region| api(dev, region)).collect(),
        ..dev.context()
    }
}

/// The same, as a region's agent.
pub(crate) fn as_agent(dev: &Dev, region: &str, mut context: Context) -> Context {
    let certs = dev.path().join("certs");
    context.tls.cert_file = certs.join(format!("{region}-agent.pem"));
    context.tls.key_file = certs.join(format!("{region}-agent.key"));
    context
}

pub(crate) fn client(context: &Context) -> Client {
    let client = Client::new(context.client_config()).unwrap();
    client.with_deadline(Duration::from_secs(5))
}

/// Who holds the role, as those coordinators say; none while nobody does, or nobody answers.
pub(crate) fn held(context: &Context) -> Option<FencingToken> {
    let found = Runtime::new()
        .unwrap()
        .block_on(async { client(context).get_role(&RoleName::global()).await });
    let (role, header) = found.ok()?;
    Some(FencingToken {
        cluster_id: header.cluster_id,
        role: role.role,
        epoch: role.epoch,
        holder: role.holder?,
    })
}

fn voters(context: &Context) -> usize {
    let status = Runtime::new()
        .unwrap()
        .block_on(async { client(context).status().await });
    status.map_or(0, |s| s.members.iter().filter(|m| m.voter).count())
}

pub(crate) fn recover(dev: &Dev, more: &[&str]) -> Ran {
    let config = process(dev, SURVIVOR, "coordinator").join("config.toml");
    let fixed = [
        "cluster",
        "recover",
        "--output",
        "json",
        "--config",
        config.to_str().unwrap(),
    ];
    run(&[&fixed, more].concat())
}

#[test]
fn one_survivor_goes_on_and_the_revived_majority_is_nobodys() {
    let _turn = turn();
    let dev = Dev::start(3);
    let all = dev.context();
    until("the role is held", || held(&all).is_some());
    // `dev` would start again whatever is killed.
    dev.signal(dev.parent(), Signal::STOP);
    let old = lose_three_promotions(&dev);
    nothing_is_recovered_from_a_running_cluster(&dev);
    kill(&dev, OTHER, "coordinator");
    kill(&dev, HOLDER, "coordinator");
    // The cluster that was left is to have its holder when it is revived.
    let _asleep = [OTHER, HOLDER].map(|region| Asleep::of(&dev, region, "agent"));
    kill(&dev, SURVIVOR, "agent");
    let recovered = the_survivor_goes_on(&dev, &old);

    let _survivor = start(&dev, SURVIVOR, "coordinator", &[]);
    let new = context(&dev, &[SURVIVOR]);
    until("the new cluster answers", || {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async { client(&new).list_models().await.is_ok() })
    });
    let majority = [OTHER, HOLDER].map(|region| start(&dev, region, "coordinator", &[]));
    the_old_cluster_lives(&dev, &old);
    let agent = the_new_cluster_gives_the_role_out(&dev, &new, &recovered);
    every_door_refuses(&dev, &new, &agent, &old);
    the_ca_signs_later(&dev, &old, &recovered);
    drop(majority);
    the_others_come_back_wiped_or_not_at_all(&dev, &new);
    drop(agent);
    dev.signal(dev.parent(), Signal::CONT);
}

/// The survivor is down while the role moves three times; the token of the last holder.
fn lose_three_promotions(dev: &Dev) -> FencingToken {
    kill(dev, SURVIVOR, "coordinator");
    for to in [HOLDER, OTHER, HOLDER] {
        until("the role moves", || {
            let moved = dev.run(&["switchover", "primaries/global", "--to", to, "--wait"]);
            moved.code == Some(0)
        });
    }
    let old = held(&context(dev, &[OTHER, HOLDER])).unwrap();
    assert_eq!(old.holder.region.as_str(), HOLDER);
    assert!(old.epoch.counter() >= 5, "{old}");
    old
}

fn nothing_is_recovered_from_a_running_cluster(dev: &Dev) {
    recover(dev, &[]).failed_with(5, &["--dry-run", "--unsafe"]);
    let refused = recover(dev, &["--unsafe", "--yes"]);
    refused.failed_with(5, &["still takes connections", "stop every other coordinator"]);
    let looked = recover(dev, &["--dry-run"]);
    assert_eq!(looked.code, Some(0), "{looked:?}");
    let looked = looked.json();
    let others = looked["others"].as_array().unwrap();
    assert!(
        others.len() == 2 && others.iter().all(|o| o["answers"] == true),
        "{looked}"
    );
}

fn the_survivor_goes_on(dev: &Dev, old: &FencingToken) -> Value {
    // Nobody is there to type its name.
    recover(dev, &["--unsafe"]).failed_with(2, &["is given up", "--yes"]);
    let done = recover(dev, &["--unsafe", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("LOST WITH IT"), "{done:?}");
    let done = done.json();
    assert_eq!(done["generation"], 2, "{done}");
    assert_ne!(
        done["cluster_id"],
        Value::from(old.cluster_id.to_string()),
        "{done}"
    );
    // It had missed them all, so it could not know by which epoch to go on, but for the generation.
    let known: types::Epoch = serde_json::from_value(done["from"]["roles"][0]["epoch"].clone()).unwrap();
    assert!(known < old.epoch, "{known} {}", old.epoch);
    let rebind = &done["rebinds"][0];
    assert_eq!(
        rebind["supersedes"],
        Value::from(old.cluster_id.to_string()),
        "{done}"
    );
    assert_eq!(rebind["signed"], false, "{done}");
    let kept = Path::new(done["kept"].as_str().unwrap());
    assert!(kept.join("node.json").exists(), "{done}");
    done
}

/// Its majority is back, and its holder goes on under the old token: what follows is no straw man.
pub(crate) fn the_old_cluster_lives(dev: &Dev, old: &FencingToken) {
    let majority = as_agent(dev, old.holder.region.as_str(), context(dev, &[OTHER, HOLDER]));
    until("the old majority renews the old lease", || {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async { client(&majority).renew_lease(old).await.is_ok() })
    });
}

/// An agent of the new cluster, which holds the role under its generation.
fn the_new_cluster_gives_the_role_out(dev: &Dev, new: &Context, recovered: &Value) -> Running {
    let data = process(dev, SURVIVOR, "agent").join("data-of-the-new-cluster");
    let agent = start(
        dev,
        SURVIVOR,
        "agent",
        &[
            ("data_dir", format!("{:?}", data.display().to_string())),
            ("coordinators", format!("{:?}", new.endpoints)),
        ],
    );
    until("the new cluster has a holder", || held(new).is_some());
    let token = held(new).unwrap();
    assert_eq!(Value::from(token.cluster_id.to_string()), recovered["cluster_id"]);
    assert_eq!(token.epoch.generation(), 2, "{token}");
    agent
}

/// The state machine, the lease and the agent, each under the certificate of the old token's holder.
fn every_door_refuses(dev: &Dev, new: &Context, _agent: &Running, old: &FencingToken) {
    let as_holder = as_agent(dev, HOLDER, new.clone());
    let current = held(new).unwrap();
    let renamed = FencingToken {
        cluster_id: current.cluster_id,
        ..old.clone()
    };
    let listen = process(dev, SURVIVOR, "agent").join("data-of-the-new-cluster/listen.json");
    let listen: Value = serde_json::from_str(&fs::read_to_string(listen).unwrap()).unwrap();
    let door = format!("https://{}", listen["agent"].as_str().unwrap());
    Runtime::new().unwrap().block_on(async {
        let registry = client(&as_holder);
        let model: ModelName = "recovery.model".parse().unwrap();
        let admin = client(new);
        admin
            .create_model(&model, "", BTreeMap::new(), &Default::default())
            .await
            .unwrap();
        let agent = AgentClient::new(&door, &as_holder.tls, Duration::from_secs(10)).unwrap();
        let version: VersionKey = "recovery.model@1".parse().unwrap();
        for (token, reason) in [(old, Reason::WrongCluster), (&renamed, Reason::StaleEpoch)] {
            let tags = BTreeMap::from([("by".to_owned(), "zombie".to_owned())]);
            let written = registry
                .set_model_tags(&model, tags, vec![], None, Some(token))
                .await;
            assert_eq!(written.map(|_| ()).unwrap_err().reason, reason);
            let renewed = registry.renew_lease(token).await.map(|_| ());
            assert_eq!(renewed.unwrap_err().reason, reason);
            let served = agent.serve_version(token, &version).await;
            assert_eq!(served.unwrap_err().reason, reason);
        }
        let models = admin.list_models().await.unwrap();
        let model = models.iter().find(|m| m.name == model).unwrap();
        assert!(model.tags.is_empty(), "{model:?}");
    });
}

/// Nobody had its key when the cluster was recovered.
fn the_ca_signs_later(dev: &Dev, old: &FencingToken, recovered: &Value) {
    let (context, endpoint) = (dev.context_file(), api(dev, SURVIVOR));
    let rebind = |args: &[&str]| {
        let fixed = ["--context", context.to_str().unwrap(), "--endpoint", &endpoint];
        run(&[&fixed, &["cluster", "rebind"][..], args].concat())
    };
    let sign = |key: &str| {
        let key = dev.path().join("certs").join(key);
        rebind(&["sign", "--ca-key", key.to_str().unwrap()])
    };
    let signed = || {
        let listed = rebind(&["list", "--output", "json"]).json();
        assert_eq!(listed["cluster_id"], recovered["cluster_id"], "{listed}");
        let supersedes = Value::from(old.cluster_id.to_string());
        assert_eq!(listed["rebinds"][0]["supersedes"], supersedes, "{listed}");
        listed["rebinds"][0]["signed"].as_bool().unwrap()
    };
    sign(&format!("{SURVIVOR}-agent.key")).failed_with(2, &["is not the key of any certificate"]);
    assert!(!signed());
    let done = sign("ca.key");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(signed());
}

/// With its old disk a revived node takes no part in the new cluster; with an empty one it is a voter of the new cluster.
fn the_others_come_back_wiped_or_not_at_all(dev: &Dev, new: &Context) {
    let join = [
        ("join", format!("{:?}", new.endpoints)),
        ("bootstrap", "false".to_owned()),
    ];
    let mut revived = start(dev, HOLDER, "coordinator", &join);
    // Whoever it asks first: the one that it knew as its leader, or the one that it is to join.
    let other = held(new).unwrap().cluster_id.to_string();
    until("it was told that the cluster is another", || {
        fs::read_to_string(log(dev, HOLDER, "coordinator")).is_ok_and(|said| said.contains(&other))
    });
    assert_eq!(voters(new), 1);
    revived.kill();
    let data = process(dev, HOLDER, "coordinator").join("data");
    let listen = fs::read(data.join("listen.json")).unwrap();
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("listen.json"), listen).unwrap();
    let _joined = start(dev, HOLDER, "coordinator", &join);
    until("it votes in the new cluster", || voters(new) == 2);
}
