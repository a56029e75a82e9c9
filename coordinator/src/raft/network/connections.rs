//! Where the members are, and the connections to them.
//!
//! Invariant: every call has a deadline, and what became of it is counted, so that a dead connection is replaced.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use policy::standing::Remembered;
use proto::raft_v1::{self as pb, raft_service_client::RaftServiceClient};
use tokio::time::timeout;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use types::{ClusterId, DiskId};

use super::super::{
    Dial,
    config::RaftTiming,
    convert::{ballot_of, disk_out, remembered_out},
    identity::Identity,
    memory::Memory,
    timing::InForce,
    types::{Membership, Peer, Vote},
};

/// One message at most: 64 entries of 1 MiB, and room.
pub(crate) const MESSAGE_BYTES_MAX: usize = 80 << 20;
/// Failures in a row after which the connection is made anew: it may hang in a network that has since healed.
const FAILURES_BEFORE_REDIAL: u32 = 3;

/// Time for a connection to come about, however fast elections are: before anybody knows how far away a newcomer is, three round
/// trips to it must fit.
pub(super) const CONNECT_LEAST: Duration = Duration::from_millis(1_500);

/// Own connections, so that a snapshot or a big append starves no heartbeat and no read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Replication,
    Heartbeat,
    Snapshot,
    Read,
    /// Measures how far a peer is: nothing else may hold its questions up.
    Distance,
}

/// Lanes that whoever is elected needs at once, to every member.
const ELECTED_NEEDS: [Lane; 3] = [Lane::Heartbeat, Lane::Replication, Lane::Read];

/// Where the members are, and the connections to them.
pub(crate) struct Connections {
    pub(super) own_id: u64,
    identity: Arc<Identity>,
    memory: Arc<Memory>,
    dial: Arc<dyn Dial>,
    timing: Arc<InForce>,
    peers: Mutex<BTreeMap<u64, Known>>,
    open: Mutex<HashMap<(u64, Lane), Connection>>,
}

/// Where one is.
struct Known {
    peer: Peer,
    /// A membership names it; others are about to be taken in, or have only said where they are.
    is_member: bool,
}

struct Connection {
    endpoint: String,
    channel: Channel,
    /// A call on it was answered, so the next one does not make it.
    answered: bool,
    failures: u32,
}

impl Connections {
    pub(crate) fn new(
        own_id: u64,
        identity: Arc<Identity>,
        memory: Arc<Memory>,
        dial: Arc<dyn Dial>,
        timing: Arc<InForce>,
    ) -> Arc<Self> {
        Arc::new(Self {
            own_id,
            identity,
            memory,
            dial,
            timing,
            peers: Mutex::default(),
            open: Mutex::default(),
        })
    }

    /// By which timing this node goes now.
    pub(super) fn timing(&self) -> RaftTiming {
        self.timing.get()
    }

    /// Every connection is made anew when it is next used.
    pub(crate) fn redial(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes over where the members are now; connections to whoever is none are closed once nobody uses them. Whoever was a member is
    /// forgotten first, or a call that begins now would make another one.
    pub(crate) fn learn(&self, membership: &Membership) {
        let is_member = |id: &u64| membership.get_node(id).is_some();
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|id, known| !known.is_member || is_member(id));
        for (id, peer) in membership.nodes() {
            let peer = peer.clone();
            let is_member = true;
            peers.insert(*id, Known { peer, is_member });
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(member, _), _| is_member(member));
    }

