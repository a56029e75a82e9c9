//! What verbs take besides what they are about: etags, epochs, that a change is only validated, how fresh a read must be, and
//! of what a watch is.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::{
    dev::Dev,
    harness::{Running, regent, until},
};

/// Of a cluster of three regions with `demo.digits@1`, whose global role us-west-2 holds.
pub(crate) fn check(dev: &Dev) {
    // Options of changes are known once the cluster has come to their feature level, which it does by itself.
    let pause = ["primary", "pause", "--for", "1h", "--validate-only"];
    until("changes can be validated", || dev.run(&pause).code == Some(0));
    validated(dev, &pause);
    expected(dev);
    fresh(dev);
    watched(dev);
}

fn role(dev: &Dev) -> Value {
    dev.json(&["primary", "get"])["role"].clone()
}

fn validated(dev: &Dev, pause: &[&str]) {
    let before = role(dev);
    let document = dev.json(pause);
    assert_eq!(document["validated_only"], true, "{document}");
    assert_eq!(document["role"]["mode"], "PAUSED", "{document}");
    let said = dev.run(pause).stdout;
    assert!(said.ends_with("nothing was changed\n"), "{said}");
    let plan = dev.json(&[
        "switchover",
        "primaries/global",
        "--to",
        "eu-west-1",
        "--validate-only",
    ]);
    assert_eq!(
        (&plan["validated_only"], &plan["plan"]["kind"]),
        (&json!(true), &json!("SWITCHOVER"))
    );
    assert_eq!(plan["plan"]["target"]["region"], "eu-west-1", "{plan}");
    let alias = dev.json(&["model", "alias", "demo.digits@1", "tried", "--validate-only"]);
    assert_eq!(alias["alias"]["alias"], "tried", "{alias}");
    let aliases = dev.json(&["model", "get", "demo.digits"])["aliases"].clone();
    let names: Vec<_> = aliases.as_array().unwrap().iter().map(|a| &a["alias"]).collect();
    assert!(!names.contains(&&json!("tried")), "{aliases}");
    assert_eq!(role(dev), before);
    // It fails where the change would, in the same way.
    for verb in [
        ["model", "alias", "demo.digits@9", "tried"].as_slice(),
        &["model", "abort", "demo.digits@1"],
        &["switchover", "primaries/global", "--to", "nowhere"],
    ] {
        let live = dev.run(verb);
        let tried = dev.run(&[verb, &["--validate-only"]].concat());
        assert_eq!((tried.code, &tried.stderr), (live.code, &live.stderr), "{verb:?}");
        assert_ne!(tried.code, Some(0), "{verb:?}");
    }
    dev.run(&[
        "switchover",
        "primaries/global",
        "--to",
        "eu-west-1",
        "--validate-only",
        "--wait",
    ])
    .failed_with(2, &["cannot be used with"]);
}

fn expected(dev: &Dev) {
    let before = role(dev);
    let (epoch, etag) = (before["epoch"].as_str().unwrap(), before["modified"].to_string());
    let resume = |flags: &[&str]| dev.run(&[&["primary", "resume"], flags].concat());
    resume(&["--expect-epoch", "g1.e1"]).failed_with(4, &["STALE_EPOCH", epoch]);
    resume(&["--expect-epoch", "g1.e99"]).failed_with(4, &["EPOCH_UNCONFIRMED"]);
    resume(&["--etag", "1"]).failed_with(4, &["ETAG_MISMATCH", "read it again"]);
    assert_eq!(role(dev), before);
    let done = dev.json(&["primary", "resume", "--expect-epoch", epoch, "--etag", &etag]);
    assert_eq!(done["validated_only"], false, "{done}");
    assert!(
        done["role"]["modified"].as_u64() > before["modified"].as_u64(),
        "{done}"
    );
    dev.run(&[
        "switchover",
        "primaries/global",
        "--to",
        "eu-west-1",
        "--etag",
        &etag,
    ])
    .failed_with(4, &["ETAG_MISMATCH"]);
    dev.run(&["model", "abort", "demo.digits@1", "--etag", "1"])
        .failed_with(4, &["ETAG_MISMATCH"]);
}

fn fresh(dev: &Dev) {
    let listed = dev.json(&["model", "list", "--max-staleness", "1h"]);
    assert!(listed["stale"].is_boolean(), "{listed}");
    let revision = dev.json(&["model", "list"])["revision"].as_u64().unwrap();
    let own = dev.json(&[
        "model",
        "list",
        "--stale",
        "--min-revision",
        &revision.to_string(),
    ]);
    assert!(own["revision"].as_u64() >= Some(revision), "{own}");
    dev.run(&["model", "list", "--min-revision", "1000000000"])
        .failed_with(4, &["FUTURE_REVISION"]);
    dev.run(&["model", "list", "--max-staleness", "0s"])
        .failed_with(2, &["max-staleness"]);
}

/// Of two changes the filter takes one.
fn watched(dev: &Dev) {
    let after = dev.json(&["model", "list"])["revision"].to_string();
    dev.json(&["model", "alias", "demo.digits@1", "seen"]);
    dev.json(&["primary", "resume"]);
    let watch = |flags: &[&str]| {
        let ran = dev.run(
            &[
                &["watch", "--after", &after, "--count", "1", "--output", "json"],
                flags,
            ]
            .concat(),
        );
        let revision: Value =
            serde_json::from_str(ran.stdout.trim()).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        revision["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["kind"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        watch(&["--kind", "alias", "--model", "demo.*"]),
        [json!("alias_changed")]
    );
    assert_eq!(
        watch(&["--role", "primaries/*", "--kind", "role"]),
        [json!("role_changed")]
    );
    dev.run(&["watch", "--kind", "models"])
        .failed_with(2, &["must be region, node, model"]);
    dev.json(&["model", "unalias", "demo.digits", "seen"]);
    read_no_further(dev);
}

/// As under `| head`: whoever read has gone, and nothing more is committed.
fn read_no_further(dev: &Dev) {
    let after = dev.json(&["model", "list"])["revision"].to_string();
    let mut command = regent();
    command.env("REGENT_CONTEXT", dev.context_file());
    command.args(["watch", "--after", &after, "--kind", "plan"]);
    let mut watch = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    drop(watch.0.stdout.take());
    until("a watch that nobody reads ends", || {
        watch.0.try_wait().unwrap().is_some()
    });
    assert_eq!(watch.0.wait().unwrap().code(), Some(0));
}
