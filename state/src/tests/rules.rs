//! Rules that a script would bury: TTLs, forgetting, placement, reads.

use std::time::Duration;

use types::{
    Epoch, RegionId, RoleName, UnixMillis,
    plan::StepState,
    replica::{ReplicaKey, ReplicaState},
};

use super::world::{World, actor};
use crate::{requests::RequestTable, state::ControlState};

fn ttl(world: &World) -> Duration {
    world.state.outstanding_ttl(&RoleName::global()).unwrap()
}

/// A leader's word that it waited out what the role's leases were granted for before.
fn retire(world: &mut World) {
    let former = world.state.former_ttl(&RoleName::global()).unwrap();
    world.actor = actor("coordinator/c1");
    let (ttl, since) = (former.ttl.as_secs(), former.since.0);
    world.lines(&format!("RetireTtl ttl={ttl}s since={since}"));
    world.actor = actor("admin");
}

#[test]
fn a_longer_ttl_counts_at_once_and_a_shorter_one_when_a_leader_waited_out_the_old_one() {
    let mut world = World::standing();
    let (fast, long) = (Duration::from_secs(2), Duration::from_secs(15));
    assert_eq!(ttl(&world), fast);
    world.lines("SetRoleTiming timing=default");
    assert_eq!(ttl(&world), long);
    world.lines("SetRoleTiming timing=fast");
    assert_eq!(ttl(&world), long);
    // An hour of state time may pass in a moment: some leader's wall clock was fast.
    world.lines("wait 3600s\nSetRoleMode mode=MANUAL");
    assert_eq!(ttl(&world), long);
    let recorded = |world: &World| world.state.role(&RoleName::global()).unwrap().outstanding_ttl;
    assert_eq!(recorded(&world), long);
    retire(&mut world);
    assert_eq!((ttl(&world), recorded(&world)), (fast, fast));
}

#[test]
fn of_two_shortenings_the_longest_ttl_is_waited_for_from_the_last_one_on() {
    let mut world = World::standing();
    world.lines("SetRoleTiming timing=conservative\nSetRoleTiming timing=default");
    let first = world.state.former_ttl(&RoleName::global()).unwrap();
    world.lines("SetRoleTiming timing=fast");
    assert_eq!(ttl(&world), Duration::from_secs(30));
    let second = world.state.former_ttl(&RoleName::global()).unwrap();
    assert_eq!(second.ttl, first.ttl);
    assert!(second.since > first.since);
    // The same TTL again shortens nothing, so the wait does not begin anew.
    world.lines("SetRoleTiming timing=fast");
    assert_eq!(world.state.former_ttl(&RoleName::global()), Some(second));
    retire(&mut world);
    assert_eq!(ttl(&world), Duration::from_secs(2));
}

#[test]
fn a_version_that_is_deprecated_or_deleted_says_why() {
    let mut world = World::standing();
    let said = |world: &World| {
        let version = world.state.version(&"fraud.scorer@1".parse().unwrap()).unwrap();
        (version.state.to_string(), version.state_reason.clone())
    };
    world.lines("DeprecateVersion version=fraud.scorer@1 reason=old");
    assert_eq!(said(&world), ("DEPRECATED".to_owned(), "old".to_owned()));
    world.lines(
        "DeleteAlias model=fraud.scorer alias=champion
        DeleteVersion version=fraud.scorer@1 reason=older",
    );
    assert_eq!(said(&world), ("DELETED".to_owned(), "older".to_owned()));
}

#[test]
fn a_restart_of_the_holder_leaves_the_role_with_the_old_run() {
    let mut world = World::standing();
    world.lines("RegisterNode node=a1 region=eu run=2\nactor eu/a1");
    let role = world.state.role(&RoleName::global()).unwrap();
    assert_eq!(role.holder.as_ref().unwrap().incarnation.as_u128(), 1);
    let stolen = world
        .line("SetModelTags model=fraud.scorer set=k:v token=eu/a1#2@g1.e2")
        .unwrap();
    assert_eq!(stolen.outcome.unwrap_err().reason().as_str(), "WRONG_HOLDER");
    assert!(!stolen.door.unwrap().accepted);
}

