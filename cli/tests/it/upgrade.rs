//! A rolling upgrade as an operator does it: one coordinator after the other, under load, back again as long as that is possible.
//!
//! The older build is this one, told to know no rules above level 1 (`coordinator::planted`).

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use client::Client;
use jepsen::load::Load;
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    dev::Dev,
    harness::{Running, regent, turn, until},
};

const REGIONS: [&str; 3] = ["us-west-2", "eu-west-1", "ap-southeast-1"];
/// Who is upgraded first, second and last.
const FIRST: &str = REGIONS[0];
const SECOND: &str = REGIONS[1];
const LAST: &str = REGIONS[2];
const PLANTED: &str = "REGENT_PLANTED_FEATURE_LEVEL";
/// The level of the older build.
const OLD_LEVEL: u32 = 1;
/// Acknowledged writes that each step waits for, so that none of them is without load.
const SOME_WRITES: usize = 10;

/// Which build a process is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Old,
    New,
}

/// A cluster whose processes the test starts and stops by itself.
struct Cluster {
    dev: Dev,
    running: BTreeMap<(&'static str, &'static str), Running>,
    runtime: Runtime,
    load: Option<Load>,
}

fn node(region: &str) -> String {
    format!("{region}-c1")
}

impl Cluster {
    /// Founded by the older build, and running.
    fn of_the_old_build() -> Self {
        let level = OLD_LEVEL.to_string();
        let mut dev = Dev::start_with(3, &[(PLANTED, &level)]);
        // It would start again whatever the test stops.
        assert_eq!(dev.stop(), Some(0));
        let mut cluster = Self {
            dev,
            running: BTreeMap::new(),
            runtime: Runtime::new().unwrap(),
            load: None,
        };
        for region in REGIONS {
            cluster.names_zones(region);
            cluster.start(region, "coordinator", Build::Old);
            cluster.start(region, "agent", Build::Old);
        }
        cluster.comes_up("the cluster is up");
        cluster
    }

    fn dir(&self, region: &str, part: &str) -> PathBuf {
        self.dev.path().join("regions").join(region).join(part)
    }

    fn start(&mut self, region: &'static str, part: &'static str, build: Build) {
        let mut command = regent();
        command.arg(part).arg("--config");
        command.arg(self.dir(region, part).join("config.toml"));
        command.args(["--die-with", &std::process::id().to_string()]);
        if build == Build::Old {
            command.env(PLANTED, OLD_LEVEL.to_string());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(region, part));
        let log = log.unwrap();
        command.stdout(Stdio::null()).stderr(log);
        let running = Running(command.spawn().unwrap());
        self.running.insert((region, part), running);
    }

    /// The configs name a zone, of which the older build says nothing.
    fn names_zones(&self, region: &str) {
        for part in ["coordinator", "agent"] {
            let path = self.dir(region, part).join("config.toml");
            let config = fs::read_to_string(&path).unwrap();
            let named = config.replace("# zone = \"eu-west-1a\"", &format!("zone = \"{region}-a\""));
            assert_ne!(named, config);
            fs::write(path, named).unwrap();
        }
    }

    /// The zone of each node, as the registry has it.
    fn zones(&self) -> Option<Vec<(Value, Value)>> {
        let nodes = self.dev.json_of(&["node", "list"])?;
        let zone = |node: &Value| (node["region"].clone(), node["zone"].clone());
        nodes["nodes"]
            .as_array()
            .map(|all| all.iter().map(zone).collect())
    }

    fn log(&self, region: &str, part: &str) -> PathBuf {
        self.dir(region, part).join("upgrade.log")
    }

    /// What it said so far.
    fn said(&self, region: &str) -> String {
        fs::read_to_string(self.log(region, "coordinator")).unwrap()
    }

    /// SIGTERM, and an end that is none of an error.
    fn stop(&mut self, region: &'static str, part: &'static str) {
        let mut running = self.running.remove(&(region, part)).unwrap();
        self.dev.signal(running.pid(), Signal::TERM);
        let ended = running.0.wait().unwrap();
        assert!(ended.success(), "{region}/{part}: {ended}");
    }

