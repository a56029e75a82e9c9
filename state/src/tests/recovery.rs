//! A new cluster that goes on from a state of an old one (L19).

use std::time::Duration;

use types::{ClusterId, Epoch, Revision, RoleName, UnixMillis, plan::PlanState, region::NodeStatus};

use super::world::World;
use crate::{
    codec,
    recovery::{Recovery, Unrecoverable},
};

const AT: UnixMillis = UnixMillis(1_800_000_000_000);

pub(super) fn recovery(generation: u32) -> Recovery {
    Recovery {
        cluster_id: ClusterId::from_u128(0xbeef),
        generation,
        founder: "c1".parse().unwrap(),
        revision: Revision(1_000_000),
        at: AT,
        outstanding_ttl: Duration::ZERO,
        rebinds: Vec::new(),
        reason: "recovered from one survivor".to_owned(),
    }
}

/// A holder, a plan that has fenced it, and another coordinator.
fn world() -> World {
    let mut world = World::standing();
    world.lines(
        "RegisterNode node=c2 region=us run=3 kind=coordinator\nStartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=t",
    );
    world
}

#[test]
fn nothing_that_was_given_out_before_is_good_afterwards() {
    let world = world();
    let old = &world.state;
    let new = old.recovered(&recovery(2)).unwrap();
    new.check_invariants().unwrap();
    assert_eq!(new.state_hash(), new.hash_from_scratch());
    let cluster = new.cluster().unwrap();
    assert_eq!(
        (cluster.cluster_id, cluster.generation),
        (ClusterId::from_u128(0xbeef), 2)
    );
    let role = new.role(&RoleName::global()).unwrap();
    assert_eq!((role.epoch, role.holder.clone()), (Epoch::new(2, 0), None));
    assert!(role.reservation.is_none());
    let held = old.role(&RoleName::global()).unwrap();
    assert!(role.epoch > held.epoch && role.modified > held.modified);
    assert!(new.plans.values().all(|plan| plan.state != PlanState::Running));
    let status = |name: &str| new.node(&name.parse().unwrap()).unwrap().status;
    assert_eq!(
        (status("c1"), status("c2"), status("a1")),
        (NodeStatus::Up, NodeStatus::Removed, NodeStatus::Up)
    );
    // What the registry holds stays.
    assert_eq!(
        (&new.models, &new.versions, &new.aliases, &new.replicas),
        (&old.models, &old.versions, &old.aliases, &old.replicas)
    );
    // And it is a state like any other.
    let read = codec::decode_snapshot(&codec::encode_snapshot(&new)).unwrap();
    assert_eq!(read, new);
}

#[test]
fn the_roles_go_on_after_the_longest_ttl_that_anybody_may_have() {
    let global = RoleName::global();
    let old = world().state;
    let own = old.longest_ttl();
    let known = old.recovered(&recovery(2)).unwrap();
    assert_eq!(known.outstanding_ttl(&global), Some(own));
    let longer = Recovery {
        outstanding_ttl: own * 3,
        ..recovery(2)
    };
    let new = old.recovered(&longer).unwrap();
    assert_eq!(new.outstanding_ttl(&global), Some(own * 3));
    assert_eq!(new.role(&global).unwrap().outstanding_ttl, own * 3);
    // Until a leader has said that it waited this one out.
    let former = new.former_ttl(&global).unwrap();
    assert_eq!(former.since, Revision(1_000_000));
}

#[test]
fn requests_that_may_have_been_answered_are_too_old() {
    let mut world = world();
    let before = world.last.clone().unwrap();
    world.state = world.state.recovered(&recovery(2)).unwrap();
    let refused = |world: &mut World, entry: &crate::command::Entry| {
        let revision = world.state.revision().next();
        let outcome = world.state.apply(revision, entry).outcome;
        outcome.err().map(|e| e.reason().as_str())
    };
    assert_eq!(refused(&mut world, &before), Some("REQUEST_TOO_OLD"));
    // Also one that only the lost majority has seen, and none that is made from now on.
    let mut unseen = before.clone();
    unseen.request_id = types::RequestId::v7_from_parts(AT.0, 7);
    assert_eq!(refused(&mut world, &unseen), Some("REQUEST_TOO_OLD"));
    unseen.request_id = types::RequestId::v7_from_parts(AT.0 + 1, 0);
    assert_ne!(refused(&mut world, &unseen), Some("REQUEST_TOO_OLD"));
}

#[test]
fn another_name_a_higher_generation_and_a_revision_of_its_own_are_needed() {
    let world = world();
    let cluster_id = world.state.cluster().unwrap().cluster_id;
    let same = Recovery {
        cluster_id,
        ..recovery(2)
    };
    let refused = Unrecoverable::SameCluster(cluster_id);
    assert_eq!(world.state.recovered(&same), Err(refused));
    let low = Unrecoverable::Generation { shown: 1, found: 1 };
    assert_eq!(world.state.recovered(&recovery(1)), Err(low));
    let found = world.state.revision();
    let late = Recovery {
        revision: found,
        ..recovery(2)
    };
    let refused = Unrecoverable::Revision { shown: found, found };
    assert_eq!(world.state.recovered(&late), Err(refused));
    assert_eq!(
        World::new().state.recovered(&recovery(2)),
        Err(Unrecoverable::NotBootstrapped)
    );
}
