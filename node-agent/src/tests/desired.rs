//! From views to what should be true of `west/a1`.

use client::watch::{Change, Event};
use proto::convert::watch::Resource;
use types::{
    Revision, RoleName,
    model::VersionState::{Deleted, PendingUpload, Ready, Verifying},
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepState},
    region::{Health, NodeStatus},
    replica::ReplicaState::{Copying, Failed, Pending, Verified},
};

use super::records::*;
use crate::{
    desired::{Desired, LocalWishes, RolePhase},
    observed::Memory,
    pins::Pin,
    view::View,
};

const FILE: &[(&str, &[u8])] = &[("config.json", b"{}")];

/// One line for each non-empty part of the desired state.
fn print(desired: &Desired) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("{name} {text}"));
        }
    };
    let join = |items: Vec<String>| items.join(" ");
    line(
        "verify",
        join(desired.verify.keys().map(ToString::to_string).collect()),
    );
    let copy = |(k, c): (&types::VersionKey, &crate::desired::Copy)| {
        format!(
            "{k}<{}",
            c.sources
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(",")
        )
    };
    line("copy", join(desired.copy.iter().map(copy).collect()));
    line("cache", join(desired.cache.iter().map(copy).collect()));
    line(
        "load",
        join(desired.load.iter().map(ToString::to_string).collect()),
    );
    line(
        "active",
        join(desired.active.iter().map(|(m, v)| format!("{m}@{v}")).collect()),
    );
    line(
        "missing",
        join(desired.missing.iter().map(ToString::to_string).collect()),
    );
    let role = |r: &crate::desired::RoleWish| {
        let phase = match r.phase {
            RolePhase::Reserved => "reserved",
            RolePhase::Promised => "promised",
            RolePhase::Expected => "expected",
            RolePhase::Held => "committed",
            RolePhase::Yielding => "yielding",
        };
        format!("{} {phase}", r.token.epoch)
    };
    line("role", join(desired.roles.values().map(role).collect()));
    let raise = |t: &types::FencingToken| format!("{} for {}", t.epoch, t.holder);
    line("raise", join(desired.raises.values().map(raise).collect()));
    let step = |(id, wish): (&crate::desired::StepId, &crate::desired::StepWish)| {
        let epoch = wish
            .token
            .as_ref()
            .map_or_else(String::new, |t| format!(" under {}", t.epoch));
        format!("{} {} attempt {}{epoch}", id.plan, id.step, id.attempt)
    };
    line("step", join(desired.steps.iter().map(step).collect()));
    lines.join("; ")
}

fn check_with(records: Vec<Resource>, wishes: &LocalWishes, expected: &str) {
    let desired = Desired::of(&view(records), &me(), wishes);
    assert_eq!(print(&desired), expected);
}

fn check(records: Vec<Resource>, expected: &str) {
    check_with(records, &LocalWishes::default(), expected);
}

#[test]
fn an_upload_into_the_own_region_is_verified() {
    let upload = || Resource::Version(version("m@1", Verifying, FILE));
    check(
        vec![upload(), Resource::Replica(replica("m@1", "west", Pending))],
        "verify m@1",
    );
    let mut elsewhere = version("m@1", Verifying, FILE);
    elsewhere.source_region = region("east");
    check(vec![Resource::Version(elsewhere)], "");
    check(vec![Resource::Version(version("m@1", PendingUpload, FILE))], "");
}

/// Damage in the store is no reason to let go of what is whole on the disk: it is kept, and loaded, and copied again.
#[test]
fn a_copy_that_was_verified_once_is_kept_and_served_while_it_is_repaired() {
    for state in [Failed, Copying] {
        let mut damaged = replica("m@1", "west", state);
        damaged.completed_at = Some(types::UnixMillis(1));
        let records = vec![
            Resource::Version(version("m@1", Ready, FILE)),
            Resource::Replica(damaged),
            Resource::Replica(replica("m@1", "east", Verified)),
            Resource::Region(region_record("west")),
            Resource::Alias(alias("m@1", "champion")),
        ];
        check(
            records.clone(),
            "copy m@1<east; cache m@1<east; load m@1; active m@1",
        );
        let desired = Desired::of(&view(records), &me(), &LocalWishes::default());
        assert_eq!(desired.cache[&key("m@1")].verified, None);
    }
}

