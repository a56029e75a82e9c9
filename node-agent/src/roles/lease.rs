//! The life of a lease: renewed while the role is ours, given back when a switchover asks for it, and released at the end.
//!
//! Invariant: a release is said only when nobody acts under the epoch any more, and whoever said it never acts under that
//! epoch again: one that arrives late must not lie about a later holding.

use std::{cmp::Ordering, sync::Arc, time::Duration};

use client::guard::{BootInstant, Renewals, RoleGuard, Standing};
use types::{Epoch, FencingToken};

use super::{
    RENEW_RETRY, Shared,
    holding::{Holding, lock},
};
use crate::desired::RolePhase;

/// Longest wait for the answer to a release.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);
/// Spaces the releases that are said again: a leader that was elected meanwhile knows nothing of the first.
const RELEASE_AGAIN: Duration = Duration::from_millis(500);
/// A look at CLOCK_BOOTTIME at least this often: a timer alone would sleep through a suspend.
const NAP: Duration = Duration::from_millis(50);

/// What must not be forgotten of a role's newest epoch, also when its holding is begun anew.
#[derive(Clone, Debug)]
pub(super) struct Past {
    epoch: Epoch,
    /// Until when somebody who asked for the token may act under it.
    handed_out_until: Option<BootInstant>,
    /// A release of it was said.
    released: bool,
}

impl Past {
    pub(super) fn of(epoch: Epoch) -> Self {
        Self {
            epoch,
            handed_out_until: None,
            released: false,
        }
    }

    /// Somebody else acts under the token, until then.
    pub(super) fn hand_out(&mut self, until: BootInstant) {
        self.handed_out_until = self.handed_out_until.max(Some(until));
    }
}

impl Shared {
    /// What is remembered of this token's epoch.
    pub(super) fn past<T>(&self, token: &FencingToken, look: impl FnOnce(&mut Past) -> T) -> T {
        let mut pasts = lock(&self.pasts);
        let past = pasts
            .entry(token.role.clone())
            .or_insert_with(|| Past::of(token.epoch));
        match past.epoch.cmp(&token.epoch) {
            Ordering::Less => *past = Past::of(token.epoch),
            Ordering::Equal => {}
            // Of an epoch that is over nothing matters any more.
            Ordering::Greater => return look(&mut Past::of(token.epoch)),
        }
        look(past)
    }

    /// Holds the lease until the role is no longer ours. One that merely lapsed is taken up again (L9), and so is one that
    /// a switchover asked for and then did not take; one that was released is not.
    pub(super) async fn keep_lease(self: Arc<Self>, holding: Arc<Holding>) {
        while !holding.stop.is_cancelled() {
            let released = self.past(&holding.token, |past| past.released);
            let asks = *holding.phase.borrow() != RolePhase::Yielding && !released;
            if asks {
                self.hold(&holding).await;
                continue;
            }
            tokio::select! {
                () = holding.stop.cancelled() => {}
                () = self.give_back(&holding) => {}
            }
        }
        if self.closing.is_cancelled() {
            self.release_at_end(&holding).await;
        }
    }

    /// One unbroken holding, and a pause after it.
    async fn hold(&self, holding: &Holding) {
        let role = &holding.token.role;
        let (guard, renewals) = self.ask(holding);
        *lock(&holding.guard) = Some(guard.clone());
        let held = tokio::select! {
            held = guard.held() => held.is_ok(),
            () = holding.must_stop() => false,
            () = guard.on_lost().cancelled() => false,
        };
        if held {
            holding.granted();
            self.metrics.lease(role, true);
            tracing::info!(token = %holding.token, "lease held");
            tokio::select! {
                () = holding.must_stop() => {}
                () = guard.on_lost().cancelled() => {}
            }
        }
        self.metrics.lease(role, false);
        *lock(&holding.guard) = None;
        renewals.release().await;
        let pause = async {
            if let Standing::Lost(refusal) = guard.standing() {
                tracing::info!(token = %holding.token, "role lost: {refusal}");
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(RENEW_RETRY).await;
        };
        tokio::select! {
            () = holding.must_stop() => {}
            () = pause => {}
        }
    }

    /// Begins to renew.
    fn ask(&self, holding: &Holding) -> (RoleGuard, Renewals) {
        let (client, token) = (self.client.clone(), holding.token.clone());
        match worth_waiting(*holding.phase.borrow(), holding.lease_ttl) {
            Some(limit) => RoleGuard::hold_within(client, token, RENEW_RETRY, limit),
            None => RoleGuard::hold(client, token, RENEW_RETRY),
        }
    }

    /// A switchover asks for the role (L11): once nobody acts under the epoch, says so, and again until the role has
    /// moved. Returns if the switchover was given up before that.
    async fn give_back(&self, holding: &Holding) {
        if !self.past(&holding.token, |past| past.released) {
            let handed_out_millis = self.handed_out_left(&holding.token).as_millis();
            tracing::info!(token = %holding.token, handed_out_millis, "a switchover asks for the role; stopping");
            tokio::select! {
                () = holding.may_go_on() => return,
                () = self.all_stopped(holding) => {}
            }
            tracing::info!(token = %holding.token, "nobody acts under it any more; released");
        }
        loop {
            self.release(&holding.token).await;
            tokio::time::sleep(RELEASE_AGAIN).await;
        }
    }

    /// Waits for writes that run, and for those who were given the token.
    async fn all_stopped(&self, holding: &Holding) {
        loop {
            let left = self.handed_out_left(&holding.token);
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(NAP)).await;
        }
        holding.busy.close();
        holding.busy.wait().await;
    }

    /// At the agent's end, so that nobody waits the lease out; only if nobody else may still act.
    async fn release_at_end(&self, holding: &Holding) {
        if self.handed_out_left(&holding.token).is_zero() && holding.busy.is_empty() {
            self.release(&holding.token).await;
        }
    }

    async fn release(&self, token: &FencingToken) {
        self.past(token, |past| past.released = true);
        let client = self.client.with_deadline(RELEASE_LIMIT);
        if let Err(refusal) = client.release_lease(token).await {
            tracing::debug!(%token, "lease not released, it will lapse: {refusal}");
        }
    }

    fn handed_out_left(&self, token: &FencingToken) -> Duration {
        let until = self.past(token, |past| past.handed_out_until);
        until.map_or(Duration::ZERO, |until| until.since(BootInstant::now()))
    }
}

/// For how long a request is worth its wait, if that is to be said. While a promotion is about to commit the epoch, the
/// leader keeps a request until it has (L11): one of which half the lease is over is worth less than another.
pub(super) fn worth_waiting(phase: RolePhase, lease_ttl: Duration) -> Option<Duration> {
    match phase {
        RolePhase::Promised | RolePhase::Expected => Some(lease_ttl / 2),
        RolePhase::Reserved | RolePhase::Held | RolePhase::Yielding => None,
    }
}
