//! The simulated world: who is in it, what is on its way between them, and what goes wrong. One seed, one history.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use client::guard::BootInstant;
use state::{Command, ControlState, Entry, Expects};
use tokio::time::Instant;
use types::{
    Epoch, FencingToken, Holder, Principal, RequestId, Revision, RoleName, UnixMillis, reason::Refusal,
};

use super::{
    agent::Agent,
    check::{Broken, Oracle},
    doors::{Guarded, Store},
    raft::{Coordinator, Slot},
    recipe::Recipe,
    seen::Seen,
    setup,
    time::{At, Clock, MS, Rng},
};
use crate::leases::Grant;

/// Somebody who gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Coordinator(usize),
    /// A process of an agent; a restart is another one.
    Agent(usize),
    Store(usize),
}

#[derive(Clone, Debug)]
pub(super) enum Msg {
    RequestVote {
        term: u64,
        last: (u64, usize),
    },
    Vote {
        term: u64,
        yes: bool,
    },
    Append {
        term: u64,
        at: usize,
        before: u64,
        slots: Vec<Slot>,
        commit: usize,
        round: u64,
    },
    Appended {
        term: u64,
        matched: Option<usize>,
        round: u64,
    },
    Heartbeat {
        agent: Holder,
    },
    Renew {
        token: FencingToken,
        limit: At,
        attempt: u64,
    },
    Release {
        token: FencingToken,
    },
    CheckFence {
        token: FencingToken,
        call: u64,
    },
    Sync,
    Propose {
        command: Box<Command>,
        id: u64,
    },
    /// State up to this index; the news of a watch, or with an answer.
    View {
        index: usize,
        synced: bool,
    },
    Renewed {
        attempt: u64,
        result: Result<Grant, Refusal>,
        leader: Option<usize>,
    },
    FenceSaid {
        call: u64,
        epoch: Epoch,
        holder: Option<Holder>,
        current: bool,
    },
    Proposed {
        id: u64,
        done: bool,
    },
    Call {
        token: FencingToken,
        op: u64,
    },
    Called {
        op: u64,
        done: bool,
    },
    Read {
        op: u64,
        step: u64,
    },
    ReadSays {
        op: u64,
        step: u64,
        body: Option<Guarded>,
    },
    Put {
        op: u64,
        step: u64,
        body: Box<Guarded>,
        over: Option<u64>,
    },
    PutSays {
        op: u64,
        step: u64,
        done: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Timer {
    Campaign,
    Beat(u64),
    Look,
    /// What the last look decided to change is marked and proposed.
    Change,
    /// The leader's round is confirmed, and what waited for it is decided now.
    Decide(u64),
    RoundEnds(u64),
    /// A write of the disk has ended.
    Written(u64),
    EarlyEnds,
    BusyEnds(usize),
    Wake,
    Heartbeat,
    Write,
    Act(u64),
    OpEnds(u64),
    /// A store did not answer this step.
    Doubt(u64, u64),
    Effect(u64),
}

#[derive(Clone, Debug)]
pub(super) enum Fault {
    Isolate {
        who: Who,
        time: At,
        inwards: bool,
        outwards: bool,
    },
    Cut {
        from: Who,
        to: Who,
        time: At,
    },
    Freeze {
        who: Who,
        time: At,
    },
    /// The same, and nobody else in its place.
    Hang {
        who: Who,
        time: At,
    },
    Suspend {
        coordinator: usize,
        time: At,
    },
    /// Its disk is full, or hangs: it stores nothing of what a leader sends, and answers all the same.
    Stall {
        coordinator: usize,
        time: At,
    },
    RestartCoordinator {
        coordinator: usize,
        down: At,
    },
    /// Every coordinator at once, as when the power fails.
    Power {
        down: At,
    },
    /// It reaches no other coordinator, and agents still reach it.
    Minority {
        coordinator: usize,
        time: At,
    },
    /// The process of this place ends, or is left frozen, and another run takes its place.
    RestartAgent {
        place: usize,
        how: Restart,
        down: At,
    },
    Start {
        place: usize,
    },
    JumpWall {
        coordinator: usize,
        by: i64,
    },
    Elect {
        coordinator: usize,
    },
    Person(Wish),
    /// What a person asked for a while ago arrives.
    Ask(Box<Command>),
    Forge {
        agent: usize,
        store: usize,
    },
}

/// How a run of an agent gives way to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    Killed,
    /// It says goodbye.
    Stopped,
    /// It was only frozen, and is back while the other one runs.
    Twin,
}

/// What a person asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    Switchover,
    Failover,
    Ttl { ttl: Duration },
    Sick { region: usize },
}

