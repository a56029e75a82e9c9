//! The epoch rules against states that no command leads to: each check must hold by itself, whatever the others let
//! through.

use types::{Epoch, PlanId, RoleName};

use super::world::{World, actor};
use crate::{Feature, rejection::Rejection, state::RoleState};

const BEFORE_FENCE: &str = "actor coordinator/c1
    StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=gone
    StartStep step=VERIFY_TARGET attempt=1
    actor us/b1
    FinishStep step=VERIFY_TARGET attempt=1 run=1
    actor coordinator/c1
    StartStep step=FENCE attempt=1";
const BEFORE_PROMOTE: &str = "StartStep step=CLAIM attempt=1
    actor us/b1
    FinishStep step=CLAIM attempt=1 doors=pointer/eu,pointer/us run=1
    actor coordinator/c1
    StartStep step=WAIT_LEASE attempt=1
    FinishStep step=WAIT_LEASE attempt=1
    StartStep step=PROMOTE attempt=1";
const SWITCHOVER: &str = "actor coordinator/c1
    StartPlan kind=SWITCHOVER target=us/b1#1 epoch=g1.e2 trigger=asked
    StartStep step=VERIFY_TARGET attempt=1
    actor us/b1
    FinishStep step=VERIFY_TARGET attempt=1 run=1
    actor coordinator/c1
    StartStep step=PROMOTE attempt=1";

fn world(lines: &[&str]) -> World {
    let mut world = World::standing();
    for lines in lines {
        world.lines(lines);
    }
    world
}

fn role(world: &World) -> &RoleState {
    world.state.roles.get(&RoleName::global()).unwrap()
}

/// Changes the global role by hand.
fn change_role(world: &mut World, change: impl FnOnce(&mut RoleState)) {
    let mut role = world.state.roles.get(&RoleName::global()).unwrap().clone();
    change(&mut role);
    world.state.roles.insert(RoleName::global(), role);
}

/// A command on a state that was changed by hand, past the checks of the whole state.
fn outcome(world: &mut World, line: &str) -> Result<(), Rejection> {
    let plan = world.state.plans.keys().next_back().map_or(0, |p| p.0);
    let command = super::language::Line::parse(line).or("plan", plan).command();
    let entry = world.entry(command);
    let revision = world.state.revision().next();
    world.state.apply(revision, &entry).outcome.map(drop)
}

fn check(lines: &[&str], damage: impl FnOnce(&mut RoleState), line: &str, words: &str) {
    let mut as_it_was = world(lines);
    assert_eq!(outcome(&mut as_it_was, line), Ok(()), "{line}");
    let mut moved = world(lines);
    change_role(&mut moved, damage);
    let rejection = outcome(&mut moved, line).expect_err(line);
    assert!(rejection.to_string().contains(words), "{line}: {rejection}");
}

#[test]
fn a_plan_fences_and_promotes_only_what_it_found() {
    let other_epoch = |role: &mut RoleState| {
        role.record.epoch = Epoch::new(1, 7);
        role.highest_epoch = Epoch::new(1, 7);
    };
    let other_holder = |role: &mut RoleState| role.record.holder = None;
    check(&[BEFORE_FENCE], other_epoch, "Fence attempt=1", "at g1.e7");
    check(&[BEFORE_FENCE], other_holder, "Fence attempt=1", "held by nobody");
    check(&[SWITCHOVER], other_epoch, "Promote attempt=1", "at g1.e7");
    check(&[SWITCHOVER], other_holder, "Promote attempt=1", "held by nobody");
}

#[test]
fn a_plan_promotes_only_under_the_epoch_that_it_reserved_for_its_own_target() {
    let failover = [BEFORE_FENCE, "Fence attempt=1", BEFORE_PROMOTE];
    let of_another_plan = |role: &mut RoleState| {
        role.record.reservation.as_mut().unwrap().plan = PlanId(1);
    };
    let for_another = |role: &mut RoleState| {
        let reservation = role.record.reservation.as_mut().unwrap();
        reservation.target.node = "a1".parse().unwrap();
    };
    let none = |role: &mut RoleState| role.record.reservation = None;
    check(&failover, of_another_plan, "Promote attempt=1", "not reserved");
    check(&failover, for_another, "Promote attempt=1", "not reserved");
    check(&failover, none, "Promote attempt=1", "not reserved");
}

/// The last epoch of a generation is given out, and none after it: a wrap would begin again at the first.
#[test]
fn epochs_run_out_instead_of_wrapping() {
    let last = |counter: u32| move |role: &mut RoleState| role.highest_epoch = Epoch::new(1, counter);
    for counter in [u32::MAX, u32::MAX - 1] {
        check(&[BEFORE_FENCE], last(counter), "Fence attempt=1", "4294967296");
    }
    let mut world = world(&[BEFORE_FENCE]);
    change_role(&mut world, last(u32::MAX - 2));
    assert_eq!(outcome(&mut world, "Fence attempt=1"), Ok(()));
    assert_eq!(role(&world).highest_epoch, Epoch::new(1, u32::MAX));
}

