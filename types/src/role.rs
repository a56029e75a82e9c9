//! Primary roles: who may write, under which epoch, and by which policy that changes (design.md L1).

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    epoch::{Epoch, Holder},
    ids::{PlanId, RegionId, RoleName},
    revision::Revision,
    time::UnixMillis,
    units::duration_text,
};

/// Share by which clocks may run apart within one TTL, as a divisor: 10 means a tenth (design.md L4, `drift ≥ 0.10`).
pub const DRIFT_DIVISOR: u32 = 10;

/// How soon an absence becomes a promotion, and what keeps a lease alive. Named sets: design.md section 8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingPolicy {
    /// `fast`, `default`, `conservative`, or a name of the operator's own.
    pub name: String,
    /// How often an agent speaks in its session.
    #[serde(with = "duration_text")]
    pub heartbeat_interval: Duration,
    /// How often an agent probes the agents of the other regions.
    #[serde(with = "duration_text")]
    pub probe_interval: Duration,
    /// Probes in a row that must fail before one vantage calls a region unreachable.
    pub probe_failures: u32,
    /// How long a holder must be absent before another is promoted; counted anew from an election.
    #[serde(with = "duration_text")]
    pub promotion_absence: Duration,
    /// How long a lease holds, by the holder's reckoning less the drift (L4).
    #[serde(with = "duration_text")]
    pub lease_ttl: Duration,
    /// How often a holder renews.
    #[serde(with = "duration_text")]
    pub renew_interval: Duration,
    /// How long before the lease's end `on_lost` fires, so that work in hand can stop (L5).
    #[serde(with = "duration_text")]
    pub drain_margin: Duration,
}

impl TimingPolicy {
    /// For demos and tests on one machine: promotion after 3 s.
    pub fn fast() -> Self {
        Self {
            name: "fast".to_owned(),
            heartbeat_interval: Duration::from_millis(300),
            probe_interval: Duration::from_secs(1),
            probe_failures: 3,
            promotion_absence: Duration::from_secs(3),
            lease_ttl: Duration::from_secs(2),
            renew_interval: Duration::from_millis(500),
            drain_margin: Duration::from_millis(200),
        }
    }

    /// For production: a 43-second cut changes no epoch; promotion after 75 s.
    pub fn standard() -> Self {
        Self {
            name: "default".to_owned(),
            heartbeat_interval: Duration::from_secs(5),
            probe_interval: Duration::from_secs(5),
            probe_failures: 3,
            promotion_absence: Duration::from_secs(75),
            lease_ttl: Duration::from_secs(15),
            renew_interval: Duration::from_secs(5),
            drain_margin: Duration::from_secs(2),
        }
    }

    /// For links that flap: promotion after 180 s.
    pub fn conservative() -> Self {
        Self {
            name: "conservative".to_owned(),
            heartbeat_interval: Duration::from_secs(5),
            probe_interval: Duration::from_secs(30),
            probe_failures: 6,
            promotion_absence: Duration::from_secs(180),
            lease_ttl: Duration::from_secs(30),
            renew_interval: Duration::from_secs(10),
            drain_margin: Duration::from_secs(5),
        }
    }

    /// The named set, or none.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "fast" => Some(Self::fast()),
            "default" => Some(Self::standard()),
            "conservative" => Some(Self::conservative()),
            _ => None,
        }
    }

    /// Checks each value and the relations between them; the error is a sentence that names both.
    pub fn validate(&self) -> Result<(), String> {
        let min = Duration::from_millis(50);
        let max = Duration::from_secs(3600);
        let values = [
            ("heartbeat_interval", self.heartbeat_interval),
            ("probe_interval", self.probe_interval),
            ("promotion_absence", self.promotion_absence),
            ("lease_ttl", self.lease_ttl),
            ("renew_interval", self.renew_interval),
            ("drain_margin", self.drain_margin),
        ];
        if let Some((name, value)) = values.iter().find(|(_, v)| *v < min || *v > max) {
            return Err(format!(
                "{name} is {value:?}, and must be between {min:?} and {max:?}"
            ));
        }
        if self.probe_failures == 0 || self.probe_failures > 100 {
            return Err(format!(
                "probe_failures is {}, and must be between 1 and 100",
                self.probe_failures
            ));
        }
        let held = self.lease_ttl - self.lease_ttl / DRIFT_DIVISOR;
        if self.renew_interval * 2 + self.drain_margin > held {
            return Err(format!(
                "two renew_interval ({:?} each) and drain_margin ({:?}) must fit into lease_ttl less a tenth ({held:?})",
                self.renew_interval, self.drain_margin
            ));
        }
        if self.promotion_absence < self.heartbeat_interval * 2 {
            return Err(format!(
                "promotion_absence ({:?}) must be at least two heartbeat_interval ({:?} each)",
                self.promotion_absence, self.heartbeat_interval
            ));
        }
        Ok(())
    }
}

/// Whether failovers of a role run by themselves. In documents, `mode` and, while paused, `paused_until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailoverMode {
    /// The leader starts and runs plans by itself.
    Automatic,
    /// Plans are started by a person only.
    Manual,
    /// Nothing automatic until this state time; automatic again after it.
    Paused {
        /// State time at which the pause ends by itself.
        #[serde(rename = "paused_until")]
        until: UnixMillis,
    },
}

impl FailoverMode {
    /// Longest pause: one that is forgotten must end while somebody still knows of it. It can be asked for again.
    pub const PAUSE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
}

impl fmt::Display for FailoverMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Automatic => f.write_str("AUTOMATIC"),
            Self::Manual => f.write_str("MANUAL"),
            Self::Paused { until } => write!(f, "PAUSED until {}", until.rfc3339()),
        }
    }
}

/// A promotion that a fence entry has reserved: the plan's target claims doors under this epoch before it is
/// promoted, and nobody else ever gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The plan that reserved it.
    pub plan: PlanId,
    /// Who will hold it.
    pub target: Holder,
    /// The epoch that promotion will commit; one above the role's current one.
    pub epoch: Epoch,
}

/// A primary role (L1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRecord {
    /// `primaries/global`, or one per database, bucket, model family.
    pub role: RoleName,
    /// The fencing epoch; grows with every change of holder, also to nobody (I4).
    pub epoch: Epoch,
    /// Who may act under `epoch`; nobody while fenced or empty.
    pub holder: Option<Holder>,
    /// The next epoch, promised to a plan's target.
    pub reservation: Option<Reservation>,
    /// Regions that may hold it, most wanted first.
    pub candidates: Vec<RegionId>,
    /// Whether failovers run by themselves.
    #[serde(flatten)]
    pub mode: FailoverMode,
    /// Its timings.
    pub timing: TimingPolicy,
    /// The largest TTL that may still be outstanding, also from before a change of `timing` (L8).
    #[serde(with = "duration_text")]
    pub outstanding_ttl: Duration,
    /// State time of the last change of holder.
    pub changed_at: UnixMillis,
    /// Why it changed last, for people.
    pub reason: String,
    /// Revision of the last change; its etag.
    pub modified: Revision,
}