#[test]
fn a_missing_copy_is_pulled_from_verified_regions_the_healthy_ones_first() {
    let mut sick = region_record("east");
    sick.health = Health::Unhealthy;
    for state in [Pending, Copying, Failed] {
        check(
            vec![
                Resource::Region(sick.clone()),
                Resource::Version(version("m@1", Ready, FILE)),
                Resource::Replica(replica("m@1", "west", state)),
                Resource::Replica(replica("m@1", "east", Verified)),
                Resource::Replica(replica("m@1", "north", Verified)),
            ],
            "copy m@1<north,east",
        );
    }
}

#[test]
fn nothing_is_pulled_that_is_not_placed_here_or_is_gone() {
    let elsewhere = || Resource::Replica(replica("m@1", "east", Verified));
    check(
        vec![Resource::Version(version("m@1", Ready, FILE)), elsewhere()],
        "",
    );
    check(
        vec![
            Resource::Version(version("m@1", Deleted, FILE)),
            Resource::Replica(replica("m@1", "west", Pending)),
            elsewhere(),
        ],
        "",
    );
}

#[test]
fn one_agent_of_a_region_does_the_work_on_a_version_and_a_dead_one_never() {
    let records = |status| {
        vec![
            Resource::Node(node("west/a1", NodeStatus::Up)),
            Resource::Node(node("west/a2", status)),
            Resource::Version(version("m@1", Ready, FILE)),
            Resource::Replica(replica("m@1", "west", Pending)),
        ]
    };
    let owners = |status| {
        let of = |who: &str| Desired::of(&view(records(status)), &holder(who, 1), &LocalWishes::default());
        (of("west/a1").copy.len(), of("west/a2").copy.len())
    };
    let (a1, a2) = owners(NodeStatus::Up);
    assert_eq!(a1 + a2, 1);
    assert_eq!(owners(NodeStatus::Down), (1, 0));
}

fn served(name: &str, here: types::replica::ReplicaState, alias_name: &str) -> Vec<Resource> {
    vec![
        Resource::Version(version(name, Ready, FILE)),
        Resource::Replica(replica(name, "west", here)),
        Resource::Replica(replica(name, "east", Verified)),
        Resource::Alias(alias(name, alias_name)),
        Resource::Node(node("east/e1", NodeStatus::Up)),
    ]
}

#[test]
fn the_champion_is_active_and_every_alias_is_loaded() {
    check(
        served("m@1", Verified, "champion"),
        "cache m@1<west,east; load m@1; active m@1",
    );
    check(
        served("m@2", Verified, "candidate"),
        "cache m@2<west,east; load m@2",
    );
}

#[test]
fn a_champion_that_is_not_here_yet_is_missing_and_named_so_that_its_predecessor_stays() {
    check(
        served("m@2", Pending, "champion"),
        "copy m@2<east; active m@2; missing m@2",
    );
}

#[test]
fn what_stands_only_in_dead_regions_is_not_waited_for() {
    let mut dead = region_record("east");
    dead.health = Health::Unhealthy;
    let mut records = served("m@2", Pending, "champion");
    records.push(Resource::Region(dead));
    check(records, "copy m@2<east; active m@2");
    // Nobody is left to call the region UNHEALTHY, and nobody in it to bring the copy.
    let mut records = served("m@2", Pending, "champion");
    for record in &mut records {
        if let Resource::Node(node) = record
            && node.region == region("east")
        {
            node.status = NodeStatus::Down;
        }
    }
    check(records, "copy m@2<east; active m@2");
}

