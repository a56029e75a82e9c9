//! Comparisons of hashes by tables, and what holds of all of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use types::{NodeId, Revision};

use crate::integrity::{Integrity, Said, judge, weigh};

fn node(n: usize) -> NodeId {
    format!("c{n}").parse().unwrap()
}

/// What each voter said, in order; `.`: nothing.
fn said(text: &str) -> BTreeMap<NodeId, char> {
    let said = text.chars().enumerate().filter(|(_, hash)| *hash != '.');
    said.map(|(n, hash)| (node(n), hash)).collect()
}

fn nodes(of: &[usize]) -> Vec<NodeId> {
    of.iter().map(|n| node(*n)).collect()
}

fn differs(of: &[usize]) -> Integrity {
    Integrity::Differs { majority: nodes(of) }
}

fn doubt(of: &[usize]) -> Integrity {
    Integrity::Doubt { rather: nodes(of) }
}

#[test]
fn a_voter_judges_itself_by_a_majority_of_all() {
    use Integrity::{Agrees, NoMajority, Open};
    // The first is the one that judges.
    for (all, expected) in [
        ("x", Agrees),
        ("xx", Agrees),
        ("x.", Open),
        ("xy", NoMajority),
        ("xxx", Agrees),
        ("xx.", Agrees),
        ("xxy", Agrees),
        ("x..", Open),
        ("xy.", doubt(&[])),
        ("xyy", differs(&[1, 2])),
        ("xyz", NoMajority),
        // Of four a majority is three.
        ("xx..", Open),
        ("xxy.", Open),
        ("xyy.", doubt(&[1, 2])),
        ("xxyy", NoMajority),
        ("xyyy", differs(&[1, 2, 3])),
        ("x....", Open),
        ("xy...", doubt(&[])),
        ("xxy..", Open),
        ("xyy..", doubt(&[1, 2])),
        ("xyz..", doubt(&[])),
        ("xxyy.", doubt(&[])),
        ("xxyyz", NoMajority),
        ("xwyz.", NoMajority),
        ("xxyyy", differs(&[2, 3, 4])),
        ("xxxyy", Agrees),
    ] {
        assert_eq!(
            judge(&'x', &said(all), all.len()),
            expected,
            "the first of {all:?}"
        );
    }
}

#[test]
fn who_does_not_vote_is_judged_by_those_who_do() {
    use Integrity::{Agrees, NoMajority, Open};
    for (voters, expected) in [
        // Before it has heard of any.
        ("", Open),
        ("...", Open),
        ("x..", Open),
        ("y..", doubt(&[0])),
        ("xx.", Agrees),
        ("yy.", differs(&[0, 1])),
        ("xy.", doubt(&[])),
        ("xyz", NoMajority),
    ] {
        assert_eq!(
            judge(&'x', &said(voters), voters.len()),
            expected,
            "x beside {voters:?}"
        );
    }
}

/// By revision, oldest first: what each of the voters said; the first judges.
fn weighed(rounds: &[(u64, &str)]) -> Option<(Revision, Integrity)> {
    let mut by_node: Said<char> = BTreeMap::new();
    for (revision, all) in rounds {
        for (node, hash) in said(all) {
            by_node.entry(node).or_default().insert(Revision(*revision), hash);
        }
    }
    let own = by_node.get(&node(0)).cloned().unwrap_or_default();
    weigh(&own, &by_node, rounds.first().map_or(0, |(_, all)| all.len()))
}

#[test]
fn the_newest_revision_that_decides_counts() {
    use Integrity::{Agrees, NoMajority};
    let at = |revision, verdict| Some((Revision(revision), verdict));
    for (rounds, expected) in [
        (&[(1, "x..")][..], None),
        (&[(1, "xx."), (2, "x..")], at(1, Agrees)),
        (&[(1, "xxx"), (2, "xyy")], at(2, differs(&[1, 2]))),
        (&[(1, "xyy"), (2, "x..")], at(1, differs(&[1, 2]))),
        // What was wrong and was overwritten is right again.
        (&[(1, "xyy"), (2, "xx.")], at(2, Agrees)),
        // It agreed once; now somebody speaks against it.
        (&[(1, "xxx"), (2, "xy.")], at(2, doubt(&[]))),
        (&[(1, "xyy"), (2, "xy.")], at(1, differs(&[1, 2]))),
        (&[(1, "xy."), (2, "x..")], at(1, doubt(&[]))),
        (&[(1, "xyz"), (2, "xy.")], at(1, NoMajority)),
        // Of a revision that this replica has not seen, or no longer knows, it says nothing.
        (&[(1, ".yy")], None),
    ] {
        assert_eq!(weighed(rounds), expected, "{rounds:?}");
    }
}

proptest! {
    /// All voters with all answers: those who differ are few, and all who judge agree on what the majority has.
    #[test]
    fn no_two_voters_contradict_each_other(hashes in prop::collection::vec(0_u8..3, 1..8)) {
        let all: BTreeMap<_, _> = hashes.iter().enumerate().map(|(n, hash)| (node(n), *hash)).collect();
        let verdicts: Vec<_> = hashes.iter().map(|own| judge(own, &all, hashes.len())).collect();
        let agree = verdicts.iter().filter(|v| **v == Integrity::Agrees).count();
        let split = verdicts.iter().filter(|v| **v == Integrity::NoMajority).count();
        prop_assert!(split == 0 || split == hashes.len(), "{verdicts:?}");
        prop_assert!(split > 0 || agree > hashes.len() / 2, "{verdicts:?}");
        for verdict in &verdicts {
            match verdict {
                Integrity::Differs { majority } => prop_assert_eq!(majority.len(), agree),
                Integrity::Agrees | Integrity::NoMajority => {}
                Integrity::Open | Integrity::Doubt { .. } => prop_assert!(false, "{verdicts:?}"),
            }
        }
    }

    /// What is decided with some answers stays so with more; and who is called different never agrees with more of them.
    #[test]
    fn more_answers_take_nothing_back(hashes in prop::collection::vec(0_u8..3, 1..8), silent in any::<u8>()) {
        let all: BTreeMap<_, _> = hashes.iter().enumerate().map(|(n, hash)| (node(n), *hash)).collect();
        let some = all.iter().enumerate().filter(|(n, _)| *n == 0 || silent & (1 << n) == 0);
        let some = some.map(|(_, (node, hash))| (node.clone(), *hash)).collect();
        let (early, late) = (judge(&hashes[0], &some, hashes.len()), judge(&hashes[0], &all, hashes.len()));
        match (&early, &late) {
            (Integrity::Open | Integrity::Doubt { .. }, _) => {}
            (Integrity::Differs { majority }, Integrity::Differs { majority: more }) => {
                prop_assert!(majority.iter().all(|node| more.contains(node)));
            }
            _ => prop_assert_eq!(early, late),
        }
    }

    /// Of two replicas that differ at most one goes on undoubted, whatever each of them has heard.
    #[test]
    fn two_that_differ_do_not_both_go_on(hashes in prop::collection::vec(0_u8..3, 2..8), silent in any::<u8>()) {
        let heard: BTreeMap<_, _> = hashes
            .iter()
            .enumerate()
            .filter(|(n, _)| *n < 2 || silent & (1 << n) == 0)
            .map(|(n, hash)| (node(n), *hash))
            .collect();
        let goes_on = |own: &u8| matches!(judge(own, &heard, hashes.len()), Integrity::Agrees | Integrity::Open);
        prop_assert!(hashes[0] == hashes[1] || !(goes_on(&hashes[0]) && goes_on(&hashes[1])), "{heard:?}");
    }
}
