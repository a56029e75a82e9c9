//! A state with the plumbing that a test does not care about: revisions, request ids, times, actors.

use types::{Principal, RequestId, Revision, UnixMillis};

use super::language::Line;
use crate::{
    command::{Command, Entry, Expects},
    event::Event,
    invariants::check_transition,
    reply::Applied,
    state::ControlState,
};

/// State time at which every world begins.
pub(super) const START: u64 = 1_700_000_000_000;

pub(super) struct World {
    pub(super) state: ControlState,
    pub(super) now: UnixMillis,
    pub(super) actor: Principal,
    /// Every event so far, in order.
    pub(super) events: Vec<Event>,
    pub(super) last: Option<Entry>,
    requests: u128,
}

pub(super) fn actor(text: &str) -> Principal {
    let text = match text.split_once('/') {
        None => format!("user/{text}"),
        Some(("coordinator", node)) => format!("region/eu/coordinator/{node}"),
        Some((region, node)) => format!("region/{region}/node/{node}"),
    };
    format!("spiffe://regent.local/{text}").parse().unwrap()
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(ControlState::new())
    }

    pub(super) fn with(state: ControlState) -> Self {
        let (now, actor) = (UnixMillis(START), actor("admin"));
        Self {
            state,
            now,
            actor,
            events: Vec::new(),
            last: None,
            requests: 0,
        }
    }

    /// Goes on from a state whose requests were of another world: none of its ids comes again.
    pub(super) fn after(state: ControlState) -> Self {
        Self {
            requests: 1 << 32,
            ..Self::with(state)
        }
    }

    /// Three healthy regions with stores and agents, a model whose first version is everywhere, and the global role
    /// held by `eu/a1#1` at g1.e2.
    pub(super) fn standing() -> Self {
        let mut world = Self::new();
        for line in include_str!("../../testdata/scripts/standing.txt").lines() {
            if let Some(line) = line.strip_prefix("> ").filter(|l| *l != "dump") {
                let applied = world.line(line);
                assert!(applied.is_none_or(|a| a.outcome.is_ok()), "{line}");
            }
        }
        world.actor = actor("admin");
        world
    }

    /// A fresh request for a command, now, by the present actor.
    pub(super) fn entry(&mut self, command: Command) -> Entry {
        self.requests += 1;
        Entry {
            proposed_at: self.now,
            request_id: RequestId::v7_from_parts(self.now.0, self.requests),
            actor: self.actor.clone(),
            command,
            expects: Expects::default(),
        }
    }

    /// Applies an entry at the next revision, and checks everything that must hold whatever it is.
    pub(super) fn apply(&mut self, entry: &Entry) -> Applied {
        let before = self.state.clone();
        let applied = self.state.apply(before.revision.next(), entry);
        self.state
            .check_invariants()
            .unwrap_or_else(|b| panic!("{b} after {entry:?}"));
        assert_eq!(
            self.state.state_hash(),
            self.state.hash_from_scratch(),
            "{entry:?}"
        );
        check_transition(&before, &self.state).unwrap_or_else(|b| panic!("{b} after {entry:?}"));
        if applied.outcome.is_err() {
            assert!(
                same_records(&before, &self.state) && applied.events.is_empty(),
                "a refusal left a trace: {entry:?}"
            );
        }
        self.events.extend(applied.events.iter().cloned());
        self.last = Some(entry.clone());
        applied
    }

    /// One line of a script: a command (about the newest plan, unless it names one), or `actor NAME`, `wait DURATION`, `again` (the last entry once more).
    pub(super) fn line(&mut self, text: &str) -> Option<Applied> {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        match first {
            "actor" => self.actor = actor(rest),
            "wait" => self.now = self.now.plus(super::language::millis(rest)),
            "again" => {
                let entry = self.last.clone().unwrap();
                return Some(self.apply(&entry));
            }
            _ => {
                let plan = self.state.plans.keys().next_back().map_or(0, |p| p.0);
                let line = Line::parse(text).or("plan", plan);
                let entry = Entry {
                    expects: line.expects(),
                    ..self.entry(line.command())
                };
                return Some(self.apply(&entry));
            }
        }
        None
    }

    /// Lines that must all be accepted.
    pub(super) fn lines(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            if let Some(applied) = self.line(line) {
                assert!(applied.outcome.is_ok(), "{line}: {:?}", applied.outcome);
            }
        }
    }
}

/// Whether two states differ at most in what every entry may change: revision, time and answered requests.
pub(super) fn same_records(a: &ControlState, b: &ControlState) -> bool {
    let mut a = a.clone();
    (a.revision, a.time, a.requests) = (b.revision, b.time, b.requests.clone());
    a == *b
}

/// The revision that the next entry gets.
pub(super) fn next(state: &ControlState) -> Revision {
    state.revision().next()
}
