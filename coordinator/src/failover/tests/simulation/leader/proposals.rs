//! What a leader puts into the log, and what becomes of it.

use std::time::Duration;

use policy::clock::needs_mark;
use state::Command;
use types::{Principal, UnixMillis};

use super::{
    super::{
        setup,
        time::MS,
        world::{Fault, Msg, Timer, Who, World},
    },
    Busy, unknown,
};
use crate::{
    leases::{ChangeMark, rules},
    raft::ProposeError,
};

/// How long a proposal of the leader's own takes until it counts as unknown.
const PROPOSAL: Duration = Duration::from_millis(700);

impl World {
    pub(super) fn on_propose(&mut self, c: usize, agent: usize, command: Command, id: u64) {
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
    pub(in super::super) fn propose(&mut self, c: usize, actor: Principal, command: Command) -> usize {
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

    pub(super) fn stamp(&self, c: usize) -> UnixMillis {
        let (base, at) = self.coordinators[c]
            .lead
            .time
            .unwrap_or_else(|| (setup::WALL, self.instant(c)));
        base.plus(self.instant(c).saturating_duration_since(at))
    }

    pub(super) fn propose_own(&mut self, c: usize, command: Command, mark: Option<ChangeMark>) {
        let epoch = self.own_role(c).epoch;
        let changes = matches!(command, Command::Fence { .. } | Command::Promote { .. });
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
        } else if changes && self.rng.chance(30) {
            self.stall_the_others(c);
        } else if changes && self.rng.chance(40) {
            // Before it is on some disk, on one, on a majority, or applied.
            let (soon, down) = (self.rng.between(1, 12 * MS), self.rng.between(MS, 700 * MS));
            self.fault(soon, Fault::Power { down });
            self.seen
                .see("the power fails while a change is on its way to the disks");
        }
        let index = self.propose(c, setup::coordinator(c), command);
        if changes {
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

    /// It leads, and its rounds are answered, but what it has just proposed is stored nowhere else for longer than it waits.
    fn stall_the_others(&mut self, c: usize) {
        let time = self.rng.between(900 * MS, 2_500 * MS);
        for coordinator in (0..self.coordinators.len()).filter(|other| *other != c) {
            self.fault(0, Fault::Stall { coordinator, time });
        }
        self.seen
            .see("a leader's rounds are answered, and its change is not stored");
    }

    /// An entry is applied at this coordinator.
    pub(in super::super) fn applied(&mut self, c: usize, index: usize) {
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

    pub(in super::super) fn busy_ends(&mut self, c: usize, index: usize) {
        let now = self.instant(c);
        let applied = self.coordinators[c].applied;
        let lead = &mut self.coordinators[c].lead;
        if let Some(at) = lead.overdue.iter().position(|b| b.index == index) {
            let busy = lead.overdue.swap_remove(at);
            let result = if applied >= index { Ok(()) } else { Err(unknown()) };
            return self.end_busy(c, busy, result);
        }
        if let Some(busy) = lead.busy.take_if(|b| b.index == index && b.deadline <= now) {
            if busy.mark.is_some() {
                self.seen.see("the outcome of a change is unknown");
            }
            self.end_busy(c, busy, Err(unknown()));
        }
    }

    pub(super) fn end_busy(&mut self, c: usize, busy: Busy, result: Result<(), ProposeError>) {
        if let Some(mark) = busy.mark {
            let table = &mut self.coordinators[c].lead.table;
            table.end_change(mark, rules::outcome_of(&result));
        }
        self.look_in(c, 10 * MS);
    }
}
