//! What the leader answers to renewals and releases, and when a change of a role may be proposed: from the applied state, the
//! table, and the time that is handed in (design.md L6–L9, L11). Pure: the shell ([`super::Leases`]) holds the lock around
//! each call, and the simulation calls the same functions.
//!
//! Absent on purpose: the reckoning of leases ([`super::table`]), clocks, rounds and I/O.
//! Invariant: one call looks at the state and moves the table, so that nothing comes between the two (L6).

use std::time::Duration;

use policy::failover::next_holder;
use state::{ControlState, query::LeaseView};
use tokio::time::Instant;
use types::{Epoch, FencingToken, Reason, RoleName, reason::Refusal, role::RoleRecord};

use super::table::{ChangeMark, ChangeOutcome, Grant, LeaseTable, RoleView, changing};
use crate::raft::ProposeError;

/// The part of its caller's time that an early renewal does not wait: a "not yet" is with its caller before that one's
/// deadline then, unless it is very far away. A caller that hears nothing until its deadline takes the leader for hung.
const KEPT_BACK: u32 = 8;

/// A renewal that came before the entry that makes its sender the holder (L11).
#[derive(Clone, Debug)]
pub struct Early {
    /// What is to be renewed.
    pub token: FencingToken,
    /// When it was received.
    pub received: Instant,
    /// Until when an answer is of use.
    pub deadline: Instant,
    /// What confirmed the leadership for it.
    pub round: Round,
}

/// A ReadIndex round that confirmed a leadership, and whose index is applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// When it began.
    pub began: Instant,
    /// When the leadership that it confirmed began; none: this node did not lead then.
    pub since: Option<Instant>,
}

impl Round {
    /// Whether it says that nobody else can have led before a request was received that the table's leadership answers (L7).
    fn covers(&self, table: &LeaseTable, received: Instant) -> bool {
        self.since.is_some() && self.since == table.since() && self.began >= received
    }
}

/// Decides a renewal by a round that began after its receipt, on the state after that round (L7). None: a promotion is about
/// to commit its epoch.
///
/// # Errors
/// The refusal; nothing was granted.
pub fn renew(
    table: &mut LeaseTable,
    state: &ControlState,
    token: &FencingToken,
    received: Instant,
    round: &Round,
    now: Instant,
) -> Result<Option<Grant>, Refusal> {
    if !round.covers(table, received) {
        return Err(unconfirmed());
    }
    let view = view(state, &token.role).ok_or_else(|| unknown(&token.role))?;
    match table.renew(&view, token, received, now) {
        Err(refusal) if refusal.reason == Reason::EpochUnconfirmed && is_next(state, view.role, token) => {
            Ok(None)
        }
        decided => decided.map(Some),
    }
}

/// What becomes of an early renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It waits on.
    On,
    /// The leadership that its round confirmed is over, and no other may answer it: whoever leads later was elected after that
    /// round, and waits from there (L7, L8).
    Deposed,
    /// Its answer.
    Over(Result<Grant, Refusal>),
}

/// Looks at an early renewal again.
pub fn judge(table: &mut LeaseTable, state: &ControlState, early: &Early, now: Instant) -> Waited {
    if !early.round.covers(table, early.received) {
        return Waited::Deposed;
    }
    match renew(table, state, &early.token, early.received, &early.round, now) {
        Ok(None) if now < end_of_wait(early) => Waited::On,
        Ok(None) => Waited::Over(Err(not_yet(&early.token, Duration::ZERO))),
        Ok(Some(granted)) => Waited::Over(Ok(granted)),
        Err(refusal) => Waited::Over(Err(refusal)),
    }
}

/// Until when an early renewal waits.
pub fn end_of_wait(early: &Early) -> Instant {
    let time = early.deadline.saturating_duration_since(early.received);
    early.received + (time - time / KEPT_BACK)
}

/// Of two early renewals of a role one waits, and of two of one token the one that can wait longer: a caller's older request
/// that asks once more must not take the place of its newer one, and be over just before the entry comes. Of two tokens
/// the later one has been looked at later: the other's plan has ended.
pub fn takes_the_place(later: &Early, earlier: &Early) -> bool {
    later.token != earlier.token || end_of_wait(later) >= end_of_wait(earlier)
}

/// What a caller is told whose place `waits` has: to ask again before that one's wait is over, so that one always waits, and
/// not at once, so that the two do not chase each other out.
pub fn crowded(token: &FencingToken, waits: &Early, now: Instant) -> Refusal {
    not_yet(token, end_of_wait(waits).saturating_duration_since(now) / 2)
}

