//! From what agents say of their loads to the order in which they may take a role.

use std::{collections::BTreeSet, time::Duration};

use policy::{failover::choose_target, readiness::Loads};
use types::{RoleName, VersionKey, region::NodeRecord};

use super::world::World;
use crate::query::{LeaseView, Seen};

/// What an agent says: `eu loaded=A,B failed=C`, and `silent` if the leader has not heard it for long.
fn loads_of(said: &[&str], node: &NodeRecord) -> (Loads, bool) {
    let line = said
        .iter()
        .find(|line| line.split(' ').next() == Some(node.region.as_str()));
    let words = line.copied().unwrap_or_default();
    let set = |name: &str| -> BTreeSet<VersionKey> {
        let found = words.split(' ').find_map(|word| word.strip_prefix(name));
        let keys = found.unwrap_or_default().split(',').filter(|key| !key.is_empty());
        keys.map(|key| key.parse().unwrap()).collect()
    };
    let loads = Loads {
        loaded: set("loaded="),
        failed: set("failed="),
    };
    (loads, words.contains("silent"))
}

/// Who takes the role that nobody holds, `eu` wanted most, then `us`, then `ap`; and what `us` cannot serve.
fn check(said: &[&str], chosen: &str, us_cannot: &str) {
    let mut world = World::standing();
    world.lines(
        "CreateRole role=primaries/other
        CreateModel name=part placement=eu
        CreateVersion model=part source=eu
        CompleteUpload version=part@1
        actor eu/a1
        ReportReplica version=part@1 region=eu report=started
        ReportReplica version=part@1 region=eu report=verified
        actor admin",
    );
    let role: RoleName = "primaries/other".parse().unwrap();
    let seen = |node: &NodeRecord| {
        let (loads, is_silent) = loads_of(said, node);
        let silence = if is_silent { 3_600 } else { 0 };
        Seen {
            silent_for: Duration::from_secs(silence),
            heard: true,
            loads,
        }
    };
    let lease = LeaseView {
        lapsed: true,
        released: false,
        renewed: None,
    };
    let view = world.state.failover_view(&role, seen, lease, |_| Duration::ZERO);
    let view = view.unwrap();
    assert_eq!(choose_target(&view).unwrap().region.as_str(), chosen, "{said:?}");
    let us = view
        .agents
        .iter()
        .find(|a| a.as_target.target.region.as_str() == "us");
    let cannot: Vec<_> = us.unwrap().cannot_serve.iter().map(ToString::to_string).collect();
    assert_eq!(cannot.join(","), us_cannot, "{said:?}");
}

const ALL: &str = "loaded=fraud.scorer@1";

#[test]
fn who_serves_what_others_could_not_load_comes_first() {
    let says = |region: &str, loads: &str| format!("{region} {loads}");
    let all = |region: &str| says(region, ALL);
    check(&[&all("eu"), &all("us"), &all("ap")], "eu", "");
    // A version named a moment ago is on its way in eu; us has it already.
    check(&["eu", &all("us"), &all("ap")], "eu", "");
    check(&["eu failed=fraud.scorer@1", &all("us"), &all("ap")], "us", "");
    let both = ["eu failed=fraud.scorer@1", "us failed=fraud.scorer@1", &all("ap")];
    check(&both, "ap", "fraud.scorer@1");
    // What nobody that is heard has loaded, and what no alias names, counts for nobody.
    check(
        &["eu failed=fraud.scorer@1", "us failed=fraud.scorer@1", "ap"],
        "eu",
        "",
    );
    let silent = says("ap silent", ALL);
    check(
        &["eu failed=fraud.scorer@1", "us failed=fraud.scorer@1", &silent],
        "eu",
        "",
    );
    check(&["eu failed=gone@7", "us loaded=gone@7", "ap"], "eu", "");
}

#[test]
fn a_region_that_is_not_meant_to_serve_a_version_is_no_better_than_one_that_failed_to() {
    // part@1 belongs in eu alone: that us and ap do not have it puts nobody back.
    check(&["eu loaded=part@1", "us", "ap"], "eu", "");
    check(&["eu failed=part@1", "us", "ap loaded=part@1"], "ap", "");
    check(&["eu failed=part@1 silent", "us", "ap loaded=part@1"], "us", "");
    check(&["eu failed=part@1", "us", "ap silent loaded=part@1"], "eu", "");
    // us serves nothing of it either, so the order stands between eu and us; ap comes before both.
    check(
        &["eu failed=part@1", "us failed=part@1", "ap loaded=part@1"],
        "ap",
        "part@1",
    );
}