#[test]
fn a_pin_wins_over_the_champion_and_hand_made_wishes_over_aliases() {
    let mut records = served("m@1", Verified, "champion");
    records.extend(served("m@2", Verified, "candidate"));
    let pin = Pin {
        version: v(2),
        after: Some(Revision(1)),
    };
    let pinned = LocalWishes {
        pins: [("m".parse().unwrap(), pin)].into(),
        ..LocalWishes::default()
    };
    check_with(
        records.clone(),
        &pinned,
        "cache m@1<west,east m@2<west,east; load m@1 m@2; active m@2",
    );
    let moved_after = Desired::of(&view(records.clone()), &me(), &pinned).repinned;
    assert_eq!(moved_after, [].into());
    let mut moved = records.clone();
    for record in &mut moved {
        if let Resource::Alias(alias) = record {
            alias.modified = Revision(2);
        }
    }
    let over = Desired::of(&view(moved.clone()), &me(), &pinned).repinned;
    assert_eq!(over, [("m".parse().unwrap(), (pin, None))].into());
    check_with(
        moved.clone(),
        &pinned,
        "cache m@1<west,east m@2<west,east; load m@1 m@2; active m@1",
    );
    // One of an old file names no move: it is as if it had been made after the last one.
    let undated = Pin { after: None, ..pin };
    let wishes = LocalWishes {
        pins: [("m".parse().unwrap(), undated)].into(),
        ..LocalWishes::default()
    };
    check_with(
        moved.clone(),
        &wishes,
        "cache m@1<west,east m@2<west,east; load m@1 m@2; active m@2",
    );
    let dated = Pin {
        after: Some(Revision(2)),
        ..pin
    };
    let named = Desired::of(&view(moved), &me(), &wishes).repinned;
    assert_eq!(named, [("m".parse().unwrap(), (undated, Some(dated)))].into());
    let unloaded = LocalWishes {
        unload: [key("m@1")].into(),
        ..LocalWishes::default()
    };
    check_with(records, &unloaded, "cache m@1<west,east m@2<west,east; load m@2");
}

#[test]
fn only_what_nothing_else_wants_is_asked_for_by_hand() {
    let mut records = served("m@1", Verified, "champion");
    records.extend(served("m@2", Verified, "candidate"));
    records.push(Resource::Version(version("m@3", Ready, FILE)));
    records.push(Resource::Replica(replica("m@3", "west", Verified)));
    let asked = |wishes: LocalWishes| Desired::of(&view(records.clone()), &me(), &wishes).asked;
    let load = || [key("m@2"), key("m@3"), key("m@4")].into();
    assert_eq!(asked(LocalWishes::default()), [].into());
    let wished = LocalWishes {
        load: load(),
        ..LocalWishes::default()
    };
    assert_eq!(asked(wished), [key("m@3")].into());
    let called = LocalWishes {
        called: [(key("m@1"), 1), (key("m@3"), 1)].into(),
        unload: [key("m@1")].into(),
        ..LocalWishes::default()
    };
    assert_eq!(asked(called), [key("m@1"), key("m@3")].into());
}

/// What is kept and named by nothing is not on its way into memory, and who asks for it is told so.
#[test]
fn what_something_names_is_known_whether_it_can_be_loaded_yet_or_not() {
    let mut records = served("m@1", Verified, "champion");
    records.extend(served("m@2", Copying, "candidate"));
    records.push(Resource::Version(version("m@3", Ready, FILE)));
    records.push(Resource::Replica(replica("m@3", "west", Verified)));
    let named = |wishes: LocalWishes| {
        let desired = Desired::of(&view(records.clone()), &me(), &wishes);
        (desired.named, desired.put_aside)
    };
    assert_eq!(
        named(LocalWishes::default()),
        ([key("m@1"), key("m@2")].into(), [].into())
    );
    let mut wishes = LocalWishes {
        load: [key("m@3")].into(),
        unload: [key("m@1"), key("m@4")].into(),
        ..LocalWishes::default()
    };
    let apart = ([key("m@2"), key("m@3")].into(), [key("m@1")].into());
    assert_eq!(named(wishes.clone()), apart);
    // A call of the holder brings it back for as long as it lasts.
    wishes.called.insert(key("m@1"), 1);
    let all = [key("m@1"), key("m@2"), key("m@3")];
    assert_eq!(named(wishes), (all.into(), [].into()));
}

