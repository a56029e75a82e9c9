//! What can fail between a caller and the log, other than a rule.
//!
//! Invariant: every variant but [`ProposeError::OutcomeUnknown`] promises that the entry was not and will not be
//! applied because of this call.

use std::path::{Path, PathBuf};

use types::{
    ClusterId, NodeId,
    reason::{Reason, Refusal},
};

/// Who leads, for a caller that should go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader's machine.
    pub node: NodeId,
    /// Its id in Raft.
    pub raft_id: u64,
    /// Where clients reach it, `https://host:port`.
    pub api_endpoint: String,
    /// It leads only until it has handed leadership over, and serves nobody.
    pub witness: bool,
}

/// Why a proposal or a linearizable read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, or none that is known. Surely not proposed.
    #[error("this coordinator does not lead{}", hint_text(.leader))]
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<LeaderHint>,
    },
    /// No quorum confirmed the leader in time. Surely not proposed.
    #[error("no quorum of coordinators answers: {detail}")]
    NoQuorum {
        /// What was waited for.
        detail: String,
    },
    /// The entry may be applied now, later or never; only the same request id tells.
    #[error("the outcome of the proposal is unknown: {detail}")]
    OutcomeUnknown {
        /// What was seen.
        detail: String,
    },
    /// The encoded command is larger than an entry may be. Surely not proposed.
    #[error("the command takes {bytes} bytes, {max} is the limit of one entry")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Too many proposals are in flight. Surely not proposed.
    #[error("{in_flight} proposals are in flight already")]
    Overloaded {
        /// The bound that was hit.
        in_flight: usize,
    },
    /// This leader's disk has no room for more of the log. Surely not proposed; it ends by itself once there is room.
    #[error("the disk of {node} is full: {}", full_text(path, *free_bytes, *needed_bytes))]
    DiskFull {
        /// This coordinator.
        node: NodeId,
        /// The log's directory.
        path: PathBuf,
        /// Free for this user, as the file system says: it may take none of them.
        free_bytes: u64,
        /// What must be free.
        needed_bytes: u64,
    },
    /// What is in flight takes too many bytes. Surely not proposed.
    #[error("proposals in flight take {limit} bytes already")]
    OverloadedBytes {
        /// The bound that was hit.
        limit: usize,
    },
    /// This leader's disk may not take all that is in flight. Surely not proposed; it ends with what is in flight.
    #[error(
        "the disk of {node} has room for {room_bytes} bytes in {} beside what votes need, and what is in flight may take them all",
        path.display()
    )]
    OverloadedDisk {
        /// This coordinator.
        node: NodeId,
        /// The log's directory.
        path: PathBuf,
        /// The bound that was hit.
        room_bytes: u64,
    },
    /// The cluster has not switched on what the caller asks for: some coordinator's build may not know it. Surely not
    /// proposed.
    #[error(
        "{what} takes feature level {needs}, and the cluster is at {level}: upgrade every coordinator first"
    )]
    BelowLevel {
        /// What they ask for.
        what: &'static str,
        /// The cluster's level.
        level: u32,
        /// The level that knows it.
        needs: u32,
    },
    /// A witness was asked for something that takes a state. Surely not proposed.
    #[error(
        "{node} is a witness: it votes and stores the log, and serves nobody{}{}", if *.leads {
            "; it leads until another voter has all of the log, and hands leadership over"
        } else { "" }, hint_text(.leader)
    )]
    Witness {
        /// This coordinator.
        node: NodeId,
        /// It leads, for the moment.
        leads: bool,
        /// Who leads and serves, if that is known.
        leader: Option<LeaderHint>,
    },
    /// Leadership is to go to one that cannot take it. Nothing was done.
    #[error("{node} {why}")]
    CannotLead {
        /// Who was named.
        node: NodeId,
        /// Why it cannot.
        why: CannotLead,
    },
    /// The node is stopping, or stopped on an error. Surely not proposed.
    #[error("this coordinator is not serving: {detail}")]
    NotServing {
        /// Why.
        detail: String,
    },
}

