//! A coordinator that leads, or believes so: the shell around `leases::rules` and `failover::rules`, as the real one runs them.

use std::{collections::BTreeMap, time::Duration};

use policy::{
    clock::{median, needs_mark},
    failover::{Decision, decide},
};
use state::{Command, ControlState, FormerTtl};
use tokio::time::Instant;
use types::{
    Epoch, FencingToken, Holder, NodeId, Principal, Reason, RoleName, UnixMillis, plan::PlanKind,
    reason::Refusal, time::ClockReading,
};

use super::{
    raft::Seat,
    setup,
    time::{At, MS, micros},
    world::{Fault, Msg, Timer, Who, Wish, World},
};
use crate::{
    failover::{
        memory::Memory,
        rules::{Due, Sight, due, view},
    },
    leases::{
        ChangeMark, Grant, LeaseTable,
        rules::{self, Early, Round, Waited},
    },
    raft::ProposeError,
    sessions::{Report, Session, Sessions},
};

/// How long a round may take, and a proposal of the leader's own until it counts as unknown.
const ROUND: Duration = Duration::from_millis(500);
const PROPOSAL: Duration = Duration::from_millis(700);

/// The soft state of one leadership.
#[derive(Default)]
pub(super) struct Lead {
    pub(super) table: LeaseTable,
    memory: Memory,
    sessions: Sessions,
    open: BTreeMap<NodeId, (Holder, Session)>,
    round: Option<Running>,
    queued: Vec<Asked>,
    early: Option<(Early, Caller)>,
    busy: Option<Busy>,
    /// What the voters' clocks said, and when.
    time: Option<(UnixMillis, Instant)>,
    look_at: Option<At>,
    /// What the last look decided to change, before it is marked.
    due: Option<(Command, Epoch, bool)>,
    /// The last change that was proposed: of which epoch, and where in the log.
    changed: Option<(Epoch, usize)>,
    /// When each node was last heard, in true time.
    pub(super) heard: BTreeMap<NodeId, At>,
}

struct Running {
    number: u64,
    round: Round,
    answered: Vec<usize>,
    confirmed: bool,
    asked: Vec<Asked>,
}

#[derive(Clone)]
struct Caller {
    agent: usize,
    attempt: u64,
    /// When it was received, in true time.
    received: At,
}

/// What waits for a round.
enum Asked {
    Renew {
        caller: Caller,
        token: FencingToken,
        received: Instant,
        deadline: Instant,
    },
    Release {
        token: FencingToken,
    },
    Fence {
        agent: usize,
        token: FencingToken,
        call: u64,
    },
    Sync {
        agent: usize,
    },
}

/// A proposal of the leader's own; it looks again when that is over.
struct Busy {
    mark: Option<ChangeMark>,
    index: usize,
    deadline: Instant,
}

impl Lead {
    /// Another leadership of this process begins. Table and sessions find out by themselves.
    pub(super) fn begin(&mut self) {
        self.memory = Memory::default();
        self.open.clear();
        self.queued.clear();
        (self.round, self.busy, self.look_at) = (None, None, None);
        (self.due, self.changed) = (None, None);
    }
}

impl World {
    pub(super) fn begins_to_lead(&mut self, c: usize) {
        let since = self.coordinators[c].since();
        let again = std::mem::replace(&mut self.coordinators[c].led_before, true);
        if again {
            self.seen.see("a coordinator is elected again");
        }
        let own = &mut self.coordinators[c];
        own.lead.table.lead(since);
        if let Some(since) = since {
            own.lead.sessions.lead(since);
        }
        let voters = self.coordinators.iter().enumerate().filter(|(_, v)| v.up);
        let readings: Vec<_> = voters.map(|(v, _)| self.reading(v)).collect();
        let now = self.instant(c);
        self.coordinators[c].lead.time = median(&readings).map(|time| (time, now));
        if self.state().running_plan(&RoleName::global()).is_some() {
            self.seen.see("a plan goes on under another leader");
        }
        self.look_in(c, 10 * MS);
    }

