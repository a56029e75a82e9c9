//! A process of an agent: it follows the state that it is shown, asks for the lease of what it is to hold, and acts under it.
//! The lease is reckoned by the client's own rule ([`client::guard::Course`]).

use std::{collections::BTreeMap, time::Duration};

use client::guard::{Course, Due, is_final};
use policy::failover::next_holder;
use state::{Command, ControlState, StepOutcome};
use types::{
    Epoch, FencingToken, Holder, PlanId, Reason, RoleName,
    plan::{PlanState, StepKind, StepState},
    reason::Refusal,
    region::NodeStatus,
};

use super::{
    doors::{AgentDoor, What},
    leader::renewal,
    setup,
    time::{At, Clock, MS, micros},
    world::{Fault, Msg, Timer, Who, Wish, World},
};
use crate::leases::Grant;

/// How far a role is this run's; as in the agent's desired state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Reserved,
    Promised,
    Expected,
    Held,
    Yielding,
}

/// One role under one epoch.
pub(super) struct Holding {
    pub(super) token: FencingToken,
    pub(super) phase: Phase,
    pub(super) course: Course,
    /// The renewal that is under way, and until when.
    attempt: Option<(u64, At)>,
    not_before: At,
    /// Another epoch rules.
    lost: bool,
    /// The stores that stand under the epoch, or could not be reached.
    pub(super) claims: BTreeMap<usize, bool>,
    pub(super) claiming: BTreeMap<usize, u64>,
    /// Writes that run.
    pub(super) busy: usize,
}

pub(super) struct Agent {
    pub(super) region: usize,
    pub(super) me: Holder,
    pub(super) clock: Clock,
    pub(super) up: bool,
    pub(super) frozen: At,
    pub(super) home: usize,
    leader: usize,
    pub(super) view: usize,
    pub(super) holding: Option<Holding>,
    /// The epoch of which a release was said: never again.
    pub(super) released: Option<Epoch>,
    pub(super) door: AgentDoor,
    /// When each renewal was sent, in true time; for the oracle.
    pub(super) sent: BTreeMap<u64, At>,
    /// Steps that were reported, and when.
    reported: BTreeMap<(PlanId, StepKind, u32), At>,
    pub(super) registered: At,
    wake: At,
    raising: Option<u64>,
    release_again: At,
}

impl Agent {
    pub(super) fn new(region: usize, me: Holder, clock: Clock) -> Self {
        Self {
            region,
            me,
            clock,
            up: true,
            frozen: 0,
            home: region,
            leader: region,
            view: 0,
            holding: None,
            released: None,
            door: AgentDoor::default(),
            sent: BTreeMap::new(),
            reported: BTreeMap::new(),
            registered: 0,
            wake: 0,
            raising: None,
            release_again: 0,
        }
    }

    /// What is left of its lease; nothing once it gave it back.
    pub(super) fn left(&self, now: At) -> Duration {
        let holding = self
            .holding
            .as_ref()
            .filter(|h| Some(h.token.epoch) != self.released);
        let lease = holding.and_then(|h| h.course.lease);
        lease.map_or(Duration::ZERO, |lease| lease.left(self.clock.boot(now)))
    }

    /// Whether a renewal of its lease is on its way.
    pub(super) fn is_renewing(&self) -> bool {
        self.up && self.holding.as_ref().is_some_and(|h| h.attempt.is_some())
    }

    fn is_active(&self, now: At, stores: usize) -> bool {
        let settled = |h: &Holding| h.phase == Phase::Held && h.claims.len() == stores;
        !self.left(now).is_zero() && self.holding.as_ref().is_some_and(settled)
    }
}

/// What a run is to claim or hold by a state, as `desired` has it.
fn wish(state: &ControlState, me: &Holder) -> Option<(FencingToken, Phase)> {
    let role = state.role(&RoleName::global())?;
    let plan = state.running_plan(&role.role);
    let next = plan.and_then(|plan| next_holder(role, plan));
    if let Some((token, committed)) = claimant(state).filter(|(token, _)| token.holder == *me) {
        let phase = match (committed, next.is_some()) {
            (false, false) => Phase::Reserved,
            (false, true) => Phase::Promised,
            (true, true) => Phase::Yielding,
            (true, false) => Phase::Held,
        };
        return Some((token, phase));
    }
    let (epoch, holder) = next.filter(|(_, holder)| *holder == me)?;
    Some((token(epoch, holder), Phase::Expected))
}