/// Why a coordinator that was named cannot take leadership over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotLead {
    /// It would only hand it over.
    #[error("is a witness, and does not lead: name a coordinator that serves")]
    Witness,
    /// Nobody of this name votes.
    #[error("is no voter of this cluster: `regent cluster members` names them")]
    NoVoter,
    /// It did not answer the leader within an election timeout.
    #[error("does not answer the leader: name one that does, as `regent cluster members` shows")]
    Silent,
}

fn hint_text(leader: &Option<LeaderHint>) -> String {
    match leader {
        Some(hint) if hint.witness => {
            let node = &hint.node;
            format!("; {node} does, a witness, until it has handed leadership over")
        }
        Some(hint) => format!("; {} at {} does", hint.node, hint.api_endpoint),
        None => "; no leader is known".to_owned(),
    }
}

/// Where enough is free, it is not bytes that the file system lacks, or not of those that this user may take.
fn full_text(path: &Path, free_bytes: u64, needed_bytes: u64) -> String {
    let path = path.display();
    let (why, remedy) = if free_bytes < needed_bytes {
        (
            format!("{free_bytes} bytes are free for {path} and {needed_bytes} are needed"),
            "free some there",
        )
    } else {
        (
            format!(
                "its file system takes no more writes in {path}, though {free_bytes} bytes are free: a quota is used up, or, as \
                 on btrfs, the room for metadata"
            ),
            "raise the quota, or free some there",
        )
    };
    format!("{why}; {remedy}, or move its data_dir to a larger disk while it is stopped")
}

impl ProposeError {
    /// The refusal as it travels. Operands: `leader` and `leader_api` where known, `retry_after_ms`.
    pub fn to_refusal(&self) -> Refusal {
        let message = self.to_string();
        match self {
            Self::NotLeader { leader: None } => Refusal::new(Reason::NotLeader, message),
            // Nobody is served there; another one leads soon.
            Self::NotLeader { leader: Some(hint) } if hint.witness => {
                Refusal::new(Reason::NotLeader, message).with("leader", &hint.node)
            }
            Self::NotLeader { leader: Some(hint) } => Refusal::new(Reason::NotLeader, message)
                .with("leader", &hint.node)
                .with("leader_api", &hint.api_endpoint),
            Self::NoQuorum { .. } => Refusal::new(Reason::NoQuorum, message),
            Self::OutcomeUnknown { .. } => Refusal::new(Reason::OutcomeUnknown, message),
            Self::TooLarge { bytes, max } => Refusal::new(Reason::LimitExceeded, message)
                .with("shown", bytes)
                .with("limit", max),
            Self::Overloaded { in_flight } => Refusal::new(Reason::Overloaded, message)
                .with("in_flight", in_flight)
                .with("retry_after_ms", 100),
            Self::DiskFull {
                path,
                free_bytes,
                needed_bytes,
                ..
            } => Refusal::new(Reason::DiskFull, message)
                .with("path", path.display())
                .with("free_bytes", free_bytes)
                .with("needed_bytes", needed_bytes)
                .with("retry_after_ms", 1_000),
            Self::OverloadedBytes { limit } => Refusal::new(Reason::Overloaded, message)
                .with("in_flight_bytes", limit)
                .with("retry_after_ms", 100),
            Self::OverloadedDisk { path, room_bytes, .. } => Refusal::new(Reason::Overloaded, message)
                .with("path", path.display())
                .with("room_bytes", room_bytes)
                .with("retry_after_ms", 100),
            Self::BelowLevel { level, needs, .. } => Refusal::new(Reason::FeatureLevel, message)
                .with("current", level)
                .with("needs", needs),
            // A caller that follows hints is where it is served at once.
            Self::Witness {
                leader: Some(hint), ..
            } => Refusal::new(Reason::NotLeader, message)
                .with("leader", &hint.node)
                .with("leader_api", &hint.api_endpoint),
            Self::Witness { leader: None, .. } => Refusal::new(Reason::NotServing, message),
            Self::CannotLead { node, why } => {
                let reason = match why {
                    CannotLead::NoVoter => Reason::NodeNotFound,
                    CannotLead::Witness | CannotLead::Silent => Reason::IllegalTransition,
                };
                Refusal::new(reason, message).with("node", node)
            }
            Self::NotServing { .. } => Refusal::new(Reason::NotServing, message),
        }
    }
}

