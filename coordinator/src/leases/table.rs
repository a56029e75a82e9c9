//! Who may believe that they hold a role, and until when: the leader's reckoning (design.md L4, L6–L9, L11), pure.
//!
//! Absent on purpose: clocks and I/O; every call brings `now`, and the caller brings the committed role. Wall clocks
//! appear nowhere.
//! Invariants, whatever the order of calls:
//! - a grant was extended here before its answer can leave ([`LeaseTable::renew`] does both in one step);
//! - no grant is made under one epoch while a grant under another epoch of the role may still be believed in;
//! - [`LeaseTable::free_at`] never names a time at which some holder may still believe in a grant under an older epoch.

use std::{collections::BTreeMap, time::Duration};

use policy::fence;
use tokio::time::Instant;
use types::{
    ClusterId, Epoch, FencingToken, PlanId, Reason, RoleName,
    reason::Refusal,
    role::{DRIFT_DIVISOR, RoleRecord},
};

/// A TTL as the leader counts it: longer by the drift, so that no holder's slow clock outlasts it.
pub fn leader_ttl(ttl: Duration) -> Duration {
    ttl + ttl / DRIFT_DIVISOR
}

/// What the committed state says that a decision needs, read in one look.
#[derive(Clone, Debug)]
pub struct RoleView<'a> {
    /// The role.
    pub role: &'a RoleRecord,
    /// The largest TTL that may be outstanding under it.
    pub outstanding_ttl: Duration,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The run of the holder's node that the registry knows is not the holder's: it was restarted.
    pub holder_replaced: bool,
    /// The plan that moves it.
    pub moved_by: Option<PlanId>,
}

/// A renewal that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To count from the holder's send time, less its drift.
    pub ttl: Duration,
    /// How often to renew.
    pub renew_interval: Duration,
    /// How long before the end work must stop.
    pub drain_margin: Duration,
}

/// How a proposed change of a role ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// Applied here, or refused by rule here. The log has one order, so whatever was proposed before it is over too.
    Applied,
    /// Surely not proposed. Says nothing of a change before it whose outcome is unknown.
    NotProposed,
    /// May be applied later: counts as changed.
    Unknown,
}

/// A change that is under way: what [`LeaseTable::begin_change`] marked, for [`LeaseTable::end_change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeMark {
    role: RoleName,
    since: Option<Instant>,
    /// The mark that stood there before: of a change whose outcome is not known.
    before: Option<Of>,
}

/// What renewals are refused of, and for whose sake. It ends with the plan at the latest: another plan asks anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Of {
    epoch: Epoch,
    plan: Option<PlanId>,
}

/// What was granted last under a role, by this leadership.
#[derive(Clone, Debug)]
struct Lease {
    epoch: Epoch,
    until: Instant,
    /// Receipt of the last renewal that was granted.
    renewed: Instant,
    /// The holder said that it has stopped, for ever.
    released: bool,
}

#[derive(Clone, Debug, Default)]
struct RoleLeases {
    last: Option<Lease>,
    /// Changes of this epoch are proposed and not yet known to be over.
    changing: Option<Of>,
    /// The holder of this epoch is asked to stop.
    held: Option<Of>,
}

/// The leases of one leadership.
#[derive(Clone, Debug, Default)]
pub struct LeaseTable {
    since: Option<Instant>,
    roles: BTreeMap<RoleName, RoleLeases>,
}

impl LeaseTable {
    /// Follows the node's own leadership: another `since`, or none, forgets everything (L8).
    pub fn lead(&mut self, since: Option<Instant>) {
        if self.since != since {
            self.since = since;
            self.roles.clear();
        }
    }

