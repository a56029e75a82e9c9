//! What one node sees of the cluster: who leads, who the members are, how far everyone is.

use std::time::Duration;

use openraft::{
    Instant as _, RaftMetrics, ServerState, alias::WatchReceiverOf, async_runtime::WatchReceiver as _,
    error::Fatal,
};
use tokio::time::Instant;
use tracing::{error, info};
use types::{NodeId, Revision};

use super::{
    RaftNode,
    config::RaftTiming,
    error::LeaderHint,
    integrity::Compared,
    types::{LogId, Peer, TypeConfig, term_of},
};

/// Who leads, as this node sees it. Soft: only a ReadIndex round proves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<LeaderHint>,
    /// Whether this node leads. Turns false as soon as Raft says so; a leader that lost its quorum still reads true
    /// until a higher term reaches it, so decide by [`super::RaftNode::confirm_leadership`].
    pub is_leader: bool,
    /// The current term.
    pub term: u64,
    /// When this node's own leadership of `term` began: its first entry was applied here. `None` while it does not
    /// lead, or leads and has not applied that entry. Another term has another `since` (L8).
    pub since: Option<Instant>,
}

/// A coordinator of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id in Raft.
    pub raft_id: u64,
    /// Who it is and where.
    pub peer: Peer,
    /// Votes; otherwise it only listens.
    pub voter: bool,
    /// Leads, as this node sees it.
    pub leader: bool,
    /// Last log index known to be stored there; `None` where this node does not lead, or knows of nothing there.
    pub matched: Option<Revision>,
    /// Milliseconds since it last acknowledged a heartbeat, 0 for this node itself; `None` where this node does not lead,
    /// or that member has acknowledged none since it does.
    pub silent_millis: Option<u64>,
    /// For how long, since this node leads, it has lacked an entry of this node's log, or was silent; 0 for this node itself. `None`
    /// where this node does not lead, or has led for less than a moment.
    pub lag: Option<Duration>,
}

/// What a node does in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaftRole {
    /// Listens, does not vote.
    Learner,
    /// Follows.
    Follower,
    /// Campaigns.
    Candidate,
    /// Leads.
    Leader,
    /// Stopped, or stopping.
    Stopped,
}

impl RaftRole {
    /// `LEADER`, `FOLLOWER` …, as the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Learner => "LEARNER",
            Self::Follower => "FOLLOWER",
            Self::Candidate => "CANDIDATE",
            Self::Leader => "LEADER",
            Self::Stopped => "STOPPED",
        }
    }
}

/// One node's own view, answered also without a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// The node.
    pub node: NodeId,
    /// Its id in Raft.
    pub raft_id: u64,
    /// What it does.
    pub role: RaftRole,
    /// The current term.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<LeaderHint>,
    /// All members.
    pub members: Vec<Member>,
    /// Last entry in the log, committed or not.
    pub last_log: Revision,
    /// Last entry that was applied.
    pub applied: Revision,
    /// Last entry that the newest snapshot covers.
    pub snapshot: Revision,
    /// Last entry that is gone from the log: a follower that is no further is brought up by a snapshot.
    pub purged: Revision,
    /// A leader: whether a quorum acknowledged it within its lease. Another node: whether the leader that it follows
    /// spoke to it within that lease. To know of a leader is not enough: with pre-votes a node that is left alone goes on
    /// naming its last one.
    pub has_quorum: bool,
    /// Since when the leader that this node follows is silent; `None` where this one leads, or heard of none in this run.
    pub leader_silent: Option<Duration>,
    /// Until when this node campaigns at the latest, if that leader stays silent; `None` where it never would.
    pub election_due: Option<Duration>,
    /// By which election timing this node goes.
    pub timing: RaftTiming,
    /// How far members are from each other, as far as it is known here: from, to, round trip.
    pub round_trips: Vec<(NodeId, NodeId, Duration)>,
    /// Why Raft stopped, if it did.
    pub stopped: Option<String>,
    /// Why this node serves nobody from its state, if it does not.
    pub suspicion: Option<String>,
    /// What came of the last comparison of its state with the others'.
    pub compared: Compared,
}

pub(super) type Metrics = RaftMetrics<TypeConfig>;

impl RaftNode {
    /// All members, voters and learners, in the order of their names.
    pub fn members(&self) -> Vec<Member> {
        let metrics = self.raft().metrics();
        let now = metrics.borrow_watched();
        members(&now)
    }

