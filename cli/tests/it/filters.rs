//! Lists of those records alone that meet conditions.

use serde_json::Value;

use crate::dev::Dev;

/// Of a cluster of three regions whose one model is `demo.digits`, with one version.
pub(crate) fn check(dev: &Dev) {
    models(
        dev,
        &["name=demo.*", "region=eu-west-1", "created_at>2026-01-01"],
        1,
    );
    models(dev, &["name=fraud.*"], 0);
    models(dev, &["name=demo.*", "region!=eu-west-1"], 0);
    let of_the_sample = [
        "state=READY",
        "framework=digits",
        "size>=1KiB",
        "digest=sha256:*",
        "source_region=us-west-2",
        "region=ap-southeast-1",
        "metadata.owner!=me",
    ];
    versions(dev, &of_the_sample, 1);
    for none in [
        "state!=READY",
        "version>1",
        "size<1KiB",
        "metadata.owner=*",
        "digest=sha256:0",
    ] {
        versions(dev, &[&of_the_sample[..], &[none]].concat(), 0);
    }
    dev.run(&["model", "versions", "no.such", "--where", "state=READY"])
        .failed_with(3, &["MODEL_NOT_FOUND"]);
    dev.run(&["model", "list", "--where", "state=READY"]).failed_with(
        2,
        &["the fields are name, description, tags.KEY", "INVALID_ARGUMENT"],
    );
    dev.run(&["model", "versions", "demo.digits", "--where", "state=ready"])
        .failed_with(2, &["PENDING_UPLOAD, VERIFYING, READY"]);
}

fn models(dev: &Dev, conditions: &[&str], count: usize) {
    let listed = listed(dev, &["model", "list"], conditions);
    assert_eq!(
        listed["models"].as_array().map(Vec::len),
        Some(count),
        "{conditions:?}: {listed}"
    );
}

fn versions(dev: &Dev, conditions: &[&str], count: usize) {
    let listed = listed(dev, &["model", "versions", "demo.digits"], conditions);
    assert_eq!(
        listed["versions"].as_array().map(Vec::len),
        Some(count),
        "{conditions:?}: {listed}"
    );
}

fn listed(dev: &Dev, verb: &[&str], conditions: &[&str]) -> Value {
    let conditions = conditions.iter().flat_map(|condition| ["--where", condition]);
    dev.json(&verb.iter().copied().chain(conditions).collect::<Vec<_>>())
}
