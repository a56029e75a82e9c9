//! A coordinator whose disk is put back as it was a minute ago, while the others go on under load: it has forgotten what it
//! acknowledged since, so it is let in nowhere, and nothing is lost (L20).

use std::{fs, path::Path, time::Duration};

use client::Client;
use jepsen::load::Load;
use rustix::process::Signal;
use serde_json::Value;
use tokio::{runtime::Runtime, time::Instant};

use crate::{
    dev::Dev,
    harness::{Running, turn, until},
    recovery::{kill, process, start},
};

/// How old the disk is that is put back.
const AGE: Duration = Duration::from_secs(60);
/// Acknowledged writes that each step waits for.
const SOME_WRITES: usize = 200;

/// Of a running disk: nothing in it says that it was left.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            // One that was just removed is no loss.
            false => drop(fs::copy(entry.path(), target)),
        }
    }
}

/// The region of a coordinator that follows.
pub(crate) fn follower(dev: &Dev) -> String {
    let status = dev.json(&["cluster", "status"]);
    let all = status["coordinators"].as_array().unwrap();
    let follows = all.iter().find(|c| c["raft_state"] == "FOLLOWER").unwrap();
    follows["region"].as_str().unwrap().to_owned()
}

fn load(dev: &Dev, runtime: &Runtime) -> Load {
    let mut config = dev.context().client_config();
    (config.deadline, config.attempt_timeout) = (Duration::from_secs(10), Duration::from_secs(2));
    runtime.block_on(async {
        let (model, region) = ("older.load".parse().unwrap(), "us-west-2".parse().unwrap());
        Load::start(Client::new(config).unwrap(), model, region, 2).unwrap()
    })
}

/// What the process says of itself, and its exit code.
fn ends(mut running: Running, log: &Path) -> (Option<i32>, String) {
    until("it ends by itself", || running.0.try_wait().unwrap().is_some());
    let code = running.0.wait().unwrap().code();
    (code, fs::read_to_string(log).unwrap())
}

#[test]
fn a_disk_of_a_minute_ago_is_refused_under_load_and_nothing_is_lost() {
    let _turn = turn();
    let dev = Dev::start(3);
    let runtime = Runtime::new().unwrap();
    let mut load = load(&dev, &runtime);
    let writes_go_on = |load: &mut Load| runtime.block_on(load.goes_on(SOME_WRITES)).unwrap();
    writes_go_on(&mut load);
    let old = follower(&dev);
    // It would start again whatever is killed.
    dev.signal(dev.parent(), Signal::STOP);
    let dir = process(&dev, &old, "coordinator");
    let (data, kept) = (dir.join("data"), dir.join("kept"));
    let copied = Instant::now();
    copy(&data, &kept);
    while copied.elapsed() < AGE {
        writes_go_on(&mut load);
    }
    kill(&dev, &old, "coordinator");
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&kept, &data).unwrap();
    writes_go_on(&mut load);
    let log = dir.join("again.log");
    for _ in 0..2 {
        let (code, said) = ends(start(&dev, &old, "coordinator", &[]), &log);
        assert_ne!(code, Some(0), "{said}");
        for words in ["older than what", "its log ends at", "regent cluster replace"] {
            assert!(said.contains(words), "{words:?} in {said}");
        }
        writes_go_on(&mut load);
    }
    let written = runtime.block_on(load.end()).unwrap();
    assert!(written.anomalies.is_empty(), "{written:?}");
    assert!(written.acknowledged > 5 * SOME_WRITES, "{written:?}");
    two_of_three_go_on(&dev, &old);
}

fn two_of_three_go_on(dev: &Dev, old: &str) {
    let status = dev.json(&["cluster", "status"]);
    let all = status["coordinators"].as_array().unwrap();
    let lead: Vec<&Value> = all.iter().filter(|c| c["raft_state"] == "LEADER").collect();
    assert_eq!(lead.len(), 1, "{status:#}");
    assert_ne!(lead[0]["region"], *old, "{status:#}");
}
