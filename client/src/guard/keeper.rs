//! The renewal loop, and the rule that it follows: when to ask again, for how long, and when it is over.
//!
//! Absent on purpose: the wall clock, and timers that are believed: one that slept through a suspend is checked against
//! CLOCK_BOOTTIME before anything follows from it.

use std::{future::Future, time::Duration};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use types::{
    FencingToken,
    reason::{Reason, Refusal},
};

use super::{BootInstant, Clock, Lease, Standing};
use crate::calls::{Client, Renewal};

/// Longest time between two looks at the clock: a timer alone would sleep through a suspend.
const NAP: Duration = Duration::from_millis(50);
/// Time for a renewal while nothing is held yet: nothing is lost by waiting, and the first call has a connection to make
/// and a leader to find, maybe on another continent.
pub(super) const FIRST_LIMIT: Duration = Duration::from_secs(3);
/// Coordinators that one renewal leaves time for, so that a silent one does not eat it all.
const COORDINATORS_ASKED: u32 = 3;
/// Longest time after a renewal that failed until the next one is sent: whoever refused may be back long before the lease
/// is over.
const AGAIN: Duration = Duration::from_millis(500);
/// Shortest time worth sending a renewal for.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// Who answers renewals: the cluster, by a [`Client`].
pub(super) trait Renew: Send + Sync + 'static {
    /// One renewal with its retries, ended after `limit`; a coordinator that is silent for `each` is left for the next.
    fn renew(
        &self,
        token: &FencingToken,
        limit: Duration,
        each: Duration,
    ) -> impl Future<Output = Result<Renewal, Refusal>> + Send;
}

impl Renew for Client {
    async fn renew(&self, token: &FencingToken, limit: Duration, each: Duration) -> Result<Renewal, Refusal> {
        let asked = self.with_deadline(limit);
        let asked = asked.with_attempt_timeout(each.min(self.attempt_timeout()));
        asked.renew_lease(token).await
    }
}

/// What the loop knows between two renewals. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    /// What was granted last.
    pub(super) lease: Option<Lease>,
    /// How often to renew.
    pub(super) interval: Duration,
    /// Time for a renewal until one was answered.
    pub(super) first_limit: Duration,
    /// The last one failed.
    pub(super) missed: bool,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Another renewal.
    Renewal,
    /// Nothing, for this long.
    Nothing(Duration),
    /// The end: nothing of the lease is left for work.
    End,
}

impl Course {
    /// Before the first renewal.
    pub(super) fn new(interval: Duration, first_limit: Duration) -> Self {
        Self {
            lease: None,
            interval,
            first_limit,
            missed: false,
        }
    }

    /// Takes in that a renewal failed. One that nobody answered in time may have been given too little of it.
    pub(super) fn failed(&mut self, refusal: &Refusal) {
        self.missed = true;
        if refusal.reason != Reason::RoleChanging {
            self.first_limit = (self.first_limit * 2).min(FIRST_LIMIT.max(self.first_limit));
        }
    }

    /// Takes in a renewal that was sent at `sent`.
    pub(super) fn granted(&mut self, sent: BootInstant, renewal: Renewal) -> Lease {
        let lease = Lease::granted(sent, renewal).or_later(self.lease);
        self.lease = Some(lease);
        self.interval = renewal.renew_interval;
        self.missed = false;
        lease
    }

    /// Time for one renewal with its retries: no longer than the lease has left, and long enough to be worth sending.
    /// The interval before the first answer spaces attempts and says nothing of how long one takes.
    pub(super) fn attempt_limit(&self, now: BootInstant) -> Duration {
        let Some(lease) = self.lease else {
            return self.first_limit;
        };
        let left = lease.left_for_work(now);
        left.min(self.interval.saturating_mul(2)).max(ATTEMPT_MIN)
    }

    /// How much of a renewal's time one silent coordinator may take. The first call has more to do than the later ones.
    pub(super) fn coordinator_limit(&self, limit: Duration) -> Duration {
        let share = limit / COORDINATORS_ASKED;
        match self.lease {
            Some(_) => share,
            None => share.max(limit.min(FIRST_LIMIT / COORDINATORS_ASKED)),
        }
    }

    /// What is due at `now`, after a renewal that was sent at `sent`.
    pub(super) fn due(&self, sent: BootInstant, now: BootInstant) -> Due {
        if self.lease.is_some_and(|l| l.left_for_work(now).is_zero()) {
            return Due::End;
        }
        let pace = match self.missed {
            true => self.interval.min(AGAIN),
            false => self.interval,
        };
        match sent.plus(pace).since(now) {
            Duration::ZERO => Due::Renewal,
            left => Due::Nothing(left.min(NAP)),
        }
    }
}

/// The renewal loop.
pub(super) struct Keeper<R> {
    pub(super) renew: R,
    pub(super) clock: Clock,
    pub(super) token: FencingToken,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) lost: CancellationToken,
    pub(super) course: Course,
    pub(super) stop: CancellationToken,
}

impl<R: Renew> Keeper<R> {
    /// Renews until the role is taken away, the lease runs out, or `stop`. `lost` fires at the end of it.
    pub(super) async fn run(mut self) {
        loop {
            let sent = (self.clock)();
            let limit = self.course.attempt_limit(sent);
            let each = self.course.coordinator_limit(limit);
            let answer = tokio::select! {
                () = self.stop.cancelled() => break,
                answer = self.renew.renew(&self.token, limit, each) => answer,
            };
            if !self.take_in(sent, answer) || !self.pause(sent).await {
                break;
            }
        }
        self.lost.cancel();
    }

    /// False: the role was taken away.
    fn take_in(&mut self, sent: BootInstant, answer: Result<Renewal, Refusal>) -> bool {
        match answer {
            Ok(renewal) => {
                let lease = self.course.granted(sent, renewal);
                self.standing.send_replace(Standing::Held(lease));
                true
            }
            Err(refusal) if is_final(&refusal) => {
                tracing::info!(role = %self.token.role, epoch = %self.token.epoch, "lease taken away: {refusal}");
                self.standing.send_replace(Standing::Lost(refusal));
                false
            }
            Err(refusal) => {
                tracing::debug!(role = %self.token.role, "renewal failed, will try again: {refusal}");
                self.course.failed(&refusal);
                true
            }
        }
    }

    /// Waits for the next renewal's time, watching the lease's end. False: it is over.
    async fn pause(&self, sent: BootInstant) -> bool {
        loop {
            let nap = match self.course.due(sent, (self.clock)()) {
                Due::Renewal => return true,
                Due::Nothing(nap) => nap,
                Due::End => {
                    tracing::warn!(role = %self.token.role, epoch = %self.token.epoch, "lease not renewed in time");
                    self.standing.send_replace(Standing::NotHeld);
                    return false;
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = sleep(nap) => {}
            }
        }
    }
}

/// Whether a refused renewal means that this token will never hold again.
pub(super) fn is_final(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason,
        Reason::StaleEpoch
            | Reason::WrongHolder
            | Reason::WrongCluster
            | Reason::RoleNotFound
            | Reason::PermissionDenied
    )
}
