//! Every refusal by a line that earns it, in the standing world. `World::apply` checks that none leaves a trace.

mod plans;
mod records;
mod registry;

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
    for lacking in ["endpoint=", "bucket="] {
        let line = format!("AttachStore region=eu {lacking}");
        check(
            "",
            &line,
            "INVALID_ARGUMENT",
            "endpoint and bucket must not be empty",
        );
    }
    for (what, most) in [("endpoint", 512), ("bucket", 255)] {
        let line = |bytes: usize| format!("AttachStore region=eu {what}={}", "x".repeat(bytes));
        World::standing().lines(&line(most));
        let words = format!(
            "bytes of the store's {what} may be {most} at most, not {}",
            most + 1
        );
        check("", &line(most + 1), "LIMIT_EXCEEDED", &words);
    }
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
    check("", MARCH, "INVALID_ARGUMENT", "is 0, and this takes 4");
    check(
        "",
        "EndExperiment model=fraud.scorer name=march",
        "INVALID_ARGUMENT",
        "this takes 4",
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
fn a_version_that_no_experiment_gives_is_deleted_while_one_runs() {
    let mut world = World::standing();
    world.lines(VERSIONS);
    world.lines(
        "CreateExperiment model=fraud.scorer name=march split=1:50,2:50
        CreateVersion model=fraud.scorer source=eu
        CompleteUpload version=fraud.scorer@3
        actor eu/a1
        ReportReplica version=fraud.scorer@3 region=eu report=started
        ReportReplica version=fraud.scorer@3 region=eu report=verified
        actor admin
        DeleteVersion version=fraud.scorer@3",
    );
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