pub(super) fn token(epoch: Epoch, holder: &Holder) -> FencingToken {
    FencingToken {
        cluster_id: setup::CLUSTER,
        role: RoleName::global(),
        epoch,
        holder: holder.clone(),
    }
}

/// Who may claim the doors by a state, and whether the epoch is committed.
fn claimant(state: &ControlState) -> Option<(FencingToken, bool)> {
    let role = state.role(&RoleName::global())?;
    if let Some(holder) = &role.holder {
        return Some((token(role.epoch, holder), true));
    }
    let reserved = role.reservation.as_ref()?;
    let plan = state
        .plan(reserved.plan)
        .filter(|p| p.state == PlanState::Running)?;
    let claims = |s: &types::plan::StepRecord| {
        s.kind == StepKind::Claim && matches!(s.state, StepState::Running | StepState::Done)
    };
    let begun = plan.steps.iter().any(claims);
    begun.then(|| (token(reserved.epoch, &reserved.target), false))
}

impl World {
    pub(super) fn agent_starts(&mut self, a: usize) {
        self.timer(Who::Agent(a), 1, Timer::Wake);
        let first = self.rng.between(1, 100 * MS);
        self.timer(Who::Agent(a), first, Timer::Heartbeat);
        self.timer(Who::Agent(a), first, Timer::Write);
        self.ask_leader(a, Msg::Sync);
    }

    pub(super) fn agent_timer(&mut self, a: usize, timer: Timer) {
        match timer {
            Timer::Wake => self.wake(a),
            Timer::Heartbeat => self.heartbeat(a),
            Timer::Write => self.write(a),
            Timer::Act(op) => self.act(op),
            Timer::OpEnds(op) => self.op_ends(op, false),
            Timer::Doubt(op, step) => self.doubt(op, step),
            Timer::Effect(call) => self.effect(a, call),
            other => unreachable!("{other:?} is a coordinator's"),
        }
    }

    pub(super) fn agent_hears(&mut self, a: usize, from: Who, msg: Msg) {
        match msg {
            Msg::View { index, synced } => self.on_view(a, index, synced),
            Msg::Renewed {
                attempt,
                result,
                leader,
            } => self.on_renewed(a, attempt, result, leader),
            Msg::FenceSaid {
                call,
                epoch,
                holder,
                current,
            } => self.fence_said(a, call, epoch, holder, current),
            Msg::Proposed { id, done } => self.op_ends(id, done),
            Msg::Call { token, op } => {
                if let Who::Agent(caller) = from {
                    self.on_call(a, caller, token, op);
                }
            }
            Msg::Called { op, done } => self.op_ends(op, done),
            Msg::ReadSays { op, step, body } => self.read_says(op, step, body),
            Msg::PutSays { op, step, done } => self.put_says(op, step, done),
            other => unreachable!("{other:?} to an agent"),
        }
    }

    /// To whom it takes for the leader; mostly rightly.
    pub(super) fn ask_leader(&mut self, a: usize, msg: Msg) {
        let to = Who::Coordinator(self.agents[a].leader);
        self.send(Who::Agent(a), to, msg);
    }

    fn try_another(&mut self, a: usize, hint: Option<usize>) {
        let count = self.coordinators.len();
        let next = hint.unwrap_or_else(|| self.rng.index(count));
        self.agents[a].leader = next;
    }

    fn heartbeat(&mut self, a: usize) {
        let every = self.agents[a].clock.lasts(Duration::from_millis(250));
        self.timer(Who::Agent(a), every, Timer::Heartbeat);
        let me = self.agents[a].me.clone();
        let state = &self.states[self.agents[a].view];
        let known = state.node(&me.node).map(|n| (n.incarnation, n.status));
        if known != Some((me.incarnation, NodeStatus::Up)) && self.now > self.agents[a].registered + 300 * MS
        {
            self.agents[a].registered = self.now;
            let id = self.id();
            let command = Box::new(setup::register(&me));
            self.ask_leader(a, Msg::Propose { command, id });
        }
        if !self.agents[a].door.synced {
            self.ask_leader(a, Msg::Sync);
        }
        if self.rng.chance(60) {
            self.try_another(a, None);
        }
        self.ask_leader(a, Msg::Heartbeat { agent: me });
    }

    fn on_view(&mut self, a: usize, index: usize, synced: bool) {
        let agent = &mut self.agents[a];
        agent.door.synced |= synced;
        let news = index > agent.view;
        agent.view = agent.view.max(index);
        if news || synced {
            let role = self.states[index]
                .role(&RoleName::global())
                .expect("made with the cluster");
            let floor = policy::fence::floor_of(role, setup::CLUSTER);
            self.show_door(a, floor);
            self.wake(a);
        }
    }

