//! The operator's verbs against a cluster: their documents, their exit codes, and what a failed push leaves behind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    asleep::Asleep,
    dev::Dev,
    harness::{is_alive, turn, until},
    samples::{OwnModel, sample},
};

/// One cluster for all of this: what is checked does not depend on the order.
#[test]
fn verbs_answer_with_documents_and_codes() {
    let _turn = turn();
    let dev = Dev::start(3);
    status(&dev);
    order(&dev);
    push_twice(&dev);
    crate::filters::check(&dev);
    crate::manners::check(&dev);
    crate::experiments::check(&dev);
    crate::records::check(&dev);
    crate::regions::check(&dev);
    freshness(&dev);
    aliases(&dev);
    infer(&dev);
    unknown_names(&dev);
    switchover(&dev);
    watch(&dev);
    pause(&dev);
    failed_push(&dev);
    infer_without_quorum(&dev);
}

fn status(dev: &Dev) {
    let status = dev.json(&["cluster", "status"]);
    assert_eq!(status["has_quorum"], true);
    assert_eq!(status["members"].as_array().unwrap().len(), 3);
    let leaders = status["coordinators"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["raft_state"] == "LEADER");
    assert_eq!(leaders.count(), 1, "{status}");
    let table = dev.run(&["cluster", "status"]);
    assert!(table.stdout.starts_with("REGION"), "{table:?}");
}

/// Regions join in the order of their list, and the first one holds the role first: the list is the candidate order.
fn order(dev: &Dev) {
    let listed = dev.json(&["region", "list"]);
    let regions = listed["regions"].as_array().unwrap().iter();
    let joined: Vec<&str> = regions.map(|r| r["region"].as_str().unwrap()).collect();
    assert_eq!(joined, ["us-west-2", "eu-west-1", "ap-southeast-1"]);
    // Read long after, this must not pass for what is so now.
    let why = dev.run(&["region", "list"]).stdout;
    assert!(
        why.contains("an agent reported ready; no version was served then"),
        "{why}"
    );
    let role = dev.json(&["primary", "get"])["role"].clone();
    assert_eq!(role["holder"]["region"], "us-west-2", "{role}");
    assert_eq!(
        role["candidates"],
        serde_json::json!([]),
        "the order of joining counts"
    );
    // The first assignment and nothing else: an epoch for nobody, and the one that was reserved meanwhile.
    assert_eq!(role["epoch"], "g1.e2", "{role}");
}

