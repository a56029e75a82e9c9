//! The client-side door: how long a lease still holds, and "run this within it" (design.md L4, L5).
//!
//! Time is CLOCK_BOOTTIME, which also runs while the machine sleeps; the wall clock is never read. Events and desired
//! state grant nothing: holding begins with the first renewal that was answered for this incarnation, counted from
//! the moment at which it was *sent*.
//! Invariant: what [`Lease::left`] promises is over before the leader may count the lease as lapsed, as long as the
//! two clocks run apart by less than a tenth.

mod course;
mod keeper;
mod lease;
#[cfg(test)]
mod tests;

use std::{future::Future, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use types::{
    FencingToken,
    reason::{Reason, Refusal},
};

pub use course::{Course, Due, is_final};
use course::{FIRST_LIMIT, NAP};
use keeper::{First, Keeper, Renew};
pub use lease::{BootInstant, Lease};

use crate::calls::Client;

/// Where a guard reads the time; tests hand in another one.
type Clock = fn() -> BootInstant;

/// Waits until nothing is left by this clock, and believes no timer: one stands still while the machine sleeps.
async fn none_left(clock: Clock, left: impl Fn(BootInstant) -> Duration) {
    loop {
        match left(clock()) {
            Duration::ZERO => return,
            left => sleep(left.min(NAP)).await,
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
    clock: Clock,
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
        let course = Course::new(first_interval, FIRST_LIMIT);
        Self::hold_by(client, BootInstant::now, token, course, First::Alone)
    }

    /// As [`Self::hold`], where the first renewal has `first_limit`, and the ones after it more where nobody answered in
    /// time. For a role that is about to be given to the caller: the leader keeps the request until it is, and the lease
    /// counts from its sending. So that one is always kept there, the next is sent at half of the time that one coordinator has for the one before.
    pub fn hold_within(
        client: Client,
        token: FencingToken,
        first_interval: Duration,
        first_limit: Duration,
    ) -> (Self, Renewals) {
        let course = Course::new(first_interval, first_limit);
        Self::hold_by(client, BootInstant::now, token, course, First::Relayed)
    }

    fn hold_by<R: Renew>(
        renew: R,
        clock: Clock,
        token: FencingToken,
        course: Course,
        first: First,
    ) -> (Self, Renewals) {
        let (sender, standing) = watch::channel(Standing::NotHeld);
        let (stop, lost) = (CancellationToken::new(), CancellationToken::new());
        let keeper = Keeper {
            renew,
            clock,
            token: token.clone(),
            standing: sender,
            lost: lost.clone(),
            course,
            first,
            stop: stop.clone(),
        };
        let task = tokio::spawn(keeper.run());
        let guard = Self {
            token,
            standing,
            lost,
            clock,
        };
        (guard, Renewals { stop, task })
    }

    /// The token under which guarded work runs.
    pub fn token(&self) -> &FencingToken {
        &self.token
    }

    /// How the holder stands at this moment.
    pub fn standing(&self) -> Standing {
        let standing = self.standing.borrow().clone();
        match standing {
            Standing::Held(lease) if lease.left((self.clock)()).is_zero() => Standing::NotHeld,
            other => other,
        }
    }

    /// What is left of the lease; zero when it is not held.
    pub fn left(&self) -> Duration {
        match self.standing() {
            Standing::Held(lease) => lease.left((self.clock)()),
            Standing::NotHeld | Standing::Lost(_) => Duration::ZERO,
        }
    }

    /// Waits until the lease is held; an error once the holding has ended.
    pub async fn held(&self) -> Result<(), Refusal> {
        let mut standing = self.standing.clone();
        loop {
            match standing.borrow_and_update().clone() {
                Standing::Held(_) if self.lost.is_cancelled() => return Err(self.ended()),
                Standing::Held(lease) if !lease.left_for_work((self.clock)()).is_zero() => return Ok(()),
                Standing::Lost(refusal) => return Err(refusal),
                Standing::Held(_) | Standing::NotHeld => {}
            }
            if standing.changed().await.is_err() {
                return Err(self.ended());
            }
        }
    }

    fn ended(&self) -> Refusal {
        Refusal::new(
            Reason::LeaseLost,
            format!("renewals of {} were stopped", self.token.role),
        )
    }

    /// Fires when the holding ends: the role was taken away, the renewals were released, or the lease was not renewed
    /// and a drain margin of it is left. Whoever acts under it must stop now.
    pub fn on_lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Runs `work` with a deadline within the rest of the lease (L5), at most `limit`. The work is dropped at the
    /// deadline, and its result does not count if the lease was over when it came. Nothing is begun once [`Self::on_lost`] has
    /// fired, whatever is left of the lease.
    pub async fn run<T, F>(&self, limit: Duration, work: impl FnOnce(Duration) -> F) -> Result<T, GuardError>
    where
        F: Future<Output = T>,
    {
        let role = || self.token.role.to_string();
        let begun = (self.clock)();
        let Standing::Held(lease) = self.standing() else {
            return Err(GuardError::NotHeld { role: role() });
        };
        if self.lost.is_cancelled() {
            return Err(GuardError::NotHeld { role: role() });
        }
        let budget = lease.left_for_work(begun).min(limit);
        if budget.is_zero() {
            return Err(GuardError::NotHeld { role: role() });
        }
        let stopped = |now: BootInstant| GuardError::Stopped {
            role: role(),
            after: now.since(begun),
        };
        let ended = none_left(self.clock, |now| budget.saturating_sub(now.since(begun)));
        let result = tokio::select! {
            biased;
            value = work(budget) => Some(value),
            () = ended => None,
            () = sleep(budget) => None,
        };
        let now = (self.clock)();
        match result {
            // It may have come while the machine slept, and be looked at only now.
            Some(value) if now.since(begun) <= budget || !self.left().is_zero() => Ok(value),
            Some(_) | None => Err(stopped(now)),
        }
    }
}