    /// Stops a coordinator and starts it as this build, on its data directory. Meanwhile the others go on, and so does the load.
    fn becomes(&mut self, region: &'static str, build: Build) {
        self.stop(region, "coordinator");
        self.writes_go_on();
        self.start(region, "coordinator", build);
        self.comes_up(&format!("{region} is up as {build:?}"));
        self.writes_go_on();
    }

    /// Waits until all coordinators answer, with a quorum.
    fn comes_up(&self, what: &str) {
        until(what, || {
            self.status().is_some_and(|status| {
                let all = status["coordinators"].as_array().unwrap();
                let followers = |c: &&Value| matches!(c["raft_state"].as_str(), Some("FOLLOWER" | "LEADER"));
                all.iter().filter(followers).count() == REGIONS.len()
            })
        });
    }

    fn status(&self) -> Option<Value> {
        self.dev.json_of(&["cluster", "status"])
    }

    fn begin_load(&mut self) {
        let mut config = self.dev.context().client_config();
        (config.deadline, config.attempt_timeout) = (Duration::from_secs(10), Duration::from_secs(2));
        let load = async {
            let (model, region) = ("upgrade.load".parse().unwrap(), FIRST.parse().unwrap());
            Load::start(Client::new(config).unwrap(), model, region, 8).unwrap()
        };
        self.load = Some(self.runtime.block_on(load));
        self.writes_go_on();
    }

    fn writes_go_on(&mut self) {
        if let Some(load) = &mut self.load {
            self.runtime.block_on(load.goes_on(SOME_WRITES)).unwrap();
        }
    }

    /// What is acknowledged is there, and none of it twice.
    fn end_load(&mut self) {
        let load = self.load.take().unwrap();
        let written = self.runtime.block_on(load.end()).unwrap();
        assert!(written.anomalies.is_empty(), "{written:?}");
        assert!(written.acknowledged > 10 * SOME_WRITES, "{written:?}");
    }

    /// The level is that of the older build, and these are named as those for whom it waits.
    fn stays_old(&self, waits_for: &[&str]) {
        let status = self.status().unwrap();
        for coordinator in status["coordinators"].as_array().unwrap() {
            assert_eq!(coordinator["feature_level"], OLD_LEVEL, "{status:#}");
        }
        let named = status["features"]["waits_for"].as_array().unwrap();
        let named: Vec<_> = named.iter().map(|w| w["node"].as_str().unwrap()).collect();
        let mut expected: Vec<_> = waits_for.iter().map(|region| node(region)).collect();
        expected.sort();
        assert_eq!(named, expected, "{status:#}");
        self.refuses_what_is_new();
        let zones = self.zones().unwrap();
        assert!(zones.iter().all(|(_, zone)| zone.is_null()), "{zones:?}");
    }

    /// One of the new build leads, has asked everybody, and waits for these.
    fn a_new_leader_waits(&self, region: &str, waits_for: &str) {
        let already = self.said(region).len();
        let mut asked = self.dev.context().client_config();
        asked.deadline = Duration::from_secs(10);
        let client = self.runtime.block_on(async { Client::new(asked).unwrap() });
        until("it leads", || {
            let to = node(region).parse().unwrap();
            let moved = self
                .runtime
                .block_on(client.transfer_leadership(Some(&to), false));
            moved.is_ok_and(|done| done.leader == node(region))
                || self
                    .status()
                    .is_some_and(|s| s["coordinators"][0]["leader_node"] == node(region))
        });
        until("it waits for who is old", || {
            self.said(region)[already..]
                .lines()
                .any(|line| line.contains("feature level stays") && line.contains(&node(waits_for)))
        });
    }

    /// Where the leader is to be stands in the log since level 2. No older build could read that entry, so it must not get there.
    fn refuses_what_is_new(&self) {
        let refused = self.dev.run(&["cluster", "prefer", FIRST]);
        refused.failed_with(
            4,
            &["takes feature level 2, and the cluster is at 1: upgrade every coordinator first"],
        );
        // It would hand over, and say that it did not.
        let refused = self.dev.run(&["cluster", "transfer-leader", "--validate-only"]);
        refused.failed_with(
            4,
            &["to see who would lead, and do nothing, takes 11: upgrade every coordinator first"],
        );
    }

