//! Lineage, services, histories and preferences from the command line.

use serde_json::{Value, json};

use crate::{dev::Dev, harness::until, samples::OwnModel};

pub(crate) fn check(dev: &Dev) {
    // The level has risen once the last of these rules is known.
    until("preferences are known", || {
        dev.run(&["preferences", "set", "a=b", "--validate-only"]).code == Some(0)
    });
    lineage(dev);
    services(dev);
    histories(dev);
}

fn histories(dev: &Dev) {
    let first = dev.json(&["preferences", "set", "output=json", "--validate-only"]);
    assert_eq!(first["preferences"]["values"], json!({ "output": "json" }));
    let set = dev.json(&["preferences", "set", "output=json", "page=50"]);
    let etag = set["preferences"]["modified"].to_string();
    dev.run(&["preferences", "set", "page=9", "--etag", "1"])
        .failed_with(4, &["ETAG_MISMATCH"]);
    dev.json(&["preferences", "set", "--remove", "output", "--etag", &etag]);
    let shown = dev.run(&["preferences", "get"]);
    assert!(
        shown.stdout.contains("page") && !shown.stdout.contains("output"),
        "{shown:?}"
    );
    assert_eq!(
        dev.json(&["preferences", "get", "--user", "eve"])["preferences"]["values"],
        json!({})
    );
    dev.json(&["preferences", "set", "--user", "eve", "output=table"]);
    for (user, value) in [("eve", json!("table")), ("admin", json!(null))] {
        let got = dev.json(&["preferences", "get", "--user", user]);
        assert_eq!(got["preferences"]["values"]["output"], value, "{user}");
    }
    dev.json(&[
        "model",
        "alias",
        "demo.lineage@1",
        "candidate",
        "--reason",
        "a try",
    ]);
    let moves = dev.json(&["model", "history", "demo.lineage"]);
    assert_eq!(moves["deployments"][0]["reason"], "a try", "{moves}");
    assert_eq!(moves["deployments"][0]["from"], json!(null));
    let told = dev
        .run(&["model", "history", "--where", "alias=candidate"])
        .stdout;
    assert!(told.contains("demo.lineage") && told.contains("a try"), "{told}");
    for others in [
        ["model", "history", "demo.none"].as_slice(),
        &["model", "history", "--where", "alias=nobody"],
    ] {
        assert_eq!(dev.json(others)["deployments"], json!([]), "{others:?}");
    }
    for verb in ["region", "node"] {
        let found = dev.json(&[verb, "history", "--where", "to=REMOVED"]);
        assert_eq!(found["changes"], json!([]));
        let all = dev.json(&[verb, "history"])["changes"].clone();
        let of = |change: &Value| change["subject"].as_str().unwrap().starts_with(verb);
        let all = all.as_array().unwrap();
        assert!(!all.is_empty() && all.iter().all(of), "{verb}: {all:?}");
    }
    dev.json(&["model", "unalias", "demo.lineage", "candidate"]);
}

fn services(dev: &Dev) {
    let key = "feature-store/us-west-2-a1:7000";
    let register = [
        "service",
        "register",
        "feature-store",
        "--node",
        "us-west-2-a1",
        "--port",
        "7000",
        "--address",
        "10.0.0.7",
        "--label",
        "zone=a",
    ];
    let tried = [&register[..], &["--validate-only"]].concat();
    until("services are known", || dev.run(&tried).code == Some(0));
    dev.run(&["service", "get", key])
        .failed_with(3, &["SERVICE_NOT_FOUND", "`regent service list`"]);
    let made = dev.json(&register)["instance"].clone();
    assert_eq!(
        (&made["health"], &made["region"]),
        (&json!("HEALTHY"), &json!("us-west-2")),
        "{made}"
    );
    let listed = dev.run(&["service", "list", "feature-store", "--where", "labels.zone=a"]);
    assert!(
        listed.stdout.contains("10.0.0.7") && listed.stdout.contains("HEALTHY"),
        "{listed:?}"
    );
    for others in [
        ["service", "list", "feature-index"].as_slice(),
        &["service", "list", "--where", "labels.zone=b"],
    ] {
        assert_eq!(dev.json(others)["instances"], json!([]), "{others:?}");
    }
    dev.run(&["service", "deregister", key, "--etag", "1"])
        .failed_with(4, &["ETAG_MISMATCH"]);
    let after = dev.json(&["service", "list"])["revision"].to_string();
    dev.json(&["service", "deregister", key]);
    let watch = [
        "watch", "--after", &after, "--count", "1", "--kind", "service", "--output", "json",
    ];
    let seen = dev.run(&watch).stdout;
    assert!(
        seen.contains("service_deleted") && seen.contains("feature-store"),
        "{seen}"
    );
    dev.run(&[
        "service",
        "register",
        "x",
        "--node",
        "us-west-2-c1",
        "--port",
        "1",
        "--address",
        "h",
    ])
    .failed_with(4, &["ILLEGAL_TRANSITION"]);
}

fn lineage(dev: &Dev) {
    let model = OwnModel::of("digits", "demo.lineage");
    let report = ["model", "report", "demo.lineage@1", "--metric", "accuracy=0.93"];
    let tried = ["model", "report", "demo.none@1", "--metric", "accuracy=0.93"];
    until("metrics are known", || {
        dev.run(&tried).code == Some(3) // VERSION_NOT_FOUND
    });
    let dataset = ["--dataset", "digits/scans@2026-03", "--dataset", "digits/pens"];
    let pushed = dev.json(&[&model.push()[..], &dataset].concat());
    assert_eq!(
        pushed["version"]["datasets"],
        json!(["digits/pens", "digits/scans@2026-03"])
    );
    let found = dev.json(&["model", "dependents", "digits/scans@2026-03"]);
    assert_eq!(found["versions"][0]["key"]["model"], "demo.lineage", "{found}");
    for others in [
        ["digits/scans", "state!=DELETED"],
        ["digits/scans@2026-03", "state=DELETED"],
    ] {
        let none = dev.json(&["model", "dependents", others[0], "--where", others[1]]);
        assert_eq!(none["versions"], json!([]), "{others:?}");
    }
    // Files that a version has already are announced by nobody again.
    let again = dev.run(&[&model.push()[..], &["--dataset", "digits/others"]].concat());
    assert!(again.stderr.contains("--dataset changes nothing"), "{again:?}");

    let said = dev.json(&report);
    assert_eq!(said["version"]["metrics"]["accuracy"]["value"], "0.93", "{said}");
    let etag = said["version"]["modified"].to_string();
    dev.run(&[&report[..], &["--etag", "1"]].concat())
        .failed_with(4, &["ETAG_MISMATCH"]);
    let shown = dev.run(&[
        "model",
        "report",
        "demo.lineage@1",
        "--metric",
        "loss=0.25",
        "--etag",
        &etag,
    ]);
    assert!(
        shown.stdout.contains("loss") && shown.stdout.contains("user/admin"),
        "{shown:?}"
    );
    let good = |condition: &str| {
        let found = dev.json(&["model", "versions", "demo.lineage", "--where", condition]);
        found["versions"].as_array().unwrap().len()
    };
    assert_eq!(
        (good("metrics.accuracy>=0.93"), good("metrics.accuracy>0.93")),
        (1, 0)
    );
    dev.json(&["model", "report", "demo.lineage@1", "--remove", "loss"]);
    assert_eq!(good("metrics.loss>=0"), 0);
}
