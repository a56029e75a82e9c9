//! What goes wrong, and what people ask for meanwhile; and what of it the list of situations wants to know.

use state::{Applied, Command, ControlState, Entry};
use types::{
    Holder, Reason, RoleName,
    plan::{PlanKind, StepKind, StepState},
    region::Health,
};

use super::{
    agent::Agent,
    setup,
    time::{Clock, MS, Rng},
    world::{Fault, Restart, Timer, Who, Wish, World},
};

fn anybody(rng: &mut Rng, coordinators: usize, agents: usize) -> Who {
    match rng.below(5) {
        0 | 1 => Who::Coordinator(rng.index(coordinators)),
        2 | 3 => Who::Agent(rng.index(agents)),
        _ => Who::Store(rng.index(coordinators)),
    }
}

/// One thing that goes wrong at some time, with so many coordinators and so many places of agents.
pub(super) fn draw(rng: &mut Rng, coordinators: usize, places: usize) -> Fault {
    let time = match rng.below(3) {
        0 => rng.between(50 * MS, 400 * MS),
        1 => rng.between(400 * MS, 1_500 * MS),
        _ => rng.between(1_500 * MS, 4_000 * MS),
    };
    let coordinator = rng.index(coordinators);
    let place = rng.index(places);
    match rng.below(24) {
        0..=2 => {
            let (who, way) = (anybody(rng, coordinators, places), rng.below(4));
            Fault::Isolate {
                who,
                time,
                inwards: way != 1,
                outwards: way != 2,
            }
        }
        3..=4 => Fault::Cut {
            from: anybody(rng, coordinators, places),
            to: anybody(rng, coordinators, places),
            time,
        },
        5..=7 => Fault::Freeze {
            who: anybody(rng, coordinators, places),
            time,
        },
        8 => Fault::Suspend { coordinator, time },
        9 | 22 => Fault::RestartCoordinator {
            coordinator,
            down: time,
        },
        23 => Fault::Power { down: time / 4 },
        10..=11 => Fault::RestartAgent {
            place,
            how: [Restart::Killed, Restart::Stopped, Restart::Twin][rng.index(3)],
            down: time / 4,
        },
        12 => {
            let hours = i64::try_from(rng.between(1, 9)).unwrap_or(1) * 3_600_000;
            Fault::JumpWall {
                coordinator,
                by: if rng.chance(500) { hours } else { -hours },
            }
        }
        13..=14 => Fault::Elect { coordinator },
        15..=16 => Fault::Person(Wish::Switchover),
        17 => Fault::Person(if rng.chance(400) {
            Wish::Failover
        } else {
            Wish::Sick { region: coordinator }
        }),
        18 => Fault::Person(Wish::Ttl {
            ttl: setup::TTLS[rng.index(3)],
        }),
        19..=20 => Fault::Minority { coordinator, time },
        _ => Fault::Forge {
            agent: place,
            store: coordinator,
        },
    }
}

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Isolate {
                who,
                time,
                inwards,
                outwards,
            } => {
                // What is about the one that matters matters more often.
                let who = self.worst(who);
                if inwards {
                    self.cut(None, Some(who), time);
                }
                if outwards {
                    self.cut(Some(who), None, time);
                }
            }
            Fault::Cut { from, to, time } => self.cut(Some(from), Some(to), time),
            Fault::Freeze { who, time } => {
                let who = self.worst(who);
                self.freeze(who, time);
            }
            Fault::Hang { who, time } => self.freeze(who, time),
            Fault::Suspend { coordinator, time } => {
                self.freeze(Who::Coordinator(coordinator), time);
                self.coordinators[coordinator].clock.stand_still(time);
            }
            Fault::Stall { coordinator, time } => {
                self.coordinators[coordinator].stalled = self.now + time;
            }
            Fault::RestartCoordinator { coordinator, down } => self.restart_coordinator(coordinator, down),
            Fault::Power { down } => {
                for coordinator in 0..self.coordinators.len() {
                    let back = down + self.rng.below(200 * MS);
                    self.restart_coordinator(coordinator, back);
                }
                self.seen.see("every coordinator crashes at once");
            }
            Fault::Minority { coordinator, time } => {
                let Who::Coordinator(c) = self.worst(Who::Coordinator(coordinator)) else {
                    return;
                };
                for other in (0..self.coordinators.len()).filter(|other| *other != c) {
                    let (c, other) = (Who::Coordinator(c), Who::Coordinator(other));
                    self.cut(Some(c), Some(other), time);
                    self.cut(Some(other), Some(c), time);
                }
            }
            Fault::RestartAgent { place, how, down } => self.restart_agent(place, how, down),
            Fault::Start { place } => self.agent_starts(self.latest[place]),
            Fault::JumpWall { coordinator, by } => {
                let wall = &mut self.coordinators[coordinator].wall;
                *wall = wall.saturating_add(by);
                self.seen.see("a wall clock jumps by hours");
            }
            Fault::Elect { coordinator } => self.on_campaign(coordinator),
            Fault::Person(wish) => self.wish(wish),
            Fault::Ask(command) => self.person_asks(*command),
            Fault::Forge { agent, store } => self.forge(self.latest[agent], store),
        }
    }

    fn restart_coordinator(&mut self, c: usize, down: u64) {
        self.crash(c);
        self.freeze(Who::Coordinator(c), down);
        self.patience(c);
    }

    /// Half of the time the leader instead of a coordinator, and the holder instead of an agent.
    fn worst(&mut self, who: Who) -> Who {
        if self.rng.chance(400) {
            return who;
        }
        let leader = (0..self.coordinators.len()).find(|c| self.coordinators[*c].leads());
        let holder = self.role().holder.clone();
        let holds = |a: &usize| holder.as_ref() == Some(&self.agents[*a].me);
        match who {
            Who::Coordinator(_) => leader.map_or(who, Who::Coordinator),
            Who::Agent(_) => (0..self.agents.len()).find(holds).map_or(who, Who::Agent),
            Who::Store(_) => who,
        }
    }

    /// Another run of a place; the one before has ended, or was only frozen, somewhere.
    fn restart_agent(&mut self, place: usize, how: Restart, down: u64) {
        let old = self.latest[place];
        let run = 2 + u128::try_from(self.agents.len()).unwrap_or(0);
        let me = setup::holder(self.coordinators.len(), place, run);
        let clock = Clock::new(&mut self.rng, self.base);
        let mut agent = Agent::new(self.agents[old].region, me, clock);
        agent.door = self.agents[old].door.restarted();
        let new = self.agents.len();
        self.oracle.inherit(old, new);
        self.agents.push(agent);
        self.latest[place] = new;
        self.fault(down, Fault::Start { place });
        match how {
            Restart::Killed => self.agents[old].up = false,
            Restart::Stopped => {
                self.say_goodbye(old);
                self.agents[old].up = false;
            }
            Restart::Twin => {
                let time = self.rng.between(100 * MS, 3_000 * MS);
                self.freeze(Who::Agent(old), time);
                self.seen.see("a run that was replaced comes back");
            }
        }
    }

    /// A person asks whoever leads.
    fn wish(&mut self, wish: Wish) {
        let leads = |c: &usize| self.coordinators[*c].since().is_some();
        let Some(c) = (0..self.coordinators.len()).rev().find(leads) else {
            return;
        };
        let state = self.own_state(c);
        let role = state
            .role(&RoleName::global())
            .expect("made with the cluster")
            .clone();
        let targets: Vec<Holder> = self.latest.iter().map(|a| self.agents[*a].me.clone()).collect();
        let target = targets[self.rng.index(targets.len())].clone();
        let plan = |kind| Command::StartPlan {
            role: role.role.clone(),
            kind,
            target,
            trigger: "a person asks".to_owned(),
            expected_epoch: role.epoch,
        };
        let command = match wish {
            Wish::Switchover => plan(PlanKind::Switchover),
            Wish::Failover => plan(PlanKind::Failover),
            Wish::Ttl { ttl } => Command::SetRoleTiming {
                role: role.role.clone(),
                timing: setup::timing(ttl),
            },
            Wish::Sick { region } => {
                let region: types::RegionId = format!("r{region}").parse().expect("a name");
                let from = self
                    .own_state(c)
                    .region(&region)
                    .map_or(Health::Healthy, |r| r.health);
                let to = match from {
                    Health::Healthy => Health::Unhealthy,
                    Health::Unhealthy => Health::Recovering,
                    Health::Recovering => Health::Healthy,
                };
                Command::SetRegionHealth {
                    region,
                    from,
                    to,
                    evidence: "a test".to_owned(),
                }
            }
        };
        if let Wish::Ttl { ttl } = wish
            && let Some(shorter) = setup::TTLS.iter().rev().find(|other| **other < ttl)
        {
            let later = self.rng.between(800 * MS, 2_500 * MS);
            self.fault(later, Fault::Person(Wish::Ttl { ttl: *shorter }));
        }
        // A person's request may be long on its way, and what it was decided by may be over.
        let later = if self.rng.chance(500) {
            self.rng.between(1, 1_500 * MS)
        } else {
            1
        };
        self.fault(later, Fault::Ask(Box::new(command)));
    }

    /// Its holder renews for the shorter time or not, and stops; another may lead; and a person wants the role elsewhere
    /// before the longer lease is over.
    fn take_away_after_shortening(&mut self, holder: Option<&Holder>) {
        let holds = |a: &usize| holder == Some(&self.agents[*a].me);
        let found = (0..self.agents.len()).find(holds);
        let Some(agent) = found.filter(|_| self.rng.chance(300)) else {
            return;
        };
        let (stops, time) = (self.rng.below(600 * MS), self.rng.between(2_000 * MS, 4_000 * MS));
        let who = Who::Agent(agent);
        self.fault(stops, Fault::Hang { who, time });
        if self.rng.chance(600) {
            let coordinator = self.rng.index(self.coordinators.len());
            let after = self.rng.below(200 * MS);
            self.fault(after, Fault::Elect { coordinator });
        }
        let asks = self.rng.between(200 * MS, 900 * MS);
        self.fault(asks, Fault::Person(Wish::Failover));
    }

    fn person_asks(&mut self, command: Command) {
        let leads = |c: &usize| self.coordinators[*c].since().is_some();
        if let Some(c) = (0..self.coordinators.len()).rev().find(leads) {
            self.propose(c, setup::person(), command);
        }
    }

    /// An entry was committed: which situations it makes.
    pub(super) fn notice(&mut self, after: &ControlState, entry: &Entry, applied: &Applied) {
        self.oracle
            .outcomes
            .insert(self.states.len(), applied.outcome.is_ok());
        if let Some(door) = applied.door.as_ref().filter(|door| !door.accepted) {
            match door.reason {
                Some(Reason::StaleEpoch) => self.seen.see("a late write is refused at the registry"),
                Some(Reason::WrongHolder) => self
                    .seen
                    .see("an epoch of another holder is refused at the registry"),
                _ => {}
            }
        }
        if applied.outcome.is_err() {
            return;
        }
        let before = self.role().clone();
        match &entry.command {
            Command::Fence { plan, .. } => {
                let renewing = |a: &Agent| before.holder.as_ref() == Some(&a.me) && a.is_renewing();
                if self.agents.iter().any(renewing) {
                    self.seen.see("a renewal is on its way when its epoch is fenced");
                }
                let by_person = after.plan(*plan).is_some_and(|p| p.created_by == setup::person());
                if by_person && before.holder.is_some() {
                    self.seen.see("a person fails a living holder over");
                }
            }
            Command::Promote { plan, .. } => {
                let plan = after.plan(*plan);
                let switched = plan.is_some_and(|p| {
                    let promoted = |s: &types::plan::StepRecord| {
                        s.kind == StepKind::Promote && s.state == StepState::Done
                    };
                    p.kind == PlanKind::Switchover && p.steps.iter().any(promoted)
                });
                if switched && !self.oracle.has_stopped(before.epoch) {
                    self.seen.see("a hand-over waits out a silent holder");
                }
            }
            Command::RetireTtl { .. } => self.seen.see("a former TTL is waited out"),
            Command::SetRoleTiming { timing, .. } if timing.lease_ttl < before.timing.lease_ttl => {
                self.seen
                    .see("a TTL is shortened while a lease of it may be outstanding");
                self.take_away_after_shortening(before.holder.as_ref());
            }
            _ => {}
        }
        // Whoever was started wakes once it is there.
        for a in 0..self.agents.len() {
            if self.agents[a].up && self.agents[a].view == 0 {
                self.timer(Who::Agent(a), 1, Timer::Wake);
            }
        }
    }
}
