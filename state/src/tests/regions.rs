//! What keeps a region or a node from being taken away, and what goes with it.

use types::RegionId;

use super::world::World;
use crate::{Rejection, features::SUPPORTED};

fn standing(setup: &str) -> World {
    let mut world = World::standing();
    world.lines(&format!("SetFeatureLevel level={SUPPORTED}"));
    world.lines(setup);
    world.actor = super::world::actor("admin");
    world
}

fn refusal(world: &mut World, line: &str) -> Rejection {
    world.line(line).unwrap().outcome.expect_err(line)
}

/// A version whose only copy is in `ap`.
const ONLY_THERE: &str = "CreateVersion model=fraud.scorer source=ap
    CompleteUpload version=fraud.scorer@2
    actor ap/d1
    ReportReplica version=fraud.scorer@2 region=ap report=started
    ReportReplica version=fraud.scorer@2 region=ap report=verified";
/// The agent of `ap` is gone.
const GONE: &str = "SetNodeStatus node=d1 status=DOWN
    actor admin
    RemoveNode node=d1";
const BEGUN: &str = "actor us/b1
    ReportReplica version=fraud.scorer@2 region=us report=started source=ap";

#[test]
fn a_plan_between_others_uses_neither_a_region_nor_an_agent() {
    let mut world = standing(
        "RegisterRegion region=sa
        RegisterNode node=a2 region=eu run=9
        SetNodeStatus node=a2 run=9 status=DOWN
        StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=t",
    );
    world.lines("DeleteRegion region=sa\nRemoveNode node=a2");
    // Those that it is between, it does.
    world.lines("SetNodeStatus node=b1 status=DOWN");
    let refused = refusal(&mut world, "RemoveNode node=b1").to_string();
    assert!(refused.contains("plan"), "{refused}");
}

/// Those whose doors it claimed, too: a region that only stands aside is free to go.
#[test]
fn a_plan_uses_the_regions_of_the_doors_that_it_claimed() {
    let claims = |doors: &str| {
        standing(&format!(
            "RegisterRegion region=sa
            {GONE}
            actor coordinator/c1
            StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=gone
            actor us/b1
            FinishStep step=VERIFY_TARGET run=1
            actor coordinator/c1
            Fence
            actor us/b1
            FinishStep step=CLAIM doors={doors} run=1"
        ))
    };
    for (doors, ap_is_used) in [("pointer/eu,pointer/us", false), ("pointer/us,pointer/ap", true)] {
        let mut world = claims(doors);
        world.lines("DeleteRegion region=sa");
        match ap_is_used {
            false => world.lines("DeleteRegion region=ap"),
            true => {
                let refused = refusal(&mut world, "DeleteRegion region=ap").to_string();
                assert!(refused.contains("plan"), "{refused}");
            }
        }
    }
}

#[test]
fn a_region_is_in_use_by_all_that_stands_in_it_or_names_it() {
    let to_ap = "StartPlan kind=SWITCHOVER target=ap/d1#1 epoch=g1.e2";
    for (setup, uses) in [
        ("".to_owned(), "nodes=d1"),
        (GONE.to_owned(), ""),
        (
            format!("{GONE}\nSetLeaderPreference regions=us,ap"),
            "leader_preference=ap",
        ),
        (
            format!("{GONE}\nCreateModel name=m placement=ap,eu"),
            "placements=m",
        ),
        (
            format!("{GONE}\nSetRoleCandidates candidates=ap,us"),
            "roles=primaries/global",
        ),
        (
            format!("{GONE}\nCreateVersion model=fraud.scorer source=ap"),
            "uploads=fraud.scorer@2",
        ),
        (
            format!(
                "{GONE}\nCreateVersion model=fraud.scorer source=ap\nCompleteUpload version=fraud.scorer@2"
            ),
            "uploads=fraud.scorer@2",
        ),
        (format!("{ONLY_THERE}\n{GONE}"), "only_copies=fraud.scorer@2"),
        (
            format!("{ONLY_THERE}\n{BEGUN}\n{GONE}"),
            "only_copies=fraud.scorer@2 copies=fraud.scorer@2 in us",
        ),
        // Who copied is gone too: nobody goes on with it.
        (
            format!("{ONLY_THERE}\n{BEGUN}\n{GONE}\nSetNodeStatus node=b1 status=DOWN"),
            "only_copies=fraud.scorer@2",
        ),
        (
            format!(
                "{ONLY_THERE}\n{BEGUN}\n{GONE}\nactor us/b1\nReportReplica version=fraud.scorer@2 region=us report=verified"
            ),
            "",
        ),
        (to_ap.to_owned(), "nodes=d1 plans=p37"),
    ] {
        let mut world = standing(&setup);
        if uses.is_empty() {
            world.lines("DeleteRegion region=ap");
            let ap: RegionId = "ap".parse().unwrap();
            assert!(world.state.region(&ap).is_none() && !world.state.regions().any(|r| r.region == ap));
            assert!(world.state.replicas.keys().all(|key| key.region != ap), "{setup}");
            continue;
        }
        let refused = refusal(&mut world, "DeleteRegion region=ap");
        let refusal = refused.to_refusal();
        assert_eq!(refusal.reason.as_str(), "REGION_IN_USE", "{refused}");
        let told = refusal
            .operands
            .iter()
            .filter(|(name, _)| !["region", "count"].contains(&name.as_str()));
        let mut told: Vec<_> = told.map(|(name, of)| format!("{name}={of}")).collect();
        told.sort_by_key(|told| !told.starts_with("nodes") && !told.starts_with("only"));
        assert_eq!(told.join(" "), uses, "{setup}");
    }
}

