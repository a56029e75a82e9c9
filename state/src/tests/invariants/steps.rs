//! Steps from one state to another that may not be taken.

use std::sync::Arc;

use types::{
    ClusterId, Epoch, ModelVersion, RequestId, experiment::ExperimentState, model::VersionState,
    plan::PlanState, region::NodeStatus,
};

use super::{edit, of, reserved, whole, world};
use crate::{
    invariants::{check_transition, judged_step},
    state::ControlState,
    table::Table,
    tests::language::holder,
};

type Step = fn(&mut ControlState);

/// Whether the invariant is broken by the step from a state that stands.
fn breaks(invariant: &'static str, standing: &ControlState, step: Step) -> bool {
    assert_eq!(check_transition(standing, standing), Ok(()));
    let mut after = standing.clone();
    step(&mut after);
    let found: Vec<_> = judged_step(standing, &after)
        .filter(|(_, verdict)| verdict.is_err())
        .map(|(name, _)| name)
        .collect();
    let first = check_transition(standing, &after).map_err(|broken| broken.invariant);
    assert_eq!(first.err(), found.first().copied());
    found.contains(&invariant)
}

fn forbidden(invariant: &'static str, standing: &ControlState, steps: &[Step]) {
    for (at, step) in steps.iter().enumerate() {
        assert!(breaks(invariant, standing, *step), "{invariant}, step {at}");
    }
}
fn allowed(invariant: &'static str, standing: &ControlState, steps: &[Step]) {
    for (at, step) in steps.iter().enumerate() {
        assert!(!breaks(invariant, standing, *step), "{invariant}, step {at}");
    }
}

/// Changes the record of a node.
fn node(s: &mut ControlState, name: &str, change: impl FnOnce(&mut types::region::NodeRecord)) {
    let at = s.nodes.keys().position(|n| n.as_str() == name).unwrap();
    edit(&mut s.nodes, at, change);
}

#[test]
fn neither_time_nor_the_name_goes_back() {
    let mut state = whole();
    state.requests.floor = Some(RequestId::v7_from_parts(2, 2));
    forbidden(
        "time_and_revision_never_go_back",
        &state,
        &[
            |s| s.time.0 -= 1,
            |s| s.revision.0 -= 1,
            |s| s.requests.floor = Some(RequestId::v7_from_parts(2, 1)),
            |s| s.requests.floor = None,
        ],
    );
    allowed(
        "time_and_revision_never_go_back",
        &state,
        &[|s| {
            s.time.0 += 1;
            s.revision.0 += 1;
            s.requests.floor = Some(RequestId::v7_from_parts(2, 3));
        }],
    );
    let name = "the_cluster_keeps_its_name";
    forbidden(
        name,
        &state,
        &[
            |s| s.cluster = None,
            |s| Arc::make_mut(s.cluster.as_mut().unwrap()).generation += 1,
            |s| Arc::make_mut(s.cluster.as_mut().unwrap()).cluster_id = ClusterId::from_u128(77),
        ],
    );
    assert!(!breaks(name, &ControlState::new(), |s| s.cluster = whole().cluster));
    allowed(
        name,
        &state,
        &[|s| Arc::make_mut(s.cluster.as_mut().unwrap()).feature_level += 1],
    );
}

#[test]
fn nothing_is_lost() {
    let invariant = "nothing_that_must_stay_is_gone";
    let state = whole();
    forbidden(
        invariant,
        &state,
        &[
            |s| s.models = Table::default(),
            |s| s.versions = Table::default(),
            |s| s.roles = Table::default(),
            |s| Arc::make_mut(&mut s.join_order).swap(0, 1),
        ],
    );
    allowed(
        invariant,
        &state,
        &[
            |s| {
                let gone = s.join_order[0].clone();
                s.regions.remove(&gone);
                Arc::make_mut(&mut s.join_order).remove(0);
            },
            |s| {
                let (_, region) = of(&s.regions, 0);
                let new: types::RegionId = "sa".parse().unwrap();
                s.regions.insert(new.clone(), region);
                Arc::make_mut(&mut s.join_order).push(new);
            },
        ],
    );
}

