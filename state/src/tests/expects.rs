//! What callers expect of the records that they address: every command, by tables; and previews.

use std::collections::BTreeSet;

use types::{Digest, Principal, RequestId, Revision, RoleName};

use super::{
    language::Line,
    samples,
    world::{START, World},
};
use crate::{
    codec::{decode_entry, decode_snapshot, encode_entry, encode_snapshot},
    command::{Command, Entry, Expects},
    rejection::Rejection,
    reply::Reply,
    state::ControlState,
};

const PLAN: &str = "StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2 trigger=t";
/// The level at which every row of the table counts.
const LEVEL: u32 = crate::features::SUPPORTED;
/// A second version that is ready, and users split over both.
const SPLIT: &str = "CreateVersion model=fraud.scorer source=eu
    CompleteUpload version=fraud.scorer@2
    actor eu/a1
    ReportReplica version=fraud.scorer@2 region=eu report=started
    ReportReplica version=fraud.scorer@2 region=eu report=verified
    actor admin
    CreateExperiment model=fraud.scorer name=march split=1:90,2:10";
/// The same, and over.
const OVER: &str = "CreateVersion model=fraud.scorer source=eu
    CompleteUpload version=fraud.scorer@2
    actor eu/a1
    ReportReplica version=fraud.scorer@2 region=eu report=started
    ReportReplica version=fraud.scorer@2 region=eu report=verified
    actor admin
    CreateExperiment model=fraud.scorer name=march split=1:90,2:10
    EndExperiment model=fraud.scorer name=march";
/// A region that nothing uses.
const NOTHING_IN_IT: &str = "RegisterRegion region=sa";
/// An agent that is down and holds nothing.
const GONE: &str = "RegisterNode node=a2 region=eu run=9
    SetNodeStatus node=a2 run=9 status=DOWN";
const HOSTED: &str = "RegisterService key=store/a1:7000";
const ANNOUNCED: &str = "CreateVersion model=fraud.scorer source=eu";

/// What stands before, a command, and the record that it addresses; of plans the newest.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("", "InitCluster", "the cluster"),
    ("", "SetTiming timing=default", "the cluster"),
    ("actor coordinator/c1", "MarkTime readings=c1:1s", "the cluster"),
    (
        "",
        "SetElectionTiming heartbeat=180ms min=540ms max=864ms reason=slow",
        "the cluster",
    ),
    ("", "SetLeaderPreference regions=us,eu", "the cluster"),
    ("", "RecordRebind over=9 by=1", "the cluster"),
    (
        "RegisterNode node=c1 region=eu run=8 kind=coordinator",
        "RemoveCoordinator node=c1 disk=9",
        "node c1",
    ),
    ("", "SetFeatureLevel level=99", "the cluster"),
    ("", "RegisterRegion region=eu", "region eu"),
    ("", "CreateRegion region=eu", "region eu"),
    ("", "UpdateRegion region=eu provider=aws", "region eu"),
    (NOTHING_IN_IT, "DeleteRegion region=sa", "region sa"),
    (GONE, "RemoveNode node=a2", "node a2"),
    ("", "AttachStore region=eu refused=slow", "region eu"),
    (
        "",
        "SetRegionHealth region=eu from=HEALTHY to=UNHEALTHY",
        "region eu",
    ),
    ("", "RegisterNode node=a1 region=eu run=2", "node a1"),
    ("", "SetNodeStatus node=a1 status=DOWN", "node a1"),
    ("", "CreateModel name=fraud.scorer", "model fraud.scorer"),
    (
        "",
        "SetModelTags model=fraud.scorer set=k:v",
        "model fraud.scorer",
    ),
    ("", ANNOUNCED, "model fraud.scorer"),
    (
        ANNOUNCED,
        "CompleteUpload version=fraud.scorer@2",
        "version fraud.scorer@2",
    ),
    (
        ANNOUNCED,
        "AbortVersion version=fraud.scorer@2",
        "version fraud.scorer@2",
    ),
    (
        "",
        "DeprecateVersion version=fraud.scorer@1",
        "version fraud.scorer@1",
    ),
    (
        "DeleteAlias model=fraud.scorer alias=champion",
        "DeleteVersion version=fraud.scorer@1",
        "version fraud.scorer@1",
    ),
    (
        "DeprecateVersion version=fraud.scorer@1",
        "SetAlias model=fraud.scorer alias=champion version=1",
        "alias champion of fraud.scorer",
    ),
    (
        "",
        "DeleteAlias model=fraud.scorer alias=champion",
        "alias champion of fraud.scorer",
    ),
    (
        "actor us/b1",
        "ReportReplica version=fraud.scorer@1 region=us report=failed",
        "the copy of fraud.scorer@1 in us",
    ),
    (
        SPLIT,
        "CreateExperiment model=fraud.scorer name=march split=1:90,2:10",
        "experiment march of fraud.scorer",
    ),
    // It needs its etag where it is not over.
    (
        OVER,
        "SetExperimentSplit model=fraud.scorer name=march split=1:50,2:50",
        "experiment march of fraud.scorer",
    ),
    (
        SPLIT,
        "ReportExperiment model=fraud.scorer name=march version=1 metrics=paid:1",
        "experiment march of fraud.scorer",
    ),
    (
        SPLIT,
        "EndExperiment model=fraud.scorer name=march",
        "experiment march of fraud.scorer",
    ),
    (
        "",
        "SetVersionMetrics version=fraud.scorer@1 set=accuracy:0.9",
        "version fraud.scorer@1",
    ),
    (
        HOSTED,
        "RegisterService key=store/a1:7000 address=10.0.0.8",
        "service store/a1:7000",
    ),
    (
        HOSTED,
        "DeregisterService key=store/a1:7000",
        "service store/a1:7000",
    ),
    (
        "SetPreferences of=eve set=output:json",
        "SetPreferences of=eve set=output:table",
        "the preferences of spiffe://regent.local/user/eve",
    ),
    ("", "CreateRole role=primaries/global", "role primaries/global"),
    ("", "SetRoleMode mode=MANUAL", "role primaries/global"),
    ("", "SetRoleTiming timing=default", "role primaries/global"),
    (
        "actor coordinator/c1",
        "RetireTtl ttl=15s since=1",
        "role primaries/global",
    ),
    ("", "SetRoleCandidates candidates=us", "role primaries/global"),
    ("", PLAN, "role primaries/global"),
    (PLAN, "StartStep step=VERIFY_TARGET", "plan p"),
    (PLAN, "FinishStep step=CLAIM", "plan p"),
    (PLAN, "Fence", "plan p"),
    (PLAN, "Promote", "plan p"),
    (PLAN, "FailPlan reason=enough", "plan p"),
];