#[test]
fn a_fence_says_when_it_came_and_why() {
    let mut world = world(&[BEFORE_FENCE, "wait 5s"]);
    world.lines("Fence attempt=1");
    let now = world.now;
    let record = &role(&world).record;
    assert_eq!(record.changed_at, now);
    assert!(record.reason.starts_with("fenced by plan "), "{}", record.reason);
    assert!(record.reason.ends_with(": gone"), "{}", record.reason);
}

#[test]
fn a_token_is_shown_by_its_holder_alone() {
    for (sender, accepted) in [
        ("eu/a1", true),
        ("us/a1", false),
        ("eu/a2", false),
        ("us/b1", false),
    ] {
        let mut world = World::standing();
        world.actor = actor(sender);
        let line = "SetModelTags model=fraud.scorer set=k:v token=eu/a1#1@g1.e2";
        let refused = outcome(&mut world, line).map_err(|r| r.reason().as_str());
        let expected = if accepted { Ok(()) } else { Err("WRONG_HOLDER") };
        assert_eq!(refused, expected, "{sender}");
    }
}

/// A role of that name, held as the global one is.
fn add_role(world: &mut World, name: &str) {
    let mut role = role(world).clone();
    role.record.role = name.parse().unwrap();
    world.state.roles.insert(role.record.role.clone(), role);
}

/// Whoever lost the role that guards a model does not get at it under another one that it still holds.
#[test]
fn a_model_takes_tokens_of_its_own_guard_alone_from_level_11_on() {
    let guarded = Feature::GuardedModels.level();
    let write = |world: &mut World, role: &str| {
        let line = format!("SetModelTags model=fraud.scorer set=k:v role={role} token=eu/a1#1@g1.e2 etag=1");
        let refused = outcome(world, &line).unwrap_err();
        let shown = refused.to_refusal();
        let text = |name| shown.operand(name).unwrap_or_default().to_owned();
        (refused.reason().as_str(), text("shown"), text("current"))
    };
    // Past the door an etag is in the way.
    let in_ = |told: (&str, String, String)| told.0 == "ETAG_MISMATCH";
    let out = |shown: &str, guard: &str| {
        (
            "WRONG_ROLE",
            format!("primaries/{shown}"),
            format!("primaries/{guard}"),
        )
    };
    for level in [guarded - 1, guarded] {
        let mut world = World::standing();
        world.lines(&format!("SetFeatureLevel level={level}\nactor eu/a1"));
        add_role(&mut world, "primaries/scratch");
        assert!(in_(write(&mut world, "primaries/global")), "{level}");
        let kept = world.state.requests.answered.len();
        let scratch = write(&mut world, "primaries/scratch");
        if level < guarded {
            assert!(in_(scratch));
            continue;
        }
        assert_eq!(scratch, out("scratch", "global"));
        assert_eq!(
            world.state.requests.answered.len(),
            kept,
            "a stubborn writer takes no room"
        );
        // A role of the model's own namespace is nearer, and then one of its own name.
        for (nearer, wider) in [("fraud", "global"), ("fraud.scorer", "fraud")] {
            add_role(&mut world, &format!("primaries/{nearer}"));
            assert!(in_(write(&mut world, &format!("primaries/{nearer}"))));
            let told = write(&mut world, &format!("primaries/{wider}"));
            assert_eq!(told, out(wider, nearer));
        }
        assert_eq!(write(&mut world, "primaries/none").0, "ROLE_NOT_FOUND");
    }
}

#[test]
fn a_cluster_has_a_thousand_roles_at_most() {
    let mut world = World::standing();
    let global = role(&world).clone();
    for n in world.state.roles.len()..999 {
        let mut role = global.clone();
        role.record.role = format!("primaries/x{n}").parse().unwrap();
        world.state.roles.insert(role.record.role.clone(), role);
    }
    assert_eq!(outcome(&mut world, "CreateRole role=primaries/last"), Ok(()));
    let full = outcome(&mut world, "CreateRole role=primaries/more").unwrap_err();
    assert!(full.to_string().contains("1001"), "{full}");
}

#[test]
fn a_pause_that_ends_now_is_over() {
    let mut world = World::standing();
    let now = world.now.0;
    let over = outcome(&mut world, &format!("SetRoleMode mode={now}")).unwrap_err();
    assert!(over.to_string().contains("is over"), "{over}");
    assert_eq!(
        outcome(&mut world, &format!("SetRoleMode mode={}", now + 1)),
        Ok(())
    );
}