#[test]
fn only_who_is_down_and_holds_nothing_goes() {
    let invariant = "who_is_gone_was_down_and_held_nothing";
    let mut state = whole();
    forbidden(
        invariant,
        &state,
        &[
            |s| {
                s.nodes.remove(&"d1".parse().unwrap());
            },
            |s| {
                s.nodes.remove(&"c1".parse().unwrap());
            },
        ],
    );
    allowed(
        invariant,
        &state,
        &[|s| {
            s.nodes.remove(&"a2".parse().unwrap());
        }],
    );
    node(&mut state, "a1", |n| n.status = NodeStatus::Down);
    node(&mut state, "c1", |n| n.status = NodeStatus::Down);
    forbidden(
        invariant,
        &state,
        &[
            |s| {
                s.nodes.remove(&"a1".parse().unwrap());
            },
            |s| {
                s.nodes.remove(&"c1".parse().unwrap());
            },
        ],
    );
    let mut state = reserved();
    node(&mut state, "b1", |n| n.status = NodeStatus::Down);
    forbidden(
        invariant,
        &state,
        &[|s| {
            s.nodes.remove(&"b1".parse().unwrap());
        }],
    );
}

#[test]
fn only_a_region_without_holder_and_nodes_goes() {
    let invariant = "a_region_that_is_gone_had_nothing_in_it";
    let mut state = whole();
    forbidden(
        invariant,
        &state,
        &[
            |s| {
                s.regions.remove(&"ap".parse().unwrap());
            },
            |s| {
                s.regions.remove(&"eu".parse().unwrap());
            },
        ],
    );
    for name in ["a1", "c1", "d1", "w1"] {
        node(&mut state, name, |n| n.status = NodeStatus::Down);
    }
    // `ap` is empty; of `eu` the holder is down, and still holds.
    allowed(
        invariant,
        &state,
        &[|s| {
            s.regions.remove(&"ap".parse().unwrap());
        }],
    );
    forbidden(
        invariant,
        &state,
        &[|s| {
            s.regions.remove(&"eu".parse().unwrap());
        }],
    );
}

#[test]
fn epochs_grow_and_are_given_once() {
    let state = whole();
    forbidden(
        "an_epoch_never_decreases",
        &state,
        &[
            |s| edit(&mut s.roles, 0, |r| r.record.epoch = Epoch::new(1, 1)),
            |s| edit(&mut s.roles, 0, |r| r.highest_epoch = Epoch::new(1, 1)),
        ],
    );
    allowed(
        "an_epoch_never_decreases",
        &state,
        &[|s| s.roles = Table::default()],
    );
    let fenced = "a_change_of_holder_takes_a_higher_epoch";
    forbidden(
        fenced,
        &state,
        &[
            |s| edit(&mut s.roles, 0, |r| r.record.holder = Some(holder("us/b1#1"))),
            |s| edit(&mut s.roles, 0, |r| r.record.holder = None),
            |s| edit(&mut s.roles, 0, |r| r.record.holder = Some(holder("eu/a1#2"))),
            |s| {
                edit(&mut s.roles, 0, |r| {
                    r.record.holder = None;
                    r.record.epoch = Epoch::new(1, 1);
                });
            },
        ],
    );
    allowed(
        fenced,
        &state,
        &[
            |s| {
                edit(&mut s.roles, 0, |r| {
                    r.record.holder = None;
                    r.record.epoch = Epoch::new(1, 3);
                });
            },
            |s| edit(&mut s.roles, 0, |r| r.record.epoch = Epoch::new(1, 3)),
        ],
    );
}

