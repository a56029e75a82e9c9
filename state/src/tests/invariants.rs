//! Each invariant finds what it forbids: a check that cannot fail proves nothing. Here of states, in `steps` of steps.

mod steps;

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use types::{
    Epoch, ModelVersion, PlanId, RequestId, Revision, RoleName, UnixMillis,
    experiment::ExperimentState,
    history::Standing,
    model::VersionState,
    plan::{PlanRecord, PlanState, StepState},
    region::{Health, NodeKind, NodeStatus},
    replica::ReplicaState,
    role::Reservation,
    service::ServiceHealth,
};

use super::{language::holder, world::World};
use crate::{
    hash::Record,
    state::{ControlState, RoleState},
    table::Table,
};

/// What is done to a state that stands.
type Damage = fn(&mut ControlState);

/// A record of every kind; a plan that runs and has reserved no epoch, and one that ended.
pub(super) fn whole() -> ControlState {
    world().state
}

pub(super) fn world() -> World {
    let mut world = World::standing();
    world.lines(
        "SetFeatureLevel level=12
        CreateVersion model=fraud.scorer source=eu datasets=clicks
        CompleteUpload version=fraud.scorer@2
        actor eu/a1
        ReportReplica version=fraud.scorer@2 region=eu report=started
        ReportReplica version=fraud.scorer@2 region=eu report=verified
        actor us/b1
        ReportReplica version=fraud.scorer@2 region=us report=started source=eu
        ReportReplica version=fraud.scorer@2 region=us report=verified
        actor admin
        SetAlias model=fraud.scorer alias=canary version=2
        CreateExperiment model=fraud.scorer name=march split=1:90,2:10
        CreateVersion model=fraud.scorer source=us
        CompleteUpload version=fraud.scorer@3
        SetPreferences of=admin set=output:json
        RegisterService key=store/a1:7000
        RegisterNode node=a2 region=eu run=9
        RegisterNode node=a2 region=eu run=10
        SetNodeStatus node=a2 run=10 status=DOWN
        RegisterNode node=w1 region=ap kind=witness
        StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=t",
    );
    world
}

/// The same, and the plan has reserved an epoch.
fn reserved() -> ControlState {
    let mut world = world();
    world.lines(
        "actor us/b1
        FinishStep step=VERIFY_TARGET run=1
        actor coordinator/c1
        Fence",
    );
    world.state
}

/// Changes the record at a place of its table.
pub(super) fn edit<K, V>(table: &mut Table<K, V>, at: usize, change: impl FnOnce(&mut V))
where
    K: Ord + Clone,
    V: PartialEq + Clone + Record<K>,
{
    let (key, mut value) = of(table, at);
    change(&mut value);
    table.insert(key, value);
}

fn of<K, V>(table: &Table<K, V>, at: usize) -> (K, V)
where
    K: Ord + Clone,
    V: PartialEq + Clone + Record<K>,
{
    let (key, value) = table.iter().nth(at).unwrap();
    (key.clone(), value.clone())
}

/// Puts the first record where another key would stand.
fn misplace<K, V>(table: &mut Table<K, V>, change: impl FnOnce(&mut K))
where
    K: Ord + Clone + Debug,
    V: PartialEq + Clone + Record<K>,
{
    let (mut key, value) = of(table, 0);
    table.remove(&key);
    change(&mut key);
    table.insert(key, value);
}

fn plan(s: &mut ControlState, change: fn(&mut PlanRecord)) {
    let running = s
        .plans
        .values()
        .position(|p| p.state == PlanState::Running)
        .unwrap();
    edit(&mut s.plans, running, change);
}
fn role(s: &mut ControlState, change: fn(&mut RoleState)) {
    edit(&mut s.roles, 0, change);
}
fn reservation(s: &mut ControlState, change: fn(&mut Reservation)) {
    edit(&mut s.roles, 0, |r| {
        change(r.record.reservation.as_mut().unwrap())
    });
}

fn broken(s: &ControlState) -> BTreeSet<&'static str> {
    s.judged()
        .filter(|(_, verdict)| verdict.is_err())
        .map(|(name, _)| name)
        .collect()
}

