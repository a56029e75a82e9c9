//! Leases on the leader: renewals, releases, and changes of roles in order with them.
//!
//! Absent on purpose: the rules ([`rules`]) and the reckoning ([`table`]), which are pure, the rounds behind renewals
//! ([`renewals`]), and anything written to the log for a renewal.
//! Invariant: the table's lock is the one order of renewals and changes of a role (L6): a change marks its epoch before
//! it is proposed, and a renewal looks at the mark and at the applied state under the same lock as it extends.

mod renewals;
pub mod rules;
pub mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use state::{Command, query::LeaseView};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use types::{
    Epoch, FencingToken, PlanId, Principal, Reason, RequestId, Revision, RoleName,
    planted::{self, Bug},
    reason::Refusal,
};

pub use renewals::Renewals;
use renewals::{QUEUE, Renewal};
use rules::{Early, Round, Waited};
pub use table::{ChangeMark, ChangeOutcome, Grant, LeaseTable, RoleView};

use crate::raft::{ProposeError, Proposed, RaftNode};

/// The right to renew leases and to change roles on this coordinator. A cheap handle.
#[derive(Clone)]
pub struct Leases {
    raft: RaftNode,
    table: Arc<Mutex<LeaseTable>>,
    queue: mpsc::Sender<Renewal>,
    released: watch::Sender<()>,
}

/// A change of who holds a role.
#[derive(Clone, Debug)]
pub struct RoleChange {
    /// The role.
    pub role: RoleName,
    /// Its epoch, which the change ends.
    pub epoch: Epoch,
    /// Whether its present holder's lease must be over first: a hand-over in one entry, not a fence.
    pub needs_free: bool,
    /// `Fence` or `Promote`.
    pub command: Command,
}

