//! When a witness campaigns, and which snapshot it takes.

use std::time::Duration;

use types::Revision;

use crate::witness::{may_campaign, patience, snapshot_wanted};

#[test]
fn a_witness_campaigns_after_a_lease_and_two_election_timeouts_without_a_leader() {
    let max = Duration::from_millis(400);
    for (silence, expected) in [
        (0, false),
        (400, false),
        (800, false),
        (1_199, false),
        (1_200, true),
        (9_000, true),
    ] {
        assert_eq!(
            may_campaign(Duration::from_millis(silence), max),
            expected,
            "{silence} ms"
        );
    }
    // Another voter has begun its campaign by then, whatever it drew, and had an election timeout to win it.
    assert!(patience(max) >= max * 2 + max);
    assert!(!may_campaign(Duration::from_secs(1), Duration::MAX));
}

#[test]
fn a_snapshot_that_is_taken_covers_half_of_what_came_since() {
    for (covered, applied, expected) in [
        (0, 0, 0),
        (0, 1, 1),
        (0, 10, 5),
        (100, 101, 101),
        (100, 120, 110),
        (100, 100, 100),
    ] {
        assert_eq!(
            snapshot_wanted(Revision(covered), Revision(applied)),
            Revision(expected),
            "{covered} to {applied}"
        );
    }
}
