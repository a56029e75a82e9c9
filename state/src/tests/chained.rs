//! From level 7 on the entry that ends a step begins the next one.

use types::{RoleName, plan::PlanState};

use super::world::World;
use crate::Feature;

const FAILOVER: &str = "actor coordinator/c1
    StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=gone";
const SWITCHOVER: &str = "actor coordinator/c1
    StartPlan kind=SWITCHOVER target=us/b1#1 epoch=g1.e2 trigger=asked";

fn world(level: u32) -> World {
    let mut world = World::standing();
    world.lines(&format!("SetFeatureLevel level={level}"));
    world
}

/// The newest plan's steps from the first that is not done, as KIND STATE attempt.
fn open(world: &World) -> Vec<String> {
    let plan = world.state.plans.values().next_back().unwrap();
    let open = plan
        .steps
        .iter()
        .skip_while(|s| s.state == types::plan::StepState::Done);
    open.map(|s| format!("{} {} {}", s.kind, s.state, s.attempt))
        .collect()
}

/// What is due first after each line.
fn story(world: &mut World, lines: &[&str]) -> Vec<String> {
    let due = lines.iter().map(|line| {
        world.lines(line);
        open(world).first().cloned().unwrap_or_default()
    });
    due.collect()
}

#[test]
fn each_step_begins_with_the_end_of_the_one_before() {
    let mut failover = world(Feature::ChainedSteps.level());
    let due = story(
        &mut failover,
        &[
            FAILOVER,
            "actor us/b1\nFinishStep step=VERIFY_TARGET run=1",
            "actor coordinator/c1\nFence",
            "actor us/b1\nFinishStep step=CLAIM doors=pointer/eu,pointer/us run=1",
            "actor coordinator/c1\nFinishStep step=WAIT_LEASE",
            "Promote",
        ],
    );
    let expected = [
        "VERIFY_TARGET RUNNING 1",
        "FENCE RUNNING 1",
        "CLAIM RUNNING 1",
        "WAIT_LEASE RUNNING 1",
        "PROMOTE RUNNING 1",
        "",
    ];
    assert_eq!(due, expected);
    let role = failover.state.role(&RoleName::global()).unwrap();
    assert_eq!(role.holder.as_ref().unwrap().to_string(), "us/b1#00000001");
    let plan = failover.state.plans.values().next_back().unwrap();
    assert_eq!(plan.state, PlanState::Succeeded);
    for step in &plan.steps {
        assert!(
            step.started_at.is_some() && step.finished_at.is_some(),
            "{step:?}"
        );
    }

    let mut switchover = world(Feature::ChainedSteps.level());
    let due = story(
        &mut switchover,
        &[
            SWITCHOVER,
            "actor us/b1\nFinishStep step=VERIFY_TARGET run=1",
            "actor coordinator/c1\nPromote",
            "actor us/b1\nFinishStep step=CLAIM doors=pointer/eu,pointer/us run=1",
        ],
    );
    let expected = [
        "VERIFY_TARGET RUNNING 1",
        "PROMOTE RUNNING 1",
        "CLAIM RUNNING 1",
        "",
    ];
    assert_eq!(due, expected);
}

#[test]
fn a_step_that_failed_is_begun_again_by_the_leader_alone() {
    let mut world = world(Feature::ChainedSteps.level());
    let due = story(
        &mut world,
        &[
            FAILOVER,
            "actor us/b1\nFinishStep step=VERIFY_TARGET run=1 failed=damaged",
            "actor coordinator/c1\nStartStep step=VERIFY_TARGET attempt=2",
            "actor us/b1\nFinishStep step=VERIFY_TARGET attempt=2 run=1",
        ],
    );
    let expected = [
        "VERIFY_TARGET RUNNING 1",
        "VERIFY_TARGET FAILED 1",
        "VERIFY_TARGET RUNNING 2",
        "FENCE RUNNING 1",
    ];
    assert_eq!(due, expected);
    assert_eq!(
        open(&world)[1..],
        ["CLAIM WAITING 0", "WAIT_LEASE WAITING 0", "PROMOTE WAITING 0"]
    );
}

/// What a plan waited for when the level rose is begun as before, and what follows by itself.
#[test]
fn a_plan_that_was_begun_before_the_level_rose_goes_on() {
    let mut world = world(Feature::ChainedSteps.level() - 1);
    let due = story(
        &mut world,
        &[
            FAILOVER,
            "StartStep step=VERIFY_TARGET",
            "actor us/b1\nFinishStep step=VERIFY_TARGET run=1",
            &format!(
                "actor admin\nSetFeatureLevel level={}",
                Feature::ChainedSteps.level()
            ),
            "actor coordinator/c1\nStartStep step=FENCE",
            "Fence",
        ],
    );
    let expected = [
        "VERIFY_TARGET WAITING 0",
        "VERIFY_TARGET RUNNING 1",
        "FENCE WAITING 0",
        "FENCE WAITING 0",
        "FENCE RUNNING 1",
        "CLAIM RUNNING 1",
    ];
    assert_eq!(due, expected);
}
