//! The clock of a recorded run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds since 1970 by this machine's wall clock; all processes of a run share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Micros(pub(crate) u64);

impl Micros {
    /// The wall clock now.
    pub(crate) fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX))
    }
    /// Seconds from `earlier` to this; zero if it is not after it.
    pub(crate) fn seconds_since(self, earlier: Self) -> f64 {
        Duration::from_micros(self.0.saturating_sub(earlier.0)).as_secs_f64()
    }
    /// This time and `micros` more.
    pub(crate) fn plus(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}