/// Nothing is wrong with a state, until each damage of its own breaks the invariant.
fn breaks(invariant: &'static str, standing: fn() -> ControlState, damages: &[Damage]) {
    let standing = standing();
    assert_eq!(standing.check_invariants(), Ok(()), "{invariant}");
    for (at, damage) in damages.iter().enumerate() {
        let mut damaged = standing.clone();
        damage(&mut damaged);
        let found = broken(&damaged);
        if found.is_empty() {
            eprintln!("STEPS {:#?}", damaged.plans.values().last().unwrap().steps);
        }
        assert!(found.contains(invariant), "{invariant}, damage {at}: {found:?}");
        let first = damaged.check_invariants().unwrap_err();
        assert!(found.contains(first.invariant), "{first}");
    }
}

#[test]
fn a_record_under_another_key_is_found() {
    breaks(
        "records_stand_under_their_own_keys",
        whole,
        &[
            |s| misplace(&mut s.regions, |k| *k = "other".parse().unwrap()),
            |s| misplace(&mut s.nodes, |k| *k = "other".parse().unwrap()),
            |s| misplace(&mut s.models, |k| *k = "other".parse().unwrap()),
            |s| misplace(&mut s.versions, |k| k.version.0 += 9),
            |s| misplace(&mut s.aliases, |k| k.1 = "other".parse().unwrap()),
            |s| misplace(&mut s.aliases, |k| k.0 = "other".parse().unwrap()),
            |s| misplace(&mut s.replicas, |k| k.region = "other".parse().unwrap()),
            |s| misplace(&mut s.roles, |k| *k = "primaries/other".parse().unwrap()),
            |s| misplace(&mut s.plans, |k| k.0 += 900),
            |s| misplace(&mut s.experiments, |k| k.1 = "other".parse().unwrap()),
            |s| misplace(&mut s.experiments, |k| k.0 = "other".parse().unwrap()),
            |s| misplace(&mut s.services, |k| k.node = "other".parse().unwrap()),
            |s| misplace(&mut s.preferences, |k| *k = super::world::actor("other")),
            |s| misplace(&mut s.deployments, |k| k.0 = "other".parse().unwrap()),
            |s| misplace(&mut s.deployments, |k| k.1.0 += 1),
            |s| misplace(&mut s.health_changes, |k| k.0 = "nodes/other".parse().unwrap()),
            |s| misplace(&mut s.health_changes, |k| k.1.0 += 1),
        ],
    );
}

#[test]
fn a_record_of_a_later_revision_is_found() {
    const LATER: Revision = Revision(1_000_000);
    breaks(
        "nothing_was_modified_after_the_last_revision",
        whole,
        &[
            |s| edit(&mut s.regions, 0, |r| r.modified = LATER),
            |s| edit(&mut s.nodes, 0, |r| r.modified = LATER),
            |s| edit(&mut s.models, 0, |r| r.modified = LATER),
            |s| edit(&mut s.versions, 0, |r| r.modified = LATER),
            |s| edit(&mut s.aliases, 0, |r| r.modified = LATER),
            |s| edit(&mut s.replicas, 0, |r| r.modified = LATER),
            |s| edit(&mut s.roles, 0, |r| r.record.modified = LATER),
            |s| edit(&mut s.plans, 0, |r| r.modified = LATER),
            |s| edit(&mut s.experiments, 0, |r| r.modified = LATER),
            |s| edit(&mut s.services, 0, |r| r.modified = LATER),
            |s| edit(&mut s.preferences, 0, |r| r.modified = LATER),
            |s| edit(&mut s.deployments, 0, |r| r.revision = LATER),
            |s| edit(&mut s.health_changes, 0, |r| r.revision = LATER),
            |s| s.revision.0 -= 1,
        ],
    );
}