fn world(level: u32, setup: &str) -> World {
    let mut world = World::standing();
    world.lines(&format!("SetFeatureLevel level={level}"));
    world.lines(setup);
    world
}

/// What the command of `line` is answered there, with these words of what is expected.
fn answer(level: u32, setup: &str, line: &str, expects: &str) -> Result<Reply, Rejection> {
    world(level, setup)
        .line(&format!("{line} {expects}"))
        .unwrap()
        .outcome
}

/// The command as it is asked in this world.
fn command(world: &World, line: &str) -> Command {
    let plan = world.state.plans.keys().next_back().map_or(0, |p| p.0);
    Line::parse(line).or("plan", plan).command()
}

#[test]
fn the_table_has_every_command() {
    let name = |line: &str| line.split(' ').next().unwrap().to_owned();
    let named: BTreeSet<_> = COMMANDS.iter().map(|(_, line, _)| name(line)).collect();
    for entry in samples::entries() {
        let shown = format!("{:?}", entry.command);
        let known = named.iter().any(|name| shown.starts_with(name.as_str()));
        assert!(known, "no row for {shown}");
    }
}

#[test]
fn a_command_is_done_only_if_its_record_has_the_etag_that_the_caller_saw() {
    for (setup, line, what) in COMMANDS {
        let free = answer(LEVEL, setup, line, "");
        let before = world(LEVEL, setup);
        let command = command(&before, line);
        let addressed = command.addressed();
        assert!(addressed.to_string().starts_with(what), "{line}: {addressed}");
        let current = before.state.etag_of(addressed).unwrap();
        assert_eq!(
            answer(LEVEL, setup, line, &format!("if_etag={}", current.0)),
            free,
            "{line}"
        );
        let shown = Revision(current.0 - 1);
        let refused = answer(LEVEL, setup, line, &format!("if_etag={}", shown.0)).unwrap_err();
        let (what, current) = (addressed.to_string(), Some(current));
        assert_eq!(
            refused,
            Rejection::EtagMismatch { what, shown, current },
            "{line}"
        );
    }
}

