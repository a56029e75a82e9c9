//! Coordinators that hang, are too few, or do not run: each is told apart, and programs get one document always.

use serde_json::Value;

use crate::{
    asleep::Asleep,
    dev::Dev,
    harness::{Ran, turn, until},
};

const REGIONS: [&str; 3] = ["us-west-2", "eu-west-1", "ap-southeast-1"];

#[test]
fn what_does_not_answer_is_told_apart() {
    let _turn = turn();
    let mut dev = Dev::start(3);
    the_leader_hangs(&dev);
    one_hangs(&dev);
    two_hang(&dev);
    all_hang(&dev);
    assert_eq!(dev.stop(), Some(0));
    nothing_runs(&dev);
}

/// The document of a verb that failed: exactly one, with what went wrong.
fn failed(dev: &Dev, args: &[&str], words: &[&str]) -> Value {
    let ran: Ran = dev.run(&[args, &["--output", "json"]].concat());
    ran.failed_with(6, words);
    let document = ran.json();
    let message = document["error"]["message"].as_str().unwrap_or_default();
    assert!(
        !message.is_empty() && document["error"]["exit_code"] == 6,
        "{document}"
    );
    document
}

/// Each answer agrees with itself from the first moment on: whoever says that there is no leader does not show a quorum.
fn the_leader_hangs(dev: &Dev) {
    let region_of = |leader: &Value| leader["region"].as_str().map(str::to_owned);
    let status = dev.json(&["cluster", "status"]);
    let coordinators = status["coordinators"].as_array().unwrap();
    let leader = coordinators.iter().find(|c| c["raft_state"] == "LEADER").unwrap();
    let asleep = Asleep::of(dev, &region_of(leader).unwrap(), "coordinator");
    until("the others have elected a leader", || {
        let ran = dev.run(&["cluster", "status", "--output", "json"]);
        let status = ran.json();
        let gone = status["coordinators"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["reachable"] == false);
        let gone = gone.unwrap_or_else(|| panic!("it sleeps: {status}"));
        assert_eq!(
            (&gone["region"], &gone["node"]),
            (&leader["region"], &leader["node"])
        );
        let member = status["members"]
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["node"] == leader["node"]);
        assert_ne!(member.unwrap()["silent"], "0s", "{status}");
        if ran.code != Some(0) {
            let why = ["does not answer; an election is due", "no leader is elected yet"];
            assert!(
                ran.code == Some(6) && why.iter().any(|why| ran.stderr.contains(why)),
                "{ran:?}"
            );
        }
        assert_eq!(status["has_quorum"], ran.code == Some(0), "{status}");
        ran.code == Some(0)
    });
    drop(asleep);
}

/// The first one of the context is asked first, and is the only one that hangs.
fn one_hangs(dev: &Dev) {
    let asleep = Asleep::of(dev, REGIONS[0], "coordinator");
    // It may have led: the others elect one of them, which takes some time and no more than the call's.
    until("the others have elected a leader", || {
        dev.run(&["region", "list"]).code == Some(0)
    });
    let status = dev.json(&["cluster", "status"]);
    assert_eq!(status["has_quorum"], true);
    assert_eq!(status["coordinators"][0]["reachable"], false, "{status}");
    drop(asleep);
}

fn two_hang(dev: &Dev) {
    let asleep = [REGIONS[0], REGIONS[1]].map(|region| Asleep::of(dev, region, "coordinator"));
    until("the last one knows that it is alone", || {
        dev.run(&["cluster", "status"]).code == Some(6)
    });
    let status = failed(
        dev,
        &["cluster", "status"],
        &["no coordinator has a quorum: 1 of 3 answer", "--stale"],
    );
    assert_eq!(status["has_quorum"], false);
    assert_eq!(status["coordinators"].as_array().map(Vec::len), Some(3));
    failed(
        dev,
        &["region", "list", "--timeout", "3s"],
        &["no final answer within 3s"],
    );
    let stale = dev.json(&["region", "list", "--stale"]);
    assert_eq!(stale["regions"].as_array().map(Vec::len), Some(3));
    assert!(stale["age"].is_string(), "{stale}");
    drop(asleep);
}

fn all_hang(dev: &Dev) {
    let asleep = REGIONS.map(|region| Asleep::of(dev, region, "coordinator"));
    failed(
        dev,
        &["region", "list", "--timeout", "1s"],
        &["no final answer within 1s", "is silent", "regent dev"],
    );
    failed(
        dev,
        &["cluster", "status", "--timeout", "1s"],
        &["no coordinator answers", "is silent"],
    );
    failed(
        dev,
        &["infer", "demo.tinylm", "--prompt", "a", "--timeout", "1s"],
        &["no final answer within 1s", "agents are", "over HTTP"],
    );
    drop(asleep);
    until("the cluster answers again", || {
        dev.run(&["region", "list"]).code == Some(0)
    });
}

fn nothing_runs(dev: &Dev) {
    let refused = [
        "no coordinator answers at https://127.0.0.1:",
        "connection refused",
        "is `regent dev` running?",
    ];
    // A minute is allowed and not needed: the test would take three.
    let began = std::time::Instant::now();
    failed(dev, &["region", "list", "--timeout", "1m"], &refused);
    failed(
        dev,
        &["model", "alias", "demo.digits@1", "candidate", "--timeout", "1m"],
        &refused,
    );
    let status = failed(
        dev,
        &["cluster", "status", "--timeout", "1m"],
        &["no coordinator answers", "is `regent dev` running?"],
    );
    assert_eq!(status["has_quorum"], false);
    assert!(began.elapsed() < std::time::Duration::from_secs(60));
}