fn push_twice(dev: &Dev) {
    let digits = sample("digits");
    let args = [
        "model",
        "push",
        &digits,
        "--name",
        "demo.digits",
        "--wait-copies",
        "all",
    ];
    let first = dev.json(&args);
    assert_eq!(
        (&first["created"], &first["version"]["state"]),
        (&true.into(), &"READY".into()),
        "{first}"
    );
    let verified = first["replicas"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["state"] == "VERIFIED");
    assert_eq!(verified.count(), 3, "{first}");
    assert_eq!(
        first["alias"]["alias"], "champion",
        "it became that by itself: {first}"
    );
    assert_eq!(first["aliases"].as_array().map(Vec::len), Some(1), "{first}");
    check_revision(&first);
    let second = dev.json(&args);
    assert_eq!(
        second["created"], false,
        "a push of the same files makes no second version"
    );
    assert_eq!(
        dev.json(&["model", "versions", "demo.digits"])["versions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let replication = dev.json(&["replication", "status", "--model", "demo.digits"]);
    assert_eq!(replication["summary"]["VERIFIED"], 3);
    // Metadata is set with the announcement; that it is not set now is said, and that it stands already is not.
    let meta = |value: &str| dev.run(&[&args[..], &["--meta", value]].concat()).stderr;
    assert!(meta("owner=me").contains("--meta changes nothing: the metadata of demo.digits@1"));
    let alias = dev.run(&[&args[..], &["--alias", "pushed"]].concat()).stdout;
    assert!(alias.lines().any(|line| line.starts_with("champion ")), "{alias}");
    let pushed = alias.lines().find(|line| line.starts_with("pushed "));
    assert!(
        pushed.is_some_and(|line| line.contains("set by model push")),
        "{alias}"
    );
    // All agents may have it by now, or some of them.
    let last = alias.lines().last().unwrap();
    assert!(last.starts_with("loaded in "), "{alias}");
}

fn check_revision(document: &Value) {
    assert!(document["revision"].as_u64() > Some(0), "{document}");
}

/// What a list of the models says of one: how many versions it has, and which is its champion; the same in the table.
fn listed(dev: &Dev, model: &str) -> (Value, Value) {
    let list = dev.json(&["model", "list"]);
    let models = list["models"].as_array().unwrap();
    let found = models.iter().find(|m| m["name"] == model).unwrap();
    let (versions, champion) = (&found["versions"], &found["champion"]);
    let table = dev.run(&["model", "list"]).stdout;
    let row = table.lines().find(|line| line.starts_with(model)).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    let shown = champion
        .as_u64()
        .map_or_else(|| "-".to_owned(), |v| v.to_string());
    assert_eq!(cells[1..3], [versions.to_string(), shown], "{table}");
    (versions.clone(), champion.clone())
}

/// Every answer says its revision; a stale one, how long ago a quorum confirmed it, in words for people too.
fn freshness(dev: &Dev) {
    let digits = "demo.digits";
    for verb in [
        vec!["region", "list"],
        vec!["model", "list"],
        vec!["model", "get", digits],
        vec!["model", "versions", digits],
        vec!["replication", "status"],
    ] {
        let fresh = dev.json(&verb);
        assert!(fresh["revision"].as_u64() > Some(0), "{verb:?}: {fresh}");
        assert_eq!(
            (&fresh["stale"], &fresh["age"]),
            (&false.into(), &Value::Null),
            "{verb:?}"
        );
        let stale = [&verb[..], &["--stale"]].concat();
        let document = dev.json(&stale);
        assert!(document["revision"].as_u64() > Some(0), "{verb:?}: {document}");
        assert_eq!(document["stale"], true, "{verb:?}");
        let age = document["age"].as_str().unwrap_or_default();
        assert!(types::units::parse_duration(age).is_ok(), "{verb:?}: {document}");
        let table = dev.run(&stale).stdout;
        let last = table.lines().last().unwrap();
        assert!(
            last.starts_with("stale: as of revision ") && last.ends_with(" ago"),
            "{verb:?}: {table}"
        );
        assert!(!dev.run(&verb).stdout.contains("stale"), "{verb:?}");
    }
    for verb in ["list", "get"] {
        let fresh = dev.json(&["primary", verb]);
        assert_eq!(fresh["stale"], false, "{fresh}");
        for flag in [["--stale"].as_slice(), &["--max-staleness", "1h"]] {
            dev.run(&[&["primary", verb], flag].concat())
                .failed_with(2, &["never stale", "leave --stale and --max-staleness out"]);
        }
    }
}

fn aliases(dev: &Dev) {
    let alias = dev.json(&[
        "model",
        "alias",
        "demo.digits@1",
        "candidate",
        "--reason",
        "a test",
    ]);
    assert_eq!(alias["alias"]["version"], 1);
    check_revision(&alias);
    assert_eq!(listed(dev, "demo.digits"), (1.into(), 1.into()));
    let model = dev.json(&["model", "get", "demo.digits"]);
    let names: Vec<&str> = model["aliases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["alias"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["candidate", "champion", "pushed"]);
    dev.run(&["model", "alias", "demo.digits@1", "candidate", "--etag", "1"])
        .failed_with(4, &["ETAG_MISMATCH"]);
    unalias(dev);
    too_many_aliases(dev);
}

/// Names of the aliases of the digits, by etag.
fn etags(dev: &Dev) -> BTreeMap<String, u64> {
    let model = dev.json(&["model", "get", "demo.digits"]);
    let aliases = model["aliases"].as_array().unwrap().iter();
    let etag = |a: &Value| {
        (
            a["alias"].as_str().unwrap().to_owned(),
            a["modified"].as_u64().unwrap(),
        )
    };
    aliases.map(etag).collect()
}

/// Removed by compare-and-set, once, whatever the number of times that one request asks for it; watchers are told.
fn unalias(dev: &Dev) {
    let unalias = ["model", "unalias", "demo.digits", "pushed"];
    let etag = etags(dev)["pushed"].to_string();
    dev.run(&[&unalias[..], &["--etag", "1"]].concat())
        .failed_with(4, &["ETAG_MISMATCH", "read it again"]);
    let id = client::retry::mint_request_id().to_string();
    let once = [&unalias[..], &["--etag", &etag, "--request-id", &id]].concat();
    let removed = dev.json(&once);
    let named = json!({ "model": "demo.digits", "alias": "pushed" });
    assert_eq!(removed["removed"], named, "{removed}");
    assert_eq!(
        dev.json(&once)["removed"],
        named,
        "the second answer is the first"
    );
    assert!(!etags(dev).contains_key("pushed"));
    dev.run(&unalias)
        .failed_with(3, &["ALIAS_NOT_FOUND", "regent model get NAME"]);
    let before = (removed["revision"].as_u64().unwrap() - 1).to_string();
    let watch = ["watch", "--after", &before, "--count", "1"];
    let change = dev.run(&watch).stdout;
    assert!(
        change.ends_with("alias_deleted  demo.digits pushed  (deleted)\n"),
        "{change}"
    );
    let event = dev.json(&watch)["events"][0].clone();
    assert_eq!(event["record"], named, "only its name means anything: {event}");
}

/// A model has room for a hundred; whoever wants another one learns how to remove one.
fn too_many_aliases(dev: &Dev) {
    let key = "demo.digits@1".parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = client::Client::new(dev.context().client_config()).unwrap();
        for n in etags(dev).len()..100 {
            let alias = format!("full-{n}").parse().unwrap();
            client.set_alias(&key, &alias, "", None).await.unwrap();
        }
    });
    let one_more = ["model", "alias", "demo.digits@1", "one-more"];
    dev.run(&one_more)
        .failed_with(1, &["LIMIT_EXCEEDED", "regent model unalias NAME ALIAS"]);
    let removed = dev.run(&["model", "unalias", "demo.digits", "full-99"]).stdout;
    assert!(
        removed.starts_with("the alias full-99 of demo.digits is removed, as of revision "),
        "{removed}"
    );
    assert_eq!(dev.run(&one_more).code, Some(0));
}

fn infer(dev: &Dev) {
    let dir = tempfile::tempdir().unwrap();
    let input = a_digit(&dir);
    let args = ask_in_eu(&input);
    until("eu-west-1 serves the model", || dev.run(&args).code == Some(0));
    let answer = dev.json(&args);
    assert_eq!(answer["model_name"], "demo.digits", "{answer}");
    let by = ["model_version", "region"].map(|field| answer[field].as_str());
    assert_eq!(by, [Some("1"), Some("eu-west-1")], "{answer}");
    fs::write(&input, "[1, 2, 3]").unwrap();
    dev.run(&args).failed_with(2, &["3"]);
}

/// Losing the quorum stops no inference, nor the way to it (I10); nor does what comes right after, when the registry
/// takes every agent for lost until it has its session again.
fn infer_without_quorum(dev: &Dev) {
    let dir = tempfile::tempdir().unwrap();
    let input = a_digit(&dir);
    let ask = || assert_eq!(dev.json(&ask_in_eu(&input))["model_name"], "demo.digits");
    ask();
    let two_of_three = ["us-west-2", "ap-southeast-1"].map(|r| Asleep::of(dev, r, "coordinator"));
    ask();
    drop(two_of_three);
    until("the registry answers again", || {
        ask();
        dev.run(&["primary", "get"]).code == Some(0)
    });
    ask();
}

fn a_digit(dir: &TempDir) -> PathBuf {
    let input = dir.path().join("digit.json");
    let pixels: Vec<u32> = (0..64).map(|i| i % 16).collect();
    fs::write(&input, serde_json::to_string(&pixels).unwrap()).unwrap();
    input
}

fn ask_in_eu(input: &Path) -> [&str; 6] {
    let input = input.to_str().unwrap();
    ["infer", "demo.digits", "--input", input, "--region", "eu-west-1"]
}

fn unknown_names(dev: &Dev) {
    dev.run(&["model", "get", "no.such"])
        .failed_with(3, &["no.such", "MODEL_NOT_FOUND"]);
    dev.run(&["model", "versions", "no.such"])
        .failed_with(3, &["no.such"]);
    dev.run(&["infer", "no.such", "--text", "a"])
        .failed_with(3, &["no.such"]);
    dev.run(&["infer", "demo.digits", "--text", "a", "--region", "mars"])
        .failed_with(3, &["mars", "eu-west-1"]);
    dev.run(&["replication", "status", "--model", "no.such"])
        .failed_with(3, &["no.such"]);
    dev.run(&["replication", "status", "--region", "mars"])
        .failed_with(3, &["mars", "eu-west-1"]);
    let digits = sample("digits");
    let push = [
        "model",
        "push",
        &digits,
        "--name",
        "demo.nine",
        "--wait-copies",
        "9",
    ];
    dev.run(&push).failed_with(2, &["9", "there are 3 regions"]);
    dev.run(&["model", "get", "demo.nine"])
        .failed_with(3, &["demo.nine"]);
    dev.run(&["switchover", "primaries/orders", "--to", "eu-west-1"])
        .failed_with(3, &["primaries/orders"]);
    let refused = dev.run(&["model", "get", "no.such", "--output", "json"]);
    assert_eq!(refused.json()["error"]["reason"], "MODEL_NOT_FOUND");
}

fn switchover(dev: &Dev) {
    let role = || dev.json(&["primary", "get"])["role"].clone();
    let before = role();
    let held_by = before["holder"]["region"].as_str().unwrap().to_owned();
    let to = if held_by == "eu-west-1" {
        "us-west-2"
    } else {
        "eu-west-1"
    };
    let stale = [
        "switchover",
        "primaries/global",
        "--to",
        to,
        "--expect-epoch",
        "g9.e9",
    ];
    dev.run(&stale).failed_with(4, &["g9.e9"]);
    let moved = dev.json(&["switchover", "primaries/global", "--to", to, "--wait"]);
    let plan = moved["plan"].clone();
    assert!(moved["revision"].as_u64() >= plan["modified"].as_u64(), "{moved}");
    check_revision(&moved);
    assert_eq!(plan["state"], "SUCCEEDED", "{plan}");
    released_by_its_holder(dev, &held_by, before["epoch"].as_str().unwrap(), &plan);
    let after = role();
    assert_eq!(after["holder"]["region"], to);
    assert_ne!(after["epoch"], before["epoch"]);
    already_there(dev, to, &after);
}

/// Whoever asks for what is so already gets it, as often as they ask; unless they believed in another epoch.
fn already_there(dev: &Dev, region: &str, role: &Value) {
    let epoch = role["epoch"].as_str().unwrap();
    let ask = ["switchover", "primaries/global", "--to", region, "--wait"];
    let document = dev.json(&ask);
    assert_eq!(
        (&document["plan"], &document["already"]),
        (&Value::Null, &true.into())
    );
    check_revision(&document);
    assert_eq!(
        document["role"]["epoch"], role["epoch"],
        "an epoch was spent on nothing"
    );
    let table = dev.run(&[&ask[..], &["--expect-epoch", epoch]].concat());
    assert_eq!(
        table.stdout,
        format!("{region} holds primaries/global already, under {epoch}; nothing was changed\n")
    );
    dev.run(&[&ask[..], &["--expect-epoch", "g1.e1"]].concat())
        .failed_with(4, &["g1.e1", epoch, "STALE_EPOCH"]);
}

/// The switchover did not wait for a lease to run out: its holder had stopped and said so, and only then the role was
/// somebody else's (L11).
fn released_by_its_holder(dev: &Dev, region: &str, epoch: &str, plan: &Value) {
    let steps = plan["steps"].as_array().unwrap();
    let kinds: Vec<&str> = steps.iter().map(|s| s["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["VERIFY_TARGET", "PROMOTE", "CLAIM"], "{plan}");
    let log = dev.path().join("regions").join(region).join("agent/log");
    let log = fs::read_to_string(log).unwrap();
    let released = format!("released token=primaries/global {epoch} ");
    let line = log.lines().find(|l| l.contains(&released));
    let line = line.unwrap_or_else(|| panic!("{released:?} is missing in:\n{log}"));
    let promoted = steps[1]["finished_at"].as_str().unwrap();
    let upto = "2026-11-21T07:28:34".len();
    assert!(line[..upto] <= promoted[..upto], "{line}\npromoted at {promoted}");
}

/// One document a revision, in order, none twice; all events of a revision stand in it.
fn watch(dev: &Dev) {
    let ran = dev.run(&["watch", "--after", "1", "--count", "40", "--output", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let documents: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(documents.len(), 40);
    let revisions: Vec<u64> = documents
        .iter()
        .map(|d| d["revision"].as_u64().unwrap())
        .collect();
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    let events = |d: &Value| d["events"].as_array().unwrap().len();
    assert!(documents.iter().all(|d| events(d) > 0), "{documents:?}");
    // The bootstrap is one entry, and makes the cluster and its first role.
    assert!(events(&documents[0]) > 1, "{}", documents[0]);
    let table = dev.run(&["watch", "--after", "1", "--count", "1"]).stdout;
    assert_eq!(table.lines().count(), events(&documents[0]), "{table}");
}

fn pause(dev: &Dev) {
    let paused = dev.json(&["primary", "pause", "--for", "10m"]);
    assert_eq!(paused["role"]["mode"], "PAUSED", "{paused}");
    let until: types::UnixMillis = paused["role"]["paused_until"].as_str().unwrap().parse().unwrap();
    assert!(until > types::UnixMillis::default(), "{paused}");
    check_revision(&paused);
    // Whoever looks at the cluster and at nothing else learns why no failover begins.
    let shown = dev.json(&["cluster", "status"])["paused_roles"].clone();
    let expected = json!({
        "role": "primaries/global", "mode": "PAUSED", "paused_until": paused["role"]["paused_until"],
    });
    assert_eq!(shown, json!([expected]));
    let table = dev.run(&["cluster", "status"]).stdout;
    assert!(table.contains("primaries/global is PAUSED until "), "{table}");
    let resumed = dev.json(&["primary", "resume"]);
    assert_eq!(dev.json(&["cluster", "status"])["paused_roles"], json!([]));
    check_revision(&resumed);
    let resumed = resumed["role"].clone();
    assert_eq!(resumed["mode"], "AUTOMATIC");
    assert_eq!(
        resumed["outstanding_ttl"], resumed["timing"]["lease_ttl"],
        "{resumed}"
    );
}

/// The source region's store is down while the push uploads: the push fails, and what it announced is taken back. `dev`
/// is paused meanwhile, or it would start the store again in the middle.
fn failed_push(dev: &Dev) {
    let region = dev.json(&["primary", "get"])["role"]["holder"]["region"]
        .as_str()
        .unwrap()
        .to_owned();
    let model = OwnModel::of("digits", "demo.failed");
    let args = [&model.push()[..], &["--region", &region]].concat();
    dev.signal(dev.parent(), Signal::STOP);
    let store = dev.pid_of(&region, "store");
    dev.signal(store, Signal::KILL);
    until("the store is gone", || !is_alive(store));
    dev.run(&args)
        .failed_with(6, &["uploading", "does not answer", "given up"]);
    let refused = dev.run(&[&args[..], &["--output", "json"]].concat()).json();
    let error = &refused["error"];
    assert_eq!(error["reason"], "UNREACHABLE", "{error}");
    assert_eq!(error["operands"]["store"], region.as_str(), "{error}");
    let [message, remedy] = ["message", "remedy"].map(|part| error[part].as_str().unwrap());
    assert!(!remedy.is_empty() && !message.contains(remedy), "{error}");
    let versions = dev.json(&["model", "versions", "demo.failed"]);
    let mut states = versions["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| &v["state"]);
    assert!(states.all(|s| s == "DELETED"), "{versions}");
    assert_eq!(listed(dev, "demo.failed"), (0.into(), Value::Null));
    dev.signal(dev.parent(), Signal::CONT);
    dev.wait_for(&format!("{region}/store runs again"));
    let pushed = dev.json(&args)["version"].clone();
    assert_eq!(pushed["state"], "READY");
    assert_eq!(
        listed(dev, "demo.failed"),
        (1.into(), pushed["key"]["version"].clone())
    );
}
