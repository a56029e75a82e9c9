//! The one openraft type configuration, and its aliases.
//!
//! Absent on purpose: serde of openraft's types; disk and wire have their own protobuf ([`super::convert`]), so that an
//! upgrade of openraft changes no byte.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use openraft::impls::leader_id_std;
use state::{Event, Rejection, Reply};
use types::{Digest, DiskId, NodeId, RegionId, Revision};

/// An encoded [`state::Entry`], as it stands in the log and on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryBytes(pub Bytes);

impl fmt::Display for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
impl fmt::Debug for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What one applied entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The entry's log index: the revision at which it was applied. For a retry, that of this entry, not the first.
    pub revision: Revision,
    /// The state machine's answer; a rejection is an answer too.
    pub outcome: Result<Reply, Rejection>,
    /// What changed; empty for a rejection and for a retry.
    pub events: Arc<[Event]>,
}

/// What apply answers its caller.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A blank or membership entry.
    Nothing,
    /// A command.
    Applied(Proposed),
}

/// A coordinator as the others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its machine.
    pub node: NodeId,
    /// Its region.
    pub region: RegionId,
    /// Where its Raft port is, `https://host:port`.
    pub raft_endpoint: String,
    /// Where its API is, `https://host:port`.
    pub api_endpoint: String,
    /// Its data directory; `None` of one that an older version made.
    pub disk: Option<DiskId>,
    /// It stores the log and votes, and has no state: it leads only until it has handed leadership over.
    pub witness: bool,
}

impl Peer {
    /// As it is known after it was known as `known`: what was known of its disk stays known.
    pub(crate) fn after(&self, known: &Self) -> Self {
        Self {
            disk: self.disk.or(known.disk),
            ..self.clone()
        }
    }
}

// openraft's log suite makes nodes of no name.
#[cfg(test)]
impl Default for Peer {
    fn default() -> Self {
        Self {
            node: NodeId::new("unnamed").expect("a valid node id"),
            region: RegionId::new("nowhere").expect("a valid region id"),
            raft_endpoint: String::new(),
            api_endpoint: String::new(),
            disk: None,
            witness: false,
        }
    }
}

openraft::declare_raft_types!(
    /// Regent's Raft: one leader per term, so a term names at most one leader.
    pub TypeConfig:
        D = EntryBytes,
        R = Answer,
        NodeId = u64,
        Node = Peer,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

/// Position in the log, with the term that wrote it.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A vote, and whether a quorum granted it.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// An entry of the log, decoded as far as Raft needs.
pub type LogEntry = openraft::alias::EntryOf<TypeConfig>;
/// Who votes and who only listens.
pub type Membership = openraft::Membership<u64, Peer>;
/// A membership and the entry that brought it.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// A node's id in Raft: the first eight bytes of SHA-256 of its name, big end first, top bit cleared. Two names that
/// collide are refused at join.
pub fn raft_id(node: &NodeId) -> u64 {
    let digest = Digest::of(node.as_str().as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) & (u64::MAX >> 1)
}

/// Builds a log id.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// The term of a log id.
pub(crate) fn term_of(id: &LogId) -> u64 {
    id.committed_leader_id().term
}
