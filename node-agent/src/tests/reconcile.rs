//! From differences to actions.

use std::sync::Arc;

use types::model::VersionState::{Ready, Verifying};

use super::records::*;
use crate::{
    desired::{Copy, Desired},
    observed::{Copied, Job, Memory, Observed},
    reconcile::{Action, Limits, reconcile},
};

const LIMITS: Limits = Limits { copies: 2, loads: 1 };

/// `verify:K copy:K cache:K repaired:K load:K active:K`, words separated by blanks; `storeless:` while the region has no store.
pub(super) fn desired(text: &str) -> Desired {
    let mut desired = Desired {
        has_own_store: !text.contains("storeless"),
        ..Desired::default()
    };
    for word in text.split_whitespace() {
        let (what, name) = word.split_once(':').unwrap();
        let copy = || Copy {
            record: Arc::new(version(name, Ready, &[("f", b"x")])),
            sources: Vec::new(),
            verified: (what == "cache").then_some(1),
        };
        match what {
            "verify" => drop(
                desired
                    .verify
                    .insert(key(name), Arc::new(version(name, Verifying, &[]))),
            ),
            "copy" => drop(desired.copy.insert(key(name), copy())),
            "cache" | "repaired" => drop(desired.cache.insert(key(name), copy())),
            "load" => drop(desired.load.insert(key(name))),
            "asked" => drop(desired.asked.insert(key(name))),
            "deleted" => drop(desired.gone.insert(key(name), Vec::new())),
            "active" => drop(desired.active.insert(key(name).model, key(name).version)),
            "standin" => drop(desired.stand_ins.insert(key(name).model, key(name).version)),
            "storeless" => {}
            other => panic!("{other}"),
        }
    }
    desired
}

/// `here:K loaded:K draining:K active:K doubted:K unservable:K run-copy:K run-load:K wait-load:K wait-copy:K`.
pub(super) fn observed(text: &str) -> Observed {
    let mut observed = Observed::default();
    for word in text.split_whitespace() {
        let (what, name) = word.split_once(':').unwrap();
        match what {
            "here" => drop(observed.cached.insert(key(name), Copied::Present)),
            "gone" => drop(observed.cached.insert(key(name), Copied::Absent)),
            "loaded" => drop(observed.memory.insert(key(name), Memory::Loaded)),
            "draining" => drop(observed.memory.insert(key(name), Memory::Draining)),
            "unservable" => drop(observed.unservable.insert(key(name))),
            "active" => drop(observed.active.insert(key(name).model, key(name).version)),
            "run-copy" => drop(observed.running.insert(Job::Copy(key(name)))),
            "run-load" => drop(observed.running.insert(Job::Load(key(name)))),
            "run-unload" => drop(observed.running.insert(Job::Unload(key(name)))),
            "run-evict" => drop(observed.running.insert(Job::Evict(key(name)))),
            "wait-evict" => drop(observed.backing_off.insert(Job::Evict(key(name)))),
            "run-fetch" => drop(observed.running.insert(Job::Fetch(key(name)))),
            "doubted" => drop(observed.doubted.insert(key(name))),
            "wait-copy" => drop(observed.backing_off.insert(Job::Copy(key(name)))),
            "wait-load" => drop(observed.backing_off.insert(Job::Load(key(name)))),
            other => panic!("{other}"),
        }
    }
    observed
}

fn print(action: &Action) -> String {
    match action {
        Action::Activate(model, version) => format!("activate:{model}@{version}"),
        Action::Deactivate(model) => format!("deactivate:{model}"),
        Action::Start(Job::Verify(k)) => format!("verify:{k}"),
        Action::Start(Job::Copy(k)) => format!("copy:{k}"),
        Action::Start(Job::Fetch(k)) => format!("fetch:{k}"),
        Action::Start(Job::Recheck(k)) => format!("recheck:{k}"),
        Action::Start(Job::Load(k)) => format!("load:{k}"),
        Action::Start(Job::Unload(k)) => format!("unload:{k}"),
        Action::Start(Job::Evict(k)) => format!("evict:{k}"),
    }
}

fn check(wanted: &str, seen: &str, expected: &str) {
    let actions = reconcile(&desired(wanted), &observed(seen), LIMITS);
    let actions: Vec<_> = actions.iter().map(print).collect();
    assert_eq!(actions.join(" "), expected, "wanted {wanted:?}, seen {seen:?}");
}

#[test]
fn the_table_of_actions() {
    check("", "", "");
    check("verify:m@1", "", "verify:m@1");
    check("copy:m@1", "", "copy:m@1");
    check("copy:m@1", "run-copy:m@1", "");
    check("copy:m@1", "wait-copy:m@1", "");
    // Nothing can be brought into a store, or read from it, before the region has one.
    check("storeless: copy:m@1 verify:m@2 cache:m@3", "", "fetch:m@3");
    check("cache:m@1", "", "fetch:m@1");
    check("cache:m@1", "gone:m@1", "fetch:m@1");
    check("cache:m@1", "here:m@1", "");
    // Nothing is loaded before its files are on the disk.
    check("cache:m@1 load:m@1", "", "fetch:m@1");
    check("cache:m@1 load:m@1", "here:m@1", "load:m@1");
    check("cache:m@1 load:m@1", "here:m@1 run-load:m@1", "");
    check("cache:m@1 load:m@1", "here:m@1 loaded:m@1", "");
    // A version that still drains is not loaded a second time beside itself.
    check("cache:m@1 load:m@1", "here:m@1 draining:m@1", "");
    check(
        "cache:m@1 load:m@1 active:m@1",
        "here:m@1 loaded:m@1",
        "activate:m@1",
    );
}

