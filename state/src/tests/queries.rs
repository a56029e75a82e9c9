//! Lists tell every record once and in order, from wherever they are gone on with.

use std::fmt::Debug;

use types::{
    PlanId, Principal, RequestId, RoleName,
    plan::{PlanRecord, PlanState},
};

use super::{
    invariants::{edit, whole, world},
    world::{World, actor},
};
use crate::{command::Command, query::Counts, state::ControlState};

/// All of a list, and what comes behind each of its places.
fn goes_on_behind_each<'a, R, K, I>(all: &[&'a R], key: impl Fn(&R) -> K, behind: impl Fn(Option<K>) -> I)
where
    R: PartialEq + Debug + 'a,
    I: Iterator<Item = &'a R>,
{
    assert!(!all.is_empty());
    assert_eq!(behind(None).collect::<Vec<_>>(), all);
    for (at, one) in all.iter().enumerate() {
        assert_eq!(behind(Some(key(one))).collect::<Vec<_>>(), all[at + 1..]);
    }
}

/// A second model, role and region's worth of what `whole` has one of.
fn much() -> ControlState {
    let mut world = world();
    world.lines(
        "CreateModel name=other
        CreateVersion model=other source=us
        CreateRole role=primaries/other candidates=eu,us
        RegisterService key=cache/b1:7001",
    );
    world.state
}

#[test]
fn every_record_is_listed_once_and_in_order() {
    let s = &much();
    let names = |all: Vec<&types::region::RegionRecord>| -> Vec<String> {
        all.iter().map(|r| r.region.to_string()).collect()
    };
    assert_eq!(names(s.regions().collect()), ["eu", "us", "ap"]);
    let regions: Vec<_> = s.regions().collect();
    goes_on_behind_each(
        &regions,
        |r| r.region.clone(),
        |k| s.regions_after(k.as_ref()).collect::<Vec<_>>().into_iter(),
    );
    let unknown = "unknown".parse().unwrap();
    assert_eq!(s.regions_after(Some(&unknown)).count(), 3);
    let nodes: Vec<_> = s.nodes().collect();
    let named: Vec<_> = nodes.iter().map(|n| n.node.as_str()).collect();
    assert_eq!(named, ["a1", "a2", "b1", "c1", "d1", "w1"]);
    goes_on_behind_each(&nodes, |n| n.node.clone(), |k| s.nodes_after(k));
    let versions: Vec<_> = s.versions.values().collect();
    assert_eq!(versions.len(), 4);
    goes_on_behind_each(&versions, |v| v.key.clone(), |k| s.versions_after(k));
    let aliases: Vec<_> = s.aliases.values().collect();
    assert_eq!(aliases.len(), 2);
    goes_on_behind_each(
        &aliases,
        |a| (a.model.clone(), a.alias.clone()),
        |k| s.aliases_after(k),
    );
    let experiments: Vec<_> = s.experiments.values().collect();
    goes_on_behind_each(
        &experiments,
        |e| (e.model.clone(), e.name.clone()),
        |k| s.experiments_after(k),
    );
    let services: Vec<_> = s.services.values().collect();
    assert_eq!(services.len(), 2);
    goes_on_behind_each(&services, |i| i.key.clone(), |k| s.services_after(k));
    let roles: Vec<_> = s.roles().collect();
    assert_eq!(roles.len(), 2);
    goes_on_behind_each(&roles, |r| r.role.clone(), |k| s.roles_after(k));
}

#[test]
fn a_record_is_found_by_its_key_and_by_no_other() {
    let s = &much();
    let (model, other) = ("fraud.scorer".parse().unwrap(), "unknown".parse().unwrap());
    assert_eq!(s.model(&model).unwrap().name, model);
    assert_eq!(s.model(&other), None);
    assert_eq!(s.regions.key(&"eu".parse().unwrap()), s.join_order.first());
    assert_eq!(s.regions.key(&"unknown".parse().unwrap()), None);
    assert!(
        format!("{:?}", s.roles).starts_with("{primaries/global: "),
        "{:?}",
        s.roles
    );
}

