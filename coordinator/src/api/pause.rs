//! How long a pause may be asked for: where the wish comes in, because `apply` takes what older logs hold.

use proto::convert::invalid;
use types::{UnixMillis, reason::Refusal, role::FailoverMode};

/// That a pause ends within [`FailoverMode::PAUSE_MAX`]; who asks may have a clock that is ahead by as much as request ids may be.
pub(super) fn check(mode: FailoverMode, now: UnixMillis) -> Result<FailoverMode, Refusal> {
    match mode {
        FailoverMode::Paused { until }
            if until.since(now) > FailoverMode::PAUSE_MAX + state::requests::REQUEST_AHEAD_MAX =>
        {
            let days = FailoverMode::PAUSE_MAX.as_secs() / (24 * 3600);
            let problem = format!(
                "is {}; a pause lasts {days} days at most, and it is {} here: ask again before it ends",
                until.rfc3339(),
                now.rfc3339()
            );
            Err(invalid("paused_until_millis", problem))
        }
        FailoverMode::Paused { .. } | FailoverMode::Automatic | FailoverMode::Manual => Ok(mode),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use types::Reason;

    use super::*;

    #[test]
    fn a_pause_ends_within_seven_days_or_is_not_begun() {
        let now = UnixMillis(1_800_000_000_000);
        let until = |by: Duration| FailoverMode::Paused { until: now.plus(by) };
        let days = |n: u64| Duration::from_secs(n * 24 * 3600);
        let minute = Duration::from_secs(60);
        for (mode, taken) in [
            (FailoverMode::Automatic, true),
            (FailoverMode::Manual, true),
            (until(Duration::ZERO), true),
            (until(days(7)), true),
            (until(days(7) + minute), true),
            (until(days(7) + minute + Duration::from_millis(1)), false),
            (until(days(4_166)), false),
            (
                FailoverMode::Paused {
                    until: UnixMillis(u64::MAX),
                },
                false,
            ),
            // It is over already.
            (
                FailoverMode::Paused {
                    until: UnixMillis::default(),
                },
                true,
            ),
        ] {
            let said = check(mode, now);
            assert_eq!(said.is_ok(), taken, "{mode:?}");
            if let Err(refusal) = said {
                assert_eq!(refusal.reason, Reason::InvalidArgument);
                assert!(refusal.message.contains("7 days at most"), "{refusal}");
            }
        }
    }
}