    fn reading(&self, c: usize) -> ClockReading {
        let honest = setup::WALL.0.saturating_add(self.now / MS);
        ClockReading {
            node: format!("c{c}").parse().expect("a name"),
            time: UnixMillis(honest.saturating_add_signed(self.coordinators[c].wall)),
        }
    }

    /// It has heard of a later term.
    pub(super) fn deposed(&mut self, c: usize) {
        let own = &mut self.coordinators[c];
        own.lead.table.lead(None);
        let asked = own.lead.round.take().map(|round| round.asked).unwrap_or_default();
        let queued = std::mem::take(&mut own.lead.queued);
        for asked in asked.into_iter().chain(queued) {
            self.refuse(c, asked, Reason::NotLeader);
        }
        self.judge_early(c);
        if let Some(busy) = self.coordinators[c].lead.busy.take() {
            self.end_busy(c, busy, Err(unknown()));
        }
    }

    fn refuse(&mut self, c: usize, asked: Asked, reason: Reason) {
        if let Asked::Renew { caller, .. } = asked {
            let refusal = Refusal::new(reason, "not now");
            self.answer(c, &caller, Err(refusal));
        }
    }

    fn answer(&mut self, c: usize, caller: &Caller, result: Result<Grant, Refusal>) {
        let leader = self.coordinators[c].leader.filter(|l| *l != c);
        let msg = Msg::Renewed {
            attempt: caller.attempt,
            result,
            leader,
        };
        self.send(Who::Coordinator(c), Who::Agent(caller.agent), msg);
    }

