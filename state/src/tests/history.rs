//! What is remembered of moves of aliases and changes of health, and what is not.

use types::{
    Principal,
    history::{DeploymentRecord, HealthChange, HealthSubject},
};

use super::world::{World, actor};
use crate::codec::{decode_snapshot, encode_snapshot};

fn standing() -> World {
    let mut world = World::standing();
    world.lines(
        "SetFeatureLevel level=10
        CreateVersion model=fraud.scorer source=eu
        CompleteUpload version=fraud.scorer@2
        actor eu/a1
        ReportReplica version=fraud.scorer@2 region=eu report=started
        ReportReplica version=fraud.scorer@2 region=eu report=verified
        actor admin",
    );
    world
}

fn deployments(world: &World) -> Vec<&DeploymentRecord> {
    world
        .state
        .deployments_where(None, None, usize::MAX, |_| true)
        .items
}

fn changes<'a>(world: &'a World, of: &str) -> Vec<&'a HealthChange> {
    let subject: HealthSubject = of.parse().unwrap();
    let all = world
        .state
        .health_changes_where(None, None, usize::MAX, |_| true)
        .items;
    all.into_iter().filter(|c| c.subject == subject).collect()
}

fn moves(world: &World) -> Vec<String> {
    let version = |v: Option<types::ModelVersion>| v.map_or_else(|| "-".to_owned(), |v| v.to_string());
    let text = |d: &&DeploymentRecord| {
        format!(
            "{} {} {} {} {}",
            d.alias,
            version(d.from),
            version(d.to),
            d.reason,
            d.by
        )
    };
    deployments(world).iter().map(text).collect()
}

#[test]
fn each_move_of_an_alias_is_remembered_with_who_moved_it_and_why() {
    let mut world = standing();
    assert_eq!(
        moves(&world),
        [""; 0],
        "nothing is known of what was before the level"
    );
    world.lines(
        "SetAlias model=fraud.scorer alias=champion version=2 reason=better
        SetAlias model=fraud.scorer alias=champion version=2
        actor eve
        SetAlias model=fraud.scorer alias=candidate version=1
        DeleteAlias model=fraud.scorer alias=champion",
    );
    let (admin, eve) = (actor("admin"), actor("eve"));
    assert_eq!(
        moves(&world),
        [
            format!("champion 1 2 better {admin}"),
            format!("candidate - 1  {eve}"),
            format!("champion 2 -  {eve}"),
        ]
    );
    let last = deployments(&world)[2].clone();
    assert_eq!(
        (last.revision, last.at),
        (world.state.revision(), world.state.time())
    );
    // The first version of a model that becomes ready is its champion: that is a move too.
    world.lines(
        "actor admin
        CreateVersion model=new source=eu
        CompleteUpload version=new@1
        actor eu/a1
        ReportReplica version=new@1 region=eu report=started
        ReportReplica version=new@1 region=eu report=verified",
    );
    let by = actor("eu/a1");
    assert_eq!(
        moves(&world)[3],
        format!("champion - 1 first version that became ready {by}")
    );
    let restored = World::with(decode_snapshot(&encode_snapshot(&world.state)).unwrap());
    assert_eq!(deployments(&restored), deployments(&world));
}

#[test]
fn a_model_keeps_its_last_hundred_moves() {
    let mut world = standing();
    for n in 0..51 {
        world.lines(&format!(
            "SetAlias model=fraud.scorer alias=champion version=2 reason=r{n}
            SetAlias model=fraud.scorer alias=champion version=1 reason=back{n}"
        ));
    }
    let reasons: Vec<_> = deployments(&world).iter().map(|d| d.reason.clone()).collect();
    assert_eq!(
        (reasons.len(), reasons[0].as_str(), reasons[99].as_str()),
        (100, "r1", "back50")
    );
}

#[test]
fn a_change_of_health_is_remembered_and_what_changes_nothing_is_not() {
    let mut world = standing();
    let long = "e".repeat(3_000);
    let text = |c: &&HealthChange| format!("{:?} {} {}", c.from.map(|f| f.to_string()), c.to, c.evidence);
    world.lines(&format!(
        "SetRegionHealth region=eu from=HEALTHY to=UNHEALTHY evidence={long}"
    ));
    world.lines("AttachStore region=eu refused=slow\nSetRegionHealth region=eu from=UNHEALTHY to=RECOVERING evidence=back");
    let seen: Vec<_> = changes(&world, "regions/eu").iter().map(text).collect();
    assert_eq!(
        seen,
        [
            format!("Some(\"HEALTHY\") UNHEALTHY {}", "e".repeat(500)),
            "Some(\"UNHEALTHY\") RECOVERING back".to_owned(),
        ]
    );
    world.lines(
        "actor coordinator/c1
        SetNodeStatus node=a1 status=DOWN
        SetNodeStatus node=a1 status=DOWN
        RegisterNode node=a1 region=eu run=2
        RegisterNode node=a1 region=eu run=3
        RegisterNode node=a1 region=eu run=3 agent=https://elsewhere
        RegisterNode node=a9 region=eu",
    );
    let seen: Vec<_> = changes(&world, "nodes/a1").iter().map(text).collect();
    assert_eq!(seen, ["Some(\"UP\") DOWN ", "Some(\"DOWN\") UP "]);
    let new = changes(&world, "nodes/a9");
    assert_eq!(new.iter().map(text).collect::<Vec<_>>(), ["None UP "]);
    let by: Principal = actor("coordinator/c1");
    assert_eq!((new[0].by.clone(), new[0].revision), (by, world.state.revision()));
}