#[test]
fn the_version_that_answered_last_stands_in_for_one_that_does_not_load() {
    let mut records = served("m@1", Verified, "stable");
    records.extend(served("m@2", Verified, "champion"));
    records.push(Resource::Version(version("m@3", Ready, FILE)));
    records.push(Resource::Replica(replica("m@3", "west", Verified)));
    let none = LocalWishes::default();
    let check = |loaded: &[&str], answered: &str, stands_in: &[&str], asked: &[&str]| {
        let mut desired = Desired::of(&view(records.clone()), &me(), &none);
        let memory = loaded.iter().map(|k| (key(k), Memory::Loaded)).collect();
        let answered = [(key(answered).model, key(answered).version)].into();
        desired.add_stand_ins(&memory, &answered, &none);
        let found = desired.stand_ins.iter().map(|(m, v)| format!("{m}@{v}"));
        assert_eq!(found.map(|k| k.replace('v', "")).collect::<Vec<_>>(), stands_in);
        assert_eq!(desired.asked, asked.iter().map(|k| key(k)).collect());
        assert!(stands_in.iter().all(|k| desired.load.contains(&key(k))));
        assert_eq!(desired.active[&key("m@2").model], key("m@2").version);
    };
    check(&["m@1"], "m@1", &["m@1"], &[]);
    // Nothing else names it: the node is ready without it.
    check(&[], "m@3", &["m@3"], &["m@3"]);
    // The other is loaded, or nothing answered before it, or what did is gone.
    check(&["m@2"], "m@1", &[], &[]);
    check(&[], "m@2", &[], &[]);
    check(&[], "n@1", &[], &[]);
    check(&[], "m@9", &[], &[]);
    // Whoever unloaded it by hand means it.
    let unloaded = LocalWishes {
        unload: [key("m@3")].into(),
        ..LocalWishes::default()
    };
    let mut desired = Desired::of(&view(records.clone()), &me(), &unloaded);
    let answered = [(key("m@3").model, key("m@3").version)].into();
    desired.add_stand_ins(&[].into(), &answered, &unloaded);
    assert_eq!(
        (desired.stand_ins.len(), desired.put_aside),
        (0, [key("m@3")].into())
    );
}

#[test]
fn a_role_is_ours_only_under_this_incarnation() {
    let role_of = |holder| Resource::Role(Box::new(role(4, holder, None)));
    check(vec![role_of(Some(me()))], "role g1.e4 committed");
    let other_run = "raise g1.e4 for west/a1#00000002";
    check(vec![role_of(Some(holder("west/a1", 2)))], other_run);
    check(vec![role_of(None)], "");
}

#[test]
fn the_own_store_is_raised_for_a_holder_elsewhere_and_for_a_target_from_its_claim_on() {
    let other = holder("east/a1", 1);
    let held = Resource::Role(Box::new(role(4, Some(other.clone()), None)));
    check(vec![held], "raise g1.e4 for east/a1#00000001");
    let reserved_role = || Resource::Role(Box::new(role(2, None, Some(reserved(3, &other)))));
    let at = |step| vec![reserved_role(), Resource::Plan(Box::new(plan(&other, step)))];
    check(at(StepKind::Fence), "");
    check(at(StepKind::Claim), "raise g1.e3 for east/a1#00000001");
    check(at(StepKind::Promote), "raise g1.e3 for east/a1#00000001");
    // A reservation whose plan is over or unknown gives nobody anything.
    check(vec![reserved_role()], "");
    let mut failed = plan(&other, StepKind::Claim);
    failed.state = PlanState::Failed;
    check(vec![reserved_role(), Resource::Plan(Box::new(failed))], "");
}

#[test]
fn a_holder_yields_while_a_switchover_promotes_another_and_only_then() {
    let held = |counter| Resource::Role(Box::new(role(counter, Some(me()), None)));
    let moving = |change: fn(&mut PlanRecord)| {
        let mut plan = plan(&holder("east/a1", 1), StepKind::Promote);
        (plan.kind, plan.from) = (PlanKind::Switchover, Some(me()));
        change(&mut plan);
        Resource::Plan(Box::new(plan))
    };
    check(vec![held(1), moving(|_| ())], "role g1.e1 yielding");
    type Edit = fn(&mut PlanRecord);
    let others: [(u32, Edit); 6] = [
        (1, |p| p.state = PlanState::Failed),
        (1, |p| p.kind = PlanKind::Failover),
        (1, |p| p.from = Some(holder("west/a1", 2))),
        (1, |p| p.role = "primaries/other".parse().unwrap()),
        (1, |p| {
            p.steps.iter_mut().for_each(|s| s.state = StepState::Waiting)
        }),
        // It took another epoch from us; this one we were given since.
        (3, |_| ()),
    ];
    for (counter, change) in others {
        let expected = format!("role g1.e{counter} committed");
        check(vec![held(counter), moving(change)], &expected);
    }
}

