//! `regent demo` as people run it, and its verdict on recorded runs.

use serde_json::Value;

use crate::harness::{Ran, regent, turn};

/// The steps in the order that programs rely on.
const STEPS: [&str; 15] = [
    "cluster",
    "push",
    "copies",
    "answers",
    "load",
    "zombies",
    "act1_kill",
    "act1_promote",
    "act1_return",
    "act2_pause",
    "act2_promote",
    "act2_resume",
    "refusals",
    "doors",
    "converged",
];

fn names(report: &Value) -> Vec<&str> {
    let steps = report["steps"].as_array().unwrap();
    steps.iter().map(|s| s["name"].as_str().unwrap()).collect()
}

/// A run of the test data, changed as `change` says, judged by the process.
fn recheck(change: impl FnOnce(&mut Value)) -> Ran {
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/demo/good.json");
    let mut run: Value = serde_json::from_slice(&std::fs::read(good).unwrap()).unwrap();
    change(&mut run);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.json");
    std::fs::write(&file, run.to_string()).unwrap();
    let mut command = regent();
    command.args(["demo", "--output", "json", "--recheck"]).arg(&file);
    Ran::of(command.output().unwrap())
}

#[test]
fn the_demo_holds_every_step_and_leaves_nothing_behind() {
    if cfg!(debug_assertions) {
        // Its promises are in seconds, and an unoptimised build signs, hashes and encrypts several times slower.
        eprintln!(
            "skipped: unoptimised build; `cargo test --release -p cli`, or the demo itself, plays the story"
        );
        return;
    }
    let _turn = turn();
    let home = tempfile::tempdir().unwrap();
    let mut command = regent();
    command
        .args(["demo", "--output", "json"])
        .env("TMPDIR", home.path());
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, ran.stdout);
    let report = ran.json();
    assert_eq!(report["ok"], true);
    assert_eq!(names(&report), STEPS);
    assert_eq!(report["stale_writes_accepted"], 0);
    assert_eq!(report["inference_failures"], 0);
    assert!(
        report["epoch_after"].as_u64() > report["epoch_before"].as_u64(),
        "{report}"
    );
    assert!(report["failover_seconds"].as_f64().unwrap() <= 10.0, "{report}");
    let seconds = report["seconds"].as_f64().unwrap();
    let of_steps = report["steps"].as_array().unwrap().iter();
    let of_steps: f64 = of_steps.map(|s| s["seconds"].as_f64().unwrap()).sum();
    assert!(seconds >= of_steps, "{report}");
    for door in report["doors"].as_array().unwrap() {
        assert!(door["attempted"].as_u64().unwrap() >= 20, "{door}");
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_recorded_run_that_held_exits_0() {
    let ran = recheck(|_| {});
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.json()["ok"], true);
}

#[test]
fn a_recorded_run_is_written_as_a_page_that_needs_no_other_file() {
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/demo/good.json");
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("demo.html");
    let mut command = regent();
    command.args(["demo", "--recheck", good, "--report"]).arg(&page);
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let html = std::fs::read_to_string(page).unwrap();
    for said in [
        "every promise was kept",
        "<svg",
        "kill -9 all of us-west-2",
        "pointer/eu-west-1",
    ] {
        assert!(html.contains(said), "{said}");
    }
    let nowhere = dir.path().join("none/demo.html");
    let mut command = regent();
    command
        .args(["demo", "--recheck", good, "--report"])
        .arg(&nowhere);
    let ran = Ran::of(command.output().unwrap());
    assert_ne!(ran.code, Some(0));
    assert!(ran.stderr.contains("none/demo.html"), "{}", ran.stderr);
}

#[test]
fn recorded_bad_runs_exit_1_with_one_document() {
    type Change = fn(&mut Value);
    let bad: [(&str, Change); 7] = [
        ("refusals", |run| {
            run["doors"][0]["records"][20]["accepted"] = true.into()
        }),
        ("refusals", |run| {
            drop(run["doors"].as_array_mut().unwrap().remove(2))
        }),
        ("refusals", |run| {
            run["doors"][1]["records"].as_array_mut().unwrap().truncate(22)
        }),
        ("act1_promote", |run| {
            run["act1"]["after"]["epoch"] = run["act1"]["before"]["epoch"].clone();
        }),
        ("load", |run| {
            run["load"][2]["requests"][9]["error"] = "HTTP 503".into()
        }),
        ("load", |run| run["load"][0]["requests"][9]["place"] = 8.into()),
        ("converged", |run| {
            run["converged"]["coordinator_resident_bytes"][0] = (100_u64 << 20).into();
        }),
    ];
    for (step, change) in bad {
        let ran = recheck(change);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let report = ran.json();
        assert_eq!(report["ok"], false);
        let failed = report["steps"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["name"] == step);
        assert_eq!(failed.unwrap()["ok"], false, "{report}");
    }
}