#[test]
fn a_command_about_a_role_is_done_only_at_the_epoch_that_the_caller_saw() {
    for (setup, line, what) in COMMANDS {
        let free = answer(LEVEL, setup, line, "");
        let with = |epoch: &str| answer(LEVEL, setup, line, &format!("if_epoch={epoch}"));
        if !what.starts_with("role") && !what.starts_with("plan") {
            let refused = with("g1.e2").unwrap_err();
            assert_eq!(refused.reason().as_str(), "INVALID_ARGUMENT", "{line}");
            assert!(refused.to_string().contains("has no epoch"), "{refused}");
            continue;
        }
        assert_eq!(with("g1.e2"), free, "{line}");
        let stale = with("g1.e1").unwrap_err().to_refusal();
        assert_eq!(stale.reason.as_str(), "STALE_EPOCH", "{line}");
        assert_eq!(stale.operand("current"), Some("g1.e2"), "{line}");
        let ahead = with("g1.e3").unwrap_err();
        assert_eq!(ahead.reason().as_str(), "EPOCH_UNCONFIRMED", "{line}");
    }
}

#[test]
fn who_believes_something_of_what_does_not_exist_is_told_so() {
    for (line, reason) in [
        ("RegisterRegion region=sa", "REGION_NOT_FOUND"),
        ("DeleteRegion region=sa", "REGION_NOT_FOUND"),
        ("SetNodeStatus node=x status=DOWN", "NODE_NOT_FOUND"),
        ("RemoveNode node=x", "NODE_NOT_FOUND"),
        ("CreateModel name=m", "MODEL_NOT_FOUND"),
        ("CreateVersion model=m source=eu", "MODEL_NOT_FOUND"),
        ("AbortVersion version=fraud.scorer@9", "VERSION_NOT_FOUND"),
        (
            "SetAlias model=fraud.scorer alias=new version=1",
            "ALIAS_NOT_FOUND",
        ),
        (
            "ReportReplica version=fraud.scorer@9 region=us report=started",
            "REPLICA_NOT_FOUND",
        ),
        (
            "EndExperiment model=fraud.scorer name=march",
            "EXPERIMENT_NOT_FOUND",
        ),
        ("RegisterService key=store/a1:7000", "SERVICE_NOT_FOUND"),
        ("SetPreferences of=eve set=output:json", "PREFERENCES_NOT_FOUND"),
        ("CreateRole role=primaries/db", "ROLE_NOT_FOUND"),
        ("FailPlan plan=99", "PLAN_NOT_FOUND"),
    ] {
        let refused = answer(LEVEL, "", line, "if_etag=1").unwrap_err();
        assert_eq!(refused.reason().as_str(), reason, "{line}");
    }
    for (line, reason) in [
        ("SetRoleMode role=primaries/db mode=MANUAL", "ROLE_NOT_FOUND"),
        ("FailPlan plan=99", "PLAN_NOT_FOUND"),
    ] {
        let refused = answer(LEVEL, "", line, "if_epoch=g1.e2").unwrap_err();
        assert_eq!(refused.reason().as_str(), reason, "{line}");
    }
    let unnamed = World::new().line("SetTiming timing=fast if_etag=1").unwrap();
    assert_eq!(unnamed.outcome, Err(Rejection::NotBootstrapped));
}

#[test]
fn the_epoch_is_told_before_the_etag() {
    let refused = answer(LEVEL, "", "SetRoleMode mode=MANUAL", "if_etag=1 if_epoch=g1.e1");
    assert_eq!(refused.unwrap_err().reason().as_str(), "STALE_EPOCH");
}

/// Builds that do not know expectations would apply such an entry without them; none is proposed below the level.
#[test]
fn below_the_level_an_entry_is_applied_as_older_builds_apply_it() {
    // There are no experiments below theirs, no services and no preferences.
    let is_old = |what: &str| {
        !what.starts_with("experiment")
            && !what.starts_with("service")
            && !what.starts_with("the preferences")
    };
    let older = COMMANDS.iter().filter(|(_, _, what)| is_old(what));
    for (setup, line, _) in older {
        let free = answer(1, setup, line, "");
        assert_eq!(answer(1, setup, line, "if_etag=1 if_epoch=g1.e1"), free, "{line}");
    }
}

#[test]
fn the_same_id_with_other_expectations_is_refused() {
    let mut world = world(LEVEL, "");
    let id = RequestId::v7_from_parts(START, 1 << 40);
    let etag = world.state.role(&RoleName::global()).unwrap().modified.0;
    let mut ask = |line: &str| {
        let line = Line::parse(line);
        let entry = Entry {
            request_id: id,
            expects: line.expects(),
            ..world.entry(line.command())
        };
        world.apply(&entry).outcome
    };
    let first = ask(&format!("SetRoleMode mode=MANUAL if_etag={etag}"));
    assert!(first.is_ok(), "{first:?}");
    // The etag is stale by now; it is the first answer that counts.
    assert_eq!(ask(&format!("SetRoleMode mode=MANUAL if_etag={etag}")), first);
    for other in ["", "if_epoch=g1.e2", &format!("if_etag={}", etag + 1)] {
        let reused = ask(&format!("SetRoleMode mode=MANUAL {other}"));
        assert_eq!(
            reused,
            Err(Rejection::RequestReused { request_id: id }),
            "{other}"
        );
    }
}

