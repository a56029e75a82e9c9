//! Every refusal by a line that earns it, in the standing world. `World::apply` checks that none leaves a trace.

use super::world::World;

/// `setup` lines are accepted; the last line is refused for `reason`, and its message contains `words`.
fn check(setup: &str, line: &str, reason: &str, words: &str) {
    let mut world = World::standing();
    world.lines(setup);
    let rejection = world.line(line).unwrap().outcome.expect_err(line);
    assert_eq!(rejection.reason().as_str(), reason, "{line}: {rejection}");
    assert!(rejection.to_string().contains(words), "{line}: {rejection}");
    assert_eq!(rejection.to_refusal().reason, rejection.reason());
}

const PLAN: &str = "StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=t";
const AGENT: &str = "actor us/b1";

#[test]
fn nothing_is_done_before_the_first_entry() {
    let rejection = World::new()
        .line("RegisterRegion region=eu")
        .unwrap()
        .outcome
        .unwrap_err();
    assert_eq!(rejection.reason().as_str(), "CLUSTER_STATE");
}

#[test]
fn the_cluster_refuses() {
    check("", "InitCluster", "CLUSTER_STATE", "bootstrapped already");
    check(
        "",
        "SetTiming timing=fast ttl=1.5005s",
        "INVALID_ARGUMENT",
        "whole milliseconds",
    );
    check(
        "",
        "SetTiming timing=fast ttl=500ms",
        "INVALID_ARGUMENT",
        "renew_interval",
    );
    check(
        "SetFeatureLevel level=2",
        "SetFeatureLevel level=2",
        "FEATURE_LEVEL",
        "not above 2",
    );
}

#[test]
fn regions_and_nodes_refuse() {
    check("", "RegisterRegion region=eu", "ALREADY_EXISTS", "region eu");
    check("", "AttachStore region=sa", "REGION_NOT_FOUND", "sa");
    let transition = "SetRegionHealth region=eu from=RECOVERING to=UNHEALTHY";
    check(
        "",
        transition,
        "ILLEGAL_TRANSITION",
        "eu, said to be RECOVERING, is HEALTHY",
    );
    let lost = "SetRegionHealth region=eu from=HEALTHY to=UNHEALTHY";
    check(
        lost,
        "SetRegionHealth region=eu from=UNHEALTHY to=HEALTHY",
        "ILLEGAL_TRANSITION",
        "UNHEALTHY",
    );
    check("", "RegisterNode node=x region=sa", "REGION_NOT_FOUND", "sa");
    check(
        "",
        "RegisterNode node=a1 region=us",
        "ILLEGAL_TRANSITION",
        "node a1 is Agent of eu",
    );
    check(
        "",
        "RegisterNode node=a1 region=eu kind=coordinator",
        "ILLEGAL_TRANSITION",
        "node a1 is Agent",
    );
    check("", "SetNodeStatus node=x status=DOWN", "NODE_NOT_FOUND", "x");
    check(
        "",
        "SetNodeStatus node=a1 run=7 status=DOWN",
        "STALE_INCARNATION",
        "runs as",
    );
}

#[test]
fn a_run_that_another_one_followed_never_comes_back() {
    let again = "RegisterNode node=a1 region=eu run=1";
    let second = "RegisterNode node=a1 region=eu run=2";
    check(second, again, "STALE_INCARNATION", "runs as");
    let third = format!("{second}\nRegisterNode node=a1 region=eu run=3");
    check(&third, again, "STALE_INCARNATION", "runs as");
    check(&third, second, "STALE_INCARNATION", "runs as");
    // The run that is registered may say so again, from elsewhere too.
    let mut world = World::standing();
    world.lines(&third);
    world.lines("RegisterNode node=a1 region=eu run=3 agent=https://elsewhere");
    let restored = crate::codec::decode_snapshot(&crate::codec::encode_snapshot(&world.state)).unwrap();
    let mut after = World::with(restored);
    after.line("wait 1h");
    let late = after.line(again).unwrap().outcome.unwrap_err();
    assert_eq!(late.reason().as_str(), "STALE_INCARNATION", "{late}");
}