    /// This node's own view; needs no quorum.
    pub fn status(&self) -> RaftStatus {
        let metrics = self.raft().metrics();
        let now = metrics.borrow_watched();
        let revision = |id: &Option<LogId>| Revision(id.as_ref().map_or(0, LogId::index));
        let leader_silent = self.leader_silent(&now);
        let mut members = members(&now);
        for member in &mut members {
            member.lag = self.inner.lags.of(&now, member);
        }
        RaftStatus {
            node: self.own_peer().node.clone(),
            raft_id: self.own_id(),
            role: role(&now),
            term: now.current_term,
            leader: hint(&now),
            last_log: Revision(now.last_log_index.unwrap_or(0)),
            applied: revision(&now.last_applied),
            snapshot: revision(&now.snapshot),
            purged: revision(&now.purged),
            has_quorum: self.has_quorum(&now, leader_silent),
            leader_silent,
            election_due: leader_silent.and_then(|silent| self.election_due(&now, silent)),
            timing: self.timing(),
            round_trips: self.known_round_trips(&members),
            stopped: now.running_state.as_ref().err().map(ToString::to_string),
            suspicion: self.store().suspicion().why(),
            compared: self.compared().borrow().clone(),
            members,
        }
    }

    /// Why this node serves nobody now, for whoever sends callers to it; `None` while it does. A witness, whose service is its
    /// vote, knows of the cluster's first entry by the cluster's name.
    pub fn why_unserving(&self) -> Option<String> {
        let status = self.status();
        let founded = match self.is_witness() {
            true => self.cluster_id().is_some(),
            false => self.read(|state| state.cluster().is_some()),
        };
        unserving(&status, founded)
    }

    /// Of these members: whoever calls it looks at Raft's metrics, and a second look would wait for a change that waits for
    /// the first one.
    fn known_round_trips(&self, members: &[Member]) -> Vec<(NodeId, NodeId, Duration)> {
        let pairs = self.pairs(members).into_iter();
        pairs.filter_map(|p| Some((p.a, p.b, p.round_trip?))).collect()
    }

    fn leader_silent(&self, now: &Metrics) -> Option<Duration> {
        let leader = now.current_leader.filter(|leader| *leader != now.id)?;
        self.hearing().silence(now.current_term, leader, Instant::now())
    }

    /// A campaign begins one draw after the leader's lease is over; both are `election_max` at most.
    fn election_due(&self, now: &Metrics, silent: Duration) -> Option<Duration> {
        let votes = now.membership_config.voter_ids().any(|id| id == now.id);
        votes.then(|| (self.timing().election_max * 2).saturating_sub(silent))
    }

    fn has_quorum(&self, now: &Metrics, leader_silent: Option<Duration>) -> bool {
        let lease = self.timing().election_max;
        if now.state != ServerState::Leader {
            return now.running_state.is_ok() && leader_silent.is_some_and(|silent| silent < lease);
        }
        let alone = now.membership_config.voter_ids().count() == 1;
        alone || now.last_quorum_acked.is_some_and(|at| at.elapsed() < lease)
    }

    /// Follows Raft's metrics: who leads, where the members are, whether Raft still runs.
    pub(crate) async fn watch_raft(self) {
        loop {
            let (number, raft) = self.engine().numbered();
            let cause = self.follow(raft.metrics()).await;
            drop(raft);
            // One that stopped because its timing changed is followed by another.
            if !self.engine().follows(number).await {
                return self.note_stopped(cause);
            }
        }
    }

    /// Until that one stops, and why it did.
    async fn follow(&self, mut metrics: WatchReceiverOf<TypeConfig, Metrics>) -> String {
        let (mut known, mut seen) = (None, None);
        loop {
            let now = news(&metrics.borrow_watched(), &mut seen);
            let Some(now) = now else {
                if metrics.changed().await.is_err() {
                    return "raft ended".to_owned();
                }
                continue;
            };
            if known.as_ref() != Some(now.membership_config.log_id()) {
                self.connections().learn(now.membership_config.membership());
                known = Some(*now.membership_config.log_id());
            }
            let became_leader = self.note_leadership(&now);
            // A witness changes nothing while it leads.
            if became_leader && !self.is_witness() {
                self.spawn(|node| async move { node.announce_own_endpoints().await });
                self.spawn(Self::end_changes);
            }
            if let Err(fatal) = &now.running_state {
                return fatal.to_string();
            }
        }
    }

    /// Publishes who leads; true when this node's own leadership began just now.
    fn note_leadership(&self, now: &Metrics) -> bool {
        let mut began = false;
        self.leadership_sender().send_if_modified(|before| {
            let next = next_leadership(before, now);
            began = next.since.is_some() && before.since != next.since;
            let changed = *before != next;
            log_change(before, &next);
            *before = next;
            changed
        });
        began
    }

    fn note_stopped(&self, cause: String) {
        // Asked to end, it is no error.
        if cause == Fatal::<TypeConfig>::Stopped.to_string() {
            info!("raft stopped");
        } else {
            error!(cause, "raft stopped");
        }
        self.leadership_sender().send_modify(|leadership| {
            *leadership = Leadership {
                term: leadership.term,
                ..Leadership::default()
            };
        });
        self.stopped_with(cause);
    }