#[test]
fn a_reserved_epoch_is_good_for_claims_from_the_claim_step_on() {
    let reserved_role = || Resource::Role(Box::new(role(2, None, Some(reserved(3, &me())))));
    let at = |step| vec![reserved_role(), Resource::Plan(Box::new(plan(&me(), step)))];
    check(at(StepKind::Fence), "");
    check(
        at(StepKind::Claim),
        "role g1.e3 reserved; step p9 CLAIM attempt 2 under g1.e3",
    );
    check(at(StepKind::WaitLease), "role g1.e3 reserved");
    // Its lease is asked for before the entry that gives it out is applied (L11).
    check(at(StepKind::Promote), "role g1.e3 promised");
    check(at(StepKind::VerifyTarget), "step p9 VERIFY_TARGET attempt 2");
    let other = holder("east/a1", 1);
    check(
        vec![Resource::Plan(Box::new(plan(&other, StepKind::VerifyTarget)))],
        "",
    );
    let earlier_run = holder("west/a1", 2);
    check(
        vec![Resource::Plan(Box::new(plan(
            &earlier_run,
            StepKind::VerifyTarget,
        )))],
        "",
    );
}

#[test]
fn a_deleted_version_loses_its_files_but_those_that_another_version_has() {
    let shared = ("weights", b"same".as_slice());
    let records = vec![
        Resource::Version(version("m@1", Deleted, &[shared, ("card", b"one")])),
        Resource::Version(version("m@2", Ready, &[shared, ("card", b"two")])),
        Resource::Version(version("m@3", Deleted, &[("card", b"one")])),
    ];
    let desired = Desired::of(&view(records), &me(), &LocalWishes::default());
    let own = vec![types::Digest::of(b"one")];
    assert_eq!(
        desired.gone,
        [(key("m@1"), own.clone()), (key("m@3"), own)].into()
    );
}

#[test]
fn a_watch_folds_into_the_view_and_a_gap_starts_it_anew() {
    let mut folded = View::default();
    let reset = |resources| Change::Reset {
        cluster_id: CLUSTER,
        revision: Revision(3),
        resources,
    };
    folded.apply(reset(vec![
        Resource::Alias(alias("m@1", "champion")),
        Resource::Role(Box::new(role(1, None, None))),
    ]));
    let event = |resource, deleted| Event {
        kind: String::new(),
        resource,
        deleted,
    };
    folded.apply(Change::Events {
        revision: Revision(4),
        events: vec![
            event(Resource::Alias(alias("m@2", "champion")), false),
            event(Resource::Alias(alias("m@2", "candidate")), false),
            event(Resource::Role(Box::new(role(2, Some(me()), None))), false),
        ],
    });
    folded.apply(Change::Events {
        revision: Revision(5),
        events: vec![event(Resource::Alias(alias("m@1", "candidate")), true)],
    });
    folded.apply(Change::Bookmark {
        revision: Revision(8),
    });
    assert_eq!(folded.revision, Revision(8));
    assert_eq!(folded.aliases.len(), 1);
    assert_eq!(folded.aliases.values().next().unwrap().version, v(2));
    assert_eq!(folded.roles[&RoleName::global()].epoch, epoch(2));

    folded.apply(reset(Vec::new()));
    assert_eq!(
        (folded.revision, folded.aliases.len(), folded.roles.len()),
        (Revision(3), 0, 0)
    );
}

/// L11: the new holder is armed before.
#[test]
fn a_target_expects_the_next_epoch_while_a_switchover_promotes_it_and_only_then() {
    let held = |counter| Resource::Role(Box::new(role(counter, Some(holder("east/a1", 1)), None)));
    let moving = |change: fn(&mut PlanRecord)| {
        let mut plan = plan(&me(), StepKind::Promote);
        (plan.kind, plan.from) = (PlanKind::Switchover, Some(holder("east/a1", 1)));
        change(&mut plan);
        Resource::Plan(Box::new(plan))
    };
    let raise = |counter: u32| format!("raise g1.e{counter} for east/a1#00000001");
    check(
        vec![held(1), moving(|_| ())],
        &format!("role g1.e2 expected; {}", raise(1)),
    );
    type Edit = fn(&mut PlanRecord);
    let others: [(u32, Edit); 6] = [
        (1, |p| p.state = PlanState::Failed),
        (1, |p| p.kind = PlanKind::Failover),
        (1, |p| p.target = holder("west/a1", 2)),
        (1, |p| p.role = "primaries/other".parse().unwrap()),
        (1, |p| {
            p.steps.iter_mut().for_each(|s| s.state = StepState::Waiting)
        }),
        // The role has moved since.
        (3, |_| ()),
    ];
    for (counter, change) in others {
        check(vec![held(counter), moving(change)], &raise(counter));
    }
}