#[test]
fn models_refuse() {
    check(
        "",
        "CreateModel name=fraud.scorer",
        "ALREADY_EXISTS",
        "fraud.scorer",
    );
    check("", "CreateModel name=m placement=sa", "REGION_NOT_FOUND", "sa");
    check(
        "",
        "CreateModel name=m placement=eu,eu",
        "INVALID_ARGUMENT",
        "eu is named twice",
    );
    check(
        "",
        "CreateModel name=m placement=",
        "INVALID_ARGUMENT",
        "names no region",
    );
    check(
        "",
        "CreateModel name=m tags=:v",
        "INVALID_ARGUMENT",
        "a key is empty",
    );
    let long = format!("CreateModel name=m tags=k:{}", "v".repeat(4097));
    check("", &long, "LIMIT_EXCEEDED", "4096 at most, not 4097");
    let many = (0..65).map(|n| format!("k{n}:v")).collect::<Vec<_>>().join(",");
    check(
        "",
        &format!("SetModelTags model=fraud.scorer set={many}"),
        "LIMIT_EXCEEDED",
        "count of tags",
    );
    check("", "SetModelTags model=x set=k:v", "MODEL_NOT_FOUND", "x");
    check(
        "",
        "SetModelTags model=fraud.scorer set=k:v etag=1",
        "ETAG_MISMATCH",
        "r13, not at r1",
    );
}

#[test]
fn a_process_that_leaves_its_token_out_is_refused() {
    let line = "SetModelTags model=fraud.scorer set=k:v";
    for process in ["eu/a1", "us/b1", "coordinator/c1"] {
        check(
            &format!("actor {process}"),
            line,
            "PERMISSION_DENIED",
            "it takes the fencing token of the role",
        );
    }
    let mut world = World::standing();
    world.lines(line);
}

#[test]
fn versions_refuse() {
    check("", "CreateVersion model=m source=sa", "REGION_NOT_FOUND", "sa");
    check(
        "RegisterRegion region=sa",
        "CreateVersion model=m source=sa",
        "ILLEGAL_TRANSITION",
        "object store",
    );
    check(
        "",
        "CreateVersion model=m source=eu files=",
        "INVALID_ARGUMENT",
        "at least one file",
    );
    check(
        "",
        "CreateVersion model=m source=eu files=a:1,a:2",
        "INVALID_ARGUMENT",
        "a is there twice",
    );
    let huge = format!("CreateVersion model=m source=eu files=a:{0},b:{0}", u64::MAX);
    check("", &huge, "INVALID_ARGUMENT", "2^64");
    check(
        "",
        "CreateVersion model=m source=eu framework=",
        "INVALID_ARGUMENT",
        "framework",
    );
    check(
        "",
        "CompleteUpload version=fraud.scorer@9",
        "VERSION_NOT_FOUND",
        "fraud.scorer@9",
    );
    check(
        "",
        "CompleteUpload version=fraud.scorer@1",
        "VERSION_STATE",
        "is READY",
    );
    check(
        "",
        "AbortVersion version=fraud.scorer@1",
        "VERSION_STATE",
        "PENDING_UPLOAD or VERIFYING",
    );
    check(
        "CreateVersion model=m source=eu",
        "DeprecateVersion version=m@1",
        "VERSION_STATE",
        "must be READY",
    );
    check(
        "",
        "DeleteVersion version=fraud.scorer@1",
        "VERSION_STATE",
        "alias champion points at",
    );
    check(
        "CreateVersion model=m source=eu",
        "DeleteVersion version=m@1",
        "VERSION_STATE",
        "READY or DEPRECATED",
    );
}

#[test]
fn aliases_refuse() {
    check(
        "",
        "SetAlias model=x alias=champion version=1",
        "MODEL_NOT_FOUND",
        "x",
    );
    check(
        "",
        "SetAlias model=fraud.scorer alias=a version=9",
        "VERSION_NOT_FOUND",
        "fraud.scorer@9",
    );
    let create = "CreateVersion model=fraud.scorer source=eu";
    check(
        create,
        "SetAlias model=fraud.scorer alias=a version=2",
        "VERSION_STATE",
        "PENDING_UPLOAD",
    );
    check(
        "",
        "SetAlias model=fraud.scorer alias=a version=1 etag=3",
        "ETAG_MISMATCH",
        "no revision, not at r3",
    );
    check(
        "",
        "DeleteAlias model=fraud.scorer alias=a",
        "ALIAS_NOT_FOUND",
        "alias a",
    );
    check(
        "",
        "DeleteAlias model=fraud.scorer alias=champion etag=1",
        "ETAG_MISMATCH",
        "not at r1",
    );
}