pub(super) enum Event {
    Message { from: Who, msg: Box<Msg> },
    Timer(Timer),
}

/// How bad the network is, in a thousand.
pub(super) struct Weather {
    pub(super) loss: u64,
    pub(super) twice: u64,
    pub(super) slow: u64,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: At,
    queue: BTreeMap<(At, u64), (Option<Who>, Queued)>,
    serial: u64,
    pub(super) base: Instant,
    pub(super) weather: Weather,
    cuts: Vec<(Option<Who>, Option<Who>, At)>,
    pub(super) coordinators: Vec<Coordinator>,
    /// Every process that ever ran, also of runs that are over.
    pub(super) agents: Vec<Agent>,
    /// The process that is the latest of each place.
    pub(super) latest: Vec<usize>,
    pub(super) stores: Vec<Store>,
    /// The state after each committed entry.
    pub(super) states: Vec<ControlState>,
    terms: Vec<u64>,
    pub(super) oracle: Oracle,
    pub(super) seen: Seen,
    pub(super) ops: BTreeMap<u64, super::doors::Op>,
    ids: u64,
    /// Disks say that they have what they have not synced: a bug, on purpose.
    pub(super) lying: bool,
    /// What happened, a line each, where somebody wants to read it.
    log: Option<String>,
}

enum Queued {
    Event(Event),
    Fault(Fault),
}

/// What a seed came to.
pub(super) struct History {
    pub(super) seen: Seen,
    pub(super) broken: Option<Broken>,
    pub(super) events: u64,
    /// In words, if it was asked for.
    pub(super) log: String,
}

/// One history from its recipe.
pub(super) fn run(recipe: Recipe, regions: usize, base: Instant) -> History {
    history(World::new(recipe, regions, base))
}

/// The same, written down.
pub(super) fn record(recipe: Recipe, regions: usize, base: Instant) -> History {
    let mut world = World::new(recipe, regions, base);
    world.log = Some(String::new());
    history(world)
}

fn history(mut world: World) -> History {
    let mut events = 0;
    while world.step() {
        events += 1;
    }
    if let Err(broken) = world.state().check_invariants() {
        world
            .oracle
            .fail("an invariant of the state", format!("{broken:?}"));
    }
    if let Some(broken) = &world.oracle.broken {
        let line = format!("BROKEN {broken}");
        world.note(|| line);
    }
    History {
        seen: world.seen,
        broken: world.oracle.broken,
        events,
        log: world.log.unwrap_or_default(),
    }
}

impl World {
    fn new(recipe: Recipe, regions: usize, base: Instant) -> Self {
        let mut rng = recipe.rng();
        let rough = rng.chance(500);
        let clock = |rng: &mut Rng| Clock::new(rng, base);
        let coordinators = (0..regions).map(|_| Coordinator::new(clock(&mut rng))).collect();
        let places = setup::places(regions);
        let agents = places.iter().enumerate();
        let agents: Vec<_> = agents
            .map(|(place, (region, _))| {
                Agent::new(*region, setup::holder(regions, place, 1), clock(&mut rng))
            })
            .collect();
        let mut world = Self {
            weather: Weather {
                loss: if rough { rng.below(80) } else { 0 },
                twice: if rough { rng.below(80) } else { 5 },
                slow: if rough { rng.below(150) } else { 10 },
            },
            rng,
            now: 0,
            queue: BTreeMap::new(),
            serial: 0,
            base,
            cuts: Vec::new(),
            coordinators,
            latest: (0..agents.len()).collect(),
            agents,
            stores: (0..regions).map(|_| Store::default()).collect(),
            states: vec![setup::state(regions)],
            terms: vec![0],
            oracle: Oracle::default(),
            seen: Seen::default(),
            ops: BTreeMap::new(),
            ids: 1_000,
            lying: recipe.lying,
            log: None,
        };
        world.begin(recipe.plan(regions));
        world
    }

