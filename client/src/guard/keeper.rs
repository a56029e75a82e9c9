//! The renewal loop.
//!
//! Absent on purpose: the rule that it follows ([`super::course`]), the wall clock, and timers that are believed: one that
//! slept through a suspend is checked against CLOCK_BOOTTIME before anything follows from it.

use std::{future::Future, time::Duration};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use types::{FencingToken, reason::Refusal};

use super::{
    Clock, Standing,
    course::{Course, Due, is_final},
};
use crate::calls::{Client, Renewal};

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
            let limit = self.course.send((self.clock)());
            let each = self.course.coordinator_limit(limit);
            let answer = tokio::select! {
                () = self.stop.cancelled() => break,
                answer = self.renew.renew(&self.token, limit, each) => answer,
            };
            if !self.take_in(answer) || !self.pause().await {
                break;
            }
        }
        self.lost.cancel();
    }

    /// False: the role was taken away.
    fn take_in(&mut self, answer: Result<Renewal, Refusal>) -> bool {
        match answer {
            Ok(renewal) => {
                self.course.answered((self.clock)());
                let lease = self.course.granted(renewal);
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
    async fn pause(&self) -> bool {
        loop {
            let nap = match self.course.due((self.clock)()) {
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