/// Read again is what is called verified; a copy that is being repaired is known to be damaged.
#[test]
fn a_doubted_copy_is_read_again_as_long_as_it_is_called_verified() {
    check("cache:m@1", "here:m@1 doubted:m@1", "recheck:m@1");
    check("storeless: cache:m@1", "here:m@1 doubted:m@1", "");
    check("copy:m@1 repaired:m@1", "here:m@1 doubted:m@1", "copy:m@1");
    check("", "doubted:m@1", "");
}

/// Both would bring the same files into the cache, and one of them would fail.
#[test]
fn a_copy_and_a_fetch_of_one_version_do_not_run_at_once() {
    check("copy:m@1 repaired:m@1", "", "copy:m@1");
    check("copy:m@1 repaired:m@1", "run-copy:m@1", "");
    check("copy:m@1 repaired:m@1", "run-fetch:m@1", "");
    // While the store refuses the copy, the node gets itself what it serves.
    check("copy:m@1 repaired:m@1", "wait-copy:m@1", "fetch:m@1");
}

#[test]
fn a_new_version_is_loaded_switched_in_and_only_then_the_old_one_unloaded() {
    let wanted = "cache:m@1 cache:m@2 load:m@2 active:m@2";
    check(wanted, "here:m@1 here:m@2 loaded:m@1 active:m@1", "load:m@2");
    check(wanted, "here:m@1 here:m@2 loaded:m@1 active:m@1 run-load:m@2", "");
    check(
        wanted,
        "here:m@1 here:m@2 loaded:m@1 loaded:m@2 active:m@1",
        "activate:m@2",
    );
    check(
        wanted,
        "here:m@1 here:m@2 loaded:m@1 loaded:m@2 active:m@2",
        "unload:m@1",
    );
    check(
        wanted,
        "here:m@1 here:m@2 loaded:m@1 loaded:m@2 active:m@2 run-unload:m@1",
        "",
    );
    check(wanted, "here:m@1 here:m@2 draining:m@1 loaded:m@2 active:m@2", "");
}

#[test]
fn a_predecessor_serves_while_the_champion_is_still_on_its_way() {
    check("copy:m@2 active:m@2", "loaded:m@1 active:m@1", "copy:m@2");
    check("active:m@2", "loaded:m@1 active:m@1", "");
}

/// A copy can fall back from VERIFIED while its version is in memory: what is loaded stays.
#[test]
fn what_is_to_be_switched_in_is_not_unloaded_although_its_copy_is_in_doubt() {
    check(
        "copy:m@2 active:m@2",
        "loaded:m@1 loaded:m@2 active:m@1",
        "activate:m@2 copy:m@2",
    );
    check(
        "copy:m@2 active:m@2",
        "loaded:m@1 loaded:m@2 active:m@2",
        "copy:m@2 unload:m@1",
    );
}

#[test]
fn a_model_that_nobody_wants_is_taken_out_of_service() {
    check("", "loaded:m@1 active:m@1", "deactivate:m unload:m@1");
}

#[test]
fn files_of_a_deleted_version_go_once_nothing_uses_them_any_more() {
    // Nobody looked since the start: there may be some.
    check("deleted:m@1", "", "evict:m@1");
    check("deleted:m@1", "here:m@1", "evict:m@1");
    check("deleted:m@1", "gone:m@1", "");
    check("deleted:m@1", "here:m@1 loaded:m@1", "unload:m@1");
    check("deleted:m@1", "here:m@1 draining:m@1", "");
    check("deleted:m@1", "here:m@1 run-copy:m@1", "");
    check("deleted:m@1", "here:m@1 run-load:m@1", "");
    check("deleted:m@1", "here:m@1 run-evict:m@1", "");
    check("deleted:m@1 deleted:m@2", "wait-evict:m@1", "evict:m@2");
    // A few at a time.
    check(
        "deleted:a@1 deleted:b@1 deleted:c@1 deleted:d@1 deleted:e@1",
        "run-evict:a@1 here:b@1",
        "evict:b@1 evict:c@1 evict:d@1",
    );
}

#[test]
fn a_stand_in_answers_until_the_version_that_shall_is_there() {
    let wanted = "cache:m@1 cache:m@2 load:m@1 load:m@2 active:m@2 standin:m@1";
    check(wanted, "here:m@1 here:m@2 wait-load:m@2", "load:m@1");
    check(
        wanted,
        "here:m@1 here:m@2 loaded:m@1 wait-load:m@2",
        "activate:m@1",
    );
    check(
        wanted,
        "here:m@1 here:m@2 loaded:m@1 active:m@1 wait-load:m@2",
        "",
    );
    let all = "here:m@1 here:m@2 loaded:m@1 loaded:m@2";
    check(wanted, &format!("{all} active:m@1"), "activate:m@2");
}

#[test]
fn limits_hold_over_running_and_new_jobs_and_served_files_come_first() {
    check("copy:a@1 copy:b@1 copy:c@1", "", "copy:a@1 copy:b@1");
    check("copy:a@1 copy:b@1 copy:c@1", "run-copy:b@1", "copy:a@1");
    check(
        "cache:a@1 cache:b@1 cache:z@1 load:z@1",
        "",
        "fetch:z@1 fetch:a@1",
    );
    check(
        "cache:a@1 cache:b@1 load:a@1 load:b@1",
        "here:a@1 here:b@1",
        "load:a@1",
    );
    // A copy that waits for its next try takes no place.
    check("copy:a@1 copy:b@1 copy:c@1", "wait-copy:a@1", "copy:b@1 copy:c@1");
}