    /// Does what is due, and says when to look again.
    fn wake(&mut self, a: usize) {
        self.follow(a);
        self.renew(a);
        self.give_back(a);
        self.claim(a);
        self.steps(a);
        self.raise(a);
        let agent = &self.agents[a];
        let busy = agent.holding.is_some();
        let nap = if busy { 80 * MS } else { 600 * MS };
        if self.now >= agent.wake {
            self.agents[a].wake = self.now + nap;
            self.timer(Who::Agent(a), nap, Timer::Wake);
        }
    }

    fn follow(&mut self, a: usize) {
        let agent = &mut self.agents[a];
        let wish = wish(&self.states[agent.view], &agent.me);
        let Some((token, phase)) = wish else {
            agent.holding = None;
            return;
        };
        if agent.holding.as_ref().is_none_or(|h| h.token != token) {
            agent.holding = Some(Holding {
                token,
                phase: Phase::Reserved,
                course: fresh(),
                attempt: None,
                not_before: 0,
                lost: false,
                claims: BTreeMap::new(),
                claiming: BTreeMap::new(),
                busy: 0,
            });
        }
        let Some(holding) = agent.holding.as_mut() else {
            return;
        };
        let on = match phase {
            Phase::Reserved => false,
            Phase::Promised | Phase::Expected => holding.phase == Phase::Reserved,
            Phase::Held | Phase::Yielding => holding.phase != phase,
        };
        if on {
            holding.phase = phase;
        }
    }

    fn renew(&mut self, a: usize) {
        let now = self.boot(a);
        let true_now = self.now;
        let agent = &mut self.agents[a];
        let released = agent.released;
        let Some(holding) = agent.holding.as_mut() else {
            return;
        };
        let asks = matches!(holding.phase, Phase::Promised | Phase::Expected | Phase::Held);
        if !asks || holding.lost || released == Some(holding.token.epoch) {
            holding.attempt = None;
            return;
        }
        if let Some((_, until)) = holding.attempt {
            if true_now < until {
                return;
            }
            holding.attempt = None;
            holding
                .course
                .failed(&Refusal::new(Reason::OutcomeUnknown, "no answer"));
            let count = self.coordinators.len();
            agent.leader = self.rng.index(count);
        }
        let Some(holding) = agent.holding.as_mut() else {
            return;
        };
        match holding.course.due(now) {
            Due::Nothing(_) => return,
            Due::End => {
                // Another holding under the same epoch may begin (L9).
                holding.course = fresh();
                holding.not_before = true_now + 100 * MS;
                self.seen.see("a lease runs out at its holder");
                return;
            }
            Due::Renewal if true_now < holding.not_before => return,
            Due::Renewal => {}
        }
        // The leader's end; the client's limits are about connections, and none is made here.
        let limit = micros(holding.course.send(now)).min(900 * MS);
        self.ids_for(a, limit);
    }

    fn ids_for(&mut self, a: usize, limit: At) {
        let attempt = self.id();
        let agent = &mut self.agents[a];
        let until = self.now + limit;
        agent.sent.insert(attempt, self.now);
        let Some(holding) = agent.holding.as_mut() else {
            return;
        };
        holding.attempt = Some((attempt, until));
        let token = holding.token.clone();
        self.ask_leader(
            a,
            Msg::Renew {
                token,
                limit,
                attempt,
            },
        );
    }