    /// An agent speaks.
    pub(super) fn asked(&mut self, c: usize, agent: usize, msg: Msg) {
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
            round: Round { began, since },
            answered: vec![c],
            confirmed: false,
            asked: std::mem::take(&mut lead.queued),
        });
        let limit = self.coordinators[c].clock.lasts(ROUND);
        self.timer(Who::Coordinator(c), limit, Timer::RoundEnds(number));
        self.replicate(c, number);
    }

    pub(super) fn round_heard(&mut self, c: usize, number: u64, from: usize) {
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

    pub(super) fn round_ends(&mut self, c: usize, number: u64) {
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

    pub(super) fn decide_round(&mut self, c: usize, number: u64) {
        let lead = &mut self.coordinators[c].lead;
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

    fn decide_renewal(
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
                let wait = rules::end_of_wait(&own.lead.table, &early).saturating_duration_since(now);
                if let Some((_, crowded)) = own.lead.early.replace((early, caller)) {
                    self.answer(
                        c,
                        &crowded,
                        Err(Refusal::new(Reason::RoleChanging, "another waits")),
                    );
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
            let term = self.coordinators[c].term;
            self.check_unchanging(c, token);
            let run = self.own_state(c).node(&token.holder.node).map(|n| n.incarnation);
            if run != Some(token.holder.incarnation) {
                let text = format!("{token} is extended, and its node runs as {run:?}");
                self.oracle
                    .fail("L2 a run that was replaced is granted nothing", text);
            }
            self.oracle.granted(token, end, caller.received, self.now, term);
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
    pub(super) fn judge_early(&mut self, c: usize) {
        let now = self.instant(c);
        let own = &mut self.coordinators[c];
        let Some((early, caller)) = own.lead.early.take() else {
            return;
        };
        own.lead.table.lead(own_since(&own.seat));
        let state = &self.states[own.applied];
        match rules::judge(&mut own.lead.table, state, &early, now) {
            Waited::On => {
                let wait = rules::end_of_wait(&own.lead.table, &early).saturating_duration_since(now);
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

    fn take_release(&mut self, c: usize, token: &FencingToken) {
        let now = self.instant(c);
        let own = &mut self.coordinators[c];
        own.lead.table.lead(own_since(&own.seat));
        let state = &self.states[own.applied];
        if rules::release(&mut own.lead.table, state, token, now) == Ok(true) {
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

    fn on_heartbeat(&mut self, c: usize, agent: usize, holder: Holder) {
        let now = self.instant(c);
        let applied = self.coordinators[c].applied;
        let registered = self.states[applied].node(&holder.node).map(|n| n.incarnation);
        let Some(since) = self.coordinators[c].since() else {
            return self.show(c, agent, false);
        };
        if registered == Some(holder.incarnation) {
            let lead = &mut self.coordinators[c].lead;
            lead.heard.insert(holder.node.clone(), self.now);
            if lead
                .open
                .get(&holder.node)
                .is_none_or(|(known, _)| *known != holder)
                && let Some(session) = lead.sessions.open(since, holder.clone(), now)
            {
                lead.open.insert(holder.node.clone(), (holder.clone(), session));
            }
            if let Some((_, session)) = lead.open.get(&holder.node) {
                let report = Report {
                    ready: true,
                    ..Report::default()
                };
                session.heard(report, now);
            }
        }
        self.show(c, agent, false);
    }

    /// Shows an agent the state that this coordinator has applied.
    pub(super) fn show(&mut self, c: usize, agent: usize, synced: bool) {
        let index = self.coordinators[c].applied;
        self.send(
            Who::Coordinator(c),
            Who::Agent(agent),
            Msg::View { index, synced },
        );
    }

    fn on_propose(&mut self, c: usize, agent: usize, command: Command, id: u64) {
        if self.coordinators[c].since().is_none() {
            return self.send(
                Who::Coordinator(c),
                Who::Agent(agent),
                Msg::Proposed { id, done: false },
            );
        }
        let actor = setup::agent(&self.agents[agent].me);
        let index = self.propose(c, actor, command);
        self.coordinators[c].proposed.insert(index, (agent, id));
    }

    /// Stamps an entry and puts it into the log, behind a time mark where it needs one. Its index.
    pub(super) fn propose(&mut self, c: usize, actor: Principal, command: Command) -> usize {
        let now = self.stamp(c);
        if needs_mark(now, self.own_state(c).time()) {
            let voters = 0..self.coordinators.len();
            let readings = voters.map(|v| self.reading(v)).collect();
            let mark = self.entry(now, setup::coordinator(c), Command::MarkTime { readings });
            self.append(c, mark);
            self.seen.see("state time is marked after a wall clock jumped");
        }
        let entry = self.entry(now, actor, command);
        self.append(c, entry)
    }

    fn stamp(&self, c: usize) -> UnixMillis {
        let (base, at) = self.coordinators[c]
            .lead
            .time
            .unwrap_or_else(|| (setup::WALL, self.instant(c)));
        base.plus(self.instant(c).saturating_duration_since(at))
    }

    pub(super) fn own_state(&self, c: usize) -> &ControlState {
        &self.states[self.coordinators[c].applied]
    }

    /// An entry is applied at this coordinator.
    pub(super) fn applied(&mut self, c: usize, index: usize) {
        if let Some((agent, id)) = self.coordinators[c].proposed.remove(&index) {
            let done = self.oracle.outcomes.get(&index).copied().unwrap_or(false);
            self.send(Who::Coordinator(c), Who::Agent(agent), Msg::Proposed { id, done });
        }
        for agent in 0..self.agents.len() {
            if self.agents[agent].home == c {
                self.show(c, agent, false);
            }
        }
        if self.coordinators[c].leads() {
            if let Some(busy) = self.coordinators[c].lead.busy.take_if(|b| b.index <= index) {
                self.end_busy(c, busy, Ok(()));
            }
            self.judge_early(c);
            self.look_in(c, 10 * MS);
        }
    }

    pub(super) fn busy_ends(&mut self, c: usize, index: usize) {
        let now = self.instant(c);
        let lead = &mut self.coordinators[c].lead;
        if let Some(busy) = lead.busy.take_if(|b| b.index == index && b.deadline <= now) {
            if busy.mark.is_some() {
                self.seen.see("the outcome of a change is unknown");
            }
            self.end_busy(c, busy, Err(unknown()));
        }
    }

    fn end_busy(&mut self, c: usize, busy: Busy, result: Result<(), ProposeError>) {
        if let Some(mark) = busy.mark {
            let table = &mut self.coordinators[c].lead.table;
            table.end_change(mark, rules::outcome_of(&result));
        }
        self.look_in(c, 10 * MS);
    }

    /// One timer for looks: the earliest that was asked for.
    fn look_in(&mut self, c: usize, after: At) {
        let at = self.now + after;
        let look_at = &mut self.coordinators[c].lead.look_at;
        if look_at.is_none_or(|known| at < known) {
            *look_at = Some(at);
            self.timer(Who::Coordinator(c), after, Timer::Look);
        }
    }

    /// One look of the driver's loop.
    pub(super) fn look(&mut self, c: usize) {
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
        if seen.plan.is_none() {
            rules::settle(&mut lead.table, state, &role);
        }
        let decision = decide(&seen, self.stamp(c));
        self.notice_decision(c, &seen, &decision);
        match due(&seen, decision) {
            Due::Wait => {}
            Due::Hold(epoch) => self.coordinators[c].lead.table.hold(&role, epoch),
            Due::Propose(command) => return self.propose_own(c, command, None),
            Due::Change { command, needs_free } => {
                // Between the look and the mark other things happen, and the process may be stopped.
                self.coordinators[c].lead.due = Some((command, seen.role.epoch, needs_free));
                let soon = self.rng.below(3 * MS);
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
    pub(super) fn change(&mut self, c: usize) {
        let now = self.instant(c);
        let Some((command, epoch, needs_free)) = self.coordinators[c].lead.due.take() else {
            return;
        };
        let own = &mut self.coordinators[c];
        own.lead.table.lead(own_since(&own.seat));
        let state = &self.states[own.applied];
        let role = RoleName::global();
        match rules::begin(&mut own.lead.table, state, &role, epoch, needs_free, now) {
            Some(mark) if own.leads() => self.propose_own(c, command, Some((mark, epoch))),
            Some(_) => {}
            None => {
                self.seen
                    .see("a hand-over was decided, and the holder renewed before it");
                self.look_in(c, 10 * MS);
            }
        }
    }

    fn propose_own(&mut self, c: usize, command: Command, change: Option<(ChangeMark, Epoch)>) {
        let (mark, epoch) = change.unzip();
        let now = self.instant(c);
        if mark.is_some() && self.rng.chance(20) {
            self.seen.see("a change was not proposed after all");
            let busy = Busy {
                mark,
                index: 0,
                deadline: now,
            };
            return self.end_busy(c, busy, Err(ProposeError::Overloaded { in_flight: 1 }));
        }
        let cut = mark.is_some() && self.rng.chance(60);
        if cut {
            // The others have it or have it not; who proposed it does not know, and agents still reach it.
            let time = self.rng.between(200 * MS, 2_500 * MS);
            let soon = self.rng.below(2 * MS);
            self.fault(soon, Fault::Minority { coordinator: c, time });
        }
        let index = self.propose(c, setup::coordinator(c), command);
        if let Some(epoch) = epoch {
            self.coordinators[c].lead.changed = Some((epoch, index));
        }
        self.coordinators[c].lead.busy = Some(Busy {
            mark,
            index,
            deadline: now + PROPOSAL,
        });
        let limit = self.coordinators[c].clock.lasts(PROPOSAL) + 1;
        self.timer(Who::Coordinator(c), limit, Timer::BusyEnds(index));
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
                let silence = heard.map(|at| self.now - at);
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

fn own_since(seat: &Seat) -> Option<Instant> {
    match seat {
        Seat::Leader(leading) => leading.since,
        Seat::Follower | Seat::Candidate { .. } => None,
    }
}

fn unknown() -> ProposeError {
    ProposeError::OutcomeUnknown {
        detail: "simulated".to_owned(),
    }
}

/// As it is on the wire.
pub(super) fn renewal(grant: &Grant) -> client::calls::Renewal {
    client::calls::Renewal {
        ttl: grant.ttl,
        renew_interval: grant.renew_interval,
        drain_margin: grant.drain_margin,
    }
}