#[test]
fn a_guarded_write_that_loses_for_another_reason_is_not_counted_as_stale() {
    let mut world = World::standing();
    world.lines("actor eu/a1");
    let lost = world
        .line("SetModelTags model=fraud.scorer set=k:v etag=1 token=eu/a1#1@g1.e2")
        .unwrap();
    let door = lost.door.unwrap();
    assert_eq!(
        (door.accepted, door.reason.unwrap().as_str()),
        (false, "ETAG_MISMATCH")
    );
    assert_eq!(door.shown, door.current);
}

#[test]
fn a_person_moves_a_role_in_a_pause_and_the_pause_ends_by_itself() {
    let failover = "StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=t";
    let mut world = World::standing();
    world.lines("SetRoleMode mode=1700000060000\nwait 60s\nactor coordinator/c1");
    world.lines(failover);
    let mut world = World::standing();
    world.lines("SetRoleMode mode=MANUAL");
    world.lines(failover);
}

/// Its lease released, it renews nothing under its epoch any more; the leader gives it the next one.
#[test]
fn a_leader_returns_a_role_to_its_own_holder_under_a_new_epoch() {
    let mut world = World::standing();
    world.lines(
        "actor coordinator/c1
        StartPlan kind=FAILOVER target=eu/a1#1 epoch=g1.e2 trigger=t
        StartStep step=VERIFY_TARGET attempt=1
        actor eu/a1
        FinishStep step=VERIFY_TARGET attempt=1 run=1
        actor coordinator/c1
        StartStep step=FENCE attempt=1
        Fence attempt=1",
    );
    let role = world.state.role(&RoleName::global()).unwrap();
    assert_eq!((role.holder.as_ref(), role.epoch), (None, Epoch::new(1, 3)));
    let reserved = role.reservation.as_ref().unwrap();
    assert_eq!(reserved.epoch, Epoch::new(1, 4));
    assert_eq!(reserved.target.to_string(), "eu/a1#00000001");
}

#[test]
fn a_claim_that_tried_no_door_counts_as_failed_while_stores_are_attached() {
    let to_claim = |world: &mut World| {
        world.lines(
            "actor coordinator/c1
            StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=t
            StartStep step=VERIFY_TARGET
            FinishStep step=VERIFY_TARGET
            StartStep step=FENCE
            Fence
            StartStep step=CLAIM
            actor us/b1",
        );
    };
    let claim = |world: &World| {
        let plan = world.state.running_plan(&RoleName::global()).unwrap();
        plan.steps[3].clone()
    };
    let mut world = World::standing();
    to_claim(&mut world);
    world.lines("FinishStep step=CLAIM run=1");
    assert_eq!(claim(&world).state, StepState::Failed);
    assert_eq!(
        claim(&world).detail,
        "no door was tried, and 2 stores are attached"
    );
    world.lines("actor coordinator/c1\nStartStep step=CLAIM attempt=2\nactor us/b1");
    world.lines("FinishStep step=CLAIM attempt=2 run=1 doors=pointer/us");
    assert_eq!(claim(&world).state, StepState::Done);
    // Where no store can be a door there is nothing to try.
    let mut world = World::standing();
    for region in ["eu", "us", "ap"] {
        world.lines(&format!("AttachStore region={region} refused=slow"));
    }
    to_claim(&mut world);
    world.lines("FinishStep step=CLAIM run=1");
    assert_eq!(claim(&world).state, StepState::Done);
}

#[test]
fn ended_plans_are_forgotten_oldest_first() {
    let limits = ControlState::with_limits(RequestTable::new(), 2);
    let mut world = World::standing();
    world.state.finished_plans_kept = limits.finished_plans_kept;
    for n in 0..4 {
        world.lines(&format!(
            "StartPlan kind=SWITCHOVER target=us/b1#1 epoch=g1.e2 trigger={n}\nFailPlan reason={n}"
        ));
    }
    let kept = world.state.plans(None, 10).items;
    assert_eq!(
        kept.iter().map(|p| p.reason.as_str()).collect::<Vec<_>>(),
        ["2", "3"]
    );
}