    /// Takes over where one is now.
    pub(in crate::raft) fn learn_one(&self, id: u64, peer: &Peer) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_member = peers.get(&id).is_some_and(|known| known.is_member);
        let peer = peer.clone();
        peers.insert(id, Known { peer, is_member });
    }

    pub(crate) fn route(&self, to: u64) -> pb::Route {
        let cluster_id = self.identity.cluster_id();
        let disk = self.disk(to);
        pb::Route {
            from: self.own_id,
            to,
            cluster_id: cluster_id.map_or_else(Vec::new, |c: ClusterId| c.to_bytes().to_vec()),
            to_disk: disk_out(disk),
            remembered: disk.map(|disk| remembered_out(&self.memory.of(disk))),
        }
    }

    fn disk(&self, of: u64) -> Option<DiskId> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.get(&of).and_then(|known| known.peer.disk)
    }

    /// A vote that another member gave: it is on its disk since before it answered.
    pub(super) fn note_vote(&self, of: u64, vote: &Vote) {
        if let Some(disk) = self.disk(of) {
            let heard = Remembered {
                ballot: Some(ballot_of(vote)),
                ..Remembered::default()
            };
            self.memory.learn(disk, heard);
        }
    }

    /// A client for `to`; connects when used.
    pub(crate) fn client(&self, to: u64, lane: Lane) -> Result<RaftServiceClient<Channel>, String> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = peers.get(&to);
        let peer = &known.ok_or_else(|| format!("no member has raft id {to}"))?.peer;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.get(&(to, lane));
        if let Some(known) = known
            && known.endpoint == peer.raft_endpoint
            && known.failures < FAILURES_BEFORE_REDIAL
        {
            return Ok(client_on(known.channel.clone()));
        }
        let channel = self.connect(peer)?;
        let fresh = Connection {
            endpoint: peer.raft_endpoint.clone(),
            channel: channel.clone(),
            answered: false,
            failures: 0,
        };
        open.insert((to, lane), fresh);
        Ok(client_on(channel))
    }

    fn connect(&self, peer: &Peer) -> Result<Channel, String> {
        let timing = self.timing();
        let endpoint = Endpoint::from_shared(peer.raft_endpoint.clone())
            .map_err(|e| format!("raft endpoint {:?} of {}: {e}", peer.raft_endpoint, peer.node))?
            .connect_timeout(CONNECT_LEAST.max(timing.election_max))
            .tcp_nodelay(true)
            // A silent break is seen within two of these, before openraft gives up on the stream by itself.
            .http2_keep_alive_interval(timing.election_max)
            .keep_alive_timeout(CONNECT_LEAST.max(timing.election_max * 2))
            .keep_alive_while_idle(true);
        self.dial
            .dial(peer, endpoint)
            .map_err(|e| format!("cannot dial {} at {}: {e}", peer.node, peer.raft_endpoint))
    }

    /// Counts what became of a call, so that a dead connection is replaced.
    pub(super) fn note(&self, to: u64, lane: Lane, alive: bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = open.get_mut(&(to, lane)) {
            connection.answered = alive;
            connection.failures = if alive {
                0
            } else {
                connection.failures.saturating_add(1)
            };
        }
    }

    /// Whether the last call on this connection was answered: what the next one takes is no part of making it.
    pub(in crate::raft) fn stands(&self, to: u64, lane: Lane) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&(to, lane))
            .is_some_and(|connection| connection.answered)
    }

    /// A lane of an election on which the next call would have to make the connection first.
    pub(in crate::raft) fn cold(&self, to: u64) -> Option<Lane> {
        ELECTED_NEEDS.into_iter().find(|lane| !self.stands(to, *lane))
    }

    /// A member does not answer: its connections may all be gone, which a call on them alone would tell.
    pub(in crate::raft) fn doubt(&self, to: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, connection) in open.iter_mut().filter(|((member, _), _)| *member == to) {
            connection.answered = false;
        }
    }

    /// One unary call with its deadline.
    pub(crate) async fn call<T, F>(
        &self,
        to: u64,
        lane: Lane,
        ttl: Duration,
        send: impl FnOnce(RaftServiceClient<Channel>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let client = self.client(to, lane).map_err(CallError::Unreachable)?;
        let result = timeout(ttl, send(client)).await;
        let alive = matches!(&result, Ok(Ok(_)));
        self.note(to, lane, alive);
        match result {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CallError::Status(Box::new(status))),
            Err(_) => Err(CallError::TimedOut),
        }
    }
}

fn client_on(channel: Channel) -> RaftServiceClient<Channel> {
    RaftServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Why a call to a peer has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    Unreachable(String),
    TimedOut,
    Status(Box<Status>),
}