    /// When the leadership that this is the table of began; none while this node does not lead.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// A change of (role, epoch) is about to be proposed: renewals of that epoch are refused from here (L6). One that
    /// `needs_free` is a hand-over in one entry: none, and no mark, while somebody may still believe in a grant. The mark
    /// comes before the look, so that no renewal can come between. One that nobody ends stays, which is right for a caller
    /// that stopped waiting.
    pub fn begin_change(
        &mut self,
        view: &RoleView<'_>,
        epoch: Epoch,
        needs_free: bool,
        now: Instant,
    ) -> Option<ChangeMark> {
        let role = &view.role.role;
        let leases = self.roles.entry(role.clone()).or_default();
        let plan = view.moved_by;
        let mark = ChangeMark {
            role: role.clone(),
            since: self.since,
            before: leases.changing.replace(Of { epoch, plan }),
        };
        if !needs_free || self.free_at(view).is_some_and(|at| now >= at) {
            return Some(mark);
        }
        self.end_change(mark, ChangeOutcome::NotProposed);
        None
    }

    /// The change ended. One of a former leadership says nothing of this one's.
    pub fn end_change(&mut self, mark: ChangeMark, outcome: ChangeOutcome) {
        if mark.since != self.since {
            return;
        }
        let leases = self.roles.entry(mark.role).or_default();
        match outcome {
            ChangeOutcome::Applied => leases.changing = None,
            ChangeOutcome::NotProposed => leases.changing = mark.before,
            ChangeOutcome::Unknown => {}
        }
    }

    /// Whether a change of the role is proposed, and not known to be over.
    #[cfg(test)]
    pub fn is_changing(&self, role: &RoleName) -> bool {
        self.roles
            .get(role)
            .is_some_and(|leases| leases.changing.is_some())
    }

    /// By the applied state this plan moves the role, or none: nobody is asked to stop for another one's sake any more, and a
    /// change of another one that is still on its way belongs to a plan that has ended, so that it will be refused by rule.
    pub fn settle(&mut self, role: &RoleName, moved_by: Option<PlanId>) {
        if let Some(leases) = self.roles.get_mut(role) {
            let goes_on = |of: &Of| moved_by.is_some() && of.plan == moved_by;
            leases.changing = leases.changing.filter(goes_on);
            leases.held = leases.held.filter(goes_on);
        }
    }

    /// A plan asks the holder of this epoch to stop: it gets no renewal until [`Self::settle`] says that the plan is over.
    pub fn hold(&mut self, role: &RoleName, epoch: Epoch, plan: PlanId) {
        let plan = Some(plan);
        self.roles.entry(role.clone()).or_default().held = Some(Of { epoch, plan });
    }

    /// Decides a renewal and extends the leader's own deadline in the same step (L7). The caller has confirmed its
    /// leadership by a round that began after `received`, and `view` is the applied state after that round.
    pub fn renew(
        &mut self,
        view: &RoleView<'_>,
        token: &FencingToken,
        received: Instant,
        now: Instant,
    ) -> Result<Grant, Refusal> {
        let Some(since) = self.since else {
            return Err(not_leading());
        };
        fence::at_registry(view.role, view.cluster_id, token).map_err(|refused| refused.to_refusal())?;
        if view.holder_replaced {
            let message = format!(
                "{} was restarted; {} waits for a new holder",
                token.holder.node, token.role
            );
            return Err(Refusal::new(Reason::LeaseLost, message));
        }
        self.check_free(view, token, since, now)?;
        let leases = self.roles.entry(token.role.clone()).or_default();
        let timing = &view.role.timing;
        let own = received + leader_ttl(timing.lease_ttl);
        let (until, renewed) = match &leases.last {
            Some(lease) if lease.epoch == token.epoch => (lease.until.max(own), lease.renewed.max(received)),
            _ => (own, received),
        };
        leases.last = Some(Lease {
            epoch: token.epoch,
            until,
            renewed,
            released: false,
        });
        Ok(Grant {
            ttl: timing.lease_ttl,
            renew_interval: timing.renew_interval,
            drain_margin: timing.drain_margin,
        })
    }