/// Whoever takes the alias away and deletes what is served has taken the model out of service.
#[test]
fn only_the_first_version_that_was_ever_ready_becomes_champion_by_itself() {
    let mut world = World::standing();
    let publish = |world: &mut World, version: &str| {
        world.lines(&format!(
            "actor admin
            CreateVersion model=m source=eu
            CompleteUpload version={version}
            actor eu/a1
            ReportReplica version={version} region=eu report=started
            ReportReplica version={version} region=eu report=verified
            actor admin"
        ));
    };
    let champion = |world: &World| {
        let model = "m".parse().unwrap();
        let alias = world.state.alias(&model, &"champion".parse().unwrap());
        alias.map(|a| a.version.0)
    };
    // One that was given up before it was ready does not count.
    world.lines("CreateVersion model=m source=eu\nAbortVersion version=m@1");
    publish(&mut world, "m@2");
    assert_eq!(champion(&world), Some(2));
    world.lines("DeleteAlias model=m alias=champion\nDeleteVersion version=m@2");
    publish(&mut world, "m@3");
    assert_eq!(champion(&world), None);
    let bytes = crate::codec::encode_snapshot(&world.state);
    let mut restored = World::with(crate::codec::decode_snapshot(&bytes).unwrap());
    restored.line("wait 1h");
    restored.lines("DeleteVersion version=m@3");
    publish(&mut restored, "m@4");
    assert_eq!(champion(&restored), None, "a snapshot remembers it too");
}

#[test]
fn copies_follow_the_placement() {
    let mut world = World::standing();
    world.lines(
        "CreateModel name=m placement=us
        CreateVersion model=m source=eu
        CompleteUpload version=m@1
        actor eu/a1
        ReportReplica version=m@1 region=eu report=started
        ReportReplica version=m@1 region=eu report=verified
        actor admin
        RegisterRegion region=sa",
    );
    let version = "m@1".parse().unwrap();
    let regions: Vec<_> = world
        .state
        .replicas_of(&version)
        .map(|r| r.key.region.as_str())
        .collect();
    assert_eq!(regions, ["eu", "us"]);
    let missing: RegionId = "us".parse().unwrap();
    assert_eq!(
        (
            world.state.coverage(&missing).wanted,
            world.state.coverage(&missing).verified
        ),
        (2, 1)
    );
}

/// The region's agents may have the bytes on their disks, and nobody else may have them any more.
#[test]
fn a_copy_that_was_verified_once_can_be_mended_without_a_source() {
    for (agent, region) in [("eu/a1", "eu"), ("us/b1", "us"), ("ap/d1", "ap")] {
        let mut world = World::standing();
        let report = format!("ReportReplica version=fraud.scorer@1 region={region} report=");
        world.lines(&format!(
            "SetFeatureLevel level=1
            actor {agent}
            {report}failed attempt=1 error=damaged
            {report}started
            {report}failed attempt=2 error=crash
            {report}started
            {report}verified attempt=3 bytes=100"
        ));
        let key = ReplicaKey {
            version: "fraud.scorer@1".parse().unwrap(),
            region: region.parse().unwrap(),
        };
        let copy = world.state.replica(&key).unwrap();
        let found = (copy.state, copy.attempts, copy.source.clone());
        assert_eq!(found, (ReplicaState::Verified, 3, None), "{region}");
    }
}

#[test]
fn a_served_version_that_no_reachable_region_holds_blocks_nobody() {
    // With too few vantages left nobody condemns the region; its agents are gone all the same.
    for gone in [
        "SetRegionHealth region=eu from=HEALTHY to=UNHEALTHY",
        "SetNodeStatus node=a1 status=DOWN",
    ] {
        let mut world = World::standing();
        world.lines(
            "CreateVersion model=m source=eu
            CompleteUpload version=m@1
            actor eu/a1
            ReportReplica version=m@1 region=eu report=started
            ReportReplica version=m@1 region=eu report=verified
            actor admin",
        );
        let us: RegionId = "us".parse().unwrap();
        assert!(
            !world.state.coverage(&us).is_complete(),
            "it can be copied from eu"
        );
        world.lines(gone);
        assert!(world.state.coverage(&us).is_complete(), "{gone}");
    }
}

