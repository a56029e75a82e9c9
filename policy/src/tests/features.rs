//! What the voters' builds allow.

use std::collections::BTreeMap;

use types::NodeId;

use crate::features::{NextLevel, next_level};

#[test]
fn the_level_is_raised_to_what_every_voter_knows_and_waits_for_who_does_not_answer() {
    let wait = |names: &[&str]| NextLevel::Wait(names.iter().map(|n| NodeId::new(*n).unwrap()).collect());
    // The level now, what the leader's build knows, what a, b and c said.
    let table = [
        ((0, 1), [Some(1), Some(1), Some(1)], NextLevel::Raise(1)),
        // An older build does not know the question, which is said as 0.
        ((0, 1), [Some(1), Some(0), Some(1)], wait(&["b"])),
        ((0, 1), [Some(1), None, Some(1)], wait(&["b"])),
        ((0, 1), [Some(1), None, Some(0)], wait(&["b", "c"])),
        ((1, 1), [Some(1), None, Some(0)], NextLevel::Stay),
        // Elected before its build was upgraded.
        ((2, 1), [Some(1), Some(2), Some(2)], NextLevel::Stay),
        // As far as all can go, then it waits for the last.
        ((0, 3), [Some(3), Some(2), Some(5)], NextLevel::Raise(2)),
        ((2, 3), [Some(3), Some(2), Some(5)], wait(&["b"])),
        ((1, 3), [Some(3), Some(3), None], wait(&["c"])),
        ((1, 3), [Some(3), Some(9), Some(9)], NextLevel::Raise(3)),
    ];
    for ((current, supported), said, expected) in table {
        let voters: BTreeMap<_, _> = ["a", "b", "c"]
            .map(|n| NodeId::new(n).unwrap())
            .into_iter()
            .zip(said)
            .collect();
        let next = next_level(current, supported, &voters);
        assert_eq!(next, expected, "{current} {supported} {said:?}");
    }
}
