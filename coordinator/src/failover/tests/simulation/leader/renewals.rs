//! What a leader says to renewals and releases, by `leases::rules`; and what the oracle wants to know of it.

use tokio::time::Instant;
use types::{FencingToken, Reason, reason::Refusal};

use super::{
    super::{
        check::Asking,
        time::MS,
        world::{Fault, Msg, Timer, Who, Wish, World},
    },
    Asked, Caller, own_since, renewal,
};
use crate::leases::{
    Grant,
    rules::{self, Early, Round, Waited},
};

impl World {
    pub(super) fn decide_renewal(
        &mut self,
        c: usize,
        caller: Caller,
        token: FencingToken,
        received: Instant,
        deadline: Instant,
        round: Round,
    ) {
        let now = self.instant(c);
        let own = &mut self.coordinators[c];
        let state = &self.states[own.applied];
        own.lead.table.lead(own_since(&own.seat));
        let changing = own.lead.table.is_changing(&token.role);
        let decided = rules::renew(&mut own.lead.table, state, &token, received, &round, now);
        match decided {
            Ok(Some(grant)) => self.granted(c, &caller, &token, grant, false),
            Ok(None) => {
                let early = Early {
                    token,
                    received,
                    deadline,
                    round,
                };
                let (waits, out) = match own.lead.early.take() {
                    Some(waits) if rules::takes_the_place(&early, &waits.0) => ((early, caller), Some(waits)),
                    Some(waits) => (waits, Some((early, caller))),
                    None => ((early, caller), None),
                };
                let wait = rules::end_of_wait(&waits.0).saturating_duration_since(now);
                let out = out.map(|(early, caller)| (rules::crowded(&early.token, &waits.0, now), caller));
                own.lead.early = Some(waits);
                if let Some((refusal, caller)) = out {
                    self.answer(c, &caller, Err(refusal));
                }
                let wait = self.coordinators[c].clock.lasts(wait) + 1;
                self.timer(Who::Coordinator(c), wait, Timer::EarlyEnds);
                self.seen.see("a renewal comes before its entry and waits");
            }
            Err(refusal) if refusal.reason == Reason::NotLeader && round.began < received => {
                self.seen
                    .see("a renewal is not answered by a round that began before it");
                self.coordinators[c].lead.queued.push(Asked::Renew {
                    caller,
                    token,
                    received,
                    deadline,
                });
            }
            Err(refusal) => {
                self.seen.refused_renewal(&refusal, changing);
                self.answer(c, &caller, Err(refusal));
            }
        }
    }

    fn granted(&mut self, c: usize, caller: &Caller, token: &FencingToken, grant: Grant, early: bool) {
        let agent = &self.agents[caller.agent];
        if let Some(sent) = agent.sent.get(&caller.attempt) {
            let held = client::guard::Lease::granted(agent.clock.boot(*sent), renewal(&grant));
            let left = held.left(agent.clock.boot(*sent));
            let end = *sent + agent.clock.lasts(left);
            let asked = Asking {
                received: caller.received,
                then: caller.term,
                term: self.coordinators[c].term,
            };
            self.check_unchanging(c, token);
            let run = self.own_state(c).node(&token.holder.node).map(|n| n.incarnation);
            if run != Some(token.holder.incarnation) {
                let text = format!("{token} is extended, and its node runs as {run:?}");
                self.oracle
                    .fail("L2 a run that was replaced is granted nothing", text);
            }
            self.oracle.granted(token, grant.ttl, end, asked, self.now);
            let heard = self.coordinators[c]
                .lead
                .heard
                .entry(token.holder.node.clone())
                .or_default();
            *heard = caller.received.max(*heard);
        }
        if early {
            self.seen.see("a renewal that waited for its entry is granted");
        }
        self.answer(c, caller, Ok(grant));
    }

    /// Whoever proposed a change of an epoch answers no renewal of it until the outcome is applied, or its plan is over.
    fn check_unchanging(&mut self, c: usize, token: &FencingToken) {
        let own = &self.coordinators[c];
        let moves = self.own_state(c).running_plan(&token.role).is_some();
        let open = own
            .lead
            .changed
            .filter(|(epoch, index)| *epoch == token.epoch && own.applied < *index);
        if let Some((_, index)) = open.filter(|_| moves) {
            let text = format!("{token} is extended, and entry {index} may change it");
            self.oracle.fail("L6 no renewal of what is being changed", text);
        }
    }

    /// Those that wait for their entry are looked at again.
    pub(in super::super) fn judge_early(&mut self, c: usize) {
        let now = self.instant(c);
        let own = &mut self.coordinators[c];
        let Some((early, caller)) = own.lead.early.take() else {
            return;
        };
        own.lead.table.lead(own_since(&own.seat));
        let state = &self.states[own.applied];
        match rules::judge(&mut own.lead.table, state, &early, now) {
            Waited::On => {
                let wait = rules::end_of_wait(&early).saturating_duration_since(now);
                own.lead.early = Some((early, caller));
                let wait = self.coordinators[c].clock.lasts(wait) + 1;
                self.timer(Who::Coordinator(c), wait, Timer::EarlyEnds);
            }
            Waited::Deposed => {
                self.seen
                    .see("a renewal that waited for its entry outlives its leader");
                self.answer(c, &caller, Err(Refusal::new(Reason::NotLeader, "deposed")));
            }
            Waited::Over(Ok(grant)) => self.granted(c, &caller, &early.token, grant, true),
            Waited::Over(Err(refusal)) => self.answer(c, &caller, Err(refusal)),
        }
    }

    pub(super) fn take_release(&mut self, c: usize, token: &FencingToken) {
        let now = self.instant(c);
        let own = &mut self.coordinators[c];
        own.lead.table.lead(own_since(&own.seat));
        let state = &self.states[own.applied];
        if rules::release(&mut own.lead.table, state, token, now) == Ok(true) {
            self.oracle
                .taken_for_released(self.coordinators[c].term, self.own_role(c).epoch);
            self.seen.see("a holder releases its lease");
            if self.rng.chance(150) {
                self.leave_and_return(c);
            }
            self.look_in(c, 1);
        }
    }

    /// Another leads for a while, and this one again: what it knew of the role's leases is older than what was granted since.
    fn leave_and_return(&mut self, c: usize) {
        let coordinator = (c + 1) % self.coordinators.len();
        let leaves = self.rng.between(20 * MS, 200 * MS);
        let returns = leaves + self.rng.between(500 * MS, 1_200 * MS);
        let asked = returns + self.rng.between(20 * MS, 300 * MS);
        self.fault(leaves, Fault::Elect { coordinator });
        self.fault(returns, Fault::Elect { coordinator: c });
        self.fault(asked, Fault::Person(Wish::Switchover));
    }

    pub(super) fn answer(&mut self, c: usize, caller: &Caller, result: Result<Grant, Refusal>) {
        let leader = self.coordinators[c].leader.filter(|l| *l != c);
        let msg = Msg::Renewed {
            attempt: caller.attempt,
            result,
            leader,
        };
        self.send(Who::Coordinator(c), Who::Agent(caller.agent), msg);
    }
}
