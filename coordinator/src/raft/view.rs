//! What one node sees of the cluster: who leads, who the members are, how far everyone is.

use tokio::time::Instant;
use types::{NodeId, Revision};

use super::{error::LeaderHint, types::Peer};

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
    /// Last log index known to be stored there; `None` where this node does not lead.
    pub matched: Option<Revision>,
    /// Milliseconds since it last acknowledged a heartbeat; `None` where this node does not lead.
    pub silent_millis: Option<u64>,
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
    /// A leader: whether a quorum acknowledged it within its lease. Another node: whether it knows a leader.
    pub has_quorum: bool,
    /// Why Raft stopped, if it did.
    pub stopped: Option<String>,
}
