//! When a holder asks again, for how long, and when its holding is over (design.md L4, L5). Pure: the time is handed in, and the
//! simulation of leases holds by the same rule.

use std::time::Duration;

use proto::convert::{MEANT, status::UNKNOWN_REASON};
use types::reason::{Reason, Refusal};

use super::{BootInstant, Lease};
use crate::calls::Renewal;

/// Longest time between two looks at the clock: a timer alone would sleep through a suspend.
pub(super) const NAP: Duration = Duration::from_millis(50);
/// Time for a renewal while nothing is held yet: nothing is lost by waiting, and the first call has a connection to make
/// and a leader to find, maybe on another continent.
pub(super) const FIRST_LIMIT: Duration = Duration::from_secs(3);
/// Coordinators that one renewal leaves time for, so that a silent one does not eat it all.
const COORDINATORS_ASKED: u32 = 3;
/// Longest time after a renewal that failed until the next one is sent: whoever refused may be back long before the lease
/// is over.
const AGAIN: Duration = Duration::from_millis(500);
/// Shortest time that a renewal needs, if the lease leaves that much.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// What the loop knows between two renewals. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// What was granted last.
    pub lease: Option<Lease>,
    /// How often to renew.
    pub interval: Duration,
    /// Time for a renewal until one was answered.
    pub first_limit: Duration,
    /// The last one failed.
    pub missed: bool,
    /// When the last renewal was sent: what its answer grants counts from there (L4).
    pub sent: BootInstant,
    /// From the sending of the last one that was granted to its answer.
    pub answered_in: Duration,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Another renewal.
    Renewal,
    /// Nothing, for this long.
    Nothing(Duration),
    /// The end: nothing of the lease is left for work.
    End,
}

impl Course {
    /// Before the first renewal.
    pub fn new(interval: Duration, first_limit: Duration) -> Self {
        Self {
            lease: None,
            interval,
            first_limit,
            missed: false,
            sent: BootInstant::from_boot(Duration::ZERO),
            answered_in: Duration::ZERO,
        }
    }

    /// A renewal is sent now; the time that it has, with its retries.
    pub fn send(&mut self, now: BootInstant) -> Duration {
        self.sent = now;
        self.attempt_limit(now)
    }

    /// Takes in that a renewal failed. One that nobody answered in time may have been given too little of it.
    pub fn failed(&mut self, refusal: &Refusal) {
        self.missed = true;
        if refusal.reason != Reason::RoleChanging {
            self.first_limit = (self.first_limit * 2).min(FIRST_LIMIT.max(self.first_limit));
        }
    }

    /// Takes in when the renewal that was sent last was answered: the next ones will take about as long.
    pub fn answered(&mut self, now: BootInstant) {
        self.answered_in = now.since(self.sent);
    }

    /// Takes in the answer to the renewal that was sent last.
    pub fn granted(&mut self, renewal: Renewal) -> Lease {
        let lease = Lease::granted(self.sent, renewal).or_later(self.lease);
        self.lease = Some(lease);
        self.interval = renewal.renew_interval;
        self.missed = false;
        lease
    }

    /// Time for one renewal with its retries: no longer than the lease leaves for work, because the holding ends then.
    /// The interval before the first answer spaces attempts and says nothing of how long one takes.
    pub fn attempt_limit(&self, now: BootInstant) -> Duration {
        let Some(lease) = self.lease else {
            return self.first_limit;
        };
        let left = lease.left_for_work(now);
        left.min(self.interval.saturating_mul(2).max(ATTEMPT_MIN))
    }

    /// How much of a renewal's time one silent coordinator may take. The first call has more to do than the later ones; and a
    /// leader that is far away is not silent because its answers take as long as they always do.
    pub fn coordinator_limit(&self, limit: Duration) -> Duration {
        let share = limit / COORDINATORS_ASKED;
        match self.lease {
            Some(_) => share.max(limit.min(self.answered_in * 2)),
            None => share.max(limit.min(FIRST_LIMIT / COORDINATORS_ASKED)),
        }
    }

    /// What is due at `now`.
    pub fn due(&self, now: BootInstant) -> Due {
        if self.lease.is_some_and(|l| l.left_for_work(now).is_zero()) {
            return Due::End;
        }
        let pace = match self.missed {
            true => self.interval.min(AGAIN),
            false => self.interval,
        };
        match self.sent.plus(pace).since(now) {
            Duration::ZERO => Due::Renewal,
            left => Due::Nothing(left.min(NAP)),
        }
    }
}

/// Whether a refused renewal means that this token will never hold again. A coordinator of another cluster than the one that was
/// asked for has nothing to say of it, and what a later version means by a reason that is not known here is not known either.
pub fn is_final(refusal: &Refusal) -> bool {
    refusal.operand(MEANT).is_none()
        && refusal.operand(UNKNOWN_REASON).is_none()
        && matches!(
            refusal.reason,
            Reason::StaleEpoch
                | Reason::WrongHolder
                | Reason::WrongCluster
                | Reason::RoleNotFound
                | Reason::PermissionDenied
        )
}