#[test]
fn an_epoch_that_was_promised_is_its_holders() {
    let invariant = "an_epoch_is_never_issued_twice";
    // g1.e3 is fenced, g1.e4 is promised to us/b1#1.
    let state = reserved();
    forbidden(
        invariant,
        &state,
        &[
            |s| {
                edit(&mut s.roles, 0, |r| {
                    r.record.epoch = Epoch::new(1, 4);
                    r.record.holder = Some(holder("ap/d1#1"));
                });
            },
            |s| edit(&mut s.roles, 0, |r| r.record.epoch = Epoch::new(1, 4)),
            |s| edit(&mut s.roles, 0, |r| r.record.epoch = Epoch::new(1, 2)),
        ],
    );
    allowed(
        invariant,
        &state,
        &[
            |s| {
                edit(&mut s.roles, 0, |r| {
                    r.record.epoch = Epoch::new(1, 4);
                    r.record.holder = Some(holder("us/b1#1"));
                });
            },
            |s| edit(&mut s.roles, 0, |r| r.record.epoch = Epoch::new(1, 5)),
            |s| edit(&mut s.roles, 0, |r| r.record.holder = Some(holder("us/b1#1"))),
        ],
    );
    // The same target under an epoch of before the promise.
    let mut burned = state;
    edit(&mut burned.roles, 0, |r| r.highest_epoch = Epoch::new(1, 6));
    forbidden(
        invariant,
        &burned,
        &[|s| {
            edit(&mut s.roles, 0, |r| {
                r.record.epoch = Epoch::new(1, 5);
                r.record.holder = Some(holder("us/b1#1"));
            });
        }],
    );
}

#[test]
fn a_version_stays_what_it_is() {
    let invariant = "a_version_is_immutable_and_goes_one_way";
    let state = whole();
    forbidden(
        invariant,
        &state,
        &[
            |s| edit(&mut s.versions, 0, |v| v.artifacts.truncate(1)),
            |s| edit(&mut s.versions, 0, |v| v.source_region = "us".parse().unwrap()),
            |s| edit(&mut s.versions, 1, |v| v.datasets.clear()),
            |s| edit(&mut s.versions, 0, |v| v.state = VersionState::Verifying),
        ],
    );
    allowed(
        invariant,
        &state,
        &[
            |s| edit(&mut s.versions, 0, |v| v.state = VersionState::Deprecated),
            |s| s.versions = Table::default(),
        ],
    );
}

#[test]
fn attempts_count_up_and_what_ended_stays() {
    let invariant = "an_attempt_never_decreases";
    let state = reserved();
    forbidden(
        invariant,
        &state,
        &[
            |s| edit(&mut s.replicas, 0, |r| r.attempts -= 1),
            |s| edit(&mut s.plans, 1, |p| p.steps[0].attempt -= 1),
            |s| edit(&mut s.plans, 0, |p| p.reason.push('x')),
            |s| edit(&mut s.plans, 0, |p| p.state = PlanState::Running),
        ],
    );
    allowed(
        invariant,
        &state,
        &[
            |s| edit(&mut s.replicas, 0, |r| r.attempts += 1),
            |s| edit(&mut s.plans, 1, |p| p.steps[0].attempt += 1),
            |s| edit(&mut s.plans, 1, |p| p.reason.push('x')),
            |s| s.replicas = Table::default(),
            |s| s.plans = Table::default(),
        ],
    );
}

#[test]
fn an_experiment_keeps_its_arms_until_it_ended() {
    let invariant = "an_experiment_keeps_its_arms_and_ends_once";
    let state = whole();
    forbidden(
        invariant,
        &state,
        &[
            |s| s.experiments = Table::default(),
            |s| edit(&mut s.experiments, 0, |e| e.arms.swap(0, 1)),
            |s| edit(&mut s.experiments, 0, |e| drop(e.arms.pop())),
            |s| edit(&mut s.experiments, 0, |e| e.arms[1].version = ModelVersion(3)),
        ],
    );
    allowed(
        invariant,
        &state,
        &[
            |s| edit(&mut s.experiments, 0, |e| e.arms.push(e.arms[0].clone())),
            |s| edit(&mut s.experiments, 0, |e| e.description.push('x')),
        ],
    );
    let mut world = world();
    world.lines("EndExperiment model=fraud.scorer name=march");
    let over = world.state;
    forbidden(
        invariant,
        &over,
        &[
            |s| edit(&mut s.experiments, 0, |e| e.state = ExperimentState::Running),
            |s| edit(&mut s.experiments, 0, |e| e.reason.push('x')),
            |s| edit(&mut s.experiments, 0, |e| e.arms.swap(0, 1)),
        ],
    );
    allowed(invariant, &over, &[|s| s.experiments = Table::default()]);
}