/// The way back of a coordinator that must not go on, and what it costs.
const NEW_NODE: &str = "`regent cluster replace NODE`, with its name, takes the old disk out of the cluster; then start it with an \
                        empty data_dir, and it joins anew under the same name";

/// Why a node does not start. Nothing was changed on disk that a repaired start would trip over.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("data directory {}: {doing}: {source}; make it readable and writable for this user, or name another", path.display())]
    DataDir {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process holds the data directory.
    #[error("data directory {} is in use by another process: if that is this node, stop it first; otherwise name another directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory was written by another node.
    #[error("data directory {} belongs to node {found}, not to {expected}; name the directory of {expected}", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who was started.
        expected: NodeId,
    },
    /// The directory is a witness's and the config is not, or the other way round.
    #[error(
        "data directory {} was made {}, and `witness` in the config of {node} says otherwise: a voter's disk never changes from one to \
         the other. Write `witness = {witness}` again; or `regent cluster replace {node}` takes this disk out of the cluster, then \
         start it with an empty data_dir, and it joins anew", path.display(), if *.witness { "by a witness" } else { "by a \
         coordinator that serves" }
    )]
    OtherKind {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        node: NodeId,
        /// What it was made for.
        witness: bool,
    },
    /// The cluster turned it away in an earlier run: its disk is older than others remember, or was taken out.
    #[error("data directory {} was turned away by its cluster: {why}", path.display())]
    TurnedAway {
        /// The directory.
        path: PathBuf,
        /// What was said then, with the way back.
        why: String,
    },
    /// A file holds what no version of this program wrote, or was damaged.
    #[error(
        "{} is damaged: {problem}; what this node voted and acknowledged may be lost, so do not start it on an emptied directory \
         or an older copy: {NEW_NODE}", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file was written by a version of this program that knew more.
    #[error("{}: {problem}; run the version that wrote it, or move the file away: the cluster does not need it", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// What was found in it.
        problem: String,
    },
    /// What this node remembers of the other members' disks cannot be read: without it, it would let an older one in.
    #[error(
        "{}: {problem}; it is what this node remembers of the other members' disks, and without it an older one of them could come back. \
         Run the version that wrote it; if no version can read it, leave it where it is: {NEW_NODE}", path.display()
    )]
    Forgot {
        /// `peers.json`.
        path: PathBuf,
        /// What was found in it.
        problem: String,
    },
    /// The log is of a format that this build does not read.
    #[error("{problem}; go on with the build that wrote it, or {NEW_NODE}")]
    OtherLog {
        /// Which file, and what it is.
        problem: String,
    },
    /// The snapshot, or the log behind it, was written under rules that this build does not know.
    #[error("{}: {problem}", path.display())]
    TooOld {
        /// The snapshot, or the log.
        path: PathBuf,
        /// Both levels, and what to do.
        problem: String,
    },
    /// A setting makes no sense.
    #[error("raft settings: {0}")]
    Config(String),
    /// Consensus did not start.
    #[error("raft did not start: {0}")]
    Raft(String),
}

impl From<wal::OpenError> for StartError {
    fn from(error: wal::OpenError) -> Self {
        match error {
            wal::OpenError::Io { path, doing, source } => Self::DataDir { path, doing, source },
            wal::OpenError::Corrupt(damage) => Self::Damaged {
                problem: format!(
                    "at byte {} {} was expected, {}",
                    damage.offset, damage.expected, damage.found
                ),
                path: damage.path,
            },
            wal::OpenError::OtherVersion { .. } => Self::OtherLog {
                problem: error.to_string(),
            },
            wal::OpenError::Foreign { path } => Self::OtherLog {
                problem: format!(
                    "{} is a log of an earlier format, which this build does not read",
                    path.display()
                ),
            },
        }
    }
}

