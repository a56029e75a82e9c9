//! A new cluster that goes on from a state of an old one (L19).

use std::time::Duration;

use types::{
    ClusterId, Epoch, NodeId, Revision, RoleName, UnixMillis,
    history::{HealthChange, HealthSubject, Standing},
    plan::{PlanRecord, PlanState, StepState},
    region::{NodeRecord, NodeStatus},
    role::RoleRecord,
};

use super::world::World;
use crate::{
    codec,
    features::{Feature, SUPPORTED},
    recovery::{Recovery, Unrecoverable},
    state::{ClusterRecord, ControlState},
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
    assert_eq!((old.highest_generation(), new.highest_generation()), (1, 2));
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

/// A failover has fenced the holder, and claims the stores when the quorum is lost.
fn in_the_middle() -> World {
    let mut world = World::standing();
    world.lines(&format!("SetFeatureLevel level={SUPPORTED}"));
    world.lines(
        "RegisterNode node=c2 region=us run=3 kind=coordinator\nactor coordinator/c1
        StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=t
        actor us/b1\nFinishStep step=VERIFY_TARGET run=1\nactor coordinator/c1\nFence",
    );
    world
}

#[test]
fn every_record_that_changes_says_when_and_why_and_the_rest_stays_as_it_was() {
    let old = in_the_middle().state;
    let asked = recovery(2);
    let new = old.recovered(&asked).unwrap();
    new.check_invariants().unwrap();
    let modified = asked.revision;

    let cluster = old.cluster().unwrap();
    let expected = ClusterRecord {
        cluster_id: asked.cluster_id,
        generation: 2,
        modified,
        ..cluster.clone()
    };
    assert_eq!(new.cluster(), Some(&expected));

    let role = old.role(&RoleName::global()).unwrap();
    assert!(role.reservation.is_some() && role.holder.is_none());
    let expected = RoleRecord {
        epoch: Epoch::new(2, 0),
        reservation: None,
        changed_at: AT,
        reason: asked.reason.clone(),
        outstanding_ttl: old.longest_ttl(),
        modified,
        ..role.clone()
    };
    assert_eq!(new.role(&RoleName::global()), Some(&expected));

    let plan = old.plans.values().next_back().unwrap();
    let mut expected = PlanRecord {
        state: PlanState::Failed,
        finished_at: Some(AT),
        reason: format!("void: {}", asked.reason),
        modified,
        ..plan.clone()
    };
    let (mut ended, mut stayed) = (0, 0);
    for step in &mut expected.steps {
        match step.state {
            StepState::Running => {
                (step.state, step.finished_at) = (StepState::Failed, Some(AT));
                ended += 1;
            }
            StepState::Waiting | StepState::Done | StepState::Failed => stayed += 1,
        }
    }
    assert_eq!((ended, stayed), (1, 5), "{plan:?}");
    assert_eq!(new.plans.get(&plan.plan), Some(&expected));

    let c2: NodeId = "c2".parse().unwrap();
    let expected = NodeRecord {
        status: NodeStatus::Removed,
        changed_at: AT,
        modified,
        ..old.node(&c2).unwrap().clone()
    };
    assert_eq!(new.node(&c2), Some(&expected));
    let told = new
        .health_changes
        .values()
        .filter(|change| change.revision == modified);
    let told: Vec<&HealthChange> = told.collect();
    let expected = HealthChange {
        subject: HealthSubject::Node(c2.clone()),
        revision: modified,
        from: Some(NodeStatus::Up.into()),
        to: Standing::Removed,
        evidence: asked.reason.clone(),
        at: AT,
        by: "spiffe://regent.local/region/eu/coordinator/c1".parse().unwrap(),
    };
    assert_eq!(told, [&expected]);
    for node in old.nodes.values().filter(|node| node.node != c2) {
        assert_eq!(new.node(&node.node), Some(node));
    }
}

/// The founder's build is this one, which knows how a cluster says from which it goes on.
#[test]
fn a_cluster_of_an_early_level_is_raised_to_the_one_that_knows_of_recoveries() {
    let old = World::standing().state;
    let level = |state: &ControlState| state.features().level();
    assert!(level(&old) < Feature::Rebinds.level());
    assert_eq!(
        level(&old.recovered(&recovery(2)).unwrap()),
        Feature::Rebinds.level()
    );
    // There nothing is remembered of who came and went yet.
    assert_eq!(
        world()
            .state
            .recovered(&recovery(2))
            .unwrap()
            .health_changes
            .values()
            .count(),
        0
    );
}

#[test]
fn the_roles_go_on_after_the_longest_ttl_that_anybody_may_have() {
    let global = RoleName::global();
    let old = world().state;
    let own = old.longest_ttl();
    let known = old.recovered(&recovery(2)).unwrap();
    assert_eq!(known.outstanding_ttl(&global), Some(own));
    assert_eq!(known.former_ttl(&global), None, "it is what its own timing says");
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
