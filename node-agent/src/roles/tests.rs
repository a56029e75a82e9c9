//! One holding without its lease: what becomes of its phases and of its doors.

use std::{collections::BTreeMap, time::Duration};

use types::{
    RegionId, RoleName,
    region::{FencingDoor, StoreBinding},
    role::TimingPolicy,
};

use super::{claims::time_to_say, holding::Holding, lease::worth_waiting, moves_on};
use crate::{
    claim::Claim,
    desired::{RolePhase, RoleWish},
    doors::{AllDoors, Binding, Doors},
    tests::records::{binding, me, region, token},
};

const SOON: Duration = Duration::from_secs(20);

fn holding() -> Holding {
    Holding::new(&RoleWish {
        token: token(3, &me()),
        timing: TimingPolicy::fast(),
        phase: RolePhase::Reserved,
    })
}

fn doors(stores: &BTreeMap<RegionId, StoreBinding>) -> Doors {
    AllDoors::of_stores(stores).of(&RoleName::global())
}

fn stores(names: &[&str]) -> BTreeMap<RegionId, StoreBinding> {
    names.iter().map(|name| (region(name), binding(name))).collect()
}

#[test]
fn a_phase_moves_on_and_never_back_to_what_is_not_committed() {
    use RolePhase::{Expected, Held, Promised, Reserved, Yielding};
    let table = [
        (Reserved, [false, true, true, true, true]),
        (Promised, [false, false, false, true, true]),
        (Expected, [false, false, false, true, true]),
        (Held, [false, false, false, false, true]),
        (Yielding, [false, false, false, true, false]),
    ];
    for (before, expected) in table {
        let wished = [Reserved, Promised, Expected, Held, Yielding];
        assert_eq!(
            wished.map(|wished| moves_on(before, wished)),
            expected,
            "{before:?}"
        );
    }
}

#[test]
fn a_try_ends_before_its_guard_does() {
    for (budget, time) in [(1000, 900), (2500, 2250), (0, 0)] {
        let time_of = time_to_say(Duration::from_millis(budget));
        assert_eq!(time_of, Duration::from_millis(time));
    }
}

#[test]
fn only_a_request_before_the_commit_waits_and_for_half_a_lease() {
    use RolePhase::{Expected, Held, Promised, Reserved, Yielding};
    let ttl = Duration::from_millis(2100);
    let half = Some(Duration::from_millis(1050));
    let waits = [Reserved, Promised, Expected, Held, Yielding].map(|phase| worth_waiting(phase, ttl));
    assert_eq!(waits, [None, half, half, None, None]);
}

#[test]
fn a_door_is_one_binding_and_is_claimed_once() {
    let holding = holding();
    let names = |tasks: &[super::holding::Task]| {
        let names = tasks.iter().map(|t| match &t.binding {
            Binding::Store(store) => format!("{}@{}", t.door, store.endpoint),
            Binding::Database(_) => t.door.to_string(),
        });
        names.collect::<Vec<_>>()
    };
    let first = holding.bind(&doors(&stores(&["east", "west"])));
    assert_eq!(
        names(&first),
        ["pointer/east@mem://east", "pointer/west@mem://west"]
    );
    assert_eq!(names(&holding.bind(&doors(&stores(&["east", "west"])))), [""; 0]);
    let mut moved = stores(&["east", "west"]);
    moved.insert(region("east"), binding("annex"));
    assert_eq!(names(&holding.bind(&doors(&moved))), ["pointer/east@mem://annex"]);
    assert!(first[0].stop.is_cancelled() && !first[1].stop.is_cancelled());
    // What the claim of the old binding came to says nothing of the new one.
    holding.set(&first[0], Claim::Claimed);
    assert_eq!(
        holding.unsettled(),
        "pointer/east: not tried yet; pointer/west: not tried yet"
    );
    holding.set(&first[1], Claim::Claimed);
    assert_eq!(holding.unsettled(), "pointer/east: not tried yet");
    let mut unfit = moved.clone();
    unfit.insert(
        region("north"),
        StoreBinding {
            fencing_door: FencingDoor::Refused {
                reason: "2 winners".to_owned(),
            },
            ..binding("north")
        },
    );
    assert_eq!(names(&holding.bind(&doors(&unfit))), [""; 0]);
    holding.stop.cancel();
    assert!(first[1].stop.is_cancelled());
}

#[tokio::test]
async fn who_waits_for_the_doors_hears_of_one_that_is_gone() {
    let holding = holding();
    let tasks = holding.bind(&doors(&stores(&["east", "west"])));
    holding.set(&tasks[1], Claim::Claimed);
    let wait = tokio::time::timeout(SOON, holding.settled());
    // Polled first, so that it waits when the store is detached.
    let (settled, tasks) = tokio::join!(biased; wait, async { holding.bind(&doors(&stores(&["west"]))) });
    assert!(tasks.is_empty());
    let doors = settled.unwrap().unwrap();
    let rows: Vec<_> = doors
        .iter()
        .map(|d| (d.door.as_str(), d.claimed, d.error.as_str()))
        .collect();
    assert_eq!(rows, [("pointer/west", true, "")]);
}

/// A store that returns while the promotion is on its way is claimed at once: the epoch is reserved already (L15).
#[tokio::test]
async fn a_promised_role_goes_on_claiming_and_is_held_with_its_grant() {
    let holding = holding();
    holding.phase.send_replace(RolePhase::Promised);
    assert!(holding.may_claim().await.is_none(), "it waits for no lease");
    assert!(!holding.held().active);
    holding.granted();
    assert_eq!(*holding.phase.borrow(), RolePhase::Held);
}
