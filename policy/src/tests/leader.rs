//! Where leadership should be.

use std::time::Duration;

use types::RegionId;

use super::region;
use crate::leader::{STEADY, Seat, Voter, better, relief};

/// `"c1@eu 30"`: fit for so many seconds; `-`: not now; `!`: a witness, `~`: with another election timing.
fn voter(text: &str) -> Voter {
    let (name, fit) = text.trim().split_once(' ').unwrap();
    let (node, place) = name.split_once('@').unwrap();
    Voter {
        node: node.parse().unwrap(),
        region: region(place.trim_end_matches(['!', '~'])),
        fit_for: fit.parse().ok().map(Duration::from_secs),
        may_lead: !place.ends_with('!'),
        goes_by_timing: !place.ends_with('~'),
    }
}

fn voters(text: &str) -> Vec<Voter> {
    text.split(',').map(voter).collect()
}

/// `"eu 20"`: has led for so many seconds; `*`: and is in the middle of something; `~`: by another election timing.
fn seat(text: &str) -> Seat {
    let (place, led_for) = text.split_once(' ').unwrap();
    Seat {
        region: region(place),
        led_for: Duration::from_secs(led_for.trim_end_matches(['*', '~']).parse().unwrap()),
        goes_by_timing: !led_for.ends_with('~'),
        busy: led_for.ends_with('*'),
    }
}

#[test]
fn leadership_moves_to_a_more_wanted_region_once_somebody_there_is_steady() {
    for (preferred, leader, others, expected) in [
        ("", "eu 20", "b@us 90", None),
        ("us", "eu 20", "b@us 90", Some("b")),
        ("us", "eu 20*", "b@us 90", None),
        ("us", "eu 20~", "b@us 90", None),
        ("us", "eu 9", "b@us 90", None),
        ("us", "eu 10", "b@us 10", Some("b")),
        ("us", "eu 20", "b@us 9", None),
        ("us", "eu 20", "b@us -", None),
        ("us", "eu 20", "b@us! 90", None),
        ("us", "eu 20", "b@us~ 90", None),
        ("us ap", "eu 20", "b@us~ 90, c@ap 90", Some("c")),
        // The first region has nobody fit: the second will do, and is left for the first.
        ("us ap", "eu 20", "b@us -, c@ap 90", Some("c")),
        ("us ap", "ap 20", "b@us 90, a@eu 90", Some("b")),
        ("us ap", "ap 20", "b@us 3, a@eu 90", None),
        ("us ap", "us 20", "c@ap 90, d@us 90", None),
        ("us", "eu 20", "z@us 90, b@us 90", Some("b")),
    ] {
        let wanted: Vec<RegionId> = preferred.split_whitespace().map(region).collect();
        let found = better(&wanted, &seat(leader), &voters(others));
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
        let next = |leader: &Voter| {
            let others = all.iter().filter(|v| v.node != leader.node).cloned();
            let seat = Seat {
                region: leader.region.clone(),
                led_for: STEADY,
                goes_by_timing: true,
                busy: false,
            };
            better(&wanted, &seat, &others.collect::<Vec<_>>())
        };
        for leader in &all {
            let Some(found) = next(leader) else { continue };
            let found = all.iter().find(|v| v.node == found).unwrap();
            assert_eq!(next(found), None, "{wanted:?}");
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