    fn begin(&mut self, plan: Vec<(At, Fault)>) {
        for c in 0..self.coordinators.len() {
            self.patience(c);
        }
        for agent in 0..self.agents.len() {
            self.agent_starts(agent);
        }
        for (at, fault) in plan {
            self.put(at, None, Queued::Fault(fault));
        }
    }

    pub(super) fn state(&self) -> &ControlState {
        &self.states[self.states.len() - 1]
    }
    pub(super) fn role(&self) -> &types::role::RoleRecord {
        self.state()
            .role(&RoleName::global())
            .expect("made with the cluster")
    }
    pub(super) fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn put(&mut self, at: At, to: Option<Who>, queued: Queued) {
        self.serial += 1;
        self.queue.insert((at, self.serial), (to, queued));
    }

    pub(super) fn timer(&mut self, who: Who, after: At, timer: Timer) {
        let at = self.now + after;
        self.put(at, Some(who), Queued::Event(Event::Timer(timer)));
    }

    pub(super) fn fault(&mut self, after: At, fault: Fault) {
        let at = self.now + after;
        self.put(at, None, Queued::Fault(fault));
    }

    /// A message may be lost, doubled, or so late that later ones overtake it.
    pub(super) fn send(&mut self, from: Who, to: Who, msg: Msg) {
        let now = self.now;
        self.cuts.retain(|(_, _, until)| *until > now);
        let cut = |(a, b, _): &(Option<Who>, Option<Who>, At)| {
            a.is_none_or(|a| a == from) && b.is_none_or(|b| b == to)
        };
        if self.cuts.iter().any(cut) || self.rng.chance(self.weather.loss) {
            return;
        }
        let copies = if self.rng.chance(self.weather.twice) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = if self.rng.chance(self.weather.slow) {
                self.rng.between(30 * MS, 1_200 * MS)
            } else {
                self.rng.between(MS / 2, 12 * MS)
            };
            let msg = Box::new(msg.clone());
            self.put(now + delay, Some(to), Queued::Event(Event::Message { from, msg }));
        }
    }

    fn step(&mut self) -> bool {
        let Some(((at, _), (to, queued))) = self.queue.pop_first() else {
            return false;
        };
        if at > setup::END || self.oracle.broken.is_some() {
            return false;
        }
        self.now = at;
        match (to, queued) {
            (_, Queued::Fault(fault)) => {
                self.note(|| format!("FAULT {fault:?}"));
                self.strike(fault);
            }
            (Some(who), Queued::Event(event)) => {
                let thaw = self.frozen(who);
                if thaw > at {
                    // What came meanwhile waits in its sockets; what it was about to do, it does then.
                    let thaw = thaw + self.rng.below(2 * MS);
                    self.put(thaw, Some(who), Queued::Event(event));
                    return true;
                }
                if self.is_up(who) {
                    self.note(|| format!("{who} {event}"));
                    self.happen(who, event);
                }
            }
            (None, Queued::Event(_)) => {}
        }
        self.believe();
        true
    }

    /// Another line of the history.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            // Writing to a string cannot fail.
            let _ = writeln!(log, "{:>8} {}", self.now, line());
        }
    }

    fn frozen(&self, who: Who) -> At {
        match who {
            Who::Coordinator(c) => self.coordinators[c].frozen,
            Who::Agent(a) => self.agents[a].frozen,
            Who::Store(_) => 0,
        }
    }

    fn is_up(&self, who: Who) -> bool {
        match who {
            Who::Coordinator(c) => self.coordinators[c].up,
            Who::Agent(a) => self.agents[a].up,
            Who::Store(_) => true,
        }
    }

    pub(super) fn freeze(&mut self, who: Who, time: At) {
        let until = self.now + time;
        match who {
            Who::Coordinator(c) => self.coordinators[c].frozen = until,
            Who::Agent(a) => self.agents[a].frozen = until,
            Who::Store(_) => {}
        }
    }

    fn happen(&mut self, who: Who, event: Event) {
        match (who, event) {
            (Who::Coordinator(c), Event::Timer(timer)) => self.coordinator_timer(c, timer),
            (Who::Agent(a), Event::Timer(timer)) => self.agent_timer(a, timer),
            (Who::Store(_), Event::Timer(_)) => {}
            (Who::Coordinator(c), Event::Message { from, msg }) => self.coordinator_hears(c, from, *msg),
            (Who::Agent(a), Event::Message { from, msg }) => self.agent_hears(a, from, *msg),
            (Who::Store(s), Event::Message { from, msg }) => self.store_hears(s, from, *msg),
        }
    }

    fn coordinator_timer(&mut self, c: usize, timer: Timer) {
        match timer {
            Timer::Campaign => self.on_silence(c),
            Timer::Beat(term) => self.on_beat(c, term),
            Timer::Look => self.look(c),
            Timer::Change => self.change(c),
            Timer::Decide(round) => self.decide_round(c, round),
            Timer::RoundEnds(round) => self.round_ends(c, round),
            Timer::Written(number) => self.on_written(c, number),
            Timer::EarlyEnds => self.judge_early(c),
            Timer::BusyEnds(index) => self.busy_ends(c, index),
            other => unreachable!("{other:?} is an agent's"),
        }
    }

    fn coordinator_hears(&mut self, c: usize, from: Who, msg: Msg) {
        if let Who::Coordinator(other) = from {
            return match msg {
                Msg::RequestVote { term, last } => self.on_request_vote(c, other, term, last),
                Msg::Vote { term, yes } => self.on_vote(c, other, term, yes),
                Msg::Append {
                    term,
                    at,
                    before,
                    slots,
                    commit,
                    round,
                } => {
                    self.on_append(c, other, term, at, before, slots, commit, round);
                }
                Msg::Appended { term, matched, round } => self.on_appended(c, other, term, matched, round),
                other => unreachable!("{other:?} between coordinators"),
            };
        }
        if let Who::Agent(agent) = from {
            self.asked(c, agent, msg);
        }
    }

    /// What the log says at this index is so, for ever; the first who applies it does so for all.
    pub(super) fn committed(&mut self, index: usize, slot: &Slot) {
        if index < self.states.len() {
            if self.terms[index] != slot.term {
                self.oracle.fail(
                    "consensus: what was committed stays",
                    format!("another entry at {index}"),
                );
            }
            return;
        }
        let before = &self.states[self.states.len() - 1];
        let mut state = before.clone();
        self.terms.push(slot.term);
        if let Some(entry) = &slot.entry {
            let revision = Revision(setup::REVISION + index as u64);
            let applied = state.apply(revision, entry);
            self.oracle.applied(before, &state, entry, &applied, self.now);
            self.notice(&state, entry, &applied);
            self.note(|| format!("COMMITTED {index} of term {}: {:?}", slot.term, entry.command));
        }
        self.states.push(state);
    }

    /// An entry as the leader stamps it.
    pub(super) fn entry(&mut self, time: UnixMillis, actor: Principal, command: Command) -> Arc<Entry> {
        let id = u128::from(self.id());
        Arc::new(Entry {
            proposed_at: time,
            request_id: RequestId::v7_from_parts(setup::WALL.0, id),
            actor,
            command,
            expects: Expects::default(),
        })
    }

    pub(super) fn boot(&self, agent: usize) -> BootInstant {
        self.agents[agent].clock.boot(self.now)
    }
    pub(super) fn instant(&self, c: usize) -> Instant {
        self.coordinators[c].clock.instant(self.now)
    }

    pub(super) fn cut(&mut self, from: Option<Who>, to: Option<Who>, time: At) {
        self.cuts.push((from, to, self.now + time));
    }
}