    /// An older build that comes back ends by itself, and says why and what helps.
    fn an_old_build_is_refused(&mut self, region: &'static str, level: &Value) {
        self.stop(region, "coordinator");
        let already = self.said(region).len();
        self.start(region, "coordinator", Build::Old);
        let mut running = self.running.remove(&(region, "coordinator")).unwrap();
        until("it ends by itself", || running.0.try_wait().unwrap().is_some());
        let ended = running.0.wait().unwrap();
        let said = self.said(region)[already..].to_owned();
        assert_eq!(ended.code(), Some(4), "{said}");
        for words in [
            format!("the cluster is at feature level {level}"),
            format!("knows levels up to {OLD_LEVEL}"),
            "upgrade this coordinator; a newer build goes on with the same data_dir".to_owned(),
        ] {
            assert!(said.contains(&words), "{words} is missing: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
        self.writes_go_on();
    }

    /// All have compared what they made of the log up to here, and found it equal.
    fn states_agree(&self) {
        let applied = self.status().unwrap()["coordinators"][0]["applied_index"].as_u64();
        until("the states agree", || {
            self.status().is_some_and(|status| {
                status["coordinators"].as_array().unwrap().iter().all(|c| {
                    assert!(c["state_suspect"].is_null(), "{c}");
                    assert_eq!(c["state_differs_at"], Value::Array(Vec::new()), "{c}");
                    c["state_agreed_revision"].as_u64() >= applied
                })
            })
        });
    }
}

#[test]
fn a_cluster_is_upgraded_node_by_node_under_load_and_can_go_back_until_the_last() {
    let _turn = turn();
    let mut cluster = Cluster::of_the_old_build();
    cluster.stays_old(&[]);
    cluster.begin_load();

    cluster.becomes(FIRST, Build::New);
    cluster.stays_old(&[SECOND, LAST]);
    cluster.becomes(SECOND, Build::New);
    cluster.a_new_leader_waits(SECOND, LAST);
    cluster.stays_old(&[LAST]);
    // Both may still go back, also the one that led.
    cluster.becomes(SECOND, Build::Old);
    cluster.becomes(FIRST, Build::Old);
    cluster.stays_old(&[]);
    for region in [FIRST, SECOND] {
        cluster.becomes(region, Build::New);
    }
    cluster.a_new_leader_waits(FIRST, LAST);
    cluster.stays_old(&[LAST]);

    cluster.becomes(LAST, Build::New);
    until("the level rises by itself", || {
        cluster.status().is_some_and(|status| {
            let known = &status["features"]["highest_supported_level"];
            assert!(known.as_u64() > Some(u64::from(OLD_LEVEL)), "{status:#}");
            let all = status["coordinators"].as_array().unwrap();
            all.iter().all(|c| c["feature_level"] == *known)
        })
    });
    // Nobody starts again for it.
    until("every node is labelled", || {
        cluster.zones().is_some_and(|zones| {
            assert_eq!(zones.len(), 2 * REGIONS.len(), "{zones:?}");
            zones
                .iter()
                .all(|(region, zone)| zone.as_str() == region.as_str().map(|r| format!("{r}-a")).as_deref())
        })
    });
    let level = cluster.status().unwrap()["features"]["level"].clone();
    let done = cluster.dev.run(&["cluster", "prefer", FIRST]);
    assert_eq!(done.code, Some(0), "{done:?}");
    cluster.writes_go_on();

    cluster.an_old_build_is_refused(LAST, &level);
    cluster.start(LAST, "coordinator", Build::New);
    cluster.comes_up("the new build goes on with the same data directory");
    for region in REGIONS {
        cluster.stop(region, "agent");
        cluster.start(region, "agent", Build::New);
    }
    until("the agents are back", || {
        cluster.status().is_some_and(|status| {
            let all = status["coordinators"].as_array().unwrap();
            all.iter().any(|c| c["sessions"] == REGIONS.len())
        })
    });
    cluster.writes_go_on();
    cluster.states_agree();
    cluster.end_load();
}