/// What a caller said under an id, what followed from it then, and what would follow by now.
#[test]
fn a_retry_is_known_by_what_was_asked_whatever_would_follow_from_it_now() {
    let id = RequestId::v7_from_parts(START, 1 << 40);
    let entry = |world: &mut World, line: &str| {
        let line = Line::parse(line);
        Entry {
            request_id: id,
            expects: line.expects(),
            ..world.entry(line.command())
        }
    };
    let reused = Err(Rejection::RequestReused { request_id: id });
    for (first, done) in [
        ("SetRoleMode mode=MANUAL asked=this", true),
        ("SetRoleMode mode=MANUAL asked=this if_epoch=g1.e99", false),
    ] {
        let mut world = world(LEVEL, "");
        let asked = Digest::of(b"this");
        let actor = world
            .entry(Line::parse("SetRoleMode mode=MANUAL").command())
            .actor;
        assert_eq!(world.state.answer_to(id, &actor, asked), None);
        let first = entry(&mut world, first);
        let answer = world.apply(&first).outcome;
        assert_eq!(answer.is_ok(), done, "{answer:?}");
        // A snapshot and another leader know it as well.
        world.state = decode_snapshot(&encode_snapshot(&world.state)).unwrap();
        let again = entry(&mut world, "SetRoleMode mode=AUTOMATIC asked=this");
        assert_eq!(world.apply(&again).outcome, answer);
        assert_eq!(world.state.answer_to(id, &actor, asked), Some(answer));
        for other in ["SetRoleMode mode=MANUAL asked=that", "SetRoleMode mode=MANUAL"] {
            let other = entry(&mut world, other);
            assert_eq!(world.apply(&other).outcome, reused);
        }
        assert_eq!(
            world.state.answer_to(id, &actor, Digest::of(b"that")),
            Some(reused.clone())
        );
        let somebody = Principal::User {
            name: "mallory".parse().unwrap(),
        };
        let stolen = Entry {
            actor: somebody.clone(),
            ..again
        };
        assert_eq!(world.apply(&stolen).outcome, reused);
        assert_eq!(world.state.answer_to(id, &somebody, asked), Some(reused.clone()));
    }
    // Builds that do not know it digest the command, and so does this one below the level.
    let mut world = world(1, "");
    let first = entry(&mut world, "SetRoleMode mode=MANUAL asked=this");
    assert!(world.apply(&first).outcome.is_ok());
    let other = entry(&mut world, "SetRoleMode mode=AUTOMATIC asked=this");
    assert_eq!(world.apply(&other).outcome, reused);
}

#[test]
fn expectations_come_back_from_their_bytes_and_none_take_no_room() {
    for line in [
        "SetRoleMode mode=MANUAL if_etag=9",
        "Fence plan=7 if_epoch=g1.e2",
        "Fence plan=7 if_etag=0",
        "Fence plan=7 asked=this",
    ] {
        let line = Line::parse(line);
        let entry = Entry {
            expects: line.expects(),
            ..samples::entries()[0].clone()
        };
        let bytes = encode_entry(&entry);
        assert_eq!(decode_entry(&bytes).unwrap(), entry);
        for end in 0..bytes.len() {
            assert!(decode_entry(&bytes[..end]).is_err(), "cut at {end}");
        }
        let nothing = Entry {
            expects: Expects::default(),
            ..entry
        };
        assert!(encode_entry(&nothing).len() < bytes.len());
    }
}

#[test]
fn a_preview_says_what_would_be() {
    let mut world = world(LEVEL, "");
    for (line, done) in [
        ("SetRoleMode mode=MANUAL", true),
        ("SetRoleMode mode=MANUAL if_epoch=g1.e1", false),
    ] {
        let line = Line::parse(line);
        let entry = Entry {
            expects: line.expects(),
            ..world.entry(line.command())
        };
        let preview = world.state.preview(world.state.revision().next(), &entry);
        assert_eq!(preview.applied.outcome.is_ok(), done);
        let mode = |state: &ControlState| state.role(&RoleName::global()).unwrap().mode.to_string();
        assert_eq!(mode(&preview.state) == "MANUAL", done);
        assert_eq!(
            world.apply(&entry),
            preview.applied,
            "and what it said comes true"
        );
        world.state = self::world(LEVEL, "").state;
    }
}