#[test]
fn lists_come_in_pages() {
    let mut world = World::standing();
    world.lines("CreateModel name=a\nCreateModel name=z\nCreateVersion model=a source=eu\nCreateVersion model=a source=eu");
    let first = world.state.models(None, 2);
    assert_eq!(
        first.items.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        ["a", "fraud.scorer"]
    );
    let rest = world.state.models(first.next, 2);
    assert_eq!((rest.items[0].name.as_str(), rest.next), ("z", None));
    let model = "a".parse().unwrap();
    let one = world.state.versions_where(&model, None, 1, |_| true);
    assert_eq!(one.items.len(), 1);
    let after = one.next.map(|k| k.version);
    assert_eq!(
        world.state.versions_where(&model, after, 5, |_| true).items[0]
            .key
            .to_string(),
        "a@2"
    );
    assert_eq!(world.state.plans(None, 0).items.len(), 0);
    let key = ReplicaKey {
        version: "fraud.scorer@1".parse().unwrap(),
        region: "eu".parse().unwrap(),
    };
    assert_eq!(
        world.state.replicas(Some(key), 1).items[0].key.region.as_str(),
        "us"
    );
}

#[test]
fn reports_of_one_attempt_may_overtake_each_other() {
    let mut world = World::standing();
    world.lines(
        "actor us/b1
        ReportReplica version=fraud.scorer@1 region=us report=failed error=scrub
        ReportReplica version=fraud.scorer@1 region=us report=started source=eu
        ReportReplica version=fraud.scorer@1 region=us report=progress attempt=2 bytes=70
        ReportReplica version=fraud.scorer@1 region=us report=progress attempt=2 bytes=30",
    );
    let version = "fraud.scorer@1".parse().unwrap();
    let us = world
        .state
        .replicas_of(&version)
        .find(|r| r.key.region.as_str() == "us")
        .unwrap();
    assert_eq!(
        (us.bytes_done.0, us.completed_at),
        (70, Some(UnixMillis(super::world::START)))
    );
}

/// A label says nothing of a run: whoever reckons how long a node is up or down is not misled by it.
#[test]
fn a_node_says_its_zone_and_another_one_changes_the_record_alone() {
    let mut world = World::standing();
    let say = |zone: &str| format!("RegisterNode node=a1 region=eu run=1 agent=https://a1:7463{zone}");
    let before = world.state.node(&"a1".parse().unwrap()).unwrap().clone();
    let refused = world.line(&say(" zone=eu-1a")).unwrap().outcome.unwrap_err();
    assert!(refused.to_string().contains("takes 5"), "{refused}");
    world.lines("SetFeatureLevel level=5\nwait 10s");
    for (zone, shown) in [
        (" zone=eu-1a", Some("eu-1a")),
        (" zone=eu-1b", Some("eu-1b")),
        ("", None),
    ] {
        let applied = world.line(&say(zone)).unwrap();
        applied.outcome.unwrap();
        let after = world.state.node(&"a1".parse().unwrap()).unwrap().clone();
        assert_eq!(after.zone.as_ref().map(|zone| zone.as_str()), shown);
        assert_eq!(applied.events, [crate::Event::Node(after.clone())]);
        assert_eq!(
            (after.status, after.changed_at),
            (before.status, before.changed_at)
        );
        let again = world.line(&say(zone)).unwrap();
        assert_eq!(
            (again.outcome.unwrap(), again.events),
            (
                crate::Reply::Done {
                    modified: after.modified
                },
                vec![]
            )
        );
    }
    // Another run is another standing.
    world.lines("RegisterNode node=a1 region=eu run=2 zone=eu-1a");
    let next = world.state.node(&"a1".parse().unwrap()).unwrap();
    assert!(next.changed_at > before.changed_at, "{next:?}");
}
