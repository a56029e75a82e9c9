//! Who votes, who leaves, and who comes in its place, as an operator does it.

use std::fs;

use crate::{
    dev::Dev,
    harness::{turn, until},
};

const GONE: &str = "eu-west-1-c1";
const COORDINATOR: &str = "eu-west-1/coordinator";

fn voters(dev: &Dev) -> usize {
    let members = dev.json(&["cluster", "members"]);
    let members = members["members"].as_array().unwrap().clone();
    members.iter().filter(|m| m["voter"] == true).count()
}

#[test]
fn a_coordinator_is_taken_out_with_open_eyes_and_its_name_comes_back_with_an_empty_disk() {
    let _turn = turn();
    let mut dev = Dev::start(3);
    until("every voter is heard", || {
        dev.json(&["cluster", "members"])["region_survival"]["survives"] == true
    });
    let told = dev.run(&["cluster", "members"]);
    assert!(
        told.stdout
            .contains("survives the loss of any one region: yes, because"),
        "{told:?}"
    );
    led_by_whoever_is_named(&dev);
    refused_or_looked_at(&dev);
    let done = dev.json(&["cluster", "remove", GONE, "--yes", "--accept-region-loss"]);
    assert_eq!(done["members"].as_array().unwrap().len(), 2, "{done}");
    assert!(
        done["warnings"][0]
            .as_str()
            .unwrap()
            .contains("no longer survives"),
        "{done}"
    );
    dev.wait_for("eu-west-1/coordinator is not started again, and the others go on");
    let members = dev.json(&["cluster", "members"]);
    assert_eq!(members["removed"][0]["node"], GONE, "{members}");
    assert!(
        members["removed"][0]["removed_by"]
            .as_str()
            .unwrap()
            .ends_with("/user/admin"),
        "{members}"
    );
    assert_eq!(members["region_survival"]["survives"], false, "{members}");
    // Asked for once more it is no error.
    let again = dev.json(&["cluster", "replace", GONE, "--no-wait", "--yes"]);
    assert_eq!(again["steps"].as_array().unwrap().len(), 0, "{again}");
    assert_eq!(dev.stop(), Some(0));
    fs::remove_dir_all(dev.path().join("regions").join(COORDINATOR).join("data")).unwrap();
    dev.start_again();
    until("it votes again", || voters(&dev) == 3);
}

fn led_by_whoever_is_named(dev: &Dev) {
    let transfer = |flags: &[&str]| dev.json(&[&["cluster", "transfer-leader"][..], flags].concat());
    until("every coordinator can be looked at", || {
        let looked = dev.run(&["cluster", "transfer-leader", "--validate-only"]);
        looked.code == Some(0)
    });
    let seen = transfer(&["--validate-only"]);
    assert_ne!(seen["from"], seen["leader"], "{seen}");
    let done = transfer(&["--to", GONE]);
    assert_eq!(done["leader"], GONE, "{done}");
    let again = dev.run(&["cluster", "transfer-leader", "--to", GONE]);
    assert!(again.stdout.contains("eu-west-1-c1 leads already"), "{again:?}");
    let unknown = ["cluster", "transfer-leader", "--to", "nobody"];
    dev.run(&unknown)
        .failed_with(3, &["nobody is no voter", "`regent cluster members`"]);
}

fn refused_or_looked_at(dev: &Dev) {
    let refused = dev.run(&["cluster", "remove", GONE, "--yes", "--output", "json"]);
    refused.failed_with(5, &["survives the loss of any one region"]);
    let error = refused.json()["error"].clone();
    assert_eq!(error["reason"], "MEMBERSHIP_UNSAFE", "{error}");
    assert_eq!(error["operands"]["rule"], "region_survival", "{error}");
    assert!(
        error["remedy"].as_str().unwrap().contains("--accept-region-loss"),
        "{error}"
    );
    // Nobody is there to type its name.
    let unasked = dev.run(&["cluster", "remove", GONE, "--accept-region-loss"]);
    unasked.failed_with(2, &["never comes back", "--yes"]);
    let unknown = dev.run(&["cluster", "remove", "nobody", "--yes"]);
    unknown.failed_with(3, &["nobody is no member"]);
    let would = dev.json(&["cluster", "remove", GONE, "--dry-run", "--accept-region-loss"]);
    assert_eq!(would["dry_run"], true);
    let steps = would["steps"].as_array().unwrap();
    assert!(
        steps
            .last()
            .unwrap()
            .as_str()
            .unwrap()
            .contains("out of the membership"),
        "{would}"
    );
    assert_eq!(voters(dev), 3);
}
