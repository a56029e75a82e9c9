//! From what agents say of their loads to the order in which they may take a role.

use std::{collections::BTreeSet, time::Duration};

use policy::{
    failover::{FailoverView, choose_target},
    readiness::Loads,
};
use types::{RoleName, VersionKey, region::NodeRecord};

use super::world::World;
use crate::query::{LeaseView, Seen};

/// What the agent of a region says: `eu loaded=A,B failed=C`, and `silent` if the leader has not heard it for long.
fn loads_of(words: &str) -> Loads {
    let set = |name: &str| -> BTreeSet<VersionKey> {
        let found = words.split(' ').find_map(|word| word.strip_prefix(name));
        let keys = found.unwrap_or_default().split(',').filter(|key| !key.is_empty());
        keys.map(|key| key.parse().unwrap()).collect()
    };
    Loads {
        loaded: set("loaded="),
        failed: set("failed="),
    }
}

/// The leader's view of a role after these lines, when the agents say so.
fn view(lines: &str, role: &str, said: &[&str]) -> FailoverView {
    let mut world = World::standing();
    world.lines(lines);
    world.lines(
        "CreateModel name=part placement=eu
        CreateVersion model=part source=eu
        CompleteUpload version=part@1
        actor eu/a1
        ReportReplica version=part@1 region=eu report=started
        ReportReplica version=part@1 region=eu report=verified
        actor admin",
    );
    let seen = |node: &NodeRecord| {
        let of_region = |line: &&&str| line.split(' ').next() == Some(node.region.as_str());
        let words = said.iter().find(of_region).copied().unwrap_or_default();
        let silence = if words.contains("silent") { 3_600 } else { 0 };
        Seen {
            silent_for: Duration::from_secs(silence),
            heard: true,
            ready: !words.contains("unready"),
            loads: loads_of(words),
        }
    };
    let lease = LeaseView {
        lapsed: true,
        released: false,
        renewed: None,
    };
    let role: RoleName = role.parse().unwrap();
    let view = world.state.failover_view(&role, seen, lease, |_| Duration::ZERO);
    view.unwrap()
}

/// Who takes the role that nobody holds, `eu` wanted most, then `us`, then `ap`.
fn check(said: &[&str], chosen: &str) {
    let view = view("CreateRole role=primaries/other", "primaries/other", said);
    assert_eq!(choose_target(&view).unwrap().region.as_str(), chosen, "{said:?}");
    assert!(
        view.agents.iter().all(|a| a.cannot_serve.is_empty()),
        "nobody holds it"
    );
}

const ALL: &str = "loaded=fraud.scorer@1";

#[test]
fn who_serves_what_others_could_not_load_comes_first() {
    let says = |region: &str, loads: &str| format!("{region} {loads}");
    let all = |region: &str| says(region, ALL);
    check(&[&all("eu"), &all("us"), &all("ap")], "eu");
    // A version named a moment ago is on its way in eu; us has it already.
    check(&["eu", &all("us"), &all("ap")], "eu");
    check(&["eu failed=fraud.scorer@1", &all("us"), &all("ap")], "us");
    let both = ["eu failed=fraud.scorer@1", "us failed=fraud.scorer@1", &all("ap")];
    check(&both, "ap");
    // What nobody that is heard has loaded, and what no alias names, counts for nobody.
    check(
        &["eu failed=fraud.scorer@1", "us failed=fraud.scorer@1", "ap"],
        "eu",
    );
    let silent = says("ap silent", ALL);
    check(
        &["eu failed=fraud.scorer@1", "us failed=fraud.scorer@1", &silent],
        "eu",
    );
    check(&["eu failed=gone@7", "us loaded=gone@7", "ap"], "eu");
}

#[test]
fn a_region_that_is_not_meant_to_serve_a_version_is_no_better_than_one_that_failed_to() {
    // part@1 belongs in eu alone: that us and ap do not have it puts nobody back.
    check(&["eu loaded=part@1", "us", "ap"], "eu");
    check(&["eu failed=part@1", "us", "ap loaded=part@1"], "ap");
    check(&["eu failed=part@1 silent", "us", "ap loaded=part@1"], "us");
    check(&["eu failed=part@1", "us", "ap silent loaded=part@1"], "eu");
    // us serves nothing of it either, so the order stands between eu and us; ap comes before both.
    check(
        &["eu failed=part@1", "us failed=part@1", "ap loaded=part@1"],
        "ap",
    );
}

#[test]
fn who_is_not_fit_yet_waits_for_who_is() {
    // us has just restarted: nothing has failed there, and nothing is loaded.
    check(&["eu unready", "us unready", &format!("ap {ALL}")], "ap");
    check(&["eu unready", "us unready", "ap unready"], "eu");
}

#[test]
fn what_only_a_region_that_may_not_hold_the_role_fails_at_moves_nobody() {
    let said = [
        "eu failed=fraud.scorer@1,part@1",
        "us",
        "ap loaded=fraud.scorer@1,part@1",
    ];
    let chosen = |lines: &str| {
        let view = view(lines, "primaries/other", &said);
        choose_target(&view).unwrap().region.to_string()
    };
    // us is not meant to serve part@1; ap comes first where eu fails at it beside us, and does not where eu is no candidate.
    assert_eq!(
        chosen("CreateRole role=primaries/other candidates=us,eu,ap"),
        "ap"
    );
    assert_eq!(chosen("CreateRole role=primaries/other candidates=us,ap"), "us");
    let gone = "CreateRole role=primaries/other candidates=us,eu,ap
        SetNodeStatus node=a1 status=DOWN";
    assert_eq!(chosen(gone), "us");
}

#[test]
fn a_hand_over_is_compared_with_the_holder() {
    let us_cannot = |said: &[&str]| {
        let view = view("wait 1s", "primaries/global", said);
        let us = view
            .agents
            .iter()
            .find(|a| a.as_target.target.region.as_str() == "us");
        let cannot: Vec<_> = us.unwrap().cannot_serve.iter().map(ToString::to_string).collect();
        cannot.join(",")
    };
    let failed = "us failed=fraud.scorer@1";
    let holds = format!("eu {ALL}");
    assert_eq!(us_cannot(&[&holds, failed, "ap"]), "fraud.scorer@1");
    // The holder does not serve it either: the move makes nothing worse.
    assert_eq!(us_cannot(&["eu", failed, &format!("ap {ALL}")]), "");
    assert_eq!(us_cannot(&["eu loaded=gone@1", "us failed=gone@1", "ap"]), "");
}

/// The newest version loads nowhere, and the one before it answers where it was loaded before.
#[test]
fn who_has_nothing_of_a_model_comes_after_who_answers_with_another_version() {
    let bad = "failed=fraud.scorer@1";
    let (eu, us) = (format!("eu {bad}"), format!("us loaded=fraud.scorer@7 {bad}"));
    check(&[&eu, &us, &format!("ap {bad}")], "us");
    check(&[&eu, &us, "ap"], "us");
    check(&[&eu, &format!("us {bad}"), "ap"], "eu");
}
