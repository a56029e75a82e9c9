//! The doors, and guarded work on its way to them: pointers in stores, other agents, and the registry. The rules are the real
//! ones: [`types::FencingToken::outranked_by`], [`policy::door`], [`policy::fence`], and `apply`.

use std::{collections::BTreeMap, time::Duration};

use client::guard::BootInstant;
use policy::{
    door::{self, Admission},
    fence::{Floor, Refused, check, raise},
};
use state::Command;
use types::{Epoch, FencingToken, Holder, RoleName, epoch::Outranked};

use super::{
    agent::token,
    check::DoorId,
    setup,
    time::{At, MS},
    world::{Fault, Msg, Timer, Who, Wish, World},
};

/// A pointer's body: under which token it was written, in which attempt, and its ETag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guarded {
    token: FencingToken,
    nonce: u64,
    etag: u64,
    /// By a claim, and no write that anybody was told of.
    keeps: bool,
}

#[derive(Default)]
pub(super) struct Store {
    body: Option<Guarded>,
}

/// What is to be done under a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Claim {
        store: usize,
    },
    Raise {
        store: usize,
    },
    Write {
        store: usize,
    },
    /// A process that shows an epoch of somebody else.
    Forge {
        store: usize,
    },
    Call {
        place: usize,
    },
    Registry,
}

/// One piece of guarded work under way.
pub(super) struct Op {
    agent: usize,
    token: FencingToken,
    what: What,
    /// Which try of it this is; also its nonce.
    step: u64,
    in_doubt: Option<u64>,
    lost_races: u32,
}

/// The door of an agent. Its floor is on disk.
#[derive(Clone, Default)]
pub(super) struct AgentDoor {
    pub(super) floor: Option<Floor>,
    confirmed: Option<(Epoch, BootInstant)>,
    pub(super) synced: bool,
    calls: BTreeMap<u64, Calling>,
    /// The epoch under which the store beside it stands.
    pub(super) raised: Option<Epoch>,
}

#[derive(Clone)]
struct Calling {
    token: FencingToken,
    caller: usize,
    op: u64,
    /// When the coordinators were asked.
    asked: BootInstant,
    entered: bool,
}

impl AgentDoor {
    /// What is left of it after a restart.
    pub(super) fn restarted(&self) -> Self {
        Self {
            floor: self.floor.clone(),
            ..Self::default()
        }
    }

    fn age(&self, token: &FencingToken, now: BootInstant) -> Option<Duration> {
        let same = self.confirmed.filter(|(epoch, _)| *epoch == token.epoch);
        same.map(|(_, asked)| now.since(asked))
    }
}

impl World {
    pub(super) fn begin_op(&mut self, agent: usize, token: FencingToken, what: What, limit: At) -> u64 {
        let id = self.id();
        let op = Op {
            agent,
            token,
            what,
            step: 0,
            in_doubt: None,
            lost_races: 0,
        };
        self.ops.insert(id, op);
        self.timer(Who::Agent(agent), limit, Timer::OpEnds(id));
        id
    }

    /// The work begins. Whether the lease still holds is not looked at: that was before.
    pub(super) fn act(&mut self, id: u64) {
        let Some(op) = self.ops.get(&id) else { return };
        let (agent, token) = (op.agent, op.token.clone());
        match op.what {
            What::Claim { .. } | What::Raise { .. } | What::Write { .. } | What::Forge { .. } => {
                self.read(id)
            }
            What::Call { place } => {
                let to = Who::Agent(self.latest[place]);
                self.send(Who::Agent(agent), to, Msg::Call { token, op: id });
            }
            What::Registry => {
                let command = Box::new(Command::SetModelTags {
                    model: "guarded.model".parse().expect("a name"),
                    set: [("written".to_owned(), id.to_string())].into(),
                    remove: Default::default(),
                    etag: None,
                    token: Some(token),
                });
                self.ask_leader(agent, Msg::Propose { command, id });
            }
        }
    }