    fn on_renewed(&mut self, a: usize, attempt: u64, result: Result<Grant, Refusal>, leader: Option<usize>) {
        let released = self.agents[a].released;
        let agent = &mut self.agents[a];
        let current = agent
            .holding
            .as_mut()
            .filter(|h| h.attempt.is_some_and(|(id, _)| id == attempt));
        let Some(holding) = current else {
            self.seen.see("an answer comes when nobody waits for it any more");
            return;
        };
        let Some((_, until)) = holding.attempt else { return };
        match result {
            Ok(grant) => {
                holding.attempt = None;
                let lapsed = holding.course.lease.is_none()
                    && holding.phase == Phase::Held
                    && self.oracle.was_granted(holding.token.epoch);
                holding.course.granted(renewal(&grant));
                if matches!(holding.phase, Phase::Expected | Phase::Promised) {
                    holding.phase = Phase::Held;
                }
                if lapsed {
                    self.seen
                        .see("a lease that ran out is renewed under the same epoch");
                }
                debug_assert!(
                    released != Some(holding.token.epoch),
                    "no attempt stands after a release"
                );
            }
            Err(refusal) if is_final(&refusal) => {
                holding.attempt = None;
                holding.lost = true;
                self.seen.see("a holder hears that its epoch is over");
            }
            Err(refusal) => {
                // The client asks again within the time of the same call, which began when it was sent.
                if self.now + 20 * MS < until {
                    let token = holding.token.clone();
                    let limit = until - self.now - 10 * MS;
                    if refusal.reason == Reason::NotLeader || refusal.reason == Reason::NoQuorum {
                        self.try_another(a, leader);
                    }
                    let to = Who::Coordinator(self.agents[a].leader);
                    return self.send(
                        Who::Agent(a),
                        to,
                        Msg::Renew {
                            token,
                            limit,
                            attempt,
                        },
                    );
                }
                holding.attempt = None;
                holding.course.failed(&refusal);
                self.try_another(a, leader);
            }
        }
        self.wake(a);
    }

    /// A switchover asks for the role: once nothing runs under it, says so, and again until it has moved.
    fn give_back(&mut self, a: usize) {
        let now = self.now;
        let agent = &mut self.agents[a];
        let Some(holding) = agent.holding.as_mut().filter(|h| h.phase == Phase::Yielding) else {
            return;
        };
        if holding.busy > 0 || now < agent.release_again {
            return;
        }
        let token = holding.token.clone();
        holding.attempt = None;
        holding.course = fresh();
        if agent.released == Some(token.epoch) {
            self.seen.see("a release is said again");
        }
        agent.released = Some(token.epoch);
        agent.release_again = now + 300 * MS;
        self.oracle.stopped(token.epoch, now);
        let count = self.coordinators.len();
        if self.rng.chance(300) {
            self.agents[a].leader = self.rng.index(count);
        }
        self.ask_leader(a, Msg::Release { token });
    }

    /// The process ends, and nobody need wait its lease out; only if nothing runs under it.
    pub(super) fn say_goodbye(&mut self, a: usize) {
        let now = self.now;
        let agent = &mut self.agents[a];
        let held = agent
            .holding
            .as_ref()
            .filter(|h| h.phase == Phase::Held && h.busy == 0);
        let Some(token) = held.map(|h| h.token.clone()) else {
            return;
        };
        agent.released = Some(token.epoch);
        self.oracle.stopped(token.epoch, now);
        self.ask_leader(a, Msg::Release { token });
    }

    fn claim(&mut self, a: usize) {
        let now = self.boot(a);
        let Some(holding) = &self.agents[a].holding else {
            return;
        };
        let within = holding
            .course
            .lease
            .is_some_and(|l| !l.left_for_work(now).is_zero());
        let may = match holding.phase {
            Phase::Reserved | Phase::Promised => true,
            Phase::Held => within,
            Phase::Expected | Phase::Yielding => false,
        };
        // A reserved epoch is good for claims only once its plan claims.
        if !may
            || holding.lost
            || !wish(&self.states[self.agents[a].view], &self.agents[a].me)
                .is_some_and(|w| w.0 == holding.token)
        {
            return;
        }
        for store in 0..self.stores.len() {
            let Some(holding) = &self.agents[a].holding else {
                return;
            };
            if holding.claims.get(&store) != Some(&true) && !holding.claiming.contains_key(&store) {
                let token = holding.token.clone();
                let op = self.begin_op(a, token, What::Claim { store }, 500 * MS);
                if let Some(holding) = &mut self.agents[a].holding {
                    holding.claiming.insert(store, op);
                }
                self.act(op);
            }
        }
    }

    /// Reports the step that it is asked for, and again while that stands.
    fn steps(&mut self, a: usize) {
        let agent = &self.agents[a];
        let state = &self.states[agent.view];
        let Some(plan) = state
            .running_plan(&RoleName::global())
            .filter(|p| p.target == agent.me)
        else {
            return;
        };
        let Some(step) = plan
            .current_step()
            .filter(|s| s.state == StepState::Running && s.kind.runs_in_agent())
        else {
            return;
        };
        let settled = agent
            .holding
            .as_ref()
            .is_some_and(|h| h.claims.len() == self.stores.len());
        if step.kind == StepKind::Claim && !settled {
            return;
        }
        let key = (plan.plan, step.kind, step.attempt);
        let first = !agent.reported.contains_key(&key);
        if agent
            .reported
            .get(&key)
            .is_some_and(|at| self.now < at + 400 * MS)
        {
            return;
        }
        let outcome = if first && self.rng.chance(30) {
            StepOutcome::Failed {
                detail: "a test".to_owned(),
            }
        } else {
            StepOutcome::Done {
                detail: String::new(),
                doors: Vec::new(),
            }
        };
        let command = Box::new(Command::FinishStep {
            plan: key.0,
            step: key.1,
            attempt: key.2,
            reporter: Some(agent.me.incarnation),
            outcome,
        });
        self.agents[a].reported.insert(key, self.now);
        let id = self.id();
        self.ask_leader(a, Msg::Propose { command, id });
    }