/// The caller asks again after this long at most.
pub(super) fn not_yet(token: &FencingToken, retry_after: Duration) -> Refusal {
    changing(token, "it is not given out yet", retry_after)
}

/// Marks a change of (role, epoch) that is about to be proposed: renewals of the epoch are refused from here (L6). None, and
/// no mark: the change needs the role to be free of leases, and it is not, or there is no such role.
pub fn begin(
    table: &mut LeaseTable,
    state: &ControlState,
    role: &RoleName,
    epoch: Epoch,
    needs_free: bool,
    now: Instant,
) -> Option<ChangeMark> {
    table.begin_change(&view(state, role)?, epoch, needs_free, now)
}

/// How a change ended, by what became of its proposal. What may still be applied counts as changed.
pub fn outcome_of<T>(result: &Result<T, ProposeError>) -> ChangeOutcome {
    match result {
        Err(ProposeError::OutcomeUnknown { .. }) => ChangeOutcome::Unknown,
        Ok(_) => ChangeOutcome::Applied,
        Err(
            ProposeError::NotLeader { .. }
            | ProposeError::NoQuorum { .. }
            | ProposeError::Overloaded { .. }
            | ProposeError::DiskFull { .. }
            | ProposeError::OverloadedBytes { .. }
            | ProposeError::OverloadedDisk { .. }
            | ProposeError::TooLarge { .. }
            | ProposeError::BelowLevel { .. }
            | ProposeError::Witness { .. }
            | ProposeError::CannotLead { .. }
            | ProposeError::NotServing { .. },
        ) => ChangeOutcome::NotProposed,
    }
}

/// Lets a role's holder renew again, unless the plan that it was refused for still moves the role.
pub fn settle(table: &mut LeaseTable, state: &ControlState, role: &RoleName) {
    table.settle(role, state.running_plan(role).map(|plan| plan.plan));
}

/// The holder has stopped acting under its epoch, for ever (L11). Whether that is news: it is said again until the role has
/// moved.
///
/// # Errors
/// The refusal: the token is not the committed one, or this node does not lead.
pub fn release(
    table: &mut LeaseTable,
    state: &ControlState,
    token: &FencingToken,
    now: Instant,
) -> Result<bool, Refusal> {
    let known = table.was_released(&token.role, token.epoch);
    let view = view(state, &token.role).ok_or_else(|| unknown(&token.role))?;
    table.release(&view, token, now)?;
    Ok(!known)
}

/// What the leader knows of a role's leases now; none of a role that is not there.
pub fn lease_view(
    table: &LeaseTable,
    state: &ControlState,
    role: &RoleName,
    now: Instant,
) -> Option<LeaseView> {
    let epoch = state.role(role)?.epoch;
    Some(LeaseView {
        lapsed: free_at(table, state, role).is_some_and(|at| now >= at),
        released: table.was_released(role, epoch),
        renewed: table
            .renewed_at(role, epoch)
            .map(|at| now.saturating_duration_since(at)),
    })
}

/// The time from which no grant that was made so far can be believed in (L8); none while this node does not lead.
pub fn free_at(table: &LeaseTable, state: &ControlState, role: &RoleName) -> Option<Instant> {
    table.free_at(&view(state, role)?)
}

/// Whether a running plan is about to commit this very token.
fn is_next(state: &ControlState, role: &RoleRecord, token: &FencingToken) -> bool {
    let plan = state.running_plan(&token.role);
    let next = plan.and_then(|plan| next_holder(role, plan));
    next == Some((token.epoch, &token.holder))
}

/// The caller asks again, here or elsewhere: another leadership has begun, or the round says nothing of this request.
fn unconfirmed() -> Refusal {
    Refusal::new(
        Reason::NotLeader,
        "no round confirmed this leadership after the renewal came in",
    )
}

fn unknown(role: &RoleName) -> Refusal {
    Refusal::new(Reason::RoleNotFound, format!("no role {role}")).with("role", role)
}

/// What the lease table needs to know of a role.
fn view<'a>(state: &'a ControlState, role: &RoleName) -> Option<RoleView<'a>> {
    let role = state.role(role)?;
    let holder_run = role.holder.as_ref().and_then(|h| Some((h, state.node(&h.node)?)));
    Some(RoleView {
        role,
        outstanding_ttl: state.outstanding_ttl(&role.role)?,
        cluster_id: state.cluster()?.cluster_id,
        holder_replaced: holder_run.is_some_and(|(h, node)| node.incarnation != h.incarnation),
        moved_by: state.running_plan(&role.role).map(|plan| plan.plan),
    })
}