#[test]
fn regions_and_nodes_that_stand_nowhere_are_found() {
    breaks(
        "every_region_joined_once",
        whole,
        &[
            |s| Arc::make_mut(&mut s.join_order).push("eu".parse().unwrap()),
            |s| Arc::make_mut(&mut s.join_order).push("other".parse().unwrap()),
            |s| drop(Arc::make_mut(&mut s.join_order).pop()),
            |s| Arc::make_mut(&mut s.join_order)[0] = "other".parse().unwrap(),
        ],
    );
    breaks(
        "every_node_is_in_a_region",
        whole,
        &[
            |s| edit(&mut s.nodes, 0, |r| r.region = "other".parse().unwrap()),
            |s| {
                edit(&mut s.nodes, 0, |r| {
                    r.region = "other".parse().unwrap();
                    r.status = NodeStatus::Down;
                });
            },
        ],
    );
    breaks(
        "no_node_runs_as_a_superseded_run",
        whole,
        &[
            |s| {
                let run = s.nodes.get(&"a2".parse().unwrap()).unwrap().incarnation;
                edit(&mut s.superseded, 0, |runs| runs.push(run));
            },
            |s| {
                s.nodes.remove(&"a2".parse().unwrap());
            },
        ],
    );
    // Who was taken out, or is only a witness, may stand in no region.
    let mut state = whole();
    let witness = state
        .nodes
        .values()
        .position(|n| n.kind == NodeKind::Witness)
        .unwrap();
    edit(&mut state.nodes, witness, |n| n.region = "other".parse().unwrap());
    let coordinator = state
        .nodes
        .values()
        .position(|n| n.kind == NodeKind::Coordinator)
        .unwrap();
    edit(&mut state.nodes, coordinator, |n| {
        n.region = "other".parse().unwrap();
        n.status = NodeStatus::Removed;
    });
    assert!(!broken(&state).contains("every_node_is_in_a_region"));
}

#[test]
fn versions_aliases_and_copies_of_nothing_are_found() {
    breaks(
        "every_version_has_a_model_and_a_number_that_was_given_out",
        whole,
        &[
            |s| {
                s.models.remove(&"fraud.scorer".parse().unwrap());
            },
            |s| edit(&mut s.models, 0, |m| m.next_version = ModelVersion(3)),
            |s| edit(&mut s.models, 0, |m| m.next_version = ModelVersion(2)),
            |s| misplace(&mut s.versions, |k| k.version = ModelVersion(0)),
        ],
    );
    breaks(
        "every_alias_points_at_a_version_that_is_served",
        whole,
        &[
            |s| edit(&mut s.aliases, 0, |a| a.version = ModelVersion(9)),
            |s| edit(&mut s.aliases, 0, |a| a.version = ModelVersion(3)),
            |s| edit(&mut s.versions, 0, |v| v.state = VersionState::Deleted),
        ],
    );
    breaks(
        "every_model_with_a_served_version_was_published",
        whole,
        &[|s| {
            s.published = Table::default();
        }],
    );
    breaks(
        "every_replica_belongs_to_a_version_and_a_region",
        whole,
        &[
            |s| misplace(&mut s.replicas, |k| k.region = "other".parse().unwrap()),
            |s| misplace(&mut s.replicas, |k| k.version.version.0 += 9),
            |s| edit(&mut s.versions, 0, |v| v.state = VersionState::PendingUpload),
            |s| edit(&mut s.versions, 0, |v| v.state = VersionState::Deleted),
            // What is still verified is in its source alone.
            |s| edit(&mut s.versions, 2, |v| v.source_region = "ap".parse().unwrap()),
        ],
    );
    breaks(
        "a_ready_version_is_verified_somewhere_or_was",
        whole,
        &[
            |s| edit(&mut s.replicas, 0, |r| r.completed_at = None),
            |s| {
                let of_second: Vec<_> = s
                    .replicas
                    .keys()
                    .filter(|k| k.version.version.0 == 2)
                    .cloned()
                    .collect();
                assert_eq!(of_second.len(), 3);
                for key in of_second {
                    s.replicas.remove(&key);
                }
            },
            |s| edit(&mut s.versions, 2, |v| v.state = VersionState::Ready),
        ],
    );
    // A copy that was found damaged since was complete once.
    let mut state = whole();
    let at = state
        .replicas
        .values()
        .position(|r| r.state == ReplicaState::Verified)
        .unwrap();
    edit(&mut state.replicas, at, |r| r.state = ReplicaState::Failed);
    assert!(!broken(&state).contains("a_ready_version_is_verified_somewhere_or_was"));
}

