//! The renewal loop.
//!
//! Absent on purpose: the rule that it follows ([`super::course`]), the wall clock, and timers that are believed: one that
//! slept through a suspend is checked against CLOCK_BOOTTIME before anything follows from it.

use std::{
    future::{Future, pending},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use types::{FencingToken, reason::Refusal};

use super::{
    BootInstant, Clock, Standing,
    course::{Course, Due, is_final},
    none_left,
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

    /// Longest time that is ever given to one coordinator.
    fn longest_attempt(&self) -> Duration;
}

impl Renew for Client {
    async fn renew(&self, token: &FencingToken, limit: Duration, each: Duration) -> Result<Renewal, Refusal> {
        let asked = self.with_deadline(limit);
        asked.with_attempt_timeout(each).renew_lease(token).await
    }

    fn longest_attempt(&self) -> Duration {
        self.attempt_timeout()
    }
}

/// How a holder asks before anything was granted to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// By one request after the other.
    Alone,
    /// By requests of which the next is on its way before the last one ends: what is waited for may come in between, and from far
    /// away a round trip is lost then.
    Relayed,
}

/// Requests of a relay that are under way at once.
const RELAY: usize = 2;

/// The renewal loop.
pub(super) struct Keeper<R> {
    pub(super) renew: R,
    pub(super) clock: Clock,
    pub(super) token: FencingToken,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) lost: CancellationToken,
    pub(super) course: Course,
    pub(super) first: First,
    pub(super) stop: CancellationToken,
}

impl<R: Renew> Keeper<R> {
    /// Renews until the role is taken away, the lease runs out, or `stop`. `lost` fires at the end of it.
    pub(super) async fn run(mut self) {
        loop {
            let (stop, over) = (self.stop.clone(), self.over());
            let answer = tokio::select! {
                // What was answered before the machine slept is looked at before the clock is.
                biased;
                () = stop.cancelled() => break,
                answer = self.ask() => answer,
                () = over => {
                    self.end();
                    break;
                }
            };
            if !self.take_in(answer) || !self.pause().await {
                break;
            }
        }
        self.lost.cancel();
    }

    /// Waits for the end of what the lease leaves for work: it also comes while a renewal is under way. Never without a lease.
    fn over(&self) -> impl Future<Output = ()> + Send + use<R> {
        let (clock, lease) = (self.clock, self.course.lease);
        async move {
            match lease {
                Some(lease) => none_left(clock, |now| lease.left_for_work(now)).await,
                None => pending().await,
            }
        }
    }

    /// The lease was not renewed in time.
    fn end(&self) {
        tracing::warn!(role = %self.token.role, epoch = %self.token.epoch, "lease not renewed in time");
        self.standing.send_replace(Standing::NotHeld);
    }

    async fn ask(&mut self) -> Result<Renewal, Refusal> {
        let sent = (self.clock)();
        let limit = self.course.send(sent);
        let each = self
            .course
            .coordinator_limit(limit)
            .min(self.renew.longest_attempt());
        if self.first == First::Alone || self.course.lease.is_some() {
            return self.renew.renew(&self.token, limit, each).await;
        }
        let (sent, answer) = self.relay(sent, limit, each).await;
        // The lease counts from the sending of the one that was granted (L4).
        self.course.sent = sent;
        answer
    }

    /// The first grant or final refusal of requests that are sent half an attempt apart, because one attempt is what a leader
    /// keeps; another refusal once none is under way.
    async fn relay(
        &self,
        first: BootInstant,
        limit: Duration,
        each: Duration,
    ) -> (BootInstant, Result<Renewal, Refusal>) {
        let send =
            |sent: BootInstant| async move { (sent, self.renew.renew(&self.token, limit, each).await) };
        let mut under_way = FuturesUnordered::from_iter([send(first)]);
        let pace = limit.min(each) / 2;
        let mut next = Instant::now() + pace;
        loop {
            tokio::select! {
                Some((sent, answer)) = under_way.next() => {
                    let over = answer.as_ref().map_or_else(is_final, |_| true);
                    if over || under_way.is_empty() {
                        return (sent, answer);
                    }
                }
                () = sleep_until(next), if under_way.len() < RELAY => {
                    next = Instant::now() + pace;
                    under_way.push(send((self.clock)()));
                }
            }
        }
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
                    self.end();
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
