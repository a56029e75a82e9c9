//! How fast the coordinators' log beats: the interval of heartbeats and how long silence lasts before a campaign.
//!
//! Absent on purpose: how it follows from distances (`policy::timing`), and role leases, which count by their own TTLs.
//! Invariant: an [`ElectionTiming`] in the log has passed [`ElectionTiming::validate`].

use std::time::Duration;

use crate::{ids::RegionId, units::format_duration};

/// Heartbeats and elections of the coordinators. Across a WAN: heartbeat at least twice the worst round trip between voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ElectionTiming {
    /// Interval of the leader's heartbeats; also the time a peer has to answer one. Default 50 ms: loopback.
    pub heartbeat: Duration,
    /// Least time without a leader before a campaign. Default 250 ms; at least three heartbeats.
    pub election_min: Duration,
    /// Longest such time, and how long a leader without its quorum goes on. Default 400 ms: a failover takes this plus one
    /// draw.
    pub election_max: Duration,
}

impl Default for ElectionTiming {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(400),
        }
    }
}

impl ElectionTiming {
    /// Checks each value and the relations between them; the error is a sentence that names both.
    pub fn validate(&self) -> Result<(), String> {
        let [heartbeat, min, max] = [self.heartbeat, self.election_min, self.election_max];
        if [heartbeat, min, max]
            .iter()
            .any(|d| d.subsec_nanos() % 1_000_000 != 0)
        {
            return Err("election timings must be whole milliseconds".to_owned());
        }
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(10));
        if heartbeat < least || heartbeat > most {
            let (least, most) = (format_duration(least), format_duration(most));
            return Err(format!(
                "the heartbeat is {}, and must be between {least} and {most}",
                format_duration(heartbeat)
            ));
        }
        if min < heartbeat * 3 {
            return Err(format!(
                "the least election timeout is {}, and three heartbeats of {} are {}",
                format_duration(min),
                format_duration(heartbeat),
                format_duration(heartbeat * 3)
            ));
        }
        let most = Duration::from_secs(60);
        if max <= min || max > most {
            return Err(format!(
                "the longest election timeout is {}, and must be above the least one of {}, and {} at most",
                format_duration(max),
                format_duration(min),
                format_duration(most)
            ));
        }
        Ok(())
    }
}

impl std::fmt::Display for ElectionTiming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "heartbeat {}, election {} to {}",
            format_duration(self.heartbeat),
            format_duration(self.election_min),
            format_duration(self.election_max)
        )
    }
}

/// What the log says of the coordinators' elections. Empty before feature level 2: then each goes by its own start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElectionSettings {
    /// The timing of all coordinators.
    pub timing: Option<TimingSetting>,
    /// Regions whose coordinators should lead, most wanted first; none: whoever was elected leads on.
    pub preferred: Vec<RegionId>,
}

/// The one timing of all coordinators, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimingSetting {
    /// The values.
    pub timing: ElectionTiming,
    /// The leader derives it from measured round trips and changes it with them; otherwise a person fixed it.
    pub derived: bool,
    /// What led to it, for people.
    pub reason: String,
}
