//! The client-side door: how long a lease still holds, and "run this within it" (design.md L4, L5).
//!
//! Time is CLOCK_BOOTTIME, which also runs while the machine sleeps; the wall clock is never read. Events and desired
//! state grant nothing: holding begins with the first renewal that was answered for this incarnation, counted from
//! the moment at which it was *sent*.
//! Invariant: what [`Lease::left`] promises is over before the leader may count the lease as lapsed, as long as the
//! two clocks run apart by less than a tenth.

use std::{future::Future, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use types::{
    FencingToken,
    reason::{Category, Reason, Refusal},
    role::DRIFT_DIVISOR,
};

use crate::calls::{Client, Renewal};

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
        let held = renewal.ttl - renewal.ttl / DRIFT_DIVISOR;
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

/// How the holder stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No renewal was answered yet, or the lease ran out and was not taken away: it may come back (L9).
    NotHeld,
    /// Holds until the lease's end.
    Held(Lease),
    /// Taken away for good: another epoch rules.
    Lost(Refusal),
}

/// Why guarded work did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The lease is not held, or too little of it is left for new work. Nothing was begun.
    #[error("lease of {role} is not held; nothing was begun")]
    NotHeld {
        /// The role.
        role: String,
    },
    /// The work was stopped at its deadline; it may have had effects, which the doors judge by its token.
    #[error("work under {role} was stopped after {after:?}, before its lease ended; its effects are unknown")]
    Stopped {
        /// The role.
        role: String,
        /// How long it ran.
        after: Duration,
    },
}

/// One unbroken holding of one role under one token. It ends when the role is taken away, when a lease is not renewed
/// in time, or when its [`Renewals`] are released; a holder whose lease merely ran out holds again with a new guard
/// under the same token (L9). Clones share the standing.
#[derive(Clone, Debug)]
pub struct RoleGuard {
    token: FencingToken,
    standing: watch::Receiver<Standing>,
    lost: CancellationToken,
}

/// The owner of the renewals of a [`RoleGuard`].
#[derive(Debug)]
pub struct Renewals {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Renewals {
    /// Stops renewing and waits for the task. The lease then runs out by itself.
    pub async fn release(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the renewal task panicked");
        }
    }
}

impl Drop for Renewals {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl RoleGuard {
    /// Begins to hold `token`; the first renewal is sent at once, every further one after what the leader asks for.
    /// `first_interval` spaces the attempts until a renewal was answered.
    pub fn hold(client: Client, token: FencingToken, first_interval: Duration) -> (Self, Renewals) {
        let (sender, standing) = watch::channel(Standing::NotHeld);
        let stop = CancellationToken::new();
        let lost = CancellationToken::new();
        let keeper = Keeper {
            client,
            token: token.clone(),
            standing: sender,
            lost: lost.clone(),
            interval: first_interval,
            stop: stop.clone(),
        };
        let task = tokio::spawn(keeper.run());
        (
            Self {
                token,
                standing,
                lost,
            },
            Renewals { stop, task },
        )
    }

    /// The token under which guarded work runs.
    pub fn token(&self) -> &FencingToken {
        &self.token
    }

    /// How the holder stands at this moment.
    pub fn standing(&self) -> Standing {
        let standing = self.standing.borrow().clone();
        match standing {
            Standing::Held(lease) if lease.left(BootInstant::now()).is_zero() => Standing::NotHeld,
            other => other,
        }
    }

    /// What is left of the lease; zero when it is not held.
    pub fn left(&self) -> Duration {
        match self.standing() {
            Standing::Held(lease) => lease.left(BootInstant::now()),
            Standing::NotHeld | Standing::Lost(_) => Duration::ZERO,
        }
    }

    /// Waits until the lease is held; an error if the role was taken away.
    pub async fn held(&self) -> Result<(), Refusal> {
        let mut standing = self.standing.clone();
        loop {
            match standing.borrow_and_update().clone() {
                Standing::Held(lease) if !lease.left_for_work(BootInstant::now()).is_zero() => return Ok(()),
                Standing::Lost(refusal) => return Err(refusal),
                Standing::Held(_) | Standing::NotHeld => {}
            }
            if standing.changed().await.is_err() {
                return Err(Refusal::new(
                    Reason::LeaseLost,
                    format!("renewals of {} were stopped", self.token.role),
                ));
            }
        }
    }

