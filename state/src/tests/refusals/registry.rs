//! Of versions, aliases and copies.

use super::{AGENT, check};
use crate::tests::world::World;

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
fn a_model_has_a_hundred_aliases() {
    let mut world = World::standing();
    let set = |name: &str| format!("SetAlias model=fraud.scorer alias={name} version=1");
    // Its first ready version has one already.
    (1..100).for_each(|n| world.lines(&set(&format!("a{n}"))));
    let refused = world.line(&set("a100")).unwrap().outcome.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "count of aliases may be 100 at most, not 101"
    );
    // One that is there may still be set, and one that goes makes room.
    world.lines(&set("a99"));
    world.lines("DeleteAlias model=fraud.scorer alias=a99");
    world.lines(&set("a100"));
    // Another model has a hundred of its own.
    world.lines(
        "CreateModel name=m
        CreateVersion model=m source=eu
        CompleteUpload version=m@1
        actor eu/a1
        ReportReplica version=m@1 region=eu report=started
        ReportReplica version=m@1 region=eu report=verified
        actor admin
        SetAlias model=m alias=a version=1",
    );
}

#[test]
fn a_copy_that_failed_says_why() {
    let mut world = World::standing();
    world.lines(
        "actor us/b1\nReportReplica version=fraud.scorer@1 region=us report=failed error=\"disk full\"",
    );
    let key = "fraud.scorer@1".parse().unwrap();
    let copy = world
        .state
        .replicas_of(&key)
        .find(|r| r.key.region.as_str() == "us")
        .unwrap();
    assert_eq!(
        (copy.error.as_str(), copy.modified),
        ("disk full", world.state.revision)
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
    // All of it is not more than it.
    World::standing().lines(&format!("{copying}\n{}", line("progress attempt=2 bytes=100")));
    // None of a copy's attempts has the number of none.
    let pending = "CreateVersion model=fraud.scorer source=us
        CompleteUpload version=fraud.scorer@2
        actor us/b1";
    check(
        pending,
        "ReportReplica version=fraud.scorer@2 region=us report=progress attempt=0 bytes=1",
        "STALE_ATTEMPT",
        "attempt 0",
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
