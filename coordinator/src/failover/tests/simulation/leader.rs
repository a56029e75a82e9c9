//! A coordinator that leads, or believes so: the shell around `leases::rules` and `failover::rules`, as the real one runs them.
//!
//! [`rounds`]: what agents ask, and the ReadIndex rounds before answers. [`renewals`]: what is granted and released.
//! [`proposals`]: into the log and back. [`driver`]: the looks at the role.

mod driver;
mod proposals;
mod renewals;
mod rounds;

use std::collections::BTreeMap;

use policy::clock::median;
use state::{Command, ControlState};
use tokio::time::Instant;
use types::{
    Epoch, FencingToken, Holder, NodeId, Reason, RoleName, UnixMillis, role::RoleRecord, time::ClockReading,
};

use super::{
    raft::Seat,
    setup,
    time::{At, MS},
    world::{Fault, Msg, Timer, Who, World},
};
use crate::{
    failover::memory::Memory,
    leases::{
        ChangeMark, Grant, LeaseTable,
        rules::{Early, Round},
    },
    raft::ProposeError,
    sessions::{Report, Session, Sessions},
};

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
    /// Of former leaderships, and not known to be over.
    overdue: Vec<Busy>,
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
    /// Whoever waits for it gets to it no sooner.
    wakes: At,
    round: Round,
    answered: Vec<usize>,
    confirmed: bool,
    asked: Vec<Asked>,
}

#[derive(Clone)]
struct Caller {
    agent: usize,
    attempt: u64,
    /// When it was received, in true time, and under which term.
    received: At,
    term: u64,
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
        self.round.take_if(|round| !round.confirmed);
        (self.busy, self.look_at) = (None, None);
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
        // What its round had confirmed is decided when it gets to it, under whatever leadership that is: maybe its own next one.
        let late = self.rng.chance(500);
        let over = own.lead.round.take_if(|round| !(late && round.confirmed));
        if let Some(round) = &mut own.lead.round {
            round.wakes = self.now + self.rng.between(MS, 500 * MS);
            let soon = self.rng.between(MS, 60 * MS);
            self.fault(soon, Fault::Elect { coordinator: c });
        }
        let asked = over.map(|round| round.asked).unwrap_or_default();
        let queued = std::mem::take(&mut self.coordinators[c].lead.queued);
        for asked in asked.into_iter().chain(queued) {
            self.refuse(c, asked, Reason::NotLeader);
        }
        if !late {
            self.judge_early(c);
        }
        if let Some(busy) = self.coordinators[c].lead.busy.take() {
            if late {
                let wait = self.rng.between(MS, 700 * MS);
                self.timer(Who::Coordinator(c), wait, Timer::BusyEnds(busy.index));
                self.coordinators[c].lead.overdue.push(busy);
            } else {
                self.end_busy(c, busy, Err(unknown()));
            }
        }
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

    pub(super) fn own_state(&self, c: usize) -> &ControlState {
        &self.states[self.coordinators[c].applied]
    }

    /// The role, as this coordinator has applied it.
    fn own_role(&self, c: usize) -> &RoleRecord {
        let role = self.own_state(c).role(&RoleName::global());
        role.expect("made with the cluster")
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
