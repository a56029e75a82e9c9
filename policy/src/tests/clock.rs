//! State time by tables.

use std::time::Duration;

use types::{UnixMillis, time::ClockReading};

use crate::clock::{AHEAD_MAX, MARK_BEYOND, is_ahead, median, needs_mark};

#[test]
fn the_median_is_where_half_of_the_clocks_already_are() {
    let readings = |times: &[u64]| -> Vec<ClockReading> {
        let named = times.iter().enumerate();
        named
            .map(|(n, time)| ClockReading {
                node: format!("c{n}").parse().unwrap(),
                time: UnixMillis(*time),
            })
            .collect()
    };
    for (times, expected) in [
        (&[][..], None),
        (&[7], Some(7)),
        (&[9, 7], Some(7)),
        (&[9, 7, 8], Some(8)),
        (&[u64::MAX, 7, 8], Some(8)),
        (&[0, 7, 8], Some(7)),
        (&[1, 2, 3, 4], Some(2)),
        (&[5, 1, 4, 2, 3], Some(3)),
        (&[5, 5, 5, 0, u64::MAX], Some(5)),
    ] {
        assert_eq!(median(&readings(times)), expected.map(UnixMillis), "{times:?}");
    }
}

#[test]
fn an_entry_may_be_ahead_by_the_bound_and_a_leader_marks_well_before_it() {
    let state_time = UnixMillis(1_000_000);
    for (ahead, refused, marked) in [
        (Duration::ZERO, false, false),
        (MARK_BEYOND, false, false),
        (MARK_BEYOND + Duration::from_millis(1), false, true),
        (AHEAD_MAX, false, true),
        (AHEAD_MAX + Duration::from_millis(1), true, true),
        (Duration::from_secs(86_400), true, true),
    ] {
        let stamped = state_time.plus(ahead);
        assert_eq!(is_ahead(stamped, state_time), refused, "{ahead:?}");
        assert_eq!(needs_mark(stamped, state_time), marked, "{ahead:?}");
    }
    // Behind state time is never ahead: it is as late as state time says.
    assert!(!is_ahead(UnixMillis(0), state_time));
    assert!(!needs_mark(UnixMillis(0), state_time));
}
