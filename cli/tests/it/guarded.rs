//! A failover of real processes with a PostgreSQL database as one of its doors (L17).

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use types::{FencingToken, RoleName};

use crate::{
    dev::Dev,
    harness::{Running, is_alive, regent, turn, until},
};

#[path = "../../../adapters/tests/it/server.rs"]
#[expect(dead_code, reason = "the adapter's own tests use the rest")]
pub(crate) mod server;

use server::{SOON, Server, shown, write};

pub(crate) const REGIONS: [&str; 3] = ["us-west-2", "eu-west-1", "ap-southeast-1"];

/// The agent of a region again, with the database in its config.
pub(crate) fn with_database(dev: &Dev, region: &str, url: &str) -> Running {
    let agent = dev.pid_of(region, "agent");
    dev.signal(agent, Signal::KILL);
    until("the agent is gone", || !is_alive(agent));
    let dir = dev.path().join("regions").join(region).join("agent");
    let text = std::fs::read_to_string(dir.join("config.toml")).unwrap();
    let config = dir.join("with-database.toml");
    let section = format!(
        "\n[[postgres]]\nname = \"shop\"\nurl = \"{url}\"\nroles = [\"primaries/global\"]\npatience = \"300ms\"\n"
    );
    std::fs::write(&config, text + &section).unwrap();
    let mut command = regent();
    command.arg("agent").arg("--config").arg(&config);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap())
}

/// Who holds the role, as a token; none while nobody does.
fn held(dev: &Dev, cluster: &Value) -> Option<FencingToken> {
    let role = dev.json_of(&["primary", "get"])?["role"].take();
    let token = json!({
        "cluster_id": cluster,
        "role": role["role"],
        "epoch": role["epoch"],
        "holder": role["holder"],
    });
    serde_json::from_value(token).ok()
}

/// The old holder is paused with a transaction open; its rows are gone, and its token is worth nothing, also after it woke.
#[test]
fn a_paused_holders_open_transaction_ends_with_the_failover() {
    let _turn = turn();
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(async {
        let server = Server::start("").await?;
        server.guard_by("primaries/global").await;
        Some(server)
    });
    let Some(server) = server else { return };
    let dev = Dev::start(3);
    let before = dev.json(&["node", "list"]).to_string();
    // `dev` would start its own agents again.
    dev.signal(dev.parent(), Signal::STOP);
    let agents = REGIONS.map(|region| with_database(&dev, region, &server.url("shop")));

    let postgres = server.regent();
    let global = RoleName::global();
    let mut cluster = Value::Null;
    until("the database is claimed", || {
        let standing = runtime.block_on(postgres.read(&global, SOON)).unwrap();
        cluster = standing.map_or(Value::Null, |standing| standing.fence.cluster_id.into());
        cluster.is_string()
    });
    let fenced = |token: &FencingToken| {
        let standing = runtime.block_on(postgres.read(&token.role, SOON)).unwrap();
        standing.is_some_and(|standing| standing.fence.epoch == token.epoch)
    };
    // Not a run from before.
    let is_ours =
        |token: &FencingToken| !before.contains(&token.holder.incarnation.to_string()) && fenced(token);
    let mut old = None;
    until("the database stands under the holder's epoch", || {
        old = held(&dev, &cluster).filter(|token| is_ours(token));
        old.is_some()
    });
    let old = old.unwrap();
    let app = runtime.block_on(server.connect("app"));
    let begin = format!("BEGIN; {}; INSERT INTO shop.orders VALUES (1, 10)", shown(&old));
    runtime.block_on(app.batch_execute(&begin)).unwrap();

    let at = REGIONS
        .iter()
        .position(|region| *region == old.holder.region.as_str())
        .unwrap();
    dev.signal(agents[at].pid(), Signal::STOP);
    let mut new = None;
    until("another region holds the role", || {
        new = held(&dev, &cluster).filter(|token| token.epoch > old.epoch);
        new.is_some()
    });
    let new = new.unwrap();
    assert_ne!(new.holder, old.holder);
    let plans = dev.json(&["primary", "get"])["plans"].take();
    let of_new = |plan: &&Value| plan["target_epoch"] == json!(new.epoch);
    let plan = plans.as_array().unwrap().iter().find(of_new).unwrap();
    let door = json!({"door": "postgres/shop", "claimed": true, "error": ""});
    assert!(plan["doors"].as_array().unwrap().contains(&door), "{plan}");

    runtime.block_on(app.batch_execute("COMMIT")).unwrap_err();
    dev.signal(agents[at].pid(), Signal::CONT);
    runtime.block_on(async {
        let app = server.connect("app").await;
        let insert = "INSERT INTO shop.orders VALUES (2, 20)";
        assert_eq!(write(&app, &old, insert).await, Err("RG001".to_owned()));
        write(&app, &new, insert).await.unwrap();
        assert_eq!(server.orders().await, (1, 20));
    });
    drop(agents);
    dev.signal(dev.parent(), Signal::CONT);
}
