//! Wall-clock time as data, and the clock as something that is handed in.
//!
//! Nothing about leases is ever decided by these (L9): they stamp records for people and bound request ids. In documents
//! for programs a time is RFC 3339 text in UTC, as in `2026-11-21T07:28:34.123Z`.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};

use crate::ids::{InvalidId, NodeId};

/// Milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This time plus `duration`, in whole milliseconds; stays at the end of time instead of wrapping.
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        )
    }
    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: UnixMillis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
    /// As RFC 3339 writes it, in UTC: `2026-11-21T07:28:34.123Z`.
    pub fn rfc3339(self) -> String {
        let (days, millis) = (self.0 / DAY_MILLIS, self.0 % DAY_MILLIS);
        let (year, month, day) = date_of(days);
        let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
        let (second, rest) = (millis / 1000 % 60, millis % 1000);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:03}Z")
    }
}

/// What the wall clock of one coordinator said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Whose clock.
    pub node: NodeId,
    /// Its time, as of when the readings were put together.
    pub time: UnixMillis,
}

const DAY_MILLIS: u64 = 86_400_000;
/// Days of 400 years; the calendar repeats after them.
const CYCLE_DAYS: u64 = 146_097;

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

const fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Year, month and day of the month, this many days after 1970-01-01.
fn date_of(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / CYCLE_DAYS * 400;
    let mut left = days % CYCLE_DAYS;
    while left >= days_of_year(year) {
        left -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while left >= days_of_month(year, month) {
        left -= days_of_month(year, month);
        month += 1;
    }
    (year, month, left + 1)
}

/// Days from 1970-01-01 to a date that exists; none to one that does not.
fn days_to(year: u64, month: u64, day: u64) -> Option<u64> {
    let exists = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day);
    let years: u64 = (1970..year).map(days_of_year).sum();
    let months: u64 = (1..month).map(|m| days_of_month(year, m)).sum();
    exists.then_some(years + months + day - 1)
}

impl FromStr for UnixMillis {
    type Err = InvalidId;
    /// Reads what [`UnixMillis::rfc3339`] writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let field = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let parse = || {
            let days = days_to(field(0, 4)?, field(5, 7)?, field(8, 10)?)?;
            let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
            let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
            let time = Self(seconds * 1000 + field(20, 23)?);
            // Signs, other separators and hours that do not exist do not come out as they went in.
            (time.rfc3339() == text).then_some(time)
        };
        parse().ok_or_else(|| InvalidId::new("time", text, "write it in UTC, as in 2026-11-21T07:28:34.123Z"))
    }
}
impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.rfc3339())
    }
}
/// Reads also the bare number of milliseconds that documents held before: some of them are on disks.
impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Time;
        impl Visitor<'_> for Time {
            type Value = UnixMillis;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time in UTC, as in 2026-11-21T07:28:34.123Z")
            }
            fn visit_u64<E: serde::de::Error>(self, millis: u64) -> Result<UnixMillis, E> {
                Ok(UnixMillis(millis))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<UnixMillis, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Time)
    }
}
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a shell gets wall-clock time from; decisions take the time as an argument instead.
pub trait Clock: Send + Sync {
    /// The wall clock now; it may jump either way.
    fn now(&self) -> UnixMillis;
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis::default().plus(since_epoch)
    }
}

/// A clock that moves only when a test says so.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Starts at `now`.
    pub fn new(now: UnixMillis) -> Self {
        Self(AtomicU64::new(now.0))
    }
    /// Sets the time, forward or back.
    pub fn set(&self, now: UnixMillis) {
        self.0.store(now.0, Ordering::SeqCst);
    }
    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }
}
impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}
