//! The looks at the role, by `failover::rules` and `policy::failover`, and what follows from them.

use policy::failover::{Decision, decide};
use state::{Command, FormerTtl};
use types::{Holder, Principal, RoleName, plan::PlanKind};

use super::{
    super::{
        setup,
        time::{At, MS, micros},
        world::{Fault, Timer, Who, World},
    },
    own_since,
};
use crate::{
    failover::rules::{Due, Sight, due, view},
    leases::rules,
};

impl World {
    /// One timer for looks: the earliest that was asked for.
    pub(super) fn look_in(&mut self, c: usize, after: At) {
        let at = self.now + after;
        let look_at = &mut self.coordinators[c].lead.look_at;
        if look_at.is_none_or(|known| at < known) {
            *look_at = Some(at);
            self.timer(Who::Coordinator(c), after, Timer::Look);
        }
    }

    /// One look of the driver's loop.
    pub(in super::super) fn look(&mut self, c: usize) {
        let (role, now) = (RoleName::global(), self.instant(c));
        let own = &mut self.coordinators[c];
        if own.lead.look_at.is_none_or(|at| self.now < at) {
            return;
        }
        own.lead.look_at = None;
        let Some(since) = own_since(&own.seat) else { return };
        if own.lead.busy.is_some() || own.lead.due.is_some() {
            return;
        }
        let state = &self.states[own.applied];
        let lead = &mut own.lead;
        lead.table.lead(Some(since));
        let former = state.former_ttl(&role);
        if lead.memory.waited_out(&role, former, now)
            && let Some(FormerTtl { ttl, since }) = former
        {
            if self.rng.chance(150) {
                self.shorten_first(c);
            }
            return self.propose_own(c, Command::RetireTtl { role, ttl, since }, None);
        }
        let Some(lease) = rules::lease_view(&lead.table, state, &role, now) else {
            return;
        };
        let sight = Sight {
            role: &role,
            lease,
            since,
            now,
        };
        let sessions = &lead.sessions;
        let Some(seen) = view(state, &mut lead.memory, &sight, |node| sessions.get(node)) else {
            return;
        };
        rules::settle(&mut lead.table, state, &role);
        let term = own.term;
        if seen.released {
            self.oracle.taken_for_released(term, seen.role.epoch);
        }
        if seen.lease_lapsed {
            self.oracle.taken_for_free(term, self.now);
        }
        let decision = decide(&seen, self.stamp(c));
        self.notice_decision(c, &seen, &decision);
        match due(&seen, decision) {
            Due::Wait => {}
            Due::Hold { epoch, plan } => self.coordinators[c].lead.table.hold(&role, epoch, plan),
            Due::Propose(command) => return self.propose_own(c, command, None),
            Due::Change { command, needs_free } => {
                // Between the look and the mark other things happen, and the process may be stopped.
                self.coordinators[c].lead.due = Some((command, seen.role.epoch, needs_free));
                // A holder that was silent for a lease, and is back, is one of them.
                let silent = needs_free && !seen.released && self.rng.chance(500);
                let soon = self.rng.below(if silent { 300 * MS } else { 3 * MS });
                self.timer(Who::Coordinator(c), soon + 1, Timer::Change);
                if self.rng.chance(60) {
                    let time = self.rng.between(20 * MS, 900 * MS);
                    let who = Who::Coordinator(c);
                    self.fault(0, Fault::Freeze { who, time });
                }
                return;
            }
        }
        self.look_in(c, 150 * MS);
    }

    /// Marks and proposes what the last look decided.
    pub(in super::super) fn change(&mut self, c: usize) {
        let now = self.instant(c);
        let Some((command, epoch, needs_free)) = self.coordinators[c].lead.due.take() else {
            return;
        };
        let own = &mut self.coordinators[c];
        own.lead.table.lead(own_since(&own.seat));
        let state = &self.states[own.applied];
        let role = RoleName::global();
        match rules::begin(&mut own.lead.table, state, &role, epoch, needs_free, now) {
            Some(mark) if own.leads() => self.propose_own(c, command, Some(mark)),
            Some(_) => {}
            None => {
                self.seen
                    .see("a hand-over was decided, and the holder renewed before it");
                self.look_in(c, 10 * MS);
            }
        }
    }

    /// A person shortens the TTL once more, and is a moment earlier than the word that the former one is waited out.
    fn shorten_first(&mut self, c: usize) {
        let role = self.own_role(c);
        if role.timing.lease_ttl == setup::TTLS[0] {
            return;
        }
        let (role, timing) = (role.role.clone(), setup::timing(setup::TTLS[0]));
        self.propose(c, setup::person(), Command::SetRoleTiming { role, timing });
        self.seen.see("a TTL is shortened while a former one ends");
    }

    /// What the oracle and the list of situations want to know of a decision.
    fn notice_decision(&mut self, c: usize, view: &policy::failover::FailoverView, decision: &Decision) {
        let own = &self.coordinators[c];
        match decision {
            Decision::AwaitLease { .. } => {
                self.seen.see("a failover waits for the lease");
                if own.led_before
                    && own
                        .lead
                        .table
                        .renewed_at(&view.role.role, view.role.epoch)
                        .is_none()
                {
                    self.seen.see("a leader waits for what earlier leaders granted");
                }
                if view.role.outstanding_ttl > view.role.timing.lease_ttl {
                    self.seen.see("a wait counts the TTL before it was shortened");
                }
            }
            Decision::AskRelease { .. } => self.seen.see("a holder is asked to hand over"),
            Decision::FailPlan { .. } => self.seen.see("a plan fails"),
            Decision::Fence { .. } => {
                let automatic =
                    |p: &types::plan::PlanRecord| matches!(p.created_by, Principal::Coordinator { .. });
                let Some(plan) = view
                    .plan
                    .as_ref()
                    .filter(|p| automatic(p) && p.kind == PlanKind::Failover)
                else {
                    return;
                };
                let holder = plan.from.as_ref().filter(|_| !view.released);
                let same_run = |h: &&Holder| {
                    self.own_state(c)
                        .node(&h.node)
                        .is_some_and(|n| n.incarnation == h.incarnation)
                };
                let heard = holder.filter(same_run).and_then(|h| own.lead.heard.get(&h.node));
                // Who was never heard is silent since the election.
                let since = heard.copied().or_else(|| {
                    holder.filter(same_run)?;
                    self.oracle.elected_at(own.term)
                });
                let silence = since.map(|at| self.now - at);
                let least = micros(view.role.timing.promotion_absence) * 9 / 10;
                if let Some(silence) = silence.filter(|s| *s < least) {
                    let text = format!("{plan:?} fences a holder that was heard {silence} us ago");
                    self.oracle.fail("I8 a living holder is not fenced", text);
                }
            }
            _ => {}
        }
    }
}
