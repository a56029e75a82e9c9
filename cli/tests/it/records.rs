//! What versions come from and how good they are, from the command line.

use serde_json::json;

use crate::{dev::Dev, harness::until, samples::OwnModel};

pub(crate) fn check(dev: &Dev) {
    lineage(dev);
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
    let none = dev.json(&["model", "dependents", "digits/scans", "--where", "state!=DELETED"]);
    assert_eq!(none["versions"], json!([]));
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
