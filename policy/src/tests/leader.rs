//! Where leadership should be.

use std::time::Duration;

use types::RegionId;

use super::region;
use crate::leader::{STEADY, Voter, better, relief};

/// `"c1@eu 30"`: fit for so many seconds; `-`: not now; `!`: a witness.
fn voter(text: &str) -> Voter {
    let (name, fit) = text.trim().split_once(' ').unwrap();
    let (node, place) = name.split_once('@').unwrap();
    Voter {
        node: node.parse().unwrap(),
        region: region(place.trim_end_matches('!')),
        fit_for: fit.parse().ok().map(Duration::from_secs),
        may_lead: !place.ends_with('!'),
    }
}

fn voters(text: &str) -> Vec<Voter> {
    text.split(',').map(voter).collect()
}

#[test]
fn leadership_moves_to_a_more_wanted_region_once_somebody_there_is_steady() {
    let long = STEADY * 2;
    for (preferred, leader, others, led_for, expected) in [
        ("", "a@eu", "b@us 90", long, None),
        ("us", "a@eu", "b@us 90", long, Some("b")),
        ("us", "a@eu", "b@us 90", STEADY / 2, None),
        ("us", "a@eu", "b@us 3", long, None),
        ("us", "a@eu", "b@us -", long, None),
        ("us", "a@eu", "b@us! 90", long, None),
        // The first region has nobody fit: the second will do, and is left for the first.
        ("us ap", "a@eu", "b@us -, c@ap 90", long, Some("c")),
        ("us ap", "c@ap", "b@us 90, a@eu 90", long, Some("b")),
        ("us ap", "c@ap", "b@us 3, a@eu 90", long, None),
        ("us ap", "b@us", "c@ap 90, d@us 90", long, None),
        ("us", "a@eu", "z@us 90, b@us 90", long, Some("b")),
    ] {
        let wanted: Vec<RegionId> = preferred.split_whitespace().map(region).collect();
        let leader = voter(&format!("{leader} 0"));
        let found = better(&wanted, &leader, &voters(others), led_for);
        let found = found.as_ref().map(types::NodeId::as_str);
        assert_eq!(found, expected, "{preferred:?}, {leader:?}, {others}");
    }
}

/// Whoever it hands over to keeps leading as long as nobody's fitness changes.
#[test]
fn there_is_no_ping_pong() {
    let all = voters("a@eu 90, b@us 90, c@ap 90, d@us 90");
    for wanted in ["", "us", "us ap", "ap us eu", "sa"] {
        let wanted: Vec<RegionId> = wanted.split_whitespace().map(region).collect();
        for leader in &all {
            let others = |l: &Voter| {
                all.iter()
                    .filter(|v| v.node != l.node)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let Some(next) = better(&wanted, leader, &others(leader), STEADY) else {
                continue;
            };
            let next = all.iter().find(|v| v.node == next).unwrap();
            assert_eq!(better(&wanted, next, &others(next), STEADY), None, "{wanted:?}");
        }
    }
}

#[test]
fn a_witness_hands_over_to_the_most_caught_up_that_may_lead() {
    let all = voters("a@eu 1, b@us 1, c@ap -, w@sa! 1");
    for (matched, expected) in [([5, 6, 9, 9], Some("b")), ([7, 6, 9, 9], Some("a"))] {
        let found = relief(all.iter().zip(matched));
        assert_eq!(found.as_ref().map(types::NodeId::as_str), expected);
    }
    assert_eq!(relief(all[2..].iter().zip([1, 1])), None);
}
