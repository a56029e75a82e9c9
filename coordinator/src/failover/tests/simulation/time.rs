//! True time, the clocks that misread it, and chance.

use std::time::Duration;

use client::guard::BootInstant;
use tokio::time::Instant;

/// Microseconds of true time since the world began. Nobody in it can read them.
pub(super) type At = u64;

pub(super) const MS: At = 1_000;
pub(super) const SECOND: At = 1_000 * MS;

/// A node's clock: it runs up to a tenth too fast or too slow, and began at a time of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Parts per million of true time.
    rate: u64,
    offset: u64,
    base: Instant,
}

impl Clock {
    pub(super) fn new(rng: &mut Rng, base: Instant) -> Self {
        // The ends are where the rules have nothing to spare.
        let rate = match rng.below(4) {
            0 => 900_000,
            1 => 1_100_000,
            _ => 900_000 + rng.below(200_001),
        };
        let offset = 3_600 * SECOND + rng.below(3_600 * SECOND);
        Self { rate, offset, base }
    }

    fn read(&self, now: At) -> u64 {
        self.offset + now * self.rate / 1_000_000
    }
    /// A coordinator's monotonic clock.
    pub(super) fn instant(&self, now: At) -> Instant {
        self.base + Duration::from_micros(self.read(now))
    }
    /// A holder's CLOCK_BOOTTIME.
    pub(super) fn boot(&self, now: At) -> BootInstant {
        BootInstant::from_boot(Duration::from_micros(self.read(now)))
    }
    /// For how long of true time this clock needs to move on by `duration`, at least.
    pub(super) fn lasts(&self, duration: Duration) -> At {
        (micros(duration) * 1_000_000).div_ceil(self.rate)
    }
    /// The machine was suspended for so long: a monotonic clock stood still.
    pub(super) fn stand_still(&mut self, time: At) {
        self.offset -= time * self.rate / 1_000_000;
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

/// SplitMix64: the same numbers from the same seed, whatever crate is upgraded.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5EED)
    }
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }
    /// An index into what has so many.
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
    /// Happens so many times in a thousand.
    pub(super) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }
}