impl Leases {
    /// The handle, and the loop behind it.
    pub fn new(raft: RaftNode) -> (Self, Renewals) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let leases = Self {
            raft,
            table: Arc::default(),
            queue,
            released: watch::Sender::new(()),
        };
        let renewals = Renewals::new(leases.clone(), receiver);
        (leases, renewals)
    }

    /// Renews the lease of a token that was received at `received` from its holder (L7). One that a running plan is
    /// about to give out waits for that, for nearly all of the time until `deadline` (L11).
    pub async fn renew(
        &self,
        token: FencingToken,
        received: Instant,
        deadline: Instant,
    ) -> Result<(Revision, Grant), Refusal> {
        let (answer, answered) = oneshot::channel();
        let renewal = Renewal {
            token,
            received,
            deadline,
            answer,
        };
        if self.queue.try_send(renewal).is_err() {
            return Err(
                Refusal::new(Reason::Overloaded, "too many renewals wait").with("retry_after_ms", 100)
            );
        }
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Refusal::new(Reason::NotServing, "this coordinator is stopping")),
            Err(_) => Err(Refusal::new(
                Reason::OutcomeUnknown,
                "the renewal was not answered in time",
            )),
        }
    }

    /// Proposes a command that changes who holds a role, in order with the renewals of its epoch (L6). A caller that
    /// stops waiting leaves the change unknown, which counts as changed. `None`: not proposed, because the change needs
    /// the role to be free of leases, and it is not, or there is no such role.
    pub async fn change(
        &self,
        change: RoleChange,
        actor: Principal,
        request_id: RequestId,
        deadline: Instant,
    ) -> Option<Result<Proposed, ProposeError>> {
        let (mark, term) = self.begin(&change)?;
        let result = self
            .raft
            .propose_in(Some(term), actor, request_id, change.command, deadline)
            .await;
        let outcome = rules::outcome_of(&result);
        self.table().end_change(mark, outcome);
        Some(result)
    }

    /// Marks the change, unless it has to wait, and says in which term: a mark is forgotten with its leadership, so the
    /// entry must be none of a later one, under which the holder may have renewed. A role that is not there has nobody to
    /// change.
    fn begin(&self, change: &RoleChange) -> Option<(ChangeMark, u64)> {
        let RoleChange {
            role,
            epoch,
            needs_free,
            ..
        } = change;
        let (mut table, term) = self.table_in_term();
        let mark = self
            .raft
            .read(|state| rules::begin(&mut table, state, role, *epoch, *needs_free, Instant::now()));
        Some((mark?, term))
    }

    /// Refuses renewals of an epoch for a plan's sake, until [`Self::settle`] finds it over, or another leadership (L11).
    pub fn hold(&self, role: &RoleName, epoch: Epoch, plan: PlanId) {
        self.table().hold(role, epoch, plan);
    }

    /// Lets a role's holder renew again, unless the plan that it was refused for still moves the role.
    pub fn settle(&self, role: &RoleName) {
        let mut table = self.table();
        self.raft.read(|state| rules::settle(&mut table, state, role));
    }

    /// Changes whenever a holder released its lease.
    pub fn releases(&self) -> watch::Receiver<()> {
        self.released.subscribe()
    }

    /// The holder has stopped acting under its epoch, for ever. The caller has checked that the token is the sender's.
    ///
    /// It counts from its receipt, and no round comes before: it stays true whoever leads, and names the one epoch that it
    /// ends. A leader that was deposed believes it for nothing, because what it proposes is not committed; the round after
    /// is for the sender, who goes on to the next coordinator unless it was heard by who leads.
    pub async fn release(&self, token: FencingToken, deadline: Instant) -> Result<Revision, Refusal> {
        let taken = self.take_release(&token).is_ok();
        let confirmed = self.raft.confirm_leadership(deadline).await;
        let revision = confirmed.map_err(|e| e.to_refusal())?;
        if taken {
            return Ok(revision);
        }
        match self.take_release(&token) {
            // It is over already, and whoever follows waits as if nothing had been said: there is nothing to release.
            Err(refusal) if refusal.reason != Reason::StaleEpoch => Err(refusal),
            Ok(()) | Err(_) => Ok(revision),
        }
    }

    fn take_release(&self, token: &FencingToken) -> Result<(), Refusal> {
        let mut table = self.table();
        let is_news = self
            .raft
            .read(|state| rules::release(&mut table, state, token, Instant::now()))?;
        if is_news {
            self.released.send_replace(());
        }
        Ok(())
    }

    /// What this leadership knows of a role's leases at `now`, in one look; none of a role that is not there.
    pub fn look(&self, role: &RoleName, now: Instant) -> Option<LeaseView> {
        let table = self.table();
        self.raft
            .read(|state| rules::lease_view(&table, state, role, now))
    }

    /// The table, brought up to this node's leadership. Lock order: table, then state.
    fn table(&self) -> MutexGuard<'_, LeaseTable> {
        self.table_in_term().0
    }

    /// The same, with the term that it stands for.
    fn table_in_term(&self) -> (MutexGuard<'_, LeaseTable>, u64) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let leadership = self.raft.leadership();
        let leadership = leadership.borrow();
        if leadership.since.is_some() || !planted::has(Bug::LeasesWithoutQuorum) {
            table.lead(leadership.since);
        }
        (table, leadership.term)
    }

    /// Decides a renewal by a round that began after its receipt (L7). None: a promotion is about to commit its epoch.
    fn decide(&self, renewal: &Renewal, round: &Round) -> Result<Option<(Revision, Grant)>, Refusal> {
        let Renewal { token, received, .. } = renewal;
        let mut table = self.table();
        let (revision, decided) = self
            .raft
            .read_at(|state| rules::renew(&mut table, state, token, *received, round, Instant::now()));
        Ok(decided?.map(|grant| (revision, grant)))
    }

    /// Looks at an early renewal again. None: it waits on.
    fn judge(&self, early: &Early) -> Option<Result<(Revision, Grant), Refusal>> {
        let mut table = self.table();
        let (revision, judged) = self
            .raft
            .read_at(|state| rules::judge(&mut table, state, early, Instant::now()));
        match judged {
            Waited::On => None,
            Waited::Deposed => {
                let leader = self.raft.leadership().borrow().leader.clone();
                Some(Err(ProposeError::NotLeader { leader }.to_refusal()))
            }
            Waited::Over(result) => Some(result.map(|grant| (revision, grant))),
        }
    }
}