#[test]
fn a_node_or_region_that_is_gone_takes_its_history_along() {
    let mut world = standing();
    world.lines(
        "RegisterNode node=d10 region=us
        SetNodeStatus node=d1 status=DOWN
        SetNodeStatus node=d1
        SetNodeStatus node=d1 status=DOWN
        SetRegionHealth region=ap from=HEALTHY to=UNHEALTHY
        SetRegionHealth region=us from=HEALTHY to=UNHEALTHY",
    );
    let counts = |world: &World| {
        ["nodes/d1", "nodes/d10", "regions/ap", "regions/us"].map(|of| changes(world, of).len())
    };
    assert_eq!(counts(&world), [3, 1, 1, 1]);
    world.lines("RemoveNode node=d1");
    assert_eq!(counts(&world), [0, 1, 1, 1]);
    world.lines("DeleteRegion region=ap");
    assert_eq!(counts(&world), [0, 1, 0, 1]);
    let restored = decode_snapshot(&encode_snapshot(&world.state)).unwrap();
    assert_eq!(restored, world.state);
    // Another of the same name begins with no past.
    world.lines("RegisterRegion region=ap\nRegisterNode node=d1 region=ap");
    for of in ["nodes/d1", "regions/ap"] {
        let first = changes(&world, of);
        assert_eq!((first.len(), first[0].from), (1, None), "{of}");
    }
}

#[test]
fn a_region_or_node_keeps_its_last_thirty_two_changes() {
    let mut world = standing();
    for _ in 0..20 {
        world.lines("SetNodeStatus node=a1 status=DOWN\nSetNodeStatus node=a1\nSetNodeStatus node=b1 status=DOWN\nSetNodeStatus node=b1");
    }
    world.lines("SetNodeStatus node=a1 status=DOWN");
    let (a, b) = (changes(&world, "nodes/a1"), changes(&world, "nodes/b1"));
    assert_eq!((a.len(), b.len()), (32, 32));
    assert_eq!(a.last().unwrap().revision, world.state.revision());
    assert!(a.is_sorted_by_key(|c| c.revision));
    let restored = World::with(decode_snapshot(&encode_snapshot(&world.state)).unwrap());
    assert_eq!(restored.state, world.state);
}

#[test]
fn nothing_is_remembered_below_the_level() {
    let mut world = World::standing();
    world.lines(
        "SetFeatureLevel level=9
        DeleteAlias model=fraud.scorer alias=champion
        SetNodeStatus node=a1 status=DOWN
        SetRegionHealth region=eu from=HEALTHY to=UNHEALTHY",
    );
    assert!(deployments(&world).is_empty() && world.state.health_changes.len() == 0);
}

#[test]
fn preferences_are_kept_by_key_and_gone_with_the_last_one() {
    let mut world = standing();
    let eve = actor("eve");
    world.lines("SetPreferences of=eve set=output:json,page:50\nactor eve\nSetPreferences of=eve set=page:9 remove=output,none");
    let record = world.state.preferences(&eve).unwrap().clone();
    assert_eq!(record.values, [("page".to_owned(), "9".to_owned())].into());
    assert_eq!(
        (record.changed_by, record.modified),
        (eve.clone(), world.state.revision())
    );
    assert!(world.state.preferences(&actor("admin")).is_none());
    world.lines("SetPreferences of=eve set=page:9");
    assert_eq!(
        world.state.preferences(&eve).unwrap().modified,
        record.modified,
        "no change"
    );
    let restored = decode_snapshot(&encode_snapshot(&world.state)).unwrap();
    assert_eq!(restored, world.state);
    let events = world.events.len();
    world.lines("SetPreferences of=eve remove=page");
    assert!(world.state.preferences(&eve).is_none());
    assert_eq!(world.events.len(), events, "nobody watches them");
}

#[test]
fn a_recovery_remembers_whom_it_took_out() {
    let mut world = standing();
    world.lines("RegisterNode node=c2 region=us run=3 kind=coordinator");
    let new = World::with(world.state.recovered(&super::recovery::recovery(2)).unwrap());
    new.state.check_invariants().unwrap();
    let last = changes(&new, "nodes/c2").last().unwrap().to_owned().clone();
    assert_eq!(
        (last.to.to_string().as_str(), last.evidence.as_str(), last.by),
        ("REMOVED", "recovered from one survivor", actor("coordinator/c1"))
    );
}
