//! The calling side: openraft's network over gRPC.
//!
//! Absent on purpose: TLS (the [`Dial`] brings it) and retries (openraft's).
//! Invariant: every call has a deadline, and a peer that cannot be reached costs a bounded number of attempts a second.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use openraft::{
    OptionalSend, RPCTypes,
    alias::SnapshotOf,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential},
    raft as rpc,
};
use proto::raft_v1::{self as pb, raft_service_client::RaftServiceClient};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use types::ClusterId;

use super::{
    Dial,
    config::RaftTiming,
    convert,
    identity::Identity,
    snapshot::SnapshotFile,
    types::{Membership, Peer, TypeConfig, Vote},
};

/// One message at most: 64 entries of 1 MiB, and room.
pub(crate) const MESSAGE_BYTES_MAX: usize = 80 << 20;
/// Bytes of a snapshot in one message.
const SNAPSHOT_CHUNK_BYTES: usize = 512 << 10;
/// A snapshot may take this long, and a second more for each MiB.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
/// Failures in a row after which the connection is made anew: it may hang in a network that has since healed.
const FAILURES_BEFORE_REDIAL: u32 = 3;

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// Own connections, so that a snapshot or a big append starves no heartbeat and no read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    Replication,
    Heartbeat,
    Snapshot,
    Read,
}

/// Where the members are, and the connections to them.
pub(crate) struct Connections {
    own_id: u64,
    identity: Arc<Identity>,
    dial: Arc<dyn Dial>,
    timing: RaftTiming,
    peers: Mutex<BTreeMap<u64, Peer>>,
    open: Mutex<HashMap<(u64, Lane), Connection>>,
}

struct Connection {
    endpoint: String,
    channel: Channel,
    failures: u32,
}

impl Connections {
    pub(crate) fn new(
        own_id: u64,
        identity: Arc<Identity>,
        dial: Arc<dyn Dial>,
        timing: RaftTiming,
    ) -> Arc<Self> {
        Arc::new(Self {
            own_id,
            identity,
            dial,
            timing,
            peers: Mutex::default(),
            open: Mutex::default(),
        })
    }