    /// It is over: acknowledged, refused, or out of time.
    pub(super) fn op_ends(&mut self, id: u64, done: bool) {
        let Some(op) = self.ops.remove(&id) else { return };
        let epoch = op.token.epoch;
        let agent = &mut self.agents[op.agent];
        if let What::Raise { .. } = op.what
            && done
        {
            agent.door.raised = Some(epoch);
        }
        let Some(holding) = agent.holding.as_mut().filter(|h| h.token == op.token) else {
            return;
        };
        match op.what {
            What::Claim { store } => {
                holding.claiming.remove(&store);
                // What was fought over and not won is no door that can be passed by.
                if done || op.lost_races == 0 {
                    if done && holding.claims.get(&store) == Some(&false) {
                        self.seen
                            .see("a store that could not be reached is claimed later");
                    }
                    holding.claims.insert(store, done);
                }
            }
            What::Write { .. } | What::Call { .. } | What::Registry => {
                holding.busy = holding.busy.saturating_sub(1);
                if done {
                    self.seen.see("a guarded write is acknowledged");
                }
            }
            What::Raise { .. } | What::Forge { .. } => {}
        }
    }

    // Pointers.

    fn store_of(&self, id: u64) -> Option<(usize, usize)> {
        let op = self.ops.get(&id)?;
        match op.what {
            What::Claim { store } | What::Raise { store } | What::Write { store } | What::Forge { store } => {
                Some((op.agent, store))
            }
            What::Call { .. } | What::Registry => None,
        }
    }

    fn read(&mut self, id: u64) {
        let step = self.id();
        let Some((agent, store)) = self.store_of(id) else {
            return;
        };
        if let Some(op) = self.ops.get_mut(&id) {
            op.step = step;
        }
        self.send(Who::Agent(agent), Who::Store(store), Msg::Read { op: id, step });
        self.timer(Who::Agent(agent), 120 * MS, Timer::Doubt(id, step));
    }

    /// The store said nothing: nobody knows what became of the write, so it is read again.
    pub(super) fn doubt(&mut self, id: u64, step: u64) {
        if self.ops.get(&id).is_some_and(|op| op.step == step) {
            self.read(id);
        }
    }

    pub(super) fn store_hears(&mut self, s: usize, from: Who, msg: Msg) {
        match msg {
            Msg::Read { op, step } => {
                let body = self.stores[s].body.clone();
                self.send(Who::Store(s), from, Msg::ReadSays { op, step, body });
            }
            Msg::Put { op, step, body, over } => {
                let store = &mut self.stores[s];
                let done = store.body.as_ref().map(|b| b.etag) == over;
                if done {
                    self.oracle
                        .accepted(DoorId::Store(s), &body.token, body.keeps, self.now);
                    store.body = Some(*body);
                }
                self.send(Who::Store(s), from, Msg::PutSays { op, step, done });
            }
            other => unreachable!("{other:?} to a store"),
        }
    }

    pub(super) fn read_says(&mut self, id: u64, step: u64, body: Option<Guarded>) {
        let Some((agent, store)) = self.store_of(id) else {
            return;
        };
        let nonce = self.id();
        let Some(op) = self.ops.get_mut(&id).filter(|op| op.step == step) else {
            return;
        };
        if op.in_doubt.is_some() && op.in_doubt == body.as_ref().map(|b| b.nonce) {
            self.seen.see("a writer in doubt recognises its own write");
            return self.op_ends(id, true);
        }
        let keeps = matches!(op.what, What::Claim { .. } | What::Raise { .. });
        if keeps && body.as_ref().is_some_and(|b| b.token == op.token) {
            return self.op_ends(id, true);
        }
        // A forger that finds an older pointer would be taken for a claim: what guards that is the reader's question.
        let forged = matches!(op.what, What::Forge { .. });
        if forged && body.as_ref().is_none_or(|b| b.token.epoch < op.token.epoch) {
            return self.op_ends(id, false);
        }
        if let Some(body) = &body {
            match op.token.outranked_by(&body.token) {
                Ok(None) => {}
                Ok(Some(outranked)) => {
                    self.seen.see(match outranked {
                        Outranked::ByEpoch => "a late write is refused at a store",
                        Outranked::ByHolder => "an epoch of another holder is refused at a store",
                    });
                    return self.op_ends(id, false);
                }
                Err(_) => return self.op_ends(id, false),
            }
        }
        op.step = nonce;
        op.in_doubt = Some(nonce);
        let put = Msg::Put {
            op: id,
            step: nonce,
            over: body.as_ref().map(|b| b.etag),
            body: Box::new(Guarded {
                token: op.token.clone(),
                nonce,
                etag: nonce,
                keeps,
            }),
        };
        self.send(Who::Agent(agent), Who::Store(store), put);
        self.timer(Who::Agent(agent), 120 * MS, Timer::Doubt(id, nonce));
    }

