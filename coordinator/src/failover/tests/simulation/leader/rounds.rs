//! What agents ask of a leader, and the ReadIndex rounds that confirm it before it answers.

use std::time::Duration;

use types::{Reason, reason::Refusal};

use super::{
    super::{
        setup,
        time::MS,
        world::{Fault, Msg, Timer, Who, World},
    },
    Asked, Caller, Running,
};
use crate::leases::rules::Round;

/// How long a round may take.
const ROUND: Duration = Duration::from_millis(500);

impl World {
    /// An agent speaks.
    pub(in super::super) fn asked(&mut self, c: usize, agent: usize, msg: Msg) {
        let received = self.instant(c);
        match msg {
            Msg::Heartbeat { agent: holder } => self.on_heartbeat(c, agent, holder),
            Msg::Propose { command, id } => self.on_propose(c, agent, *command, id),
            Msg::Renew {
                token,
                limit,
                attempt,
            } => {
                let caller = Caller {
                    agent,
                    attempt,
                    received: self.now,
                    term: self.coordinators[c].term,
                };
                if self.oracle.is_deposed(self.coordinators[c].term, self.now) && self.coordinators[c].leads()
                {
                    self.seen.see("a deposed leader is asked to renew");
                }
                let deadline = received + Duration::from_micros(limit);
                self.ask(
                    c,
                    Asked::Renew {
                        caller,
                        token,
                        received,
                        deadline,
                    },
                );
            }
            Msg::Release { token } => {
                self.take_release(c, &token);
                self.ask(c, Asked::Release { token });
            }
            Msg::CheckFence { token, call } => self.ask(c, Asked::Fence { agent, token, call }),
            Msg::Sync => self.ask(c, Asked::Sync { agent }),
            other => unreachable!("{other:?} to a coordinator"),
        }
    }

    fn ask(&mut self, c: usize, asked: Asked) {
        if self.coordinators[c].since().is_none() {
            return self.refuse(c, asked, Reason::NotLeader);
        }
        self.coordinators[c].lead.queued.push(asked);
        self.begin_round(c);
    }

    fn begin_round(&mut self, c: usize) {
        let (began, number) = (self.instant(c), self.id());
        let since = self.coordinators[c].since();
        let lead = &mut self.coordinators[c].lead;
        if lead.round.is_some() || lead.queued.is_empty() {
            return;
        }
        lead.round = Some(Running {
            number,
            wakes: 0,
            round: Round { began, since },
            answered: vec![c],
            confirmed: false,
            asked: std::mem::take(&mut lead.queued),
        });
        let limit = self.coordinators[c].clock.lasts(ROUND);
        self.timer(Who::Coordinator(c), limit, Timer::RoundEnds(number));
        self.replicate(c, number);
    }

    pub(in super::super) fn round_heard(&mut self, c: usize, number: u64, from: usize) {
        let majority = self.coordinators.len() / 2 + 1;
        let lead = &mut self.coordinators[c].lead;
        let Some(running) = lead.round.as_mut().filter(|r| r.number == number && !r.confirmed) else {
            return;
        };
        if !running.answered.contains(&from) {
            running.answered.push(from);
        }
        if running.answered.len() < majority {
            return;
        }
        running.confirmed = true;
        if self.rng.chance(6) {
            let time = self.rng.between(300 * MS, 2_500 * MS);
            self.fault(
                0,
                Fault::Freeze {
                    who: Who::Coordinator(c),
                    time,
                },
            );
            self.seen
                .see("a leader freezes between its round and its decision");
        }
        let soon = self.rng.below(MS);
        self.timer(Who::Coordinator(c), soon + 1, Timer::Decide(number));
    }

    pub(in super::super) fn round_ends(&mut self, c: usize, number: u64) {
        let lead = &mut self.coordinators[c].lead;
        if lead
            .round
            .as_ref()
            .is_none_or(|r| r.number != number || r.confirmed)
        {
            return;
        }
        self.seen.see("a round finds no majority");
        let asked = self.coordinators[c]
            .lead
            .round
            .take()
            .map(|r| r.asked)
            .unwrap_or_default();
        for asked in asked {
            self.refuse(c, asked, Reason::NoQuorum);
        }
        self.begin_round(c);
    }

    pub(in super::super) fn decide_round(&mut self, c: usize, number: u64) {
        let lead = &mut self.coordinators[c].lead;
        if let Some(late) = lead
            .round
            .as_ref()
            .filter(|r| r.number == number && r.wakes > self.now)
        {
            let wait = late.wakes - self.now;
            return self.timer(Who::Coordinator(c), wait, Timer::Decide(number));
        }
        let Some(running) = lead.round.take_if(|r| r.number == number) else {
            return;
        };
        for asked in running.asked {
            self.decide(c, asked, running.round);
        }
        // Who came while the round ran asks the rule too: it is what says that they must wait for the next.
        for asked in std::mem::take(&mut self.coordinators[c].lead.queued) {
            match &asked {
                Asked::Renew { received, .. } if *received > running.round.began => {
                    self.decide(c, asked, running.round);
                }
                _ => self.coordinators[c].lead.queued.push(asked),
            }
        }
        self.begin_round(c);
    }

    fn decide(&mut self, c: usize, asked: Asked, round: Round) {
        match asked {
            Asked::Renew {
                caller,
                token,
                received,
                deadline,
            } => {
                self.decide_renewal(c, caller, token, received, deadline, round);
            }
            Asked::Release { token } => {
                self.take_release(c, &token);
            }
            Asked::Fence { agent, token, call } => {
                let role = self
                    .own_state(c)
                    .role(&token.role)
                    .expect("made with the cluster")
                    .clone();
                let confirmation = policy::fence::confirm(&role, setup::CLUSTER, &token);
                let msg = Msg::FenceSaid {
                    call,
                    epoch: role.epoch,
                    holder: role.holder,
                    current: confirmation == policy::fence::Confirmation::Current,
                };
                self.send(Who::Coordinator(c), Who::Agent(agent), msg);
            }
            Asked::Sync { agent } => self.show(c, agent, true),
        }
    }

    pub(super) fn refuse(&mut self, c: usize, asked: Asked, reason: Reason) {
        if let Asked::Renew { caller, .. } = asked {
            let refusal = Refusal::new(reason, "not now");
            self.answer(c, &caller, Err(refusal));
        }
    }
}
