//! State time: how far an entry may be ahead of it, and what a time mark makes of it (design.md L10).
//!
//! Absent on purpose: clocks. State time stamps records for people, bounds request ids and ends pauses; nothing about a
//! lease is ever decided by it (L9).
//! Invariant: one clock alone, however wrong, moves state time by no more than [`AHEAD_MAX`] at an entry; a mark moves it to
//! where half of the clocks already are.

use std::time::Duration;

use types::{UnixMillis, time::ClockReading};

/// An entry may be stamped this far ahead of state time; one that is further is refused, unless a mark was applied (L10).
pub const AHEAD_MAX: Duration = Duration::from_secs(10);

/// A leader marks the time before it proposes anything once its reckoning is this far ahead of state time: well below the
/// bound, because other entries are on their way.
pub const MARK_BEYOND: Duration = Duration::from_secs(5);

/// Readings that one mark may carry; a cluster has fewer voters.
pub const READINGS_MAX: u64 = 99;

/// Whether an entry that was stamped at `stamped` is too far ahead of `state_time` to be applied.
pub fn is_ahead(stamped: UnixMillis, state_time: UnixMillis) -> bool {
    stamped.since(state_time) > AHEAD_MAX
}

/// Whether the leader, which reckons that it is `now`, marks the time first.
pub fn needs_mark(now: UnixMillis, state_time: UnixMillis) -> bool {
    now.since(state_time) > MARK_BEYOND
}

/// The time at which half of the clocks are or have been: the lower one of the two in the middle. None without readings.
pub fn median(readings: &[ClockReading]) -> Option<UnixMillis> {
    let mut times: Vec<UnixMillis> = readings.iter().map(|reading| reading.time).collect();
    times.sort_unstable();
    times.get(times.len().checked_sub(1)? / 2).copied()
}