    pub(super) fn put_says(&mut self, id: u64, step: u64, done: bool) {
        let Some(op) = self.ops.get_mut(&id).filter(|op| op.step == step) else {
            return;
        };
        if done {
            return self.op_ends(id, true);
        }
        op.lost_races += 1;
        self.seen.see("a race at a store is lost");
        self.read(id);
    }

    // The agents' door.

    /// Committed state is shown to the door: its floor rises.
    pub(super) fn show_door(&mut self, a: usize, floor: Floor) {
        self.oracle.shown(DoorId::Agent(a), &floor);
        let agent_door = &mut self.agents[a].door;
        agent_door.floor = Some(raise(agent_door.floor.take(), floor));
    }

    pub(super) fn on_call(&mut self, a: usize, caller: usize, token: FencingToken, op: u64) {
        let now = self.boot(a);
        let agent_door = &self.agents[a].door;
        if !agent_door.synced {
            self.seen.see("a door that has read no committed state refuses");
            return self.call_back(a, caller, op, false);
        }
        let verdict = check(agent_door.floor.as_ref(), &token, setup::CLUSTER);
        let age = agent_door.age(&token, now);
        let calling = Calling {
            token,
            caller,
            op,
            asked: now,
            entered: false,
        };
        match door::at_entrance(verdict, age) {
            Admission::Pass => self.enter(a, calling),
            Admission::Ask => self.ask_fence(a, calling),
            Admission::Refuse(refused) => self.refuse_call(a, &calling, &refused),
        }
    }

    fn call_back(&mut self, a: usize, caller: usize, op: u64, done: bool) {
        self.send(Who::Agent(a), Who::Agent(caller), Msg::Called { op, done });
    }

    fn refuse_call(&mut self, a: usize, calling: &Calling, refused: &Refused) {
        match refused {
            Refused::StaleEpoch { .. } => self.seen.see("a late call is refused at an agent's door"),
            Refused::WrongHolder { .. } => {
                self.seen
                    .see("an epoch of another holder is refused at an agent's door");
            }
            Refused::WrongCluster { .. } | Refused::WrongRole { .. } | Refused::Unconfirmed { .. } => {}
        }
        self.call_back(a, calling.caller, calling.op, false);
    }

    fn ask_fence(&mut self, a: usize, calling: Calling) {
        let call = self.id();
        let (token, entered) = (calling.token.clone(), calling.entered);
        self.agents[a].door.calls.insert(call, calling);
        self.ask_leader(a, Msg::CheckFence { token, call });
        // Its answer is acted on without another question, so that is where a stop hurts.
        if self.rng.chance(if entered { 500 } else { 4 }) {
            self.stop_before_the_answer(a);
        }
    }

    /// The door gets its answer when it is old, and nothing else that was said meanwhile.
    fn stop_before_the_answer(&mut self, a: usize) {
        let (who, time) = (Who::Agent(a), self.rng.between(2_700 * MS, 4_500 * MS));
        self.fault(MS, Fault::Hang { who, time });
        for c in 0..self.coordinators.len() {
            let (from, time) = (Who::Coordinator(c), time + 100 * MS);
            self.fault(15 * MS, Fault::Cut { from, to: who, time });
        }
        let soon = self.rng.between(MS, 100 * MS);
        self.fault(soon, Fault::Person(Wish::Failover));
    }

