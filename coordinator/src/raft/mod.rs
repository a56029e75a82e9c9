//! The Raft half of the coordinator: one [`RaftNode`] puts commands into the replicated log and lets readers see the
//! state that comes out.
//!
//! Absent on purpose: rules (crate `state`), the public API, certificates (a [`Dial`] and an [`Authenticate`] are handed in),
//! leases and health. `client_write` is called in `crate::propose` alone.
//! Invariant: what [`RaftNode::propose`] acknowledged is on the disks of a majority, each synced, and applied here.
//!
//! Reading order: [`config`], [`error`], [`types`], [`view`], [`publish`], then `identity`, `log_store`,
//! `state_machine`, `network`, `service`, `membership`.

pub mod config;
pub mod error;
pub mod publish;
pub mod types;
pub mod view;

use std::sync::Arc;

use ::types::{ClusterId, NodeId, Principal, RequestId, Revision, reason::Refusal};
use proto::raft_v1::raft_service_server::RaftServiceServer;
use state::{Command, ControlState};
use tokio::{sync::watch, time::Instant};
use tonic::transport::{Channel, Endpoint};

pub use self::{
    config::{RaftConfig, RaftLimits, RaftTiming},
    error::{JoinError, LeaderHint, ProposeError, StartError},
    publish::{Published, Subscription},
    types::{Peer, Proposed, raft_id},
    view::{Leadership, Member, RaftRole, RaftStatus},
};

/// Connects to another coordinator's Raft port. `endpoint` has its address, timeouts and keep-alive set; the dialler
/// adds TLS (its own certificate, and that the other end is `peer.node`) and connects lazily.
pub trait Dial: Send + Sync + 'static {
    /// A channel that connects when first used, and again after a break.
    fn dial(&self, peer: &Peer, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error>;
}

impl<F> Dial for F
where
    F: Fn(&Peer, Endpoint) -> Result<Channel, tonic::transport::Error> + Send + Sync + 'static,
{
    fn dial(&self, peer: &Peer, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
        self(peer, endpoint)
    }
}

/// Reads who calls from a request's extensions (its TLS connection info). The Raft service itself then checks that the
/// caller is a coordinator and that its node is the sender that the message names.
pub type Authenticate = Arc<dyn Fn(&http::Extensions) -> Result<Principal, Refusal> + Send + Sync>;

/// A coordinator that asks to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// Who and where it is, in this run.
    pub peer: Peer,
    /// The cluster that its disk belongs to, if it has seen one.
    pub cluster_id: Option<ClusterId>,
}

/// A running Raft node. A cheap handle: clones share the node.
#[derive(Clone)]
pub struct RaftNode {}

/// The gRPC side that other coordinators call.
pub struct RaftRpc {}

impl RaftNode {
    /// Locks the data directory, loads snapshot and log, applies what is known to be committed, and starts to follow,
    /// campaign or wait to be taken in. Founds the cluster where `config.bootstrap` says so and the disk has seen none;
    /// that waits for no other node. Returns before anyone leads.
    pub async fn start(_config: RaftConfig, _dial: Arc<dyn Dial>) -> Result<Self, StartError> {
        unimplemented!("follows with the log store")
    }

    /// The service for the Raft port; every call is authenticated first.
    pub fn service(&self, _authenticate: Authenticate) -> RaftServiceServer<RaftRpc> {
        unimplemented!("follows with the network")
    }

    /// Puts a command into the log and waits until it is applied here. Time is stamped here. Leader only.
    ///
    /// A rejection by rule is `Ok` with `outcome: Err(..)`. Every error but `OutcomeUnknown` is sure: nothing was
    /// proposed. After the deadline the answer is `OutcomeUnknown`, and the entry may still be applied.
    pub async fn propose(
        &self,
        _actor: Principal,
        _request_id: RequestId,
        _command: Command,
        _deadline: Instant,
    ) -> Result<Proposed, ProposeError> {
        unimplemented!("follows with the log store")
    }

    /// After `Ok`, [`Self::read`] sees everything that was acknowledged anywhere before this call. From any node: a
    /// follower asks the leader by one call. The revision is the applied one, at least that of the read.
    pub async fn linearize(&self, _deadline: Instant) -> Result<Revision, ProposeError> {
        unimplemented!("follows with the log store")
    }

    /// Leader only: a quorum acknowledged this leadership in a round that began after this call, and everything
    /// committed before it is applied here (L7). Never a lease read.
    pub async fn confirm_leadership(&self, _deadline: Instant) -> Result<Revision, ProposeError> {
        unimplemented!("follows with the log store")
    }

    /// Reads the state as applied here, however old. `f` must be short: apply waits for it.
    pub fn read<T>(&self, _f: impl FnOnce(&ControlState) -> T) -> T {
        unimplemented!("follows with the log store")
    }

    /// As [`Self::read`], with the revision that the state stands at: that of the last applied entry, blank entries
    /// included (so it may be above `ControlState::revision`). Watch from it to miss nothing.
    pub fn read_at<T>(&self, _f: impl FnOnce(&ControlState) -> T) -> (Revision, T) {
        unimplemented!("follows with the log store")
    }

    /// Who leads, as it changes. Each new leadership of this node has a new `since`.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        unimplemented!("follows with the log store")
    }

    /// The applied stream: every revision once, in order. The first subscriber also gets the backlog since start.
    /// A subscriber that does not read holds apply back.
    pub fn subscribe(&self) -> Subscription {
        unimplemented!("follows with the log store")
    }

    /// The cluster that this disk belongs to; `None` before the first entry reached it.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        unimplemented!("follows with the log store")
    }

    /// This node, as the members know it in this run.
    pub fn own_peer(&self) -> &Peer {
        unimplemented!("follows with the log store")
    }

    /// All members, voters and learners, in the order of their names.
    pub fn members(&self) -> Vec<Member> {
        unimplemented!("follows with the log store")
    }

    /// This node's own view; needs no quorum.
    pub fn status(&self) -> RaftStatus {
        unimplemented!("follows with the log store")
    }

    /// Takes a coordinator in: as a learner, then as a voter once it has caught up. Leader only. Idempotent: a member
    /// that asks again only has its endpoints brought up to date. The answer lists the members.
    pub async fn add_member(
        &self,
        _request: JoinRequest,
        _deadline: Instant,
    ) -> Result<Vec<Member>, JoinError> {
        unimplemented!("follows with the log store")
    }

    /// Hands leadership to `to`, or to the most caught-up other voter, and waits until another node leads. Leader only;
    /// call it before a planned stop.
    pub async fn transfer_leadership(
        &self,
        _to: Option<NodeId>,
        _deadline: Instant,
    ) -> Result<LeaderHint, ProposeError> {
        unimplemented!("follows with the log store")
    }

    /// Completes when Raft stopped by itself (a failed disk, a broken invariant), with the cause: the process must end.
    pub async fn stopped(&self) -> String {
        unimplemented!("follows with the log store")
    }

    /// Stops: no more votes, appends or applies; every task has ended and the directory is unlocked when it returns.
    pub async fn shutdown(self) {
        unimplemented!("follows with the log store")
    }
}