#[test]
fn replicas_refuse() {
    let started = "ReportReplica version=fraud.scorer@1 region=us report=started";
    check("", started, "PERMISSION_DENIED", "an agent of region us");
    check(
        "actor eu/a1",
        started,
        "PERMISSION_DENIED",
        "an agent of region us",
    );
    check(AGENT, started, "ILLEGAL_TRANSITION", "VERIFIED");
    check(
        AGENT,
        "ReportReplica version=x@1 region=us report=started",
        "VERSION_NOT_FOUND",
        "x@1",
    );
    let fresh = "CreateVersion model=m source=eu
        actor us/b1";
    check(
        fresh,
        "ReportReplica version=m@1 region=us report=started",
        "REPLICA_NOT_FOUND",
        "m@1 in us",
    );
    let copying = "ReportReplica version=fraud.scorer@1 region=us report=failed error=scrub
        ReportReplica version=fraud.scorer@1 region=us report=started source=eu";
    let copying = format!("{AGENT}\n{copying}");
    let line = |report: &str| format!("ReportReplica version=fraud.scorer@1 region=us report={report}");
    check(
        &copying,
        &line("verified attempt=1 bytes=100"),
        "STALE_ATTEMPT",
        "attempt 1",
    );
    check(
        &copying,
        &line("verified attempt=3 bytes=100"),
        "STALE_ATTEMPT",
        "attempt 3",
    );
    // A worker that was overtaken takes nothing back either.
    for late in [
        "failed attempt=1 error=late",
        "failed attempt=1 error=late mismatch=true",
        "progress attempt=1 bytes=5",
    ] {
        check(&copying, &line(late), "STALE_ATTEMPT", "attempt 1");
    }
    check(
        &copying,
        &line("verified attempt=2 bytes=99"),
        "INVALID_ARGUMENT",
        "99 B were verified",
    );
    check(
        &copying,
        &line("progress attempt=2 bytes=101"),
        "INVALID_ARGUMENT",
        "more than",
    );
    check(
        AGENT,
        &line("progress attempt=1 bytes=100"),
        "ILLEGAL_TRANSITION",
        "VERIFIED",
    );
    check(
        AGENT,
        &line("verified attempt=1 bytes=100"),
        "ILLEGAL_TRANSITION",
        "VERIFIED",
    );
    check(&copying, &line("started source=sa"), "REGION_NOT_FOUND", "sa");
    let uploaded = "CreateVersion model=m source=eu
        CompleteUpload version=m@1
        actor eu/a1
        ReportReplica version=m@1 region=eu report=started
        ReportReplica version=m@1 region=eu report=verified
        actor us/b1";
    let without_source = "ReportReplica version=m@1 region=us report=started";
    // The bytes cannot be there, also after a try that brought none.
    for before in [
        "",
        "ReportReplica version=m@1 region=us report=started source=eu
        ReportReplica version=m@1 region=us report=failed",
    ] {
        check(
            &format!("{uploaded}\n{before}"),
            without_source,
            "INVALID_ARGUMENT",
            "was uploaded in eu",
        );
    }
    check(
        &copying,
        &line("started source=us"),
        "ILLEGAL_TRANSITION",
        "fraud.scorer@1 in us is COPYING",
    );
    let lost = "actor eu/a1
        ReportReplica version=fraud.scorer@1 region=eu report=failed error=scrub";
    check(
        &format!("{lost}\n{copying}").replace(" report=started source=eu", " report=started source=ap"),
        &line("started source=eu"),
        "ILLEGAL_TRANSITION",
        "fraud.scorer@1 in eu is FAILED",
    );
    let placed = "CreateModel name=n placement=us
        CreateVersion model=n source=us
        CompleteUpload version=n@1
        actor us/b1";
    check(
        placed,
        "ReportReplica version=n@1 region=us report=started source=ap",
        "ILLEGAL_TRANSITION",
        "n@1 in ap is not wanted",
    );
}

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

/// The standing world at the level that knows experiments, with a second and a third version that are ready.
const VERSIONS: &str = "SetFeatureLevel level=4
    CreateVersion model=fraud.scorer source=eu
    CompleteUpload version=fraud.scorer@2
    actor eu/a1
    ReportReplica version=fraud.scorer@2 region=eu report=started
    ReportReplica version=fraud.scorer@2 region=eu report=verified
    actor admin
    CreateVersion model=fraud.scorer source=eu";
