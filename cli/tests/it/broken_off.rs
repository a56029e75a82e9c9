//! Commands that end in the middle: what is known afterwards, and how to go on.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    asleep::Asleep,
    dev::Dev,
    harness::{turn, until},
    samples::{OwnModel, sample, start},
};

/// The leader is left alone, so it can accept a change and cannot finish it.
#[test]
fn an_unknown_outcome_is_asked_again_under_its_request_id() {
    let _turn = turn();
    let dev = Dev::start(3);
    dev.json(&["model", "push", &sample("digits"), "--name", "demo.digits"]);
    let alias = ["model", "alias", "demo.digits@1", "candidate"];
    let asleep: Vec<Asleep<'_>> = followers(&dev)
        .iter()
        .map(|region| Asleep::of(&dev, region, "coordinator"))
        .collect();
    let ran = dev.run(&[&alias[..], &["--timeout", "2s"]].concat());
    ran.failed_with(9, &["--request-id", "does not happen twice"]);
    // A question changes nothing, so its silence leaves no doubt behind.
    dev.run(&["model", "get", "demo.digits", "--timeout", "2s"])
        .failed_with(6, &["no final answer within 2s"]);
    let id = ran.stderr.split("--request-id ").nth(1).unwrap();
    let id = id.split(':').next().unwrap().to_owned();
    drop(asleep);
    let again = [&alias[..], &["--request-id", &id]].concat();
    let mut first = None;
    until("the change has its outcome", || {
        first = dev.json_of(&again);
        first.is_some()
    });
    assert_eq!(dev.json(&again), first.unwrap(), "the second answer is the first");
    dev.run(&["model", "alias", "demo.digits@1", "other", "--request-id", &id])
        .failed_with(4, &["REQUEST_REUSED"]);
    dev.run(&["model", "alias", "demo.digits@1", "other", "--request-id", "1"])
        .failed_with(2, &["--request-id", "1"]);
}

fn followers(dev: &Dev) -> Vec<String> {
    let status = dev.json(&["cluster", "status"]);
    let coordinators = status["coordinators"].as_array().unwrap().iter();
    let followers = coordinators.filter(|c| c["raft_state"] != "LEADER");
    followers
        .map(|c| c["region"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_push_that_was_killed_is_finished_by_the_next_or_given_up() {
    let _turn = turn();
    let dev = Dev::start(1);
    finished_by_the_next(&dev);
    given_up(&dev);
    bounded(&dev);
}

fn finished_by_the_next(dev: &Dev) {
    let model = OwnModel::of("tinylm", "demo.killed");
    kill_in_the_middle(dev, &model);
    let version = dev.json(&["model", "versions", "demo.killed"])["versions"][0].clone();
    assert_eq!(version["state"], "PENDING_UPLOAD");
    for verb in [&["model", "versions", "demo.killed"][..], &["model", "list"]] {
        let table = dev.run(verb).stdout;
        assert!(
            table.contains("PENDING_UPLOAD") && table.contains(" ago"),
            "{table}"
        );
    }
    let pushed = dev.json(&model.push());
    assert_eq!(
        (&pushed["created"], &pushed["version"]["state"]),
        (&json!(false), &json!("READY"))
    );
    assert_eq!(pushed["version"]["key"], version["key"]);
    assert_eq!(dev.json(&["model", "list"])["unfinished"], json!([]));
}

fn given_up(dev: &Dev) {
    let model = OwnModel::of("embedder", "demo.given-up");
    kill_in_the_middle(dev, &model);
    let abort = ["model", "abort", "demo.given-up@1", "--reason", "a test"];
    let given_up = dev.json(&abort)["version"].clone();
    assert_eq!(
        (&given_up["state"], &given_up["state_reason"]),
        (&json!("DELETED"), &json!("a test"))
    );
    dev.run(&abort).failed_with(4, &["demo.given-up@1", "DELETED"]);
    assert_eq!(dev.json(&["model", "list"])["unfinished"], json!([]));
    assert_eq!(dev.json(&model.push())["version"]["key"]["version"], 2);
    dev.run(&["model", "abort", "demo.given-up@2"])
        .failed_with(4, &["demo.given-up@2", "READY"]);
}

/// SIGKILL to a push whose store answers nothing, once its version stands in the registry.
fn kill_in_the_middle(dev: &Dev, model: &OwnModel) {
    let asleep = Asleep::of(dev, "us-west-2", "store");
    let mut push = start(dev, &model.push());
    let announced =
        || -> Option<Value> { Some(dev.json_of(&["model", "versions", model.name])?["versions"][0].clone()) };
    until("the version is announced", || {
        announced().is_some_and(|v| v.is_object())
    });
    dev.signal(push.id(), Signal::KILL);
    push.wait().unwrap();
    drop(asleep);
}

/// A store that answers nothing holds a push up no longer than its flags say, and nothing half-registered stays.
fn bounded(dev: &Dev) {
    let model = OwnModel::of("digits", "demo.bounded");
    let asleep = Asleep::of(dev, "us-west-2", "store");
    let push = |flags: &[&str]| dev.run(&[&model.push()[..], flags].concat());
    push(&["--wait-timeout", "1s"]).failed_with(
        6,
        &[
            "uploading to the store of us-west-2 takes longer than 1s (--wait-timeout)",
            "regent region list",
            "demo.bounded@1 was given up",
        ],
    );
    push(&["--timeout", "3s"]).failed_with(
        6,
        &[
            "uploading",
            "no answer within 3000 ms",
            "demo.bounded@2 was given up",
        ],
    );
    drop(asleep);
    let pushed = dev.json(&model.push());
    assert_eq!(
        (&pushed["version"]["state"], &pushed["version"]["key"]["version"]),
        (&json!("READY"), &json!(3))
    );
}
