//! Coordinators that leave.

use types::{DiskId, NodeId, RequestId, region::NodeStatus};

use super::world::{World, actor};
use crate::Entry;

const C1: &str = "SetFeatureLevel level=2\nRegisterNode node=c1 region=eu run=8 kind=coordinator";
const REMOVE: &str = "RemoveCoordinator node=c1 disk=9";

fn world() -> World {
    let mut world = World::standing();
    world.lines(C1);
    world
}

fn status(world: &World) -> NodeStatus {
    let c1: NodeId = "c1".parse().unwrap();
    world.state.node(&c1).unwrap().status
}

fn refused(world: &mut World, line: &str) -> String {
    let rejection = world.line(line).unwrap().outcome.expect_err(line);
    format!("{}: {rejection}", rejection.reason())
}

#[test]
fn a_removed_coordinator_is_marked_and_its_disk_barred_with_who_asked() {
    let mut world = world();
    world.lines(&format!("actor admin\n{REMOVE}"));
    assert_eq!(status(&world), NodeStatus::Removed);
    let [removed] = world.state.removed_coordinators() else {
        panic!("{:?}", world.state.removed_coordinators());
    };
    assert_eq!(removed.disk, Some(DiskId::from_u128(9)));
    assert_eq!(removed.by, super::world::actor("admin"));
    assert!(world.state.is_barred(DiskId::from_u128(9)));
    assert!(!world.state.is_barred(DiskId::from_u128(10)));
    // Asked again it stays one.
    world.lines(REMOVE);
    assert_eq!(world.state.removed_coordinators().len(), 1);
    assert!(world.state.check_invariants().is_ok());
}

/// Of whom it is said once more when, and only if nothing is new.
#[test]
fn a_removal_is_done_once_for_each_disk() {
    let mut world = world();
    world.lines("wait 5s\nactor admin");
    let removed = |world: &mut World, disk: u32| {
        let line = format!("RemoveCoordinator node=c1 disk={disk}");
        let applied = world.line(&line).unwrap();
        (applied.outcome.unwrap(), applied.events.len())
    };
    let changed_at = |world: &World| world.state.node(&"c1".parse().unwrap()).unwrap().changed_at;
    let (first, events) = removed(&mut world, 9);
    assert!(events > 0);
    assert_eq!(changed_at(&world), world.now);
    world.lines("wait 5s");
    assert_eq!(removed(&mut world, 9), (first.clone(), 0));
    assert!(changed_at(&world) < world.now);
    // Another disk of the same name is another one to bar.
    let (second, _) = removed(&mut world, 10);
    assert_ne!(second, first);
    assert!(world.state.is_barred(DiskId::from_u128(10)));
    // The name runs again, with a third disk: to remove the first once more takes this run out, and bars nothing new.
    world.lines("RegisterNode node=c1 region=eu run=11 kind=coordinator");
    assert_eq!(status(&world), NodeStatus::Up);
    let (third, _) = removed(&mut world, 9);
    assert_ne!(third, first);
    assert_eq!(status(&world), NodeStatus::Removed);
    assert_eq!(world.state.removed_coordinators().len(), 2);
}

#[test]
fn the_run_that_was_removed_never_comes_back_and_its_name_may_with_another_one() {
    let mut world = world();
    world.lines(REMOVE);
    let said = refused(
        &mut world,
        "RegisterNode node=c1 region=eu run=8 kind=coordinator",
    );
    assert!(
        said.contains("ILLEGAL_TRANSITION") && said.contains("c1 is REMOVED"),
        "{said}"
    );
    for status in ["UP", "DOWN"] {
        let said = refused(
            &mut world,
            &format!("SetNodeStatus node=c1 run=8 status={status}"),
        );
        assert!(said.contains("cannot become"), "{said}");
    }
    world.lines("RegisterNode node=c1 region=eu run=12 kind=coordinator");
    assert_eq!(status(&world), NodeStatus::Up);
    // Its first disk is still barred, and the second one can be removed, too.
    world.lines("RemoveCoordinator node=c1 disk=10");
    assert!(world.state.is_barred(DiskId::from_u128(9)) && world.state.is_barred(DiskId::from_u128(10)));
    assert_eq!(status(&world), NodeStatus::Removed);
}

#[test]
fn nobody_is_removed_by_a_status_nor_an_agent_as_a_coordinator() {
    let mut world = world();
    let said = refused(&mut world, "SetNodeStatus node=c1 run=8 status=REMOVED");
    assert!(said.contains("ILLEGAL_TRANSITION"), "{said}");
    let said = refused(&mut world, "RemoveCoordinator node=a1 disk=3");
    assert!(said.contains("an agent"), "{said}");
    world.lines("actor eu/a1");
    let said = refused(&mut world, REMOVE);
    assert!(said.contains("PERMISSION_DENIED"), "{said}");
}

/// Builds that do not know the command must never meet its effect.
#[test]
fn the_rule_counts_from_its_level_on() {
    let mut world = World::standing();
    let said = refused(&mut world, REMOVE);
    assert!(said.contains("feature level: is 0, and this takes 2"), "{said}");
    assert!(world.state.removed_coordinators().is_empty());
}

