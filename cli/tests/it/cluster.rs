//! `regent dev` as a whole: start, stop, kill, and what is there afterwards.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use client::{Client, Context};
use types::{ModelName, model::Placement};

use crate::{
    dev::Dev,
    harness::{is_alive, turn, until},
};

#[test]
fn a_cluster_starts_answers_stops_and_starts_again_on_its_ports() {
    let _turn = turn();
    let mut dev = Dev::start(1);
    let endpoints = dev.context().endpoints;
    let pids = dev.pids();
    assert_eq!(pids.len(), 3, "a region is coordinator, store and agent");
    let regions = dev.json(&["region", "list"]);
    assert_eq!(regions["regions"][0]["region"], "us-west-2");
    assert_eq!(regions["regions"][0]["health"], "HEALTHY");

    assert_eq!(dev.stop(), Some(0));
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "a process stayed behind");

    dev.start_again();
    assert_eq!(dev.context().endpoints, endpoints);
    assert_eq!(dev.json(&["region", "list"])["regions"][0]["health"], "HEALTHY");
}

#[test]
fn children_end_when_dev_is_killed() {
    let _turn = turn();
    let mut dev = Dev::start(1);
    let pids = dev.pids();
    dev.kill_parent();
    until("every child has ended", || pids.iter().all(|pid| !is_alive(*pid)));
}

#[test]
fn a_child_that_dies_is_reported_and_starts_again() {
    let _turn = turn();
    let dev = Dev::start(1);
    let agent = dev.pid_of("us-west-2", "agent");
    dev.signal(agent, rustix::process::Signal::KILL);
    dev.wait_for("us-west-2/agent ended with signal: 9");
    dev.wait_for("us-west-2/agent runs again");
    assert_ne!(dev.pid_of("us-west-2", "agent"), agent);
}

#[test]
fn a_port_that_somebody_took_is_named_with_its_file() {
    let _turn = turn();
    let mut dev = Dev::start(1);
    let port: u16 = dev.context().endpoints[0]
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(dev.stop(), Some(0));
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let ran = dev.run_to_its_end();
    ran.failed_with(1, &["us-west-2/coordinator", &port.to_string(), "listen.json"]);
}

#[test]
fn two_of_one_directory_are_refused() {
    let _turn = turn();
    let dev = Dev::start(1);
    dev.run_to_its_end()
        .failed_with(1, &["in use by another regent", "--dir"]);
}

/// The first start is killed at several moments; the next start goes on from there.
#[test]
fn a_first_start_that_was_killed_is_finished_by_the_next() {
    let _turn = turn();
    let moments = [
        "us-west-2/coordinator",
        "eu-west-1/coordinator",
        "us-west-2/agent",
    ];
    for moment in moments {
        let mut dev = Dev::begin(3);
        let listens = dev.path().join("regions").join(moment).join("data/listen.json");
        until("the process listens", || listens.exists());
        dev.kill_everything();
        dev.start_again();
        let regions = dev.json(&["region", "list"]);
        let regions = regions["regions"].as_array().unwrap();
        assert!(
            regions.len() == 3 && regions.iter().all(|r| r["health"] == "HEALTHY"),
            "{moment}: {regions:?}"
        );
        let role = dev.json(&["primary", "get"])["role"].clone();
        assert!(role["holder"].is_object(), "{moment}: {role}");
    }
}

/// Every write that was acknowledged before the kill is there after it (issue 2). The kill comes at some moment of a
/// steady load, three times over one directory.
#[test]
fn acknowledged_writes_survive_kill_9_of_everything() {
    let _turn = turn();
    let mut dev = Dev::start(3);
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let writer = Writer::start(&dev.context(), round);
        let enough = rand::random_range(1..60);
        println!("round {round}: killed after {enough} acknowledged writes");
        writer.wait_for(enough);
        dev.kill_everything();
        acknowledged.extend(writer.stop());
        dev.start_again();
        let listed = dev.json(&["model", "list"]);
        let names = listed["models"].as_array().unwrap().iter();
        let there: BTreeSet<String> = names.map(|m| m["name"].as_str().unwrap().to_owned()).collect();
        let lost: Vec<&String> = acknowledged.difference(&there).collect();
        assert!(
            lost.is_empty(),
            "round {round}: {} acknowledged, lost {lost:?}",
            acknowledged.len()
        );
    }
}

/// Creates models one after the other, and remembers those that were acknowledged.
struct Writer {
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    stop: tokio_util::sync::CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    fn start(context: &Context, round: usize) -> Self {
        let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
        let stop = tokio_util::sync::CancellationToken::new();
        let mut config = context.client_config();
        config.deadline = Duration::from_secs(5);
        let (into, until) = (Arc::clone(&acknowledged), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = Client::new(config).unwrap();
                for number in 0.. {
                    let name = format!("kept.r{round}-n{number}");
                    let write = create(&client, &name);
                    tokio::select! {
                        () = until.cancelled() => return,
                        done = write => if done { into.lock().unwrap().insert(name); },
                    }
                }
            });
        });
        Self {
            acknowledged,
            stop,
            thread,
        }
    }
    fn wait_for(&self, count: usize) {
        until("enough writes are acknowledged", || {
            self.acknowledged.lock().unwrap().len() >= count
        });
    }
    fn stop(self) -> BTreeSet<String> {
        self.stop.cancel();
        self.thread.join().unwrap();
        self.acknowledged.lock().unwrap().clone()
    }
}

async fn create(client: &Client, name: &str) -> bool {
    let name: ModelName = name.parse().unwrap();
    let created = client
        .create_model(&name, "", Default::default(), &Placement::Everywhere)
        .await;
    created.is_ok()
}
