//! The policies under which a primary is killed, and how soon the next one must have written. Pure.

use std::time::Duration;

use clap::ValueEnum;
use types::role::TimingPolicy;

/// How a primary's absence becomes a promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// The named policy: absent for 3 s.
    Fast,
    /// Probes 3 times 0.5 s, and a lease of 1.5 s.
    Quick,
}

impl Policy {
    /// The name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Quick => "quick",
        }
    }

    /// What the cluster and the role are told.
    pub(super) fn timing(self) -> TimingPolicy {
        match self {
            Self::Fast => TimingPolicy::fast(),
            Self::Quick => TimingPolicy {
                name: "quick".to_owned(),
                heartbeat_interval: Duration::from_millis(300),
                probe_interval: Duration::from_millis(500),
                probe_failures: 3,
                promotion_absence: Duration::from_millis(1500),
                lease_ttl: Duration::from_millis(1500),
                renew_interval: Duration::from_millis(400),
                drain_margin: Duration::from_millis(200),
            },
        }
    }

    /// How long after the kill the next holder's first write may be accepted. Between regions that are far apart a few round
    /// trips and an election's caution come on top, whatever the policy.
    pub(super) fn limit(self, far: bool) -> Duration {
        match (self, far) {
            (_, true) => Duration::from_secs(8),
            (Self::Fast, false) => Duration::from_secs(5),
            (Self::Quick, false) => Duration::from_secs(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_one_that_a_cluster_takes() {
        for policy in [Policy::Fast, Policy::Quick] {
            policy.timing().validate().unwrap();
            assert_eq!(policy.timing().name, policy.as_str());
            assert!(policy.limit(true) > policy.limit(false));
            assert!(policy.limit(false) > policy.timing().promotion_absence);
        }
    }
}
