//! Of roles, plans and their steps.

use super::{AGENT, PLAN, World, check};

#[test]
fn roles_refuse() {
    check(
        "",
        "CreateRole role=primaries/global",
        "ALREADY_EXISTS",
        "role primaries/global",
    );
    check(
        "",
        "CreateRole role=primaries/db candidates=sa",
        "REGION_NOT_FOUND",
        "sa",
    );
    check(
        "",
        "CreateRole role=primaries/db mode=5",
        "INVALID_ARGUMENT",
        "is over",
    );
    check(
        "",
        "SetRoleMode role=primaries/db",
        "ROLE_NOT_FOUND",
        "primaries/db",
    );
    check(
        "",
        "SetRoleTiming timing=fast ttl=60ms",
        "INVALID_ARGUMENT",
        "renew_interval",
    );
    check(
        "",
        "SetRoleCandidates candidates=eu,us,eu",
        "INVALID_ARGUMENT",
        "eu is named twice",
    );
}

#[test]
fn a_former_ttl_ends_by_the_leaders_word_about_the_last_change_only() {
    let shortened = "SetRoleTiming timing=default
        SetRoleTiming timing=fast";
    let retire = |words: &str, setup: &str, reason: &str| {
        check(
            &format!("{shortened}\n{setup}"),
            "RetireTtl ttl=15s since=37",
            reason,
            words,
        );
    };
    retire("a coordinator", "", "PERMISSION_DENIED");
    retire("a coordinator", "actor eu/a1", "PERMISSION_DENIED");
    let mut world = World::standing();
    world.lines(shortened);
    world.lines("actor coordinator/c1\nRetireTtl ttl=15s since=37");
    let again = "SetRoleTiming timing=default\nSetRoleTiming timing=fast\nactor coordinator/c1";
    retire("15s since r39", again, "ILLEGAL_TRANSITION");
    check(
        &format!("{shortened}\nactor coordinator/c1"),
        "RetireTtl ttl=14s since=37",
        "ILLEGAL_TRANSITION",
        "15s since r37",
    );
    check(
        "actor coordinator/c1",
        "RetireTtl ttl=15s since=37",
        "ILLEGAL_TRANSITION",
        "is none",
    );
}

#[test]
fn a_plan_is_not_begun() {
    let begin = |rest: &str| format!("StartPlan {rest} trigger=t");
    let failover = begin("kind=FAILOVER target=us/b1#1 epoch=g1.e2");
    check(
        "",
        &begin("kind=FAILOVER target=us/b1#1 epoch=g1.e1"),
        "STALE_EPOCH",
        "g1.e1",
    );
    check(
        "",
        &begin("kind=FAILOVER target=us/b1#1 epoch=g1.e3"),
        "EPOCH_UNCONFIRMED",
        "g1.e3",
    );
    check(
        "",
        &begin("kind=ASSIGN target=us/b1#1 epoch=g1.e2"),
        "ILLEGAL_TRANSITION",
        "ASSIGN",
    );
    for (actor, kind) in [
        ("", "SWITCHOVER"),
        ("", "FAILOVER"),
        ("actor coordinator/c1", "SWITCHOVER"),
    ] {
        let to_itself = begin(&format!("kind={kind} target=eu/a1#1 epoch=g1.e2"));
        check(actor, &to_itself, "INVALID_ARGUMENT", "holds");
    }
    check(
        "",
        &begin("role=primaries/x kind=ASSIGN target=us/b1#1 epoch=g1.e0"),
        "ROLE_NOT_FOUND",
        "primaries/x",
    );
    check(PLAN, &failover, "PLAN_RUNNING", "moves primaries/global already");
    check(
        "actor eu/a1",
        &failover,
        "PERMISSION_DENIED",
        "a coordinator or a person",
    );
    check(
        "SetRoleMode mode=MANUAL\nactor coordinator/c1",
        &failover,
        "FAILOVER_PAUSED",
        "MANUAL",
    );
    check(
        "SetRoleMode mode=1700000060000\nactor coordinator/c1",
        &failover,
        "FAILOVER_PAUSED",
        "PAUSED",
    );
}

#[test]
fn a_target_that_is_not_able_to_serve_is_refused() {
    let target = |who: &str| format!("StartPlan kind=FAILOVER target={who} epoch=g1.e2 trigger=t");
    let unmet =
        |setup: &str, who: &str, words: &str| check(setup, &target(who), "TARGET_NOT_QUALIFIED", words);
    unmet("", "sa/b1#1", "its region is not registered");
    unmet("", "us/x#1", "it is not registered");
    unmet("", "us/b1#2", "it has restarted");
    unmet("", "us/d1#1", "no agent of that region");
    unmet("", "eu/c1#1", "no agent of that region");
    unmet("SetNodeStatus node=b1 status=DOWN", "us/b1#1", "it is DOWN");
    unmet(
        "SetRegionHealth region=us from=HEALTHY to=UNHEALTHY",
        "us/b1#1",
        "its region is UNHEALTHY",
    );
    unmet(
        "SetRegionHealth region=us from=HEALTHY to=RECOVERING",
        "us/b1#1",
        "its region is RECOVERING",
    );
    unmet(
        "SetRoleCandidates candidates=eu,ap",
        "us/b1#1",
        "its region is no candidate",
    );
    let damaged = "actor us/b1
        ReportReplica version=fraud.scorer@1 region=us report=failed error=scrub
        actor admin";
    unmet(damaged, "us/b1#1", "0 of 1 served versions");
}

