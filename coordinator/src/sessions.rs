//! The live ties of agents: soft state of the leader (design.md section 2).
//!
//! Absent on purpose: anything in the log; only what follows from a session (a new run, a lost node) is proposed.
//! Invariant: what stands here was heard by this leadership; another one begins empty, so that absence counts from the
//! election.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use policy::readiness::Loads;
use tokio::{sync::watch, time::Instant};
use types::{Holder, NodeId, NodeIncarnation, RegionId};

/// What an agent said of another region's agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The region that was probed.
    pub region: RegionId,
    /// The node that was probed.
    pub node: NodeId,
    /// Probes in a row that failed; 0 after a success.
    pub consecutive_failures: u32,
    /// What the last failure was.
    pub error: String,
}

/// What an agent says of itself with each heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// It is fit to serve: see `Heartbeat.ready`.
    pub ready: bool,
    /// Why not; empty if ready.
    pub not_ready_reason: String,
    /// How its loads came out.
    pub loads: Loads,
    /// How it sees the other regions.
    pub probes: Vec<Probe>,
}

/// One agent, as this leader last heard it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its region.
    pub region: RegionId,
    /// Its machine.
    pub node: NodeId,
    /// Its run.
    pub incarnation: NodeIncarnation,
    /// Whether its stream is open.
    pub open: bool,
    /// When this run's first session with this leader began.
    pub first_heard: Instant,
    /// When it last spoke.
    pub last_heard: Instant,
    /// Its last heartbeat; none before the first.
    pub report: Option<Report>,
    serial: u64,
}

#[derive(Debug, Default)]
struct Table {
    since: Option<Instant>,
    seen: BTreeMap<NodeId, Seen>,
    serial: u64,
}

impl Table {
    /// A later leadership forgets the sessions of the one before. Whoever speaks of an earlier one is late.
    fn lead(&mut self, since: Instant) -> bool {
        let later = self.since.is_none_or(|known| known < since);
        if later {
            self.since = Some(since);
            self.seen.clear();
        }
        later
    }
}

/// All sessions. A cheap handle.
#[derive(Clone, Debug)]
pub struct Sessions {
    table: Arc<Mutex<Table>>,
    changed: watch::Sender<u64>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            table: Arc::default(),
            changed: watch::Sender::new(0),
        }
    }
}

/// One open stream; closing it marks the node's session as ended.
#[derive(Debug)]
pub struct Session {
    sessions: Sessions,
    node: NodeId,
    serial: u64,
}

impl Sessions {
    /// Follows this node's leadership: a later `since` forgets every session.
    pub fn lead(&self, since: Instant) {
        if self.lock().lead(since) {
            self.notify();
        }
    }

    /// Opens a session with the leadership that began at `since`; an earlier one of the same run's node is replaced,
    /// and its stream ends. None: this node leads anew since then, and the agent says hello again.
    pub fn open(&self, since: Instant, agent: Holder, now: Instant) -> Option<Session> {
        let Holder {
            region,
            node,
            incarnation,
        } = agent;
        let mut table = self.lock();
        table.lead(since);
        if table.since != Some(since) {
            return None;
        }
        table.serial += 1;
        let serial = table.serial;
        let same_run = table
            .seen
            .get(&node)
            .filter(|seen| seen.incarnation == incarnation);
        let (first_heard, report) = match same_run {
            Some(seen) => (seen.first_heard, seen.report.clone()),
            None => (now, None),
        };
        let seen = Seen {
            region,
            node: node.clone(),
            incarnation,
            open: true,
            first_heard,
            last_heard: now,
            report,
            serial,
        };
        table.seen.insert(node.clone(), seen);
        drop(table);
        self.notify();
        Some(Session {
            sessions: self.clone(),
            node,
            serial,
        })
    }

    /// Everyone that was heard since this leadership began, also those whose stream has ended.
    pub fn all(&self) -> Vec<Seen> {
        self.lock().seen.values().cloned().collect()
    }

    /// One node, if it was heard.
    pub fn get(&self, node: &NodeId) -> Option<Seen> {
        self.lock().seen.get(node).cloned()
    }

    /// How many streams are open.
    pub fn open_count(&self) -> usize {
        self.lock().seen.values().filter(|seen| seen.open).count()
    }

    /// Grows whenever a session opened, ended, or said something new.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn notify(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Takes in a heartbeat. False: another session of the same node has replaced this one.
    pub fn heard(&self, report: Report, now: Instant) -> bool {
        let mut table = self.sessions.lock();
        let Some(seen) = table.seen.get_mut(&self.node).filter(|s| s.serial == self.serial) else {
            return false;
        };
        seen.last_heard = now;
        let news = seen.report.as_ref() != Some(&report);
        seen.report = Some(report);
        drop(table);
        if news {
            self.sessions.notify();
        }
        true
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut table = self.sessions.lock();
        if let Some(seen) = table.seen.get_mut(&self.node).filter(|s| s.serial == self.serial) {
            seen.open = false;
            drop(table);
            self.sessions.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(sessions: &Sessions, since: Instant, run: u128) -> Session {
        let agent = Holder {
            region: "r1".parse().unwrap(),
            node: "a1".parse().unwrap(),
            incarnation: NodeIncarnation::from_u128(run),
        };
        sessions
            .open(since, agent, Instant::now())
            .expect("the latest leadership")
    }

    #[test]
    fn a_newer_session_of_a_node_replaces_the_older_and_its_end_does_not_end_the_newer() {
        let (sessions, since) = (Sessions::default(), Instant::now());
        let first = open(&sessions, since, 1);
        let second = open(&sessions, since, 2);
        assert!(!first.heard(Report::default(), Instant::now()));
        drop(first);
        assert!(second.heard(Report::default(), Instant::now()));
        assert_eq!(sessions.open_count(), 1);
        drop(second);
        assert_eq!(sessions.open_count(), 0);
        assert_eq!(
            sessions.all().len(),
            1,
            "absence counts from when it was last heard"
        );
    }

    #[test]
    fn only_news_wakes_the_deciders() {
        let sessions = Sessions::default();
        let session = open(&sessions, Instant::now(), 1);
        let mut changes = sessions.changes();
        session.heard(Report::default(), Instant::now());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        session.heard(Report::default(), Instant::now());
        assert!(!changes.has_changed().unwrap());
    }

    #[test]
    fn another_leadership_begins_with_nobody_heard() {
        let sessions = Sessions::default();
        let session = open(&sessions, Instant::now(), 1);
        let later = Instant::now() + std::time::Duration::from_secs(1);
        sessions.lead(later);
        assert!(sessions.all().is_empty());
        assert!(!session.heard(Report::default(), Instant::now()));
    }

    /// Who was busy while leadership came back ends nothing of what began since.
    #[test]
    fn a_late_word_of_an_earlier_leadership_forgets_nobody() {
        let sessions = Sessions::default();
        let (earlier, later) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
        let session = open(&sessions, later, 1);
        sessions.lead(earlier);
        assert!(session.heard(Report::default(), Instant::now()));
        let agent = Holder {
            region: "r1".parse().unwrap(),
            node: "a1".parse().unwrap(),
            incarnation: NodeIncarnation::from_u128(1),
        };
        assert!(sessions.open(earlier, agent, Instant::now()).is_none());
        assert!(session.heard(Report::default(), Instant::now()));
    }
}