    /// Brings the pointer beside it under the epoch of whoever may claim it.
    fn raise(&mut self, a: usize) {
        let agent = &self.agents[a];
        let store = agent.region;
        if agent.raising.is_some_and(|op| self.ops.contains_key(&op)) {
            return;
        }
        let Some((token, _)) = claimant(&self.states[agent.view]).filter(|(t, _)| t.holder != agent.me)
        else {
            return;
        };
        if agent.door.raised == Some(token.epoch) {
            return;
        }
        let op = self.begin_op(a, token, What::Raise { store }, 500 * MS);
        self.agents[a].raising = Some(op);
        self.act(op);
    }

    /// Guarded work, now and then, while it may act: it looks at its lease, and goes on a moment later.
    fn write(&mut self, a: usize) {
        let next = self.rng.between(60 * MS, 300 * MS);
        self.timer(Who::Agent(a), next, Timer::Write);
        let now = self.boot(a);
        let agent = &self.agents[a];
        if !agent.is_active(self.now, self.stores.len()) {
            return;
        }
        let Some(holding) = &agent.holding else { return };
        let left = holding
            .course
            .lease
            .map_or(Duration::ZERO, |l| l.left_for_work(now));
        let budget = agent.clock.lasts(left.min(Duration::from_millis(400)));
        if budget == 0 {
            return;
        }
        let token = holding.token.clone();
        // What of it is for stopping, of the shortest lease there is.
        if agent.left(self.now) <= setup::TTLS[0] / 10 {
            let text = format!("{token} with {:?} left", agent.left(self.now));
            self.oracle
                .fail("L5 no work begins that cannot be stopped in time", text);
        }
        let what = match self.rng.below(3) {
            0 => What::Write {
                store: self.rng.index(self.stores.len()),
            },
            1 => What::Call {
                place: self.rng.index(self.latest.len()),
            },
            _ => What::Registry,
        };
        let op = self.begin_op(a, token, what, budget);
        if let Some(holding) = &mut self.agents[a].holding {
            holding.busy += 1;
        }
        let soon = self.rng.below(3 * MS);
        self.timer(Who::Agent(a), soon + 1, Timer::Act(op));
        if self.rng.chance(40) {
            self.seen
                .see("a holder freezes between its look at the lease and its write");
            let time = self.rng.between(200 * MS, 4_000 * MS);
            self.fault(
                0,
                Fault::Freeze {
                    who: Who::Agent(a),
                    time,
                },
            );
            if let What::Call { place } = what
                && self.rng.chance(500)
            {
                self.keep_in_the_dark(place, time);
            }
        }
    }

    /// The door at a place hears from no coordinator for so long, while the role moves.
    fn keep_in_the_dark(&mut self, place: usize, time: At) {
        let door = Who::Agent(self.latest[place]);
        for c in 0..self.coordinators.len() {
            self.cut(Some(Who::Coordinator(c)), Some(door), time + 300 * MS);
        }
        let soon = self.rng.between(MS, 300 * MS);
        self.fault(soon, Fault::Person(Wish::Failover));
        self.seen
            .see("a late call meets a door that hears nothing of what is committed");
    }

    /// Every process that believes that it holds, by its own clock and whether or not it runs.
    pub(super) fn believe(&mut self) {
        let (now, mut first) = (self.now, None::<&FencingToken>);
        for agent in self.agents.iter().filter(|a| a.up && !a.left(now).is_zero()) {
            let Some(holding) = &agent.holding else { continue };
            if let Some(other) = first {
                let text = format!("{other} and {} are both believed in", holding.token);
                return self.oracle.fail("I6 two believe that they hold", text);
            }
            first = Some(&holding.token);
        }
    }
}

fn fresh() -> Course {
    Course::new(Duration::from_millis(100), Duration::from_millis(600))
}
