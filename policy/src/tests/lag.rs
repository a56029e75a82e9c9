//! Replication lag by tables, and that its memory is bounded.

use std::time::Duration;

use types::Revision;

use crate::lag::LogEnds;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ends(marks: impl IntoIterator<Item = (u64, u64)>) -> LogEnds {
    let mut ends = LogEnds::default();
    for (at, end) in marks {
        ends.note(seconds(at), Revision(end));
    }
    ends
}

#[test]
fn a_lag_is_the_age_of_the_oldest_missing_entry_or_the_silence() {
    let ends = ends([(10, 5), (20, 8), (25, 8), (30, 9)]);
    let check = |matched: Option<u64>, silent: Option<u64>, lag: u64| {
        let found = ends.lag(seconds(100), matched.map(Revision), silent.map(seconds));
        assert_eq!(found, seconds(lag), "{matched:?} {silent:?}");
    };
    check(Some(9), None, 0);
    check(Some(12), Some(0), 0);
    // The last entry came at 30, and nothing new came at 25.
    check(Some(8), Some(1), 70);
    check(Some(7), None, 80);
    check(Some(5), None, 80);
    check(Some(4), None, 90);
    check(None, None, 90);
    // Nothing is missing, and nothing is heard: it may be cut off.
    check(Some(9), Some(40), 40);
    check(Some(8), Some(75), 75);
    assert_eq!(LogEnds::default().lag(seconds(9), None, None), Duration::ZERO);
}

#[test]
fn of_a_long_time_little_is_remembered_and_a_lag_is_told_nearly_right() {
    const DAY: u64 = 86_400;
    let ends = ends((0..DAY).map(|at| (at, at + 1)));
    for behind in 1..=DAY {
        let lag = ends.lag(seconds(DAY), Some(Revision(DAY - behind)), None);
        assert!(
            lag <= seconds(behind) && lag * 16 >= seconds(behind) * 15,
            "{lag:?} of {behind}"
        );
    }
    assert!(ends.marks() <= 512, "{}", ends.marks());
}