    /// Takes over where the members are now.
    pub(crate) fn learn(&self, membership: &Membership) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, peer) in membership.nodes() {
            peers.insert(*id, peer.clone());
        }
    }

    pub(crate) fn route(&self, to: u64) -> pb::Route {
        let cluster_id = self.identity.cluster_id();
        pb::Route {
            from: self.own_id,
            to,
            cluster_id: cluster_id.map_or_else(Vec::new, |c: ClusterId| c.to_bytes().to_vec()),
        }
    }

    /// A client for `to`; connects when used.
    pub(crate) fn client(&self, to: u64, lane: Lane) -> Result<RaftServiceClient<Channel>, String> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peers
            .get(&to)
            .ok_or_else(|| format!("no member has raft id {to}"))?;
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
            failures: 0,
        };
        open.insert((to, lane), fresh);
        Ok(client_on(channel))
    }

    fn connect(&self, peer: &Peer) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(peer.raft_endpoint.clone())
            .map_err(|e| format!("raft endpoint {:?} of {}: {e}", peer.raft_endpoint, peer.node))?
            .connect_timeout(Duration::from_secs(1).max(self.timing.election_max))
            .tcp_nodelay(true)
            // A silent break is seen within two of these, before openraft gives up on the stream by itself.
            .http2_keep_alive_interval(self.timing.election_max)
            .keep_alive_timeout(self.timing.election_max * 2)
            .keep_alive_while_idle(true);
        self.dial
            .dial(peer, endpoint)
            .map_err(|e| format!("cannot dial {} at {}: {e}", peer.node, peer.raft_endpoint))
    }

    /// Counts what became of a call, so that a dead connection is replaced.
    fn note(&self, to: u64, lane: Lane, alive: bool) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = open.get_mut(&(to, lane)) {
            connection.failures = if alive {
                0
            } else {
                connection.failures.saturating_add(1)
            };
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

/// Makes a network for each peer and purpose.
pub(crate) struct Factory(pub(crate) Arc<Connections>);

impl Factory {
    fn make(&self, target: u64, peer: &Peer, lane: Lane) -> Network {
        let mut peers = self.0.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.insert(target, peer.clone());
        Network {
            target,
            lane,
            connections: self.0.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Network {
        self.make(target, peer, Lane::Replication)
    }
    async fn new_heartbeat_client(&mut self, target: u64, peer: &Peer) -> Network {
        self.make(target, peer, Lane::Heartbeat)
    }
    async fn new_snapshot_client(&mut self, target: u64, peer: &Peer) -> Network {
        self.make(target, peer, Lane::Snapshot)
    }
}

/// One peer, for one purpose.
pub(crate) struct Network {
    target: u64,
    lane: Lane,
    connections: Arc<Connections>,
}

impl Network {
    fn rpc_error(&self, error: CallError, action: RPCTypes, ttl: Duration) -> RPCError<TypeConfig> {
        match error {
            CallError::Unreachable(text) => Unreachable::from_string(text).into(),
            CallError::TimedOut => RPCError::Timeout(Timeout {
                action,
                id: self.connections.own_id,
                target: self.target,
                timeout: ttl,
            }),
            CallError::Status(status) => status_error(&status),
        }
    }

    async fn vote_call(
        &self,
        request: rpc::VoteRequest<TypeConfig>,
        ttl: Duration,
        pre_vote: bool,
    ) -> Rpc<rpc::VoteResponse<TypeConfig>> {
        let message = convert::vote_request_out(&request, self.connections.route(self.target));
        let send = async |mut client: RaftServiceClient<Channel>| {
            if pre_vote {
                client.pre_vote(message).await
            } else {
                client.vote(message).await
            }
        };
        // An own lane would cost a handshake in the middle of an election; heartbeats pause then anyway.
        let response = self
            .connections
            .call(self.target, Lane::Heartbeat, ttl, send)
            .await;
        let response = response.map_err(|e| self.rpc_error(e, RPCTypes::Vote, ttl))?;
        convert::vote_response_in(response).map_err(|e| NetworkError::new(&e).into())
    }

    /// Opens the stream. On failure this waits before it says so: openraft would try again at once, at the cost of a
    /// core, because it keeps its back-off inside the request stream, which a failed connect never polls.
    async fn open_stream(
        &self,
        requests: impl Stream<Item = pb::AppendRequest> + Send + 'static,
    ) -> Rpc<tonic::Streaming<pb::AppendResponse>> {
        let ttl = self.connections.timing.election_max * 2;
        let opened = self
            .connections
            .call(self.target, self.lane, ttl, async |mut client| {
                client.stream_append(requests).await
            })
            .await;
        match opened {
            Ok(responses) => Ok(responses),
            Err(error) => {
                sleep(Duration::from_millis(150).min(self.connections.timing.election_min / 2)).await;
                let text = format!("cannot open the append stream to {}: {error:?}", self.target);
                Err(Unreachable::from_string(text).into())
            }
        }
    }
}

fn status_error(status: &Status) -> RPCError<TypeConfig> {
    if matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::PermissionDenied | Code::FailedPrecondition
    ) {
        Unreachable::new(status).into()
    } else {
        NetworkError::new(status).into()
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: rpc::AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<rpc::AppendEntriesResponse<TypeConfig>> {
        let last = request.entries.last().map(|e| e.log_id).or(request.prev_log_id);
        let message = convert::append_out(&request, Some(self.connections.route(self.target)));
        let ttl = option.hard_ttl();
        let send = async |mut client: RaftServiceClient<Channel>| client.append(message).await;
        let response = self.connections.call(self.target, self.lane, ttl, send).await;
        let response = response.map_err(|e| self.rpc_error(e, RPCTypes::AppendEntries, ttl))?;
        let result = convert::stream_result_in(response).map_err(|e| NetworkError::new(&e))?;
        Ok(match result {
            Ok(upto) if upto != last => rpc::AppendEntriesResponse::PartialSuccess(upto),
            other => other.into(),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<rpc::StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = rpc::AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.lane == Lane::Heartbeat {
            return stream_append_sequential(self, input, option);
        }
        let progress = Arc::new(Progress::default());
        let sent = progress.clone();
        let mut route = Some(self.connections.route(self.target));
        // The connection keeps reading the requests until they end; they must when nobody waits for answers any more.
        let over = CancellationToken::new();
        let waiting = Arc::new(over.clone().drop_guard());
        let requests = input.take_until(over.cancelled_owned()).map(move |request| {
            sent.sent.fetch_add(1, Ordering::Relaxed);
            convert::append_out(&request, route.take())
        });
        let idle = self.connections.timing.election_max * 10;
        Box::pin(async move {
            let responses = self.open_stream(requests).await?;
            let (connections, target, lane) = (self.connections.clone(), self.target, self.lane);
            let responses = stream::unfold(Some(responses), move |responses| {
                let (progress, connections, waiting) =
                    (progress.clone(), connections.clone(), waiting.clone());
                async move {
                    let _until_dropped = waiting;
                    let mut responses = responses?;
                    let next = progress.next(&mut responses, idle).await?;
                    connections.note(target, lane, next.is_ok());
                    let rest = next.is_ok().then_some(responses);
                    Some((next, rest))
                }
            });
            let responses: BoxStream<'s, _> = Box::pin(responses);
            Ok(responses)
        })
    }

    async fn vote(
        &mut self,
        request: rpc::VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<rpc::VoteResponse<TypeConfig>> {
        self.vote_call(request, option.hard_ttl(), false).await
    }

    async fn pre_vote(
        &mut self,
        request: rpc::VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<rpc::VoteResponse<TypeConfig>> {
        self.vote_call(request, option.hard_ttl(), true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<rpc::SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let file = snapshot.snapshot;
        let header = pb::SnapshotHeader {
            route: Some(self.connections.route(self.target)),
            vote: Some(convert::vote_out(&vote)),
            size_bytes: file.size(),
            sha256: file.digest().map_err(|e| NetworkError::new(&e))?.to_vec(),
        };
        let ttl = SNAPSHOT_TIMEOUT + Duration::from_secs(file.size() >> 20);
        let parts = snapshot_parts(header, file);
        let send = async |mut client: RaftServiceClient<Channel>| client.install_snapshot(parts).await;
        let call = self.connections.call(self.target, self.lane, ttl, send);
        let response = tokio::select! {
            response = call => response,
            closed = cancel => return Err(closed.into()),
        };
        let response = response.map_err(|e| self.rpc_error(e, RPCTypes::InstallSnapshot, ttl))?;
        let vote = convert::vote_in(response.vote).map_err(|e| NetworkError::new(&e))?;
        Ok(rpc::SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: rpc::TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<rpc::TransferLeaderResponse<TypeConfig>> {
        let message = pb::TransferLeaderRequest {
            route: Some(self.connections.route(self.target)),
            from_leader: Some(convert::vote_out(request.from_leader())),
            to: *request.to_node_id(),
            last_log_id: request.last_log_id().map(convert::log_id_out),
        };
        let ttl = option.hard_ttl();
        let send = async |mut client: RaftServiceClient<Channel>| client.transfer_leader(message).await;
        let response = self
            .connections
            .call(self.target, Lane::Heartbeat, ttl, send)
            .await;
        let response = response.map_err(|e| self.rpc_error(e, RPCTypes::TransferLeader, ttl))?;
        if response.refused.is_empty() {
            return Ok(Ok(()));
        }
        Err(NetworkError::from_string(response.refused).into())
    }
}

/// Requests that went out on a stream and answers that came back.
#[derive(Debug, Default)]
struct Progress {
    sent: AtomicU64,
    answered: AtomicU64,
}

impl Progress {
    /// The next answer; an error once a request has waited for it longer than `idle`. A quiet stream may be quiet for
    /// ever: heartbeats have their own connection.
    async fn next(
        &self,
        responses: &mut tonic::Streaming<pb::AppendResponse>,
        idle: Duration,
    ) -> Option<Rpc<rpc::StreamAppendResult<TypeConfig>>> {
        let mut waiting_since = None;
        loop {
            match timeout(idle, responses.message()).await {
                Ok(Ok(Some(response))) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    let result = convert::stream_result_in(response);
                    return Some(result.map_err(|e| NetworkError::new(&e).into()));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some(Err(status_error(&status))),
                Err(_) if self.sent.load(Ordering::Relaxed) <= self.answered.load(Ordering::Relaxed) => {
                    waiting_since = None;
                }
                Err(_) => {
                    let since = *waiting_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= idle {
                        let text = format!("an append has waited {idle:?} for its answer");
                        return Some(Err(Unreachable::from_string(text).into()));
                    }
                }
            }
        }
    }
}

fn snapshot_parts(
    header: pb::SnapshotHeader,
    file: SnapshotFile,
) -> impl Stream<Item = pb::SnapshotPart> + Send + 'static {
    use pb::snapshot_part::Part;
    let part = |part| pb::SnapshotPart { part: Some(part) };
    let first = stream::once(async move { part(Part::Header(header)) });
    let chunks = stream::unfold((Arc::new(file), 0_u64), move |(file, at)| async move {
        let reader = file.clone();
        let read = tokio::task::spawn_blocking(move || reader.read_at(at, SNAPSHOT_CHUNK_BYTES));
        // A failed read ends the stream early; the receiver sees that bytes are missing and refuses the whole.
        let chunk = read.await.ok()?.ok().filter(|chunk| !chunk.is_empty())?;
        let next = at + chunk.len() as u64;
        Some((part(Part::Chunk(chunk)), (file, next)))
    });
    first.chain(chunks)
}