    /// The effect comes a moment after the entrance.
    fn enter(&mut self, a: usize, calling: Calling) {
        let call = self.id();
        self.agents[a].door.calls.insert(
            call,
            Calling {
                entered: true,
                ..calling
            },
        );
        let soon = self.rng.below(2 * MS);
        self.timer(Who::Agent(a), soon + 1, Timer::Effect(call));
        if self.rng.chance(20) {
            let time = self.rng.between(200 * MS, 4_000 * MS);
            self.fault(
                0,
                Fault::Freeze {
                    who: Who::Agent(a),
                    time,
                },
            );
        }
    }

    pub(super) fn fence_said(
        &mut self,
        a: usize,
        call: u64,
        epoch: Epoch,
        holder: Option<Holder>,
        current: bool,
    ) {
        let Some(calling) = self.agents[a].door.calls.remove(&call) else {
            return;
        };
        let committed = Floor {
            cluster_id: setup::CLUSTER,
            role: RoleName::global(),
            epoch,
            holder,
        };
        self.show_door(a, committed.clone());
        match door::at_answer(&committed, current, &calling.token) {
            Admission::Pass => {
                self.agents[a].door.confirmed = Some((calling.token.epoch, calling.asked));
                if calling.entered {
                    self.carry_out(a, calling)
                } else {
                    self.enter(a, calling)
                }
            }
            Admission::Refuse(refused) => self.refuse_call(a, &calling, &refused),
            Admission::Ask => {
                self.seen.see("an epoch that nobody confirms is refused");
                self.call_back(a, calling.caller, calling.op, false);
            }
        }
    }

    pub(super) fn effect(&mut self, a: usize, call: u64) {
        let now = self.boot(a);
        let agent_door = &mut self.agents[a].door;
        let Some(calling) = agent_door.calls.remove(&call) else {
            return;
        };
        if door::is_fresh(agent_door.age(&calling.token, now)) {
            return self.carry_out(a, calling);
        }
        self.seen.see("a door that was stopped asks again");
        self.ask_fence(
            a,
            Calling {
                asked: now,
                ..calling
            },
        );
    }

    /// Under the door's lock: the last look, and the effect.
    fn carry_out(&mut self, a: usize, calling: Calling) {
        let now = self.boot(a);
        let agent_door = &self.agents[a].door;
        let verdict = check(agent_door.floor.as_ref(), &calling.token, setup::CLUSTER);
        match door::at_effect(verdict, agent_door.age(&calling.token, now)) {
            Admission::Pass => {
                self.oracle
                    .accepted(DoorId::Agent(a), &calling.token, false, self.now);
                self.call_back(a, calling.caller, calling.op, true);
            }
            Admission::Refuse(refused) => self.refuse_call(a, &calling, &refused),
            Admission::Ask => {
                self.seen
                    .see("a confirmation that is too old carries nothing out");
                self.call_back(a, calling.caller, calling.op, false);
            }
        }
    }

    /// A process shows the epoch of another one, everywhere.
    pub(super) fn forge(&mut self, a: usize, store: usize) {
        let role = self.role();
        let me = &self.agents[a].me;
        if role.holder.is_none() || role.holder.as_ref() == Some(me) {
            return;
        }
        let (forged, epoch) = (token(role.epoch, me), role.epoch);
        let place = self.rng.index(self.latest.len());
        let ahead = epoch.next().map(|next| token(next, me));
        // A store cannot tell an epoch that was never given out; its readers can.
        let mut works = vec![(What::Forge { store }, forged.clone())];
        for token in [Some(forged), ahead].into_iter().flatten() {
            works.extend([(What::Call { place }, token.clone()), (What::Registry, token)]);
        }
        for (what, token) in works {
            let op = self.begin_op(a, token, what, 400 * MS);
            self.act(op);
        }
    }
}