#[test]
fn steps_refuse() {
    let verify = format!("{PLAN}\nStartStep step=VERIFY_TARGET");
    check("", "StartStep plan=99 step=FENCE", "PLAN_NOT_FOUND", "p99");
    check(PLAN, "StartStep step=CLAIM", "STEP_OUT_OF_ORDER", "VERIFY_TARGET");
    check(
        PLAN,
        "StartStep step=VERIFY_TARGET attempt=2",
        "STALE_ATTEMPT",
        "attempt 2",
    );
    check(
        PLAN,
        "FinishStep step=VERIFY_TARGET attempt=0",
        "STEP_OUT_OF_ORDER",
        "is not running",
    );
    check(
        &verify,
        "StartStep step=VERIFY_TARGET attempt=1",
        "STALE_ATTEMPT",
        "attempt 1",
    );
    check(
        &verify,
        "FinishStep step=VERIFY_TARGET attempt=2",
        "STALE_ATTEMPT",
        "attempt 2",
    );
    check(&verify, "Fence", "STEP_OUT_OF_ORDER", "VERIFY_TARGET");
    check(&verify, "Promote", "STEP_OUT_OF_ORDER", "VERIFY_TARGET");
    let as_other = format!("{verify}\nactor eu/a1");
    check(
        &as_other,
        "FinishStep step=VERIFY_TARGET",
        "PERMISSION_DENIED",
        "the agent of us/b1",
    );
    check(
        &as_other,
        "StartStep step=VERIFY_TARGET attempt=2",
        "PERMISSION_DENIED",
        "a coordinator",
    );
    check(&as_other, "FailPlan", "PERMISSION_DENIED", "a coordinator");
    let as_target = format!("{verify}\n{AGENT}");
    check(
        &as_target,
        "FinishStep step=VERIFY_TARGET run=2",
        "STALE_INCARNATION",
        "runs as",
    );
    check(
        &as_target,
        "FinishStep step=VERIFY_TARGET",
        "INVALID_ARGUMENT",
        "names its run",
    );
    let to_wait = format!(
        "{verify}
        FinishStep step=VERIFY_TARGET
        StartStep step=FENCE
        Fence
        StartStep step=CLAIM
        FinishStep step=CLAIM
        StartStep step=WAIT_LEASE"
    );
    for somebody in ["", AGENT] {
        check(
            &format!("{to_wait}\n{somebody}"),
            "FinishStep step=WAIT_LEASE run=1",
            "PERMISSION_DENIED",
            "a coordinator",
        );
    }
    let failed = format!("{verify}\nFinishStep step=VERIFY_TARGET failed detail=oom");
    check(
        &failed,
        "FinishStep step=VERIFY_TARGET",
        "STEP_OUT_OF_ORDER",
        "is not running",
    );
    let ended = format!("{PLAN}\nFailPlan reason=enough");
    check(&ended, "FailPlan", "STEP_OUT_OF_ORDER", "FAILED");
    check(
        &ended,
        "StartStep step=VERIFY_TARGET",
        "STEP_OUT_OF_ORDER",
        "FAILED",
    );
}

#[test]
fn a_pause_that_was_said_after_the_start_stops_an_automatic_plan_at_its_fence() {
    let to_fence = |who: &str| {
        format!(
            "actor {who}
            {PLAN}
            StartStep step=VERIFY_TARGET
            FinishStep step=VERIFY_TARGET
            StartStep step=FENCE
            actor admin"
        )
    };
    let held = |mode: &str| {
        format!(
            "{}\nSetRoleMode mode={mode}\nactor coordinator/c1",
            to_fence("coordinator/c1")
        )
    };
    check(&held("MANUAL"), "Fence", "FAILOVER_PAUSED", "MANUAL");
    check(&held("1700000060000"), "Fence", "FAILOVER_PAUSED", "PAUSED");
    let mut world = World::standing();
    world.lines(&held("1700000060000"));
    world.lines("wait 60s\nFence");
    // A person's plan goes on, whoever proposes its fence.
    let mut world = World::standing();
    world.lines(&to_fence("admin"));
    world.lines("SetRoleMode mode=MANUAL\nactor coordinator/c1\nFence");
}

#[test]
fn nobody_is_fenced_for_a_target_that_cannot_serve_any_more() {
    let to_fence = format!(
        "{PLAN}
        StartStep step=VERIFY_TARGET
        FinishStep step=VERIFY_TARGET
        StartStep step=FENCE"
    );
    let lost = format!("{to_fence}\nRegisterNode node=b1 region=us run=2");
    check(&lost, "Fence", "TARGET_NOT_QUALIFIED", "it has restarted");
    check(
        &format!("{to_fence}\nactor us/b1"),
        "Fence",
        "PERMISSION_DENIED",
        "a coordinator",
    );
}