/// Why a coordinator was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Its disk belongs to another cluster.
    #[error(
        "the disk of node {node} belongs to cluster {theirs}, and this is cluster {ours}: `join` in its config is to name coordinators \
         of {theirs}. Only if {node} is to leave {theirs} for good, and nothing that it voted and acknowledged there is needed any \
         more: start it with an empty data_dir, and it joins {ours}"
    )]
    OtherCluster {
        /// Who asked.
        node: NodeId,
        /// The cluster of its disk.
        theirs: ClusterId,
        /// This cluster.
        ours: ClusterId,
    },
    /// Two names give the same Raft id.
    #[error("node {node} and member {member} have the same raft id {raft_id}; rename one")]
    IdCollision {
        /// Who asked.
        node: NodeId,
        /// Who is a member already.
        member: NodeId,
        /// The id of both.
        raft_id: u64,
    },
    /// A member whose disk has seen no cluster: what it voted and stored is lost, so it must not vote again under its id.
    #[error(
        "node {node} is a member of this cluster, but its disk has seen none: what it voted and acknowledged is lost; \
         {NEW_NODE}"
    )]
    LostDisk {
        /// Who asked.
        node: NodeId,
    },
    /// Another data directory than the one that the member of this name was taken in with.
    #[error(
        "node {node} is a member of this cluster with another disk: what it voted and acknowledged is not on this one; \
         start it with its own data_dir, or, if that is lost, {NEW_NODE}"
    )]
    OtherDisk {
        /// Who asked.
        node: NodeId,
    },
    /// The member of this name is a witness and who asks is not, or the other way round.
    #[error(
        "node {node} is a member of this cluster {}, and now asks to be the other: {NEW_NODE}",
        if *.witness { "as a witness" } else { "that serves, no witness" }
    )]
    OtherKind {
        /// Who asked.
        node: NodeId,
        /// What the member is.
        witness: bool,
    },
    /// A person took it out.
    #[error(
        "node {node} was taken out of this cluster, and its disk does not come back; to join anew under this name, start it with an \
         empty data_dir"
    )]
    Removed {
        /// Who asked.
        node: NodeId,
    },
    /// Its build would stop at the cluster's log, and a voter that stopped would count against the majority.
    #[error(
        "the cluster is at feature level {level}, and the build of node {node} knows levels up to {supported}: upgrade this \
         coordinator; a newer build goes on with the same data_dir, and no older one does"
    )]
    TooOld {
        /// Who asked.
        node: NodeId,
        /// What its build knows.
        supported: u32,
        /// The cluster's level.
        level: u32,
    },
    /// It listens, and does not vote yet: its distance from a voter is unknown, or the timing is still being raised for it.
    #[error("node {node} does not vote yet: {missing}")]
    NotYet {
        /// Who asked.
        node: NodeId,
        /// What is missing; asking again goes on.
        missing: String,
    },
    /// The cluster's first entry is not applied yet.
    #[error("the cluster is not bootstrapped yet")]
    NotBootstrapped,
    /// The change of membership has no answer; asking again is safe.
    #[error(transparent)]
    Raft(#[from] ProposeError),
}

impl JoinError {
    /// The operand, a node, that tells a refusal for a lost or another disk from others: asking again cannot help.
    pub const LOST_DISK: &str = "lost_disk";

    /// The refusal as it travels.
    pub fn to_refusal(&self) -> Refusal {
        match self {
            Self::OtherCluster { theirs, ours, .. } => Refusal::new(Reason::WrongCluster, self.to_string())
                .with("shown", theirs)
                .with("current", ours),
            Self::IdCollision { member, .. } => {
                Refusal::new(Reason::AlreadyExists, self.to_string()).with("member", member)
            }
            Self::LostDisk { node } | Self::OtherDisk { node } => {
                Refusal::new(Reason::ClusterState, self.to_string()).with(Self::LOST_DISK, node)
            }
            Self::OtherKind { node, .. } => {
                Refusal::new(Reason::IllegalTransition, self.to_string()).with("node", node)
            }
            Self::Removed { node } => {
                Refusal::new(Reason::NodeRemoved, self.to_string()).with(Self::LOST_DISK, node)
            }
            Self::TooOld { supported, level, .. } => Refusal::new(Reason::FeatureLevel, self.to_string())
                .with("shown", supported)
                .with("current", level),
            Self::NotYet { .. } => Refusal::new(Reason::NotServing, self.to_string()),
            Self::NotBootstrapped => Refusal::new(Reason::ClusterState, self.to_string()),
            Self::Raft(error) => error.to_refusal(),
        }
    }
}