#[test]
fn what_there_is_is_counted() {
    let mut state = much();
    let counts = state.counts();
    let expected = Counts {
        regions: 3,
        nodes: 6,
        models: 2,
        versions: 4,
        aliases: 2,
        replicas: 7,
        roles: 2,
        plans: 2,
        experiments: 1,
        services: 2,
        answered: state.revision.0,
    };
    assert_eq!(counts, expected);
    state.requests.answered.pop_first();
    assert_eq!(state.counts().answered, expected.answered - 1);
    assert_eq!(ControlState::new().counts(), Counts::default());
}

#[test]
fn plans_are_told_newest_first_of_one_role_or_of_all() {
    let mut state = whole();
    let other: RoleName = "primaries/other".parse().unwrap();
    for plan in [60, 61, 62] {
        let of_other = PlanRecord {
            plan: PlanId(plan),
            role: other.clone(),
            state: PlanState::Failed,
            ..state.plans.values().next().unwrap().clone()
        };
        state.add_plan(of_other);
    }
    let told = |role: Option<&RoleName>, before: Option<u64>, limit| -> Vec<u64> {
        let plans = state.newest_plans(role, before.map(PlanId), limit);
        plans.iter().map(|p| p.plan.0).collect()
    };
    let running = state.running_plan(&RoleName::global()).unwrap().plan.0;
    assert_eq!(told(None, None, 9), [62, 61, 60, running, 25]);
    assert_eq!(told(None, Some(61), 2), [60, running]);
    assert_eq!(told(Some(&other), None, 9), [62, 61, 60]);
    assert_eq!(told(Some(&other), Some(62), 1), [61]);
    assert_eq!(told(Some(&RoleName::global()), None, 9), [running, 25]);
    assert_eq!(told(Some(&RoleName::global()), Some(25), 9), []);
}

#[test]
fn unsettled_are_the_plans_since_the_last_that_succeeded() {
    let mut state = whole();
    let global = RoleName::global();
    let unsettled = |s: &ControlState| -> Vec<u64> { s.unsettled_plans(&global).map(|p| p.plan.0).collect() };
    let running = state.running_plan(&global).unwrap().plan.0;
    assert_eq!(unsettled(&state), [running]);
    edit(&mut state.plans, 0, |p| p.state = PlanState::Failed);
    assert_eq!(unsettled(&state), [running, 25]);
    edit(&mut state.plans, 1, |p| p.state = PlanState::Succeeded);
    assert_eq!(unsettled(&state), []);
}

/// Of an entry that did not tell what was asked the plan itself tells, to its own caller alone.
#[test]
fn a_plan_is_found_by_the_request_that_began_it() {
    let mut world = World::standing();
    world.lines("StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=t");
    let plan = world.state.running_plan(&RoleName::global()).unwrap().plan;
    let began = world.last.clone().unwrap();
    let found =
        |state: &ControlState, id: RequestId, by: &Principal| state.plan_of_untold(id, by).map(|p| p.plan);
    assert!(matches!(began.command, Command::StartPlan { .. }));
    assert_eq!(found(&world.state, began.request_id, &began.actor), Some(plan));
    assert_eq!(found(&world.state, began.request_id, &actor("mallory")), None);
    let unknown = RequestId::v7_from_parts(9, 9);
    assert_eq!(found(&world.state, unknown, &began.actor), None);
    // Another request that was answered began no plan.
    world.lines("SetRoleMode mode=MANUAL");
    let mode = world.last.clone().unwrap();
    assert_eq!(found(&world.state, mode.request_id, &mode.actor), None);
    // Nor did one whose plan is not what it asked for.
    edit(&mut world.state.plans, 1, |p| p.trigger.push('x'));
    assert_eq!(found(&world.state, began.request_id, &began.actor), None);
}
