//! Commands that end in the middle: what is known afterwards, and how to go on.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    asleep::Asleep,
    dev::Dev,
    harness::{Lines, Ran, turn, until},
    samples::{OwnModel, sample, start},
};

#[test]
fn what_is_asked_without_a_quorum_can_be_asked_again_or_waits() {
    let _turn = turn();
    let dev = Dev::start(3);
    unknown_outcome(&dev);
    a_push_begins(&dev);
}

/// Its first questions outlast the time without a quorum too, and not only those after them.
fn a_push_begins(dev: &Dev) {
    let model = OwnModel::of("digits", "demo.begun");
    let asleep = followers_asleep(dev);
    let flags = ["--region", "us-west-2", "--timeout", "1s", "--output", "json"];
    let mut push = start(dev, &[&model.push()[..], &flags].concat());
    let said = Lines::of(push.stderr.take().unwrap());
    said.wait_for("asked again, for 10m in all (--wait-timeout)");
    drop(asleep);
    let ran = Ran::of(push.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let versions = dev.json(&["model", "versions", model.name]);
    assert_eq!(
        versions["versions"].as_array().map(Vec::len),
        Some(1),
        "{versions}"
    );
}

/// The leader is left alone, so it can accept a change and cannot finish it.
fn followers_asleep(dev: &Dev) -> Vec<Asleep<'_>> {
    let followers = followers(dev);
    followers
        .iter()
        .map(|region| Asleep::of(dev, region, "coordinator"))
        .collect()
}

fn unknown_outcome(dev: &Dev) {
    dev.json(&["model", "push", &sample("digits"), "--name", "demo.digits"]);
    let alias = ["model", "alias", "demo.digits@1", "candidate"];
    let asleep = followers_asleep(dev);
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
    // It says the revision as of which it stands; the registry has gone on since.
    let (first, second) = (first.unwrap(), dev.json(&again));
    assert_eq!(second["alias"], first["alias"], "the second answer is the first");
    assert!(
        second["revision"].as_u64() >= first["revision"].as_u64(),
        "{second}"
    );
    dev.run(&["model", "alias", "demo.digits@1", "other", "--request-id", &id])
        .failed_with(4, &["REQUEST_REUSED"]);
    dev.run(&["model", "alias", "demo.digits@1", "other", "--request-id", "1"])
        .failed_with(2, &["--request-id", "1"]);
}

/// The version is whole and one region's copy is late: who stops waiting then has pushed, and is told so.
#[test]
fn a_push_whose_wait_is_broken_off_says_that_its_version_is_ready() {
    let _turn = turn();
    let dev = Dev::start(2);
    let model = OwnModel::of("digits", "demo.waited");
    let asleep = Asleep::of(&dev, "eu-west-1", "agent");
    let wait = [
        "--wait-copies",
        "all",
        "--region",
        "us-west-2",
        "--output",
        "json",
    ];
    let push = start(&dev, &[&model.push()[..], &wait].concat());
    until("the version is READY", || state(&dev, model.name) == "READY");
    dev.signal(push.id(), Signal::INT);
    let ran = Ran::of(push.wait_with_output().unwrap());
    ran.failed_with(
        1,
        &[
            "demo.waited@1 is READY; what failed was the wait: stopped by ctrl-c",
            "regent replication status --model demo.waited",
        ],
    );
    let error = ran.json()["error"].clone();
    assert_eq!(error["operands"]["state"], "READY", "{error}");
    drop(asleep);
    assert_eq!(dev.json(&model.push())["version"]["state"], "READY");
}

/// The state of a model's first version, as far as there is one and somebody answers.
fn state(dev: &Dev, model: &str) -> Value {
    let versions = dev.json_of(&["model", "versions", model]);
    versions.map_or(Value::Null, |v| v["versions"][0]["state"].clone())
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
    outlasts_a_silence(&dev);
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

/// Nobody answers for a while, as across an election or a restart: a push that may wait for minutes asks again.
fn outlasts_a_silence(dev: &Dev) {
    let model = OwnModel::of("digits", "demo.patient");
    let agent = Asleep::of(dev, "us-west-2", "agent");
    let mut push = start(dev, &[&model.push()[..], &["--timeout", "1s"]].concat());
    let said = Lines::of(push.stderr.take().unwrap());
    until("the upload is complete", || state(dev, model.name) == "VERIFYING");
    let coordinator = Asleep::of(dev, "us-west-2", "coordinator");
    said.wait_for("asked again, for 10m in all (--wait-timeout)");
    drop(coordinator);
    drop(agent);
    let ran = Ran::of(push.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(state(dev, model.name), "READY");
}
