//! Where a door goes that is shown statements.

use std::collections::BTreeSet;

use proptest::prelude::*;
use types::{ClusterId, Rebind};

use crate::rebind::{Bound, Stays, conflict, follow, lineage};

fn id(n: u128) -> ClusterId {
    ClusterId::from_u128(n)
}

/// `"2<1@3"`: cluster 2 supersedes 1, from generation 3 on.
fn statements(text: &str) -> Vec<Rebind> {
    let one = |text: &str| {
        let (cluster, rest) = text.split_once('<').unwrap();
        let (supersedes, generation) = rest.split_once('@').unwrap();
        Rebind {
            cluster: id(cluster.parse().unwrap()),
            supersedes: id(supersedes.parse().unwrap()),
            generation: generation.parse().unwrap(),
        }
    };
    text.split_whitespace().map(one).collect()
}

fn word(stays: &Stays) -> &'static str {
    match stays {
        Stays::Superseded { .. } => "superseded",
        Stays::Unsigned { .. } => "unsigned",
        Stays::Generation { .. } => "generation",
        Stays::Conflict { .. } => "conflict",
    }
}

#[test]
fn a_door_follows_signed_successions_to_their_one_end_and_never_back() {
    // Bound to, highest generation seen, met, what is signed, what comes of it.
    let table = [
        ((1, 1), 2, "", "unsigned"),
        ((1, 1), 2, "2<1@2", "follow"),
        ((1, 1), 2, "2<3@2", "unsigned"),
        ((1, 1), 3, "2<1@2", "unsigned"),
        // Back to what was left, and to what has ended meanwhile.
        ((2, 2), 1, "2<1@2", "superseded"),
        ((2, 2), 1, "2<1@2 1<2@3", "superseded"),
        ((1, 1), 2, "2<1@2 3<2@3", "superseded"),
        // Over one that this door never met.
        ((1, 1), 3, "2<1@2 3<2@3", "follow"),
        ((2, 2), 3, "2<1@2 3<2@3", "follow"),
        ((1, 1), 3, "3<2@3", "unsigned"),
        // Not above what it has accepted, be the paper as it may.
        ((1, 2), 2, "2<1@2", "generation"),
        ((1, 9), 2, "2<1@2", "generation"),
        ((1, 1), 3, "2<1@5 3<2@5", "unsigned"),
        ((1, 1), 3, "2<1@5 3<2@4", "unsigned"),
        // Two go on from one; until a third ends both, or one ends the other.
        ((1, 1), 2, "2<1@2 3<1@2", "conflict"),
        ((1, 1), 3, "2<1@2 3<1@2", "conflict"),
        ((1, 1), 2, "2<1@2 3<1@3", "conflict"),
        ((1, 1), 4, "2<1@2 3<1@2 4<2@3 4<3@3", "follow"),
        ((1, 1), 3, "2<1@2 3<1@3 3<2@3", "follow"),
        ((1, 1), 2, "2<1@2 3<1@3 3<2@3", "superseded"),
        // It chose before it heard of the other: that is nothing that it could follow.
        ((2, 2), 3, "2<1@2 3<1@2", "unsigned"),
        // Further up: cluster 2 was split.
        ((1, 1), 3, "2<1@2 3<2@3 4<2@3", "conflict"),
    ];
    for ((bound, seen), shown, signed, expected) in table {
        let known = statements(signed);
        // Whoever is at 2 has come from 1.
        let closed = (1..bound).map(id).collect();
        let door = Bound {
            cluster: id(bound),
            seen,
            closed: &closed,
        };
        let said = follow(door, id(shown), &known);
        let found = said.as_ref().map_or_else(word, |()| "follow");
        assert_eq!(
            found, expected,
            "{bound} g{seen} met {shown} with {signed:?}: {said:?}"
        );
    }
}

#[test]
fn a_lineage_is_everything_that_a_cluster_goes_on_from() {
    let table = [
        (2, "2<1@2", vec![1]),
        (3, "2<1@2 3<2@3", vec![1, 2]),
        (2, "2<1@2 3<2@3", vec![1]),
        (1, "2<1@2", vec![]),
        (4, "2<1@2 3<1@2 4<2@3 4<3@3", vec![1, 2, 3]),
        (2, "2<1@2 1<2@2", vec![]),
    ];
    for (cluster, signed, closed) in table {
        let found = lineage(id(cluster), &statements(signed));
        let found: Vec<u128> = found.closed.iter().map(|c| c.as_u128()).collect();
        assert_eq!(found, closed, "{cluster} {signed:?}");
    }
}

#[test]
fn a_split_is_told_also_to_who_is_not_held_up_by_it() {
    for (signed, split) in [
        ("", false),
        ("2<1@2", false),
        ("2<1@2 3<2@3", false),
        ("2<1@2 3<1@2", true),
        ("2<1@2 3<2@3 4<2@3", true),
        ("2<1@2 3<1@2 4<2@3 4<3@3", false),
    ] {
        assert_eq!(conflict(&statements(signed)).is_some(), split, "{signed:?}");
    }
}

proptest! {
    /// Whatever is signed and in whatever order it is met: a door's generation only grows, it never is where it was, and where
    /// it is has everything in its lineage that it left.
    #[test]
    fn a_door_never_comes_back(
        signed in prop::collection::vec((1_u128..6, 1_u128..6, 1_u32..6), 0..8),
        met in prop::collection::vec((1_u128..6, 0_usize..9), 0..20),
    ) {
        let all: Vec<Rebind> = signed
            .into_iter()
            .map(|(cluster, old, generation)| Rebind { cluster: id(cluster), supersedes: id(old), generation })
            .collect();
        let (mut cluster, mut seen, mut closed) = (id(1), 0, BTreeSet::new());
        for (shown, known) in met {
            let known = &all[..known.min(all.len())];
            let door = Bound { cluster, seen, closed: &closed };
            if follow(door, id(shown), known).is_ok() {
                let was = (cluster, seen);
                cluster = id(shown);
                seen = known.iter().filter(|s| s.cluster == cluster).map(|s| s.generation).max().unwrap();
                prop_assert!(seen > was.1);
                let lineage = lineage(cluster, known);
                prop_assert!(lineage.closed.contains(&was.0));
                closed.extend(lineage.closed);
                prop_assert!(!closed.contains(&cluster), "back to {cluster}");
            }
        }
    }
}
