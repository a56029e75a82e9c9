//! Instances of services follow their nodes.

use types::{
    NodeId,
    service::{
        ServiceHealth::{Healthy, Unhealthy},
        ServiceKey,
    },
};

use super::world::World;
use crate::{
    codec::{decode_snapshot, encode_snapshot},
    event::Event,
};

fn standing() -> World {
    let mut world = World::standing();
    world.lines(
        "SetFeatureLevel level=9
        RegisterService key=store/a1:7000 labels=zone:a
        RegisterService key=cache/a1:7001
        RegisterService key=store/b1:7000",
    );
    world
}

/// What is said of services by the line, by instance; `None`: it is gone.
fn said(world: &mut World, line: &str) -> Vec<(String, Option<types::service::ServiceHealth>)> {
    let applied = world.line(line).unwrap();
    assert!(applied.outcome.is_ok(), "{line}: {:?}", applied.outcome);
    let of = |event: &Event| {
        if let Event::Service(s) = event {
            return Some((s.key.to_string(), Some(s.health)));
        }
        let Event::ServiceDeleted { key, .. } = event else {
            return None;
        };
        Some((key.to_string(), None))
    };
    applied.events.iter().filter_map(of).collect()
}

fn both(what: Option<types::service::ServiceHealth>) -> Vec<(String, Option<types::service::ServiceHealth>)> {
    ["cache/a1:7001", "store/a1:7000"]
        .map(|key| (key.to_owned(), what))
        .into()
}

#[test]
fn an_instance_is_as_healthy_as_its_node_and_ends_with_its_run() {
    let mut world = standing();
    assert_eq!(
        said(&mut world, "SetNodeStatus node=a1 status=DOWN"),
        both(Some(Unhealthy))
    );
    // Nothing changes, and nothing is said.
    assert_eq!(said(&mut world, "SetNodeStatus node=a1 status=DOWN"), []);
    assert_eq!(said(&mut world, "SetNodeStatus node=a1"), both(Some(Healthy)));
    assert_eq!(
        said(
            &mut world,
            "RegisterNode node=a1 region=eu agent=https://elsewhere"
        ),
        []
    );
    assert_eq!(
        said(&mut world, "RegisterNode node=a1 region=eu run=2"),
        both(None)
    );
    let left: Vec<_> = world
        .state
        .services_after(None)
        .map(|s| s.key.to_string())
        .collect();
    assert_eq!(left, ["store/b1:7000"]);
    assert_eq!(world.state.services_on(&"a1".parse().unwrap()).count(), 0);
}

#[test]
fn a_node_that_is_dropped_takes_its_instances_along() {
    let mut world = standing();
    world.lines(
        "RegisterService key=store/d1:7000
        RegisterService key=cache/d1:7001
        SetNodeStatus node=d1 status=DOWN",
    );
    let applied = world.line("RemoveNode node=d1").unwrap();
    let told: Vec<_> = applied.events.iter().map(|e| format!("{e:?}")).collect();
    let is_service = |told: &String| told.starts_with("ServiceDeleted");
    assert!(told.len() == 3 && told.iter().take(2).all(is_service), "{told:?}");
    assert!(
        told[2].starts_with("NodeDeleted"),
        "first what it hosts: {told:?}"
    );
    assert_eq!(world.state.services_on(&"d1".parse().unwrap()).count(), 0);
    assert_eq!(
        world.state.services_after(None).count(),
        3,
        "those of others stay"
    );
    // Nothing comes back with the node.
    assert_eq!(said(&mut world, "RegisterNode node=d1 region=ap"), []);
    let back = vec![("store/d1:7000".to_owned(), Some(Healthy))];
    assert_eq!(said(&mut world, "RegisterService key=store/d1:7000"), back);
}

#[test]
fn the_same_registration_again_is_no_change_and_another_one_replaces_it() {
    let mut world = standing();
    let key: ServiceKey = "store/a1:7000".parse().unwrap();
    let modified = |world: &World| world.state.service(&key).unwrap().modified;
    let first = modified(&world);
    assert_eq!(
        said(
            &mut world,
            "RegisterService key=store/a1:7000 labels=zone:a run=1"
        ),
        []
    );
    assert_eq!(modified(&world), first);
    let changed = vec![("store/a1:7000".to_owned(), Some(Healthy))];
    for line in [
        "RegisterService key=store/a1:7000 labels=zone:b",
        "RegisterService key=store/a1:7000 labels=zone:b address=h",
        "RegisterService key=store/a1:7000 labels=zone:b address=h protocol=udp",
    ] {
        assert_eq!(said(&mut world, line), changed, "{line}");
    }
    assert!(modified(&world) > first);
}

#[test]
fn instances_are_found_by_service_and_by_node_in_pages_also_after_a_snapshot() {
    let mut world = standing();
    world.lines("RegisterService key=store/a1:6999\nSetNodeStatus node=b1 status=DOWN");
    let restored = World::with(decode_snapshot(&encode_snapshot(&world.state)).unwrap());
    for world in [&world, &restored] {
        let (mut seen, mut start) = (Vec::new(), None);
        loop {
            let store = "store".parse().unwrap();
            let page = world.state.services_where(Some(&store), start, 2, |_| true);
            assert!(page.items.len() <= 2);
            seen.extend(page.items.iter().map(|s| format!("{} {}", s.key, s.health)));
            start = page.next;
            if start.is_none() {
                break;
            }
        }
        assert_eq!(
            seen,
            [
                "store/a1:6999 HEALTHY",
                "store/a1:7000 HEALTHY",
                "store/b1:7000 UNHEALTHY"
            ]
        );
        let node: NodeId = "a1".parse().unwrap();
        let on: Vec<_> = world
            .state
            .services_on(&node)
            .map(|s| s.key.to_string())
            .collect();
        assert_eq!(on, ["cache/a1:7001", "store/a1:6999", "store/a1:7000"]);
        // A place of another list is none to go on from, or behind everything.
        let places = [("cache/a1:7001", 3), ("zoo/a1:1", 0)];
        for (place, found) in places {
            let store = "store".parse().unwrap();
            let page = world
                .state
                .services_where(Some(&store), Some(place.parse().unwrap()), 9, |_| true);
            assert_eq!(page.items.len(), found, "{place}");
        }
        let all = world
            .state
            .services_where(None, Some("cache/a1:7001".parse().unwrap()), 9, |_| true);
        assert_eq!(all.items.len(), 3);
    }
    assert_eq!(world.state, restored.state);
}
