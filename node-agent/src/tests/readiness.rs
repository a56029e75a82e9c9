//! What makes a node unfit, and what does not.

use super::reconcile::{desired, observed};
use crate::readiness::{Readiness, ToldBy};

/// Judged one after the other: what is wanted, what is seen, and what is missing.
fn check(moments: &[(&str, &str, &str)]) {
    let mut readiness = Readiness::default();
    for (at, (wanted, seen, missing)) in moments.iter().enumerate() {
        let found = readiness.judge(ToldBy::Cluster, &desired(wanted), &observed(seen));
        assert_eq!(found.err().unwrap_or_default(), *missing, "{at}: {moments:?}");
    }
}

#[test]
fn the_first_version_that_is_not_served_is_named() {
    check(&[("", "", "")]);
    check(&[("cache:m@1 load:m@1", "", "m@1 is not on this node's disk yet")]);
    check(&[("cache:m@1 load:m@1", "here:m@1", "m@1 is not loaded yet")]);
    check(&[("load:m@1 active:m@1", "loaded:m@1", "m@1 is not switched in yet")]);
    check(&[("load:m@1 active:m@1", "loaded:m@1 active:m@1", "")]);
    // What an operator wished for and does not load is no reason to send nobody here.
    let wished = "load:m@1 active:m@1 cache:m@3 load:m@3 asked:m@3";
    check(&[(wished, "loaded:m@1 active:m@1 here:m@3", "")]);
    check(&[(wished, "loaded:m@1 here:m@3", "m@1 is not switched in yet")]);
    // A champion that has no copy here yet leaves the node ready: it serves all that can be served here.
    check(&[("load:m@1 active:m@2", "loaded:m@1 active:m@1", "")]);
}

#[test]
fn a_version_that_nobody_can_serve_makes_nobody_unfit() {
    let wanted = "load:m@1 active:m@1 load:bad@1 active:bad@1";
    let rest = "here:bad@1 loaded:m@1 active:m@1";
    check(&[
        (wanted, rest, "bad@1 is not loaded yet"),
        (wanted, &format!("{rest} unservable:bad@1"), ""),
        (wanted, &format!("{rest} loaded:bad@1 active:bad@1"), ""),
    ]);
    // Nothing but that one is there: a role can be held all the same.
    check(&[("load:bad@1 active:bad@1", "here:bad@1 unservable:bad@1", "")]);
}

#[test]
fn a_version_on_its_way_makes_nobody_unfit_who_was_fit() {
    let before = "load:m@1 active:m@1";
    let served = "loaded:m@1 active:m@1";
    // A champion that moved, and a model that is new.
    for after in ["load:m@2 active:m@2", "load:m@1 active:m@1 load:n@1 active:n@1"] {
        check(&[
            (before, served, ""),
            (after, served, ""),
            (after, served, ""),
            // Told again after a time without a word.
            (before, served, ""),
            (after, served, ""),
        ]);
        let mut readiness = Readiness::default();
        let missing = readiness.judge(ToldBy::Cluster, &desired(after), &observed(served));
        let missing = missing.unwrap_err();
        assert!(missing.contains("not on this node's disk yet"), "{missing}");
    }
}

#[test]
fn champions_that_move_while_a_node_comes_up_do_not_keep_it_out() {
    check(&[
        ("load:m@1 active:m@1", "here:m@1", "m@1 is not loaded yet"),
        // Nothing answers for the model: whichever is named is waited for.
        ("load:m@2 active:m@2", "here:m@2", "m@2 is not loaded yet"),
        (
            "load:m@3 active:m@3 load:m@2",
            "loaded:m@2 active:m@2 here:m@3",
            "",
        ),
        (
            "load:m@4 active:m@4 load:m@2",
            "loaded:m@2 active:m@2 here:m@4",
            "",
        ),
        // What answered is gone before the next one came.
        ("load:m@4 active:m@4", "here:m@4", "m@4 is not loaded yet"),
        ("load:m@4 active:m@4", "loaded:m@4 active:m@4", ""),
    ]);
    // A model is waited for as long as nothing of it answers, whatever else does.
    check(&[
        ("load:m@1 load:n@1", "here:m@1 here:n@1", "m@1 is not loaded yet"),
        (
            "load:m@1 load:n@2",
            "loaded:m@1 here:n@2",
            "n@2 is not loaded yet",
        ),
        ("load:m@1 load:n@2", "loaded:m@1 loaded:n@2", ""),
    ]);
    // A champion that nobody can serve, and the one that is to come in its place.
    check(&[
        ("load:m@1 active:m@1", "here:m@1 unservable:m@1", ""),
        ("load:m@2 active:m@2", "here:m@1 unservable:m@1", ""),
        ("load:m@3 active:m@3", "here:m@1 unservable:m@1", ""),
        ("load:m@3 active:m@3", "loaded:m@3 active:m@3", ""),
    ]);
}

#[test]
fn what_was_loaded_once_is_missed() {
    let (before, after) = ("load:m@1 active:m@1", "load:m@2 active:m@2");
    check(&[
        (before, "loaded:m@1 active:m@1", ""),
        (after, "loaded:m@1 active:m@1 here:m@2", ""),
        (after, "loaded:m@2 active:m@2 here:m@2", ""),
        (after, "here:m@2", "m@2 is not loaded yet"),
    ]);
    // Unfit meanwhile: what is named then is required too.
    check(&[
        (before, "loaded:m@1 active:m@1", ""),
        (before, "", "m@1 is not on this node's disk yet"),
        (after, "", "m@2 is not on this node's disk yet"),
    ]);
    // Lost while the next one was on its way.
    check(&[
        (before, "loaded:m@1 active:m@1", ""),
        (after, "loaded:m@1 active:m@1", ""),
        (after, "", "m@2 is not on this node's disk yet"),
        (after, "loaded:m@2 active:m@2", ""),
    ]);
}

#[test]
fn what_the_cluster_names_first_is_no_newcomer() {
    let (catalog, cluster) = ("load:m@1 active:m@1", "load:m@2 active:m@2");
    let served = observed("loaded:m@1 active:m@1");
    let mut readiness = Readiness::default();
    let mut judge = |told_by, wanted: &str| readiness.judge(told_by, &desired(wanted), &served);
    let unread = Err("the desired state was not read yet".to_owned());
    assert_eq!(judge(ToldBy::Nobody, ""), unread);
    assert_eq!(judge(ToldBy::Catalog, catalog), Ok(()));
    let missing = Err("m@2 is not on this node's disk yet".to_owned());
    assert_eq!(judge(ToldBy::Cluster, cluster), missing);
    assert_eq!(judge(ToldBy::Cluster, catalog), Ok(()));
    assert_eq!(judge(ToldBy::Cluster, cluster), Ok(()));
}