    /// Fires when the holding ends: the role was taken away, the renewals were released, or the lease was not renewed
    /// and a drain margin of it is left. Whoever acts under it must stop now.
    pub fn on_lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Runs `work` with a deadline within the rest of the lease (L5), at most `limit`. The work is dropped at the
    /// deadline, and its result does not count if the lease was over when it came.
    pub async fn run<T, F>(&self, limit: Duration, work: impl FnOnce(Duration) -> F) -> Result<T, GuardError>
    where
        F: Future<Output = T>,
    {
        let role = || self.token.role.to_string();
        let begun = BootInstant::now();
        let Standing::Held(lease) = self.standing() else {
            return Err(GuardError::NotHeld { role: role() });
        };
        let budget = lease.left_for_work(begun).min(limit);
        if budget.is_zero() {
            return Err(GuardError::NotHeld { role: role() });
        }
        let stopped = |now: BootInstant| GuardError::Stopped {
            role: role(),
            after: now.since(begun),
        };
        let result = timeout(budget, work(budget)).await;
        let now = BootInstant::now();
        match result {
            // Tokio's timer stands still while the machine sleeps; BOOTTIME does not.
            Ok(value) if now.since(begun) <= budget || !self.left().is_zero() => Ok(value),
            Ok(_) | Err(_) => Err(stopped(now)),
        }
    }
}

/// The renewal loop.
struct Keeper {
    client: Client,
    token: FencingToken,
    standing: watch::Sender<Standing>,
    lost: CancellationToken,
    interval: Duration,
    stop: CancellationToken,
}

impl Keeper {
    async fn run(mut self) {
        let mut lease: Option<Lease> = None;
        loop {
            let sent = BootInstant::now();
            let client = self.client.with_deadline(self.attempt_limit(lease, sent));
            let answer = tokio::select! {
                () = self.stop.cancelled() => break,
                answer = client.renew_lease(&self.token) => answer,
            };
            match answer {
                Ok(renewal) => {
                    let granted = Lease::granted(sent, renewal).or_later(lease);
                    lease = Some(granted);
                    self.interval = renewal.renew_interval;
                    self.standing.send_replace(Standing::Held(granted));
                }
                Err(refusal) if is_final(&refusal) => {
                    tracing::info!(role = %self.token.role, epoch = %self.token.epoch, "lease taken away: {refusal}");
                    self.standing.send_replace(Standing::Lost(refusal));
                    break;
                }
                Err(refusal) => {
                    tracing::debug!(role = %self.token.role, "renewal failed, will try again: {refusal}");
                }
            }
            if !self.pause(sent, lease).await {
                break;
            }
        }
        self.lost.cancel();
    }

    /// Time for one renewal with its retries: no longer than the lease has left, and long enough to be worth sending.
    fn attempt_limit(&self, lease: Option<Lease>, now: BootInstant) -> Duration {
        let left = lease.map_or(Duration::MAX, |l| l.left_for_work(now));
        left.min(self.interval.saturating_mul(2))
            .max(Duration::from_millis(100))
    }

    /// Waits for the next renewal's time, watching the lease's end. False: stop.
    async fn pause(&self, sent: BootInstant, lease: Option<Lease>) -> bool {
        // Short naps, each followed by a look at BOOTTIME: a timer alone would sleep through a suspend.
        let nap = Duration::from_millis(50);
        loop {
            let now = BootInstant::now();
            if lease.is_some_and(|l| l.left_for_work(now).is_zero()) {
                tracing::warn!(role = %self.token.role, epoch = %self.token.epoch, "lease not renewed in time");
                self.standing.send_replace(Standing::NotHeld);
                return false;
            }
            let due = sent.plus(self.interval);
            let left = due.since(now);
            if left.is_zero() {
                return !self.stop.is_cancelled();
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = sleep(left.min(nap)) => {}
            }
        }
    }
}

/// Whether a refused renewal means that this token will never hold again.
fn is_final(refusal: &Refusal) -> bool {
    matches!(
        refusal.reason,
        Reason::StaleEpoch
            | Reason::WrongHolder
            | Reason::WrongCluster
            | Reason::RoleNotFound
            | Reason::PermissionDenied
    ) && !matches!(
        refusal.reason.category(),
        Category::Unavailable | Category::Unknown
    )
}