#[test]
fn a_holder_under_an_epoch_that_was_not_issued_is_found() {
    let invariant = "a_role_has_a_holder_only_under_an_issued_epoch";
    breaks(
        invariant,
        whole,
        &[
            |s| role(s, |r| r.highest_epoch = Epoch::new(1, 1)),
            |s| role(s, |r| r.highest_epoch = Epoch::new(1, 3)),
            |s| role(s, |r| r.record.epoch = Epoch::new(1, 3)),
            |s| {
                role(s, |r| {
                    r.record.epoch = Epoch::new(1, 0);
                    r.highest_epoch = Epoch::new(1, 0);
                });
            },
            |s| {
                role(s, |r| {
                    r.record.holder.as_mut().unwrap().region = "us".parse().unwrap()
                })
            },
        ],
    );
    // Nobody holds it, so a promise may be higher.
    breaks(
        invariant,
        reserved,
        &[|s| role(s, |r| r.highest_epoch = Epoch::new(1, 2))],
    );
    let mut state = whole();
    role(&mut state, |r| r.record.holder = Some(holder("us/gone#1")));
    assert!(!broken(&state).contains(invariant));
    role(&mut state, |r| {
        r.record.holder = None;
        r.record.epoch = Epoch::new(1, 0);
    });
    assert!(!broken(&state).contains(invariant));
}

#[test]
fn a_reservation_of_no_running_plan_is_found() {
    breaks(
        "a_reservation_belongs_to_a_running_plan_and_is_the_highest_epoch",
        reserved,
        &[
            |s| reservation(s, |r| r.plan = PlanId(1)),
            |s| reservation(s, |r| r.target = holder("ap/d1#1")),
            |s| reservation(s, |r| r.epoch = Epoch::new(1, 5)),
            |s| {
                reservation(s, |r| r.epoch = Epoch::new(1, 5));
                role(s, |r| r.highest_epoch = Epoch::new(1, 5));
            },
            |s| role(s, |r| r.highest_epoch = Epoch::new(1, 5)),
            |s| role(s, |r| r.record.epoch = Epoch::new(1, 4)),
            |s| role(s, |r| r.record.holder = Some(holder("eu/a1#1"))),
            |s| plan(s, |p| p.state = PlanState::Failed),
            |s| plan(s, |p| p.role = "primaries/other".parse().unwrap()),
            |s| plan(s, |p| p.target_epoch = None),
            |s| plan(s, |p| p.target = holder("ap/d1#1")),
        ],
    );
}

#[test]
fn plans_that_run_together_or_are_not_found_are_found() {
    breaks(
        "a_role_has_one_running_plan_at_most",
        whole,
        &[
            |s| edit(&mut s.plans, 0, |p| p.state = PlanState::Running),
            |s| {
                // The older one alone runs.
                edit(&mut s.plans, 0, |p| p.state = PlanState::Running);
                edit(&mut s.plans, 1, |p| p.state = PlanState::Failed);
            },
            |s| s.roles = Table::default(),
        ],
    );
    breaks(
        "every_plan_is_found_by_its_role",
        whole,
        &[
            |s| drop(s.plans_of.remove(&(RoleName::global(), PlanId(25)))),
            |s| drop(s.plans_of.insert((RoleName::global(), PlanId(1)))),
            |s| {
                s.plans_of.remove(&(RoleName::global(), PlanId(25)));
                s.plans_of.insert((RoleName::global(), PlanId(1)));
            },
        ],
    );
    breaks(
        "steps_run_in_order_and_one_at_a_time",
        whole,
        &[
            |s| plan(s, |p| p.steps.truncate(2)),
            |s| plan(s, |p| p.steps.swap(0, 1)),
            |s| plan(s, |p| p.steps[2].state = StepState::Running),
            |s| plan(s, |p| p.steps[3].attempt = 1),
            |s| plan(s, |p| p.steps[4].state = StepState::Done),
            |s| plan(s, |p| p.state = PlanState::Succeeded),
            |s| {
                plan(s, |p| {
                    p.steps.iter_mut().for_each(|step| step.state = StepState::Done)
                })
            },
            |s| plan(s, |p| p.finished_at = Some(UnixMillis(1))),
            |s| edit(&mut s.plans, 0, |p| p.finished_at = None),
        ],
    );
}

#[test]
fn requests_below_the_floor_are_found() {
    breaks(
        "remembered_requests_stand_above_the_floor",
        whole,
        &[
            |s| s.requests.floor = s.requests.answered.first().map(|first| first.id),
            |s| s.requests.floor = Some(RequestId::v7_from_parts(u64::from(u32::MAX) << 14, 0)),
        ],
    );
    let mut empty = ControlState::new();
    empty.requests.floor = Some(RequestId::v7_from_parts(1, 1));
    assert_eq!(empty.check_invariants(), Ok(()));
}