    fn check_free(
        &self,
        view: &RoleView<'_>,
        token: &FencingToken,
        since: Instant,
        now: Instant,
    ) -> Result<(), Refusal> {
        let leases = self.roles.get(&token.role);
        let names = |of: Option<Of>| of.is_some_and(|of| of.epoch == token.epoch);
        if names(leases.and_then(|l| l.changing)) {
            return Err(changing(
                token,
                "a change of it is proposed",
                view.role.timing.renew_interval,
            ));
        }
        if names(leases.and_then(|l| l.held)) {
            let why = "its holder is asked to stop and to release it";
            return Err(changing(token, why, view.role.timing.renew_interval));
        }
        match leases.and_then(|l| l.last.as_ref()) {
            Some(last) if last.epoch == token.epoch && last.released => Err(Refusal::new(
                Reason::LeaseLost,
                format!("{} was released under {}", token.role, token.epoch),
            )),
            Some(last) if last.epoch == token.epoch => Ok(()),
            // A promotion waits for this before it is proposed; asked again here, where the grant is made.
            Some(_) => wait_for(token, self.free_at_since(view, since), now),
            None => Ok(()),
        }
    }

    /// The holder says that it has stopped acting under this epoch, for ever (L11). Only the committed epoch's holder
    /// can say something new: whoever held an older one knows nothing of who followed, and may be long forgotten here.
    pub fn release(
        &mut self,
        view: &RoleView<'_>,
        token: &FencingToken,
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.since.is_none() {
            return Err(not_leading());
        }
        fence::at_registry(view.role, view.cluster_id, token).map_err(|refused| refused.to_refusal())?;
        if self.was_released(&token.role, token.epoch) {
            return Ok(());
        }
        let leases = self.roles.entry(token.role.clone()).or_default();
        leases.last = Some(Lease {
            epoch: token.epoch,
            until: now,
            renewed: now,
            released: true,
        });
        Ok(())
    }

    /// Whether the holder of this epoch said that it has stopped.
    pub fn was_released(&self, role: &RoleName, epoch: Epoch) -> bool {
        let last = self.roles.get(role).and_then(|l| l.last.as_ref());
        last.is_some_and(|last| last.epoch == epoch && last.released)
    }

    /// The time from which nobody can believe in a grant that was made so far; none while this node does not lead. A
    /// holder that may still renew moves it; mark a change first.
    pub fn free_at(&self, view: &RoleView<'_>) -> Option<Instant> {
        self.since.map(|since| self.free_at_since(view, since))
    }

    fn free_at_since(&self, view: &RoleView<'_>, since: Instant) -> Instant {
        // Grants by former leaders: the largest TTL that may be outstanding, from this election on (L8).
        let inherited = since + leader_ttl(view.outstanding_ttl);
        match self.roles.get(&view.role.role).and_then(|l| l.last.as_ref()) {
            Some(last) if last.released => last.until,
            Some(last) => last.until.max(inherited),
            None => inherited,
        }
    }

    /// When the last renewal came in that this leadership granted under an epoch; none once its holder has released it.
    pub fn renewed_at(&self, role: &RoleName, epoch: Epoch) -> Option<Instant> {
        let last = self.roles.get(role)?.last.as_ref()?;
        (last.epoch == epoch && !last.released).then_some(last.renewed)
    }
}

fn not_leading() -> Refusal {
    Refusal::new(Reason::NotLeader, "this coordinator does not lead")
}

pub(super) fn changing(token: &FencingToken, why: &str, retry_after: Duration) -> Refusal {
    Refusal::new(
        Reason::RoleChanging,
        format!("{} {}: {why}", token.role, token.epoch),
    )
    .with("role", &token.role)
    .with("shown", token.epoch)
    .with("retry_after_ms", retry_after.as_millis())
}

/// Refused until `free_at`: a predecessor may still believe that it holds the role (I6).
fn wait_for(token: &FencingToken, free_at: Instant, now: Instant) -> Result<(), Refusal> {
    if now >= free_at {
        return Ok(());
    }
    Err(changing(
        token,
        "its last holder has not released it yet",
        free_at - now,
    ))
}
