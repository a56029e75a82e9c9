//! The clock of a lease, and a lease as its holder may count on it (design.md L4, L5). Pure but for [`BootInstant::now`].

use std::time::Duration;

use types::{
    planted::{self, Bug},
    role::DRIFT_DIVISOR,
};

use crate::calls::Renewal;

/// A moment on CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Now.
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // The kernel counts it up from 0; a negative value cannot be and reads as the start of time.
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Self(Duration::new(seconds, nanos.min(999_999_999)))
    }
    /// A moment at this distance from boot; for tests and simulation.
    pub const fn from_boot(duration: Duration) -> Self {
        Self(duration)
    }
    /// This moment and `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: BootInstant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A lease as its holder may count on it. Pure: the time is handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    valid_until: BootInstant,
    drain_margin: Duration,
}

impl Lease {
    /// The lease that a renewal sent at `sent` gives: `sent + TTL × (1 − drift)` (L4).
    pub fn granted(sent: BootInstant, renewal: Renewal) -> Self {
        let held = match planted::has(Bug::EndlessLeases) {
            true => Duration::from_secs(3_600),
            false => renewal.ttl - renewal.ttl / DRIFT_DIVISOR,
        };
        Self {
            valid_until: sent.plus(held),
            drain_margin: renewal.drain_margin,
        }
    }
    /// What is left at `now`; zero once it is over.
    pub fn left(&self, now: BootInstant) -> Duration {
        self.valid_until.since(now)
    }
    /// What is left for new work: the drain margin before the end is for stopping (L5).
    pub fn left_for_work(&self, now: BootInstant) -> Duration {
        self.left(now).saturating_sub(self.drain_margin)
    }
    /// The later of two leases: an answer that comes late must not shorten what was granted.
    #[must_use]
    pub fn or_later(self, other: Option<Lease>) -> Self {
        match other {
            Some(other) if other.valid_until > self.valid_until => other,
            _ => self,
        }
    }
}