    /// The first cause is the one.
    pub(super) fn stopped_with(&self, cause: String) {
        self.stopped_sender().send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(cause);
            is_first
        });
    }
}

/// What of Raft's metrics is looked at here: term, role, leader, membership, whether an entry of this term is applied, and
/// whether Raft runs.
type Seen = (u64, ServerState, Option<u64>, Option<LogId>, bool, bool);

/// The metrics, where anything that is looked at here has changed since `seen`. Raft says how far it is at its every step, and
/// a copy of all that would cost a loaded leader more than what it is for.
fn news(now: &Metrics, seen: &mut Option<Seen>) -> Option<Metrics> {
    let applied = now.last_applied.as_ref();
    let shown = (
        now.current_term,
        now.state,
        now.current_leader,
        *now.membership_config.log_id(),
        applied.is_some_and(|id| term_of(id) == now.current_term),
        now.running_state.is_ok(),
    );
    let is_new = seen.replace(shown) != Some(shown);
    is_new.then(|| now.clone())
}

fn unserving(status: &RaftStatus, founded: bool) -> Option<String> {
    if let Some(why) = &status.stopped {
        return Some(format!("raft stopped: {why}"));
    }
    if let Some(why) = &status.suspicion {
        return Some(format!("its state is not trusted: {why}"));
    }
    if status.leader.is_none() {
        return Some("no leader is known".to_owned());
    }
    if !status.has_quorum {
        return Some("no quorum was heard within an election timeout".to_owned());
    }
    (!founded).then(|| "the cluster's first entry is not applied yet".to_owned())
}

/// The leadership that `now` shows, after `before`.
pub(crate) fn next_leadership(before: &Leadership, now: &Metrics) -> Leadership {
    let is_leader =
        now.running_state.is_ok() && now.state == ServerState::Leader && now.current_leader == Some(now.id);
    let term = now.current_term;
    let own_term_applied = now.last_applied.as_ref().is_some_and(|id| term_of(id) == term);
    let since = match before.since {
        _ if !is_leader || !own_term_applied => None,
        Some(since) if before.term == term => Some(since),
        Some(_) | None => Some(Instant::now()),
    };
    Leadership {
        leader: hint(now),
        is_leader,
        term,
        since,
    }
}

/// Who leads is what people look for in a log first.
fn log_change(before: &Leadership, next: &Leadership) {
    let term = next.term;
    match &next.leader {
        Some(leader) if before.leader.as_ref() != Some(leader) || before.term != term => {
            info!(leader = %leader.node, term, own = next.is_leader, "leader");
        }
        None if before.leader.is_some() => info!(term, "no leader is known"),
        Some(_) | None => {}
    }
}

fn hint(now: &Metrics) -> Option<LeaderHint> {
    let raft_id = now.current_leader.filter(|_| now.running_state.is_ok())?;
    let peer = now.membership_config.get_node(&raft_id)?;
    Some(LeaderHint {
        node: peer.node.clone(),
        raft_id,
        api_endpoint: peer.api_endpoint.clone(),
        witness: peer.witness,
    })
}

fn role(now: &Metrics) -> RaftRole {
    if now.running_state.is_err() {
        return RaftRole::Stopped;
    }
    match now.state {
        ServerState::Learner => RaftRole::Learner,
        ServerState::Follower => RaftRole::Follower,
        ServerState::Candidate => RaftRole::Candidate,
        ServerState::Leader => RaftRole::Leader,
        ServerState::Shutdown => RaftRole::Stopped,
    }
}

fn members(now: &Metrics) -> Vec<Member> {
    let voters: Vec<u64> = now.membership_config.voter_ids().collect();
    let member = |(id, peer): (&u64, &Peer)| {
        let matched = now
            .replication
            .as_ref()
            .and_then(|r| r.get(id))
            .cloned()
            .flatten();
        let heard = now.heartbeat.as_ref().and_then(|h| h.get(id)).cloned().flatten();
        let silent = heard.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        // Nobody acknowledges anything to itself.
        let leads = now.state == ServerState::Leader && *id == now.id;
        Member {
            raft_id: *id,
            peer: peer.clone(),
            voter: voters.contains(id),
            leader: now.current_leader == Some(*id),
            matched: matched.map(|m| Revision(m.index())),
            silent_millis: if leads { Some(0) } else { silent },
            lag: None,
        }
    };
    let mut all: Vec<_> = now.membership_config.nodes().map(member).collect();
    all.sort_by(|a, b| a.peer.node.cmp(&b.peer.node));
    all
}
