//! Experiments from the command line, of a cluster of three regions.

use serde_json::{Value, json};

use crate::{dev::Dev, harness::until, samples::OwnModel};

const KEY: [&str; 2] = ["demo.split", "march"];

fn run(dev: &Dev, verb: &str, flags: &[&str]) -> Value {
    dev.json(&[&["experiment", verb], &KEY[..], flags].concat())
}

pub(crate) fn check(dev: &Dev) {
    let model = OwnModel::of("digits", "demo.split");
    for card in ["the first\n", "the second\n"] {
        std::fs::write(model.dir.path().join("MODEL_CARD.md"), card).unwrap();
        dev.json(&[&model.push()[..], &["--wait-copies", "all"]].concat());
    }
    let create = [
        "experiment",
        "create",
        "demo.split",
        "march",
        "--arm",
        "1=90",
        "--arm",
        "2=10",
    ];
    let tried = [&create[..], &["--validate-only"]].concat();
    until("experiments are known", || dev.run(&tried).code == Some(0));
    dev.run(&["experiment", "get", "demo.split", "march"])
        .failed_with(3, &["EXPERIMENT_NOT_FOUND", "`regent experiment list`"]);
    let made = dev.json(&create)["experiment"].clone();
    assert_eq!(
        (&made["state"], &made["arms"][0]["percent"]),
        (&json!("RUNNING"), &json!(90))
    );
    dev.run(&create).failed_with(4, &["ALREADY_EXISTS"]);
    dev.run(&[
        "experiment",
        "create",
        "demo.split",
        "x",
        "--arm",
        "1=90",
        "--arm",
        "2=9",
    ])
    .failed_with(2, &["add up to 99"]);

    let assigned = |user: &str| run(dev, "assign", &[user, "--region", "us-west-2"]);
    let first = assigned("user-1");
    assert_eq!(first["version"], first["arm"], "{first}");
    assert_eq!(assigned("user-1")["slot"], first["slot"]);

    let metric = ["--arm", "2", "--metric", "paid=0.9125", "--metric", "users=1200"];
    let reported = run(dev, "report", &metric);
    assert_eq!(
        reported["experiment"]["arms"][1]["metrics"],
        json!({ "paid": "0.9125", "users": "1200" })
    );
    let etag = reported["experiment"]["modified"].to_string();
    let split = |etag: &str| {
        let flags = [
            "experiment",
            "set-split",
            "demo.split",
            "march",
            "--arm",
            "1=50",
            "--arm",
            "2=50",
            "--etag",
            etag,
        ];
        dev.run(&flags)
    };
    split("1").failed_with(4, &["ETAG_MISMATCH", "read it again"]);
    let done = split(&etag);
    assert_eq!(done.code, Some(0), "{done:?}");
    dev.run(&["experiment", "set-split", "demo.split", "march", "--arm", "1=100"])
        .failed_with(2, &["--etag"]);

    let shown = dev.run(&["experiment", "get", "demo.split", "march"]).stdout;
    assert!(
        shown.contains("paid=0.9125") && shown.contains("1=50%"),
        "{shown}"
    );
    let listed = |condition: &str| {
        let found = dev.json(&[
            "experiment",
            "list",
            "--model",
            "demo.split",
            "--where",
            condition,
        ]);
        found["experiments"].as_array().unwrap().len()
    };
    assert_eq!((listed("state=RUNNING"), listed("state=ENDED")), (1, 0));
    let after = dev.json(&["model", "list"])["revision"].to_string();
    let ended = run(dev, "end", &["--reason", "no difference"]);
    assert_eq!(ended["experiment"]["state"], "ENDED", "{ended}");
    dev.run(&["experiment", "assign", "demo.split", "march", "user-1"])
        .failed_with(4, &["ILLEGAL_TRANSITION", "has ended"]);
    assert_eq!((listed("state=RUNNING"), listed("state=ENDED")), (0, 1));
    let watch = [
        "watch",
        "--after",
        &after,
        "--count",
        "1",
        "--kind",
        "experiment",
        "--output",
        "json",
    ];
    let seen = dev.run(&watch).stdout;
    assert!(
        seen.contains("experiment_changed") && seen.contains("no difference"),
        "{seen}"
    );
}