const MARCH: &str = "CreateExperiment model=fraud.scorer name=march split=1:90,2:10";

#[test]
fn experiments_are_refused_below_their_level() {
    check("", MARCH, "INVALID_ARGUMENT", "takes feature level 4");
    check(
        "",
        "EndExperiment model=fraud.scorer name=march",
        "INVALID_ARGUMENT",
        "takes feature level 4",
    );
}

#[test]
fn experiments_refuse() {
    let with = |split: &str| format!("CreateExperiment model=fraud.scorer name=april split={split}");
    for (line, reason, words) in [
        (
            &*with("1:90,2:9"),
            "INVALID_ARGUMENT",
            "the percents add up to 99, and must to 100",
        ),
        (
            &with("1:90,2:4294967295"),
            "INVALID_ARGUMENT",
            "add up to 4294967385",
        ),
        (&with("1:100"), "INVALID_ARGUMENT", "two arms at least"),
        (&with(""), "INVALID_ARGUMENT", "two arms at least"),
        (&with("1:50,1:50"), "INVALID_ARGUMENT", "version 1 is there twice"),
        (&with("1:50,9:50"), "VERSION_NOT_FOUND", "fraud.scorer@9"),
        (
            &with("1:50,3:50"),
            "VERSION_STATE",
            "is PENDING_UPLOAD, and must be READY or DEPRECATED",
        ),
        (
            &with(&(1..12).map(|n| format!("{n}:1")).collect::<Vec<_>>().join(",")),
            "LIMIT_EXCEEDED",
            "count of arms may be 10 at most, not 11",
        ),
        (
            "CreateExperiment model=x name=april split=1:50,2:50",
            "MODEL_NOT_FOUND",
            "x",
        ),
        (
            &format!("{} description={}", with("1:50,2:50"), "d".repeat(4097)),
            "LIMIT_EXCEEDED",
            "bytes of the description may be 4096 at most",
        ),
        (
            "EndExperiment model=fraud.scorer name=april",
            "EXPERIMENT_NOT_FOUND",
            "no experiment april of fraud.scorer",
        ),
    ] {
        check(VERSIONS, line, reason, words);
    }
}

#[test]
fn running_experiments_refuse() {
    let running = format!("{VERSIONS}\n{MARCH}");
    let split =
        |split: &str| format!("SetExperimentSplit model=fraud.scorer name=march split={split} if_etag=42");
    for (line, reason, words) in [
        (MARCH, "ALREADY_EXISTS", "experiment of fraud.scorer march"),
        (
            "SetExperimentSplit model=fraud.scorer name=march split=1:50,2:50",
            "INVALID_ARGUMENT",
            "etag: is missing",
        ),
        (
            "SetExperimentSplit model=fraud.scorer name=march split=1:50,2:50 if_etag=41",
            "ETAG_MISMATCH",
            "r42, not at r41",
        ),
        (
            &split("1:100,3:0"),
            "INVALID_ARGUMENT",
            "does not name version 2, which is an arm",
        ),
        (
            &split("1:50,2:25,2:25"),
            "INVALID_ARGUMENT",
            "version 2 is there twice",
        ),
        (&split("1:50,2:51"), "INVALID_ARGUMENT", "add up to 101"),
        (&split("1:50,2:50,3:0"), "VERSION_STATE", "PENDING_UPLOAD"),
        (
            "ReportExperiment model=fraud.scorer name=march version=3 metrics=paid:1",
            "INVALID_ARGUMENT",
            "3 is no arm",
        ),
        (
            "ReportExperiment model=fraud.scorer name=march version=1",
            "INVALID_ARGUMENT",
            "names no value",
        ),
        (
            &format!(
                "ReportExperiment model=fraud.scorer name=march version=1 metrics={}",
                (0..33).map(|n| format!("m{n}:1")).collect::<Vec<_>>().join(",")
            ),
            "LIMIT_EXCEEDED",
            "count of metrics of an arm may be 32 at most, not 33",
        ),
        (
            "DeleteVersion version=fraud.scorer@2",
            "VERSION_STATE",
            "experiment march gives fraud.scorer@2 to users",
        ),
    ] {
        check(&running, line, reason, words);
    }
    let ended = format!("{running}\nEndExperiment model=fraud.scorer name=march");
    for (line, words) in [
        (
            "EndExperiment model=fraud.scorer name=march",
            "is ENDED, and cannot become ended",
        ),
        (
            "ReportExperiment model=fraud.scorer name=march version=1 metrics=paid:1",
            "cannot become measured",
        ),
        (
            "SetExperimentSplit model=fraud.scorer name=march split=1:50,2:50 if_etag=43",
            "cannot become split otherwise",
        ),
    ] {
        check(&ended, line, "ILLEGAL_TRANSITION", words);
    }
    check(&ended, MARCH, "ALREADY_EXISTS", "march");
    // Nothing holds its versions any more.
    World::standing().lines(&format!("{ended}\nDeleteVersion version=fraud.scorer@2"));
}

