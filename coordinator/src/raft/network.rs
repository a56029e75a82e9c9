//! The calling side: openraft's network over gRPC.
//!
//! Absent on purpose: TLS (the [`super::Dial`] brings it) and retries (openraft's).
//! Invariant: every call has a deadline, and a peer that cannot be reached costs a bounded number of attempts a second.

mod connections;
mod streams;

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
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
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use self::connections::CONNECT_LEAST;
pub(crate) use self::connections::{CallError, Connections, Lane, MESSAGE_BYTES_MAX};
pub(super) use self::streams::snapshot_parts;
use self::streams::{Progress, Rpc, status_error};
use super::{
    convert,
    snapshot::SnapshotFile,
    types::{Peer, TypeConfig, Vote},
};

/// A snapshot may take this long, and a second more for each MiB.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a network for each peer and purpose.
pub(crate) struct Factory(pub(crate) Arc<Connections>);

impl Factory {
    fn make(&self, target: u64, peer: &Peer, lane: Lane) -> Network {
        self.0.learn_one(target, peer);
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
        let response = convert::vote_response_in(response).map_err(|e| NetworkError::new(&e))?;
        if response.vote_granted && !pre_vote {
            self.connections.note_vote(self.target, &response.vote);
        }
        Ok(response)
    }

    /// Opens the stream. On failure this waits before it says so: openraft would try again at once, at the cost of a
    /// core, because it keeps its back-off inside the request stream, which a failed connect never polls.
    async fn open_stream(
        &self,
        requests: impl Stream<Item = pb::AppendRequest> + Send + 'static,
    ) -> Rpc<tonic::Streaming<pb::AppendResponse>> {
        let timing = self.connections.timing();
        let ttl = CONNECT_LEAST.max(timing.election_max * 2);
        let opened = self
            .connections
            .call(self.target, self.lane, ttl, async |mut client| {
                client.stream_append(requests).await
            })
            .await;
        match opened {
            Ok(responses) => Ok(responses),
            Err(error) => {
                sleep(Duration::from_millis(150).min(timing.election_min / 2)).await;
                let text = format!("cannot open the append stream to {}: {error:?}", self.target);
                Err(Unreachable::from_string(text).into())
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: rpc::AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<rpc::AppendEntriesResponse<TypeConfig>> {
        let message = convert::append_out(&request, Some(self.connections.route(self.target)));
        let ttl = option.hard_ttl();
        let send = async |mut client: RaftServiceClient<Channel>| client.append(message).await;
        let response = self.connections.call(self.target, self.lane, ttl, send).await;
        let response = response.map_err(|e| self.rpc_error(e, RPCTypes::AppendEntries, ttl))?;
        let result = convert::stream_result_in(response).map_err(|e| NetworkError::new(&e))?;
        Ok(result.into())
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
        let idle = self.connections.timing().election_max * 10;
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