/// One that never registered has a disk all the same.
#[test]
fn a_member_without_a_record_is_barred_too() {
    let mut world = World::standing();
    world.lines("SetFeatureLevel level=2\nRemoveCoordinator node=c9 disk=5\nRemoveCoordinator node=c8");
    assert!(world.state.is_barred(DiskId::from_u128(5)));
    assert_eq!(world.state.removed_coordinators().len(), 2);
}

/// Whoever asks again means the disk that it took out, where the name has another one by now.
#[test]
fn a_removal_is_known_again_by_its_caller_and_its_disk() {
    let mut world = World::standing();
    world.lines("SetFeatureLevel level=2\nRemoveCoordinator node=c9 disk=5");
    let first = world.last.clone().unwrap();
    let node: NodeId = "c9".parse().unwrap();
    let disk = |n: u128| Some(DiskId::from_u128(n));
    let took_out = |world: &World, by: &Entry, node: &NodeId, other: Option<DiskId>| {
        world.state.took_out(by.request_id, &by.actor, node, other)
    };
    assert!(took_out(&world, &first, &node, disk(6)) && took_out(&world, &first, &node, None));
    // That very disk stands again, another name, another caller, another id.
    assert!(!took_out(&world, &first, &node, disk(5)));
    assert!(!took_out(&world, &first, &"c8".parse().unwrap(), disk(6)));
    let mallory = Entry {
        actor: actor("mallory"),
        ..first.clone()
    };
    assert!(!took_out(&world, &mallory, &node, disk(6)));
    world.lines("SetRoleMode mode=MANUAL");
    let mode = world.last.clone().unwrap();
    assert!(!took_out(&world, &mode, &node, disk(6)));

    // Nor is a new id one that was good for something else; without it nothing could ever be asked.
    let for_another = |by: &Entry, disks: &[Option<DiskId>]| {
        let state = &world.state;
        state.asked_for_another(by.request_id, &by.actor, &node, disks)
    };
    assert!(!for_another(&first, &[]) && !for_another(&first, &[disk(6)]));
    assert!(for_another(&mallory, &[disk(5)]) && for_another(&mode, &[None, disk(5)]));
    let new = Entry {
        request_id: RequestId::from_u128(999),
        ..first.clone()
    };
    assert!(!for_another(&new, &[disk(6)]));
}

#[test]
fn the_oldest_of_a_thousand_removals_are_forgotten() {
    let mut world = World::standing();
    world.lines("SetFeatureLevel level=2");
    for n in 1..=1_001 {
        world.lines(&format!("RemoveCoordinator node=c{n} disk={n}"));
    }
    assert_eq!(world.state.removed_coordinators().len(), 1_000);
    assert!(!world.state.is_barred(DiskId::from_u128(1)));
    assert!(world.state.is_barred(DiskId::from_u128(1_001)));
}

#[test]
fn removals_are_part_of_a_snapshot() {
    let mut world = world();
    world.lines(REMOVE);
    let bytes = crate::codec::encode_snapshot(&world.state);
    assert_eq!(crate::codec::decode_snapshot(&bytes).unwrap(), world.state);
}

const WITNESS: &str = "RegisterNode node=w1 region=nowhere run=8 kind=witness";

/// A build that does not know of witnesses never meets one; and where it stands is nobody's region.
#[test]
fn a_witness_takes_its_level_and_no_region() {
    let mut world = World::standing();
    world.lines("SetFeatureLevel level=2");
    let said = refused(&mut world, WITNESS);
    assert!(said.contains("feature level: is 2, and this takes 4"), "{said}");
    let regions = world.state.regions().count();
    world.lines(&format!("SetFeatureLevel level=4\n{WITNESS}"));
    assert_eq!(world.state.regions().count(), regions);
    assert!(world.state.check_invariants().is_ok());
    let said = refused(
        &mut world,
        "RegisterNode node=c2 region=nowhere run=8 kind=coordinator",
    );
    assert!(said.contains("REGION_NOT_FOUND"), "{said}");
    let bytes = crate::codec::encode_snapshot(&world.state);
    assert_eq!(crate::codec::decode_snapshot(&bytes).unwrap(), world.state);
}

#[test]
fn a_coordinator_becomes_a_witness_only_with_another_disk() {
    let mut world = world();
    world.lines("SetFeatureLevel level=4");
    for (from, to, run) in [("coordinator", "witness", 20), ("witness", "coordinator", 21)] {
        let anew = format!("RegisterNode node=c1 region=eu run={run} kind={to}");
        let said = refused(&mut world, &anew);
        assert!(said.contains("ILLEGAL_TRANSITION"), "{from}: {said}");
        world.lines(&format!("RemoveCoordinator node=c1 disk={run}"));
        // An agent's name it never becomes.
        let agent = format!("RegisterNode node=c1 region=eu run={run} kind=agent");
        let said = refused(&mut world, &agent);
        assert!(said.contains("ILLEGAL_TRANSITION"), "{from}: {said}");
        world.lines(&anew);
        assert_eq!(status(&world), NodeStatus::Up);
    }
}
