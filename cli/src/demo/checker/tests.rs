//! The checker over recorded runs: one that held, and many that each break one promise.
//!
//! `testdata/demo/good.json` is a run; each entry of `bad.json` says what to change in it, and which step must notice.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::check;
use crate::demo::{record::RecordedRun, report::Report};

const GOOD: &str = include_str!("../../../testdata/demo/good.json");
const BAD: &str = include_str!("../../../testdata/demo/bad.json");

#[derive(Deserialize)]
struct Bad {
    why: String,
    fails: String,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Change {
    Set { set: String, value: Value },
    Remove { remove: String },
    Truncate { truncate: String, to: usize },
}

impl Change {
    fn apply(&self, run: &mut Value) {
        match self {
            Self::Set { set, value } => put(run, set, value.clone()),
            Self::Remove { remove } => take(run, remove),
            Self::Truncate { truncate, to } => {
                run.pointer_mut(truncate)
                    .unwrap()
                    .as_array_mut()
                    .unwrap()
                    .truncate(*to);
            }
        }
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap()
}

fn put(run: &mut Value, path: &str, value: Value) {
    let (parent, key) = split(path);
    match run.pointer_mut(parent).unwrap() {
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        other => panic!("{path}: {other} has no parts"),
    }
}

fn take(run: &mut Value, path: &str) {
    let (parent, key) = split(path);
    match run.pointer_mut(parent).unwrap() {
        Value::Object(map) => {
            map.remove(key).unwrap();
        }
        Value::Array(list) => {
            list.remove(key.parse().unwrap());
        }
        other => panic!("{path}: {other} has no parts"),
    }
}

fn judged(run: Value) -> Report {
    check(&serde_json::from_value::<RecordedRun>(run).unwrap())
}

fn good() -> Value {
    serde_json::from_str(GOOD).unwrap()
}

#[test]
fn the_good_run_passes() {
    let report = judged(good());
    for step in &report.steps {
        assert!(step.ok, "{}: {}", step.name, step.detail);
    }
    assert!(report.ok);
    assert_eq!(report.exit_code(), 0);
    assert_eq!(report.stale_writes_accepted, 0);
    assert!(report.epoch_before < report.epoch_after);
    assert!(
        report.failover_seconds.is_some_and(|s| s > 4.0 && s < 5.0),
        "{report:?}"
    );
    assert_eq!(report.inference_failures, 0);
    assert!(report.inference_requests > 1000);
    assert_eq!(report.coordinator_resident_bytes, Some(36 << 20));
    assert!((report.seconds - 41.5).abs() < f64::EPSILON, "{report:?}");
}

#[test]
fn writes_before_the_claim_are_reported_apart_and_only_at_the_revived_store() {
    let report = judged(good());
    for door in &report.doors {
        let expected = if door.name == "pointer/us-west-2" { 2 } else { 0 };
        assert_eq!(door.accepted_before_claim, expected, "{}", door.name);
        assert!(door.attempted >= 20, "{}: {}", door.name, door.attempted);
    }
}

#[test]
fn every_bad_run_fails_the_step_that_it_breaks() {
    let bad: BTreeMap<String, Bad> = serde_json::from_str(BAD).unwrap();
    assert!(bad.len() >= 50);
    for (name, bad) in bad {
        let mut run = good();
        bad.changes.iter().for_each(|change| change.apply(&mut run));
        let report = judged(run);
        assert!(!report.ok, "{name} ({}) passed", bad.why);
        assert_eq!(report.exit_code(), 1, "{name}");
        let step = report
            .steps
            .iter()
            .find(|s| s.name.as_str() == bad.fails)
            .unwrap();
        assert!(
            !step.ok,
            "{name} ({}): {} held: {}",
            bad.why, bad.fails, step.detail
        );
    }
}

#[test]
fn the_answer_of_the_given_model_is_told() {
    let mut run = good();
    run["answers"][0]["own_model"] = serde_json::json!({ "Ok": "class 3" });
    let report = judged(run);
    assert!(report.ok);
    assert!(
        report.steps[3].detail.ends_with("; the given model: class 3"),
        "{report:?}"
    );
}

#[test]
fn a_load_under_way_is_not_slow_because_some_answers_are_due() {
    let mut run = good();
    run["converged"] = Value::Null;
    for place in (11..19).rev() {
        take(&mut run, &format!("/load/1/requests/{place}"));
    }
    run["load"][1]["requests"].as_array_mut().unwrap().truncate(13);
    run["act2"]["released"] = Value::Null;
    let load = super::load::judge(&serde_json::from_value(run).unwrap());
    assert!(load.is_ok(), "{load:?}");
}

#[test]
fn an_agent_that_stayed_up_may_trust_its_last_answer_for_a_while() {
    // Committed at 16.2 s; what it took until 18.7 s it may have asked about before.
    let mut run = good();
    let late = serde_json::json!([
        { "set": "/doors/2/records/3/at", "value": 1_790_000_018_700_000_u64 },
        { "set": "/doors/2/records/3/shown", "value": "g1.e1" },
        { "set": "/doors/2/records/3/current", "value": "g1.e1" },
    ]);
    let late: Vec<Change> = serde_json::from_value(late).unwrap();
    late.iter().for_each(|change| change.apply(&mut run));
    let held = |run: &Value| super::early::judge(&serde_json::from_value(run.clone()).unwrap());
    assert_eq!(held(&run), Ok(()));
    put(
        &mut run,
        "/doors/2/records/3/at",
        1_790_000_018_700_001_u64.into(),
    );
    assert!(held(&run).is_err());
}

#[test]
fn the_bound_for_agents_is_the_one_that_their_door_keeps() {
    let bound = std::time::Duration::from_micros(super::AGENT_TRUST_MICROS);
    assert_eq!(bound, node_agent::door::TRUSTED_FOR);
}

#[test]
fn an_empty_run_holds_no_step() {
    let report = check(&RecordedRun::default());
    assert!(report.steps.iter().all(|s| !s.ok));
    assert_eq!(report.steps.len(), 15);
    assert_eq!(report.exit_code(), 1);
}
