//! Regions and nodes from the command line, of a cluster of three regions.

use serde_json::json;

use crate::{dev::Dev, harness::until};

const CREATE: [&str; 8] = [
    "region",
    "create",
    "sa-east-1",
    "--provider",
    "gcp",
    "--display-name",
    "South America",
    "--cost-tag=team=search",
];

pub(crate) fn check(dev: &Dev) {
    let tried = [&CREATE[..], &["--validate-only"]].concat();
    until("regions are resources", || dev.run(&tried).code == Some(0));
    dev.run(&["region", "get", "sa-east-1"])
        .failed_with(3, &["REGION_NOT_FOUND", "`regent region list`"]);
    let made = dev.json(&CREATE)["region"].clone();
    assert_eq!(
        (&made["provider"], &made["display_name"], &made["cost_tags"]),
        (
            &json!("gcp"),
            &json!("South America"),
            &json!({ "team": "search" })
        )
    );
    dev.run(&CREATE).failed_with(4, &["ALREADY_EXISTS"]);
    dev.run(&["region", "update", "sa-east-1"])
        .failed_with(2, &["--display-name"]);
    let etag = made["modified"].to_string();
    let update = [
        "region",
        "update",
        "sa-east-1",
        "--without-cost-tag",
        "team",
        "--cost-tag=environment=test",
        "--etag",
        &etag,
    ];
    let tags = json!({ "environment": "test" });
    assert_eq!(dev.json(&update)["region"]["cost_tags"], tags);
    dev.run(&update)
        .failed_with(4, &["ETAG_MISMATCH", "read it again"]);
    let shown = dev.run(&["region", "get", "sa-east-1"]).stdout;
    assert!(
        shown.contains("South America") && shown.contains("RECOVERING"),
        "{shown}"
    );

    dev.run(&["region", "delete", "eu-west-1"]).failed_with(
        4,
        &[
            "REGION_IN_USE",
            "node eu-west-1-a1, node eu-west-1-c1",
            "`regent node remove`",
        ],
    );
    dev.run(&["node", "remove", "eu-west-1-a1"])
        .failed_with(4, &["ILLEGAL_TRANSITION", "is UP"]);
    dev.run(&["node", "remove", "eu-west-1-c1"])
        .failed_with(4, &["ILLEGAL_TRANSITION", "it leaves the membership"]);
    let node = dev.json(&["node", "get", "eu-west-1-a1"])["node"].clone();
    assert_eq!(
        (&node["region"], &node["agent"]["ready"]),
        (&json!("eu-west-1"), &json!(true))
    );
    let of_region = dev.json(&["node", "list", "--region", "eu-west-1"])["nodes"].clone();
    assert_eq!(of_region.as_array().unwrap().len(), 2, "{of_region}");
    let of_zone = dev.json(&["node", "list", "--zone", "eu-west-1a"])["nodes"].clone();
    assert_eq!(of_zone, json!([]), "no config names one");

    let after = dev.json(&["region", "list"])["revision"].to_string();
    assert_eq!(dev.json(&["region", "delete", "sa-east-1"])["deleted"], true);
    let watch = [
        "watch", "--after", &after, "--count", "1", "--kind", "region", "--output", "json",
    ];
    let seen = dev.run(&watch).stdout;
    assert!(
        seen.contains("region_deleted") && seen.contains(r#""record":{"region":"sa-east-1"}"#),
        "{seen}"
    );
}