/// A refusal is small whatever there is.
#[test]
fn a_refusal_names_the_first_of_each_kind_and_counts_the_others() {
    let mut world = standing("");
    for n in 0..30 {
        world.lines(&format!("RegisterNode node=n{n:02} region=ap run=5"));
    }
    let refused = refusal(&mut world, "DeleteRegion region=ap");
    assert!(refused.to_string().contains("node n06, 23 more"), "{refused}");
    assert_eq!(refused.to_refusal().operand("count"), Some("31"));
}

#[test]
fn an_agent_is_dropped_once_it_is_down_and_holds_nothing() {
    let fails =
        "SetNodeStatus node=a1 status=DOWN\nStartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=t";
    for (setup, line, reason, words) in [
        ("", "RemoveNode node=x", "NODE_NOT_FOUND", "x"),
        ("", "RemoveNode node=b1", "ILLEGAL_TRANSITION", "node b1 is UP"),
        (
            "",
            "RemoveNode node=c1",
            "ILLEGAL_TRANSITION",
            "it leaves the membership",
        ),
        (
            "SetNodeStatus node=c1 run=1 status=DOWN",
            "RemoveNode node=c1",
            "ILLEGAL_TRANSITION",
            "it leaves the membership",
        ),
        (
            "SetNodeStatus node=a1 status=DOWN",
            "RemoveNode node=a1",
            "NODE_IN_USE",
            "role primaries/global",
        ),
        (fails, "RemoveNode node=a1", "NODE_IN_USE", "plan p38"),
    ] {
        let refused = refusal(&mut standing(setup), line);
        assert_eq!(refused.reason().as_str(), reason, "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
    // A target that is down is one all the same.
    let mut world = standing(fails);
    world.lines("SetNodeStatus node=b1 status=DOWN");
    let refused = refusal(&mut world, "RemoveNode node=b1");
    assert_eq!(refused.to_refusal().operand("plans"), Some("p38"), "{refused}");
}

/// Nothing is left of it that would grow with every machine that there ever was.
#[test]
fn a_node_that_was_dropped_leaves_no_trace_and_may_come_back() {
    let mut world = standing("RegisterNode node=d1 region=ap run=2\nRegisterNode node=d1 region=ap run=3");
    let node = "d1".parse().unwrap();
    assert!(world.state.superseded.get(&node).is_some());
    world.lines("SetNodeStatus node=d1 run=3 status=DOWN\nRemoveNode node=d1");
    assert!(world.state.node(&node).is_none() && world.state.superseded.get(&node).is_none());
    world.lines("RegisterNode node=d1 region=ap run=3");
}

#[test]
fn what_is_said_of_a_region_has_bounds() {
    let long = |bytes: usize| "x".repeat(bytes);
    let tags = |count: usize| {
        (0..count)
            .map(|n| format!("k{n}:v"))
            .collect::<Vec<_>>()
            .join(",")
    };
    for (said, what) in [
        (format!("display_name={}", long(201)), "bytes of the display name"),
        (format!("provider={}", long(64)), "bytes of the provider"),
        (format!("set={}", tags(51)), "count of cost tags"),
        (format!("set=k:{}", long(257)), "bytes of cost tag k"),
        (format!("set={}:v", long(129)), "bytes of a key of cost_tags"),
    ] {
        let refused = refusal(&mut standing(""), &format!("UpdateRegion region=eu {said}"));
        assert_eq!(refused.reason().as_str(), "LIMIT_EXCEEDED", "{refused}");
        assert!(refused.to_string().contains(what), "{refused}");
    }
    let most = format!(
        "UpdateRegion region=eu display_name={} provider={} set={}",
        long(200),
        long(63),
        tags(50)
    );
    standing("").lines(&most);
}

#[test]
fn below_its_level_nothing_of_it_is_done() {
    for line in [
        "CreateRegion region=sa",
        "UpdateRegion region=eu provider=aws",
        "DeleteRegion region=ap",
        "RemoveNode node=d1",
    ] {
        let mut world = World::standing();
        world.lines("SetFeatureLevel level=7");
        let refused = refusal(&mut world, line);
        assert!(refused.to_string().contains("takes 8"), "{line}: {refused}");
    }
}