#[test]
fn a_model_has_sixteen_running_experiments_and_a_hundred_ended_ones() {
    let mut world = World::standing();
    world.lines(VERSIONS);
    let create = |n: u32| format!("CreateExperiment model=fraud.scorer name=e{n} split=1:50,2:50");
    (0..16).for_each(|n| world.lines(&create(n)));
    let refused = world.line(&create(16)).unwrap().outcome.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("count of running experiments may be 16 at most, not 17"),
        "{refused}"
    );
    for n in 0..101 {
        world.lines(&format!(
            "EndExperiment model=fraud.scorer name=e{n}\n{}",
            create(n + 16)
        ));
    }
    let model = "fraud.scorer".parse().unwrap();
    let known = |world: &World, n: u32| {
        world
            .state
            .experiment(&model, &format!("e{n}").parse().unwrap())
            .is_some()
    };
    // The first that ended is forgotten, and nobody else.
    assert_eq!(world.state.experiments_of(&model).count(), 16 + 100);
    assert!(!known(&world, 0) && (1..117).all(|n| known(&world, n)));
    world.lines("EndExperiment model=fraud.scorer name=e116");
    world.lines(&create(0));
}

/// The standing world at the level that knows where versions come from.
const LINEAGE: &str = "SetFeatureLevel level=6";

#[test]
fn datasets_and_metrics_are_refused_below_their_level() {
    for line in [
        "CreateVersion model=fraud.scorer source=eu datasets=clicks",
        "SetVersionMetrics version=fraud.scorer@1 set=accuracy:0.9",
    ] {
        check(
            "SetFeatureLevel level=5",
            line,
            "INVALID_ARGUMENT",
            "is 5, and this takes 6",
        );
    }
}

#[test]
fn datasets_and_metrics_refuse() {
    let many = |n: u32, of: fn(u32) -> String| (0..n).map(of).collect::<Vec<_>>().join(",");
    let setting = |set: &str| format!("SetVersionMetrics version=fraud.scorer@1 set={set}");
    for (line, reason, words) in [
        (
            &*format!(
                "CreateVersion model=fraud.scorer source=eu datasets={}",
                many(65, |n| format!("d{n}"))
            ),
            "LIMIT_EXCEEDED",
            "count of datasets may be 64 at most, not 65",
        ),
        (
            &setting(&many(65, |n| format!("m{n}:1"))),
            "LIMIT_EXCEEDED",
            "count of metrics may be 64 at most, not 65",
        ),
        (
            "SetVersionMetrics version=fraud.scorer@9 set=accuracy:1",
            "VERSION_NOT_FOUND",
            "fraud.scorer@9",
        ),
        (
            &format!("{} remove=loss,accuracy", setting("accuracy:1")),
            "INVALID_ARGUMENT",
            "remove: accuracy is also to be set",
        ),
        (
            &format!("{} if_etag=1", setting("accuracy:1")),
            "ETAG_MISMATCH",
            "version fraud.scorer@1 is at",
        ),
    ] {
        check(LINEAGE, line, reason, words);
    }
    // What was removed makes room.
    let full = format!("{LINEAGE}\n{}", setting(&many(64, |n| format!("m{n}:1"))));
    check(&full, &setting("more:1"), "LIMIT_EXCEEDED", "not 65");
    World::standing().lines(&format!("{full}\n{} remove=m7", setting("more:1")));
    let gone = format!(
        "{LINEAGE}\nDeleteAlias model=fraud.scorer alias=champion\nDeleteVersion version=fraud.scorer@1"
    );
    check(
        &gone,
        &setting("accuracy:1"),
        "VERSION_STATE",
        "is DELETED, and must be any other than DELETED",
    );
}