#[test]
fn experiments_that_divide_otherwise_than_they_say_are_found() {
    breaks(
        "every_experiment_divides_all_users_as_its_percents_say",
        whole,
        &[
            |s| {
                edit(&mut s.experiments, 0, |e| {
                    e.arms[0].percent = 80;
                    e.arms[1].percent = 20;
                });
            },
            |s| edit(&mut s.experiments, 0, |e| e.arms[1].percent = 9),
            |s| {
                edit(&mut s.experiments, 0, |e| {
                    let zero = types::experiment::Arm {
                        percent: 0,
                        ..e.arms[0].clone()
                    };
                    e.arms.push(zero);
                });
            },
            |s| {
                s.models.remove(&"fraud.scorer".parse().unwrap());
            },
            |s| edit(&mut s.experiments, 0, |e| e.ended_at = Some(UnixMillis(1))),
            |s| edit(&mut s.experiments, 0, |e| e.state = ExperimentState::Ended),
        ],
    );
    breaks(
        "every_arm_of_a_running_experiment_can_be_served",
        whole,
        &[
            |s| edit(&mut s.versions, 1, |v| v.state = VersionState::Deleted),
            |s| edit(&mut s.experiments, 0, |e| e.arms[1].version = ModelVersion(9)),
        ],
    );
    // What has ended serves nobody.
    let mut state = whole();
    edit(&mut state.experiments, 0, |e| {
        e.state = ExperimentState::Ended;
        e.arms[1].version = ModelVersion(9);
    });
    assert!(!broken(&state).contains("every_arm_of_a_running_experiment_can_be_served"));
}

#[test]
fn what_is_not_found_by_what_it_belongs_to_is_found() {
    breaks(
        "every_dependent_is_found_by_its_dataset",
        whole,
        &[
            |s| s.dependents = imbl::OrdMap::new(),
            |s| {
                let key = s.versions.keys().next().unwrap().clone();
                s.dependents
                    .get_mut(&"clicks".parse::<types::DatasetName>().unwrap())
                    .unwrap()
                    .insert(key);
            },
        ],
    );
    breaks(
        "every_service_is_as_its_node_stands",
        whole,
        &[
            |s| edit(&mut s.services, 0, |r| r.region = "us".parse().unwrap()),
            |s| edit(&mut s.services, 0, |r| r.health = ServiceHealth::Unhealthy),
            |s| {
                let a1 = s.nodes.keys().position(|n| n.as_str() == "a1").unwrap();
                edit(&mut s.nodes, a1, |n| n.status = NodeStatus::Down);
            },
            |s| {
                s.nodes.remove(&"a1".parse().unwrap());
            },
        ],
    );
    breaks(
        "every_service_is_found_by_its_node",
        whole,
        &[
            |s| s.hosted = imbl::OrdMap::new(),
            |s| drop(s.hosted.insert("b1".parse().unwrap(), imbl::OrdSet::new())),
            |s| {
                let keys = s
                    .hosted
                    .get(&"a1".parse::<types::NodeId>().unwrap())
                    .unwrap()
                    .clone();
                s.hosted.insert("b1".parse().unwrap(), keys);
            },
        ],
    );
}

#[test]
fn what_stands_otherwise_than_its_history_says_is_found() {
    breaks(
        "every_alias_points_where_its_last_deployment_put_it",
        whole,
        &[
            |s| edit(&mut s.aliases, 0, |a| a.version = ModelVersion(1)),
            |s| {
                let last = s.deployments.len() - 1;
                edit(&mut s.deployments, last, |d| d.to = None);
            },
        ],
    );
    breaks(
        "everything_stands_as_its_last_change_of_health_says",
        whole,
        &[
            |s| {
                let a2 = s.nodes.keys().position(|n| n.as_str() == "a2").unwrap();
                edit(&mut s.nodes, a2, |n| n.status = NodeStatus::Up);
            },
            |s| {
                s.nodes.remove(&"a2".parse().unwrap());
            },
            |s| {
                let last = s.health_changes.len() - 1;
                edit(&mut s.health_changes, last, |c| c.to = Standing::Healthy);
            },
        ],
    );
    let mut world = world();
    world.lines("actor coordinator/c1\nSetRegionHealth region=ap from=HEALTHY to=UNHEALTHY evidence=silent");
    let mut state = world.state;
    edit(&mut state.regions, 0, |r| r.health = Health::Healthy);
    assert!(broken(&state).contains("everything_stands_as_its_last_change_of_health_says"));
}
