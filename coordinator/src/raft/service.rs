//! The answering side: `regent.raft.v1`, for coordinators only.
//!
//! Invariant: nothing reaches Raft before the caller's certificate was read, is a coordinator's, and names the node that
//! the message says it comes from; and before the message proved to be meant for this node and this cluster, and this node
//! to have a cluster: one whose disk was wiped is not taken for one that remembers (L20).

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use openraft::{Snapshot, raft as rpc};
use proto::{
    convert::status::to_status,
    raft_v1::{self as pb, raft_service_server::RaftService},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use types::{
    NodeId, Principal,
    reason::{Reason, Refusal},
};

use super::{
    Authenticate, RaftNode,
    convert::{self, Malformed},
    network::snapshot_parts,
    room::{Passed, follow},
    snapshot::{Incoming, SnapshotFile},
    state_machine::Store,
    types::raft_id,
};

/// A part of a snapshot must follow the one before within this time.
const SNAPSHOT_PART_TIMEOUT: Duration = Duration::from_secs(10);
/// A snapshot larger than this is refused before a byte of it is written.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;
/// A stream's first message, which names the sender, must come within this time.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers that a leader has not taken yet; more wait in Raft.
const ANSWERS_AHEAD: usize = 64;

/// The gRPC side that other coordinators call. Get it from [`super::RaftNode::service`].
#[derive(Clone)]
pub struct RaftRpc {
    pub(crate) node: RaftNode,
    pub(crate) authenticate: Authenticate,
}

impl RaftRpc {
    /// The coordinator that the certificate names.
    fn caller(&self, extensions: &http::Extensions) -> Result<NodeId, Status> {
        match (self.authenticate)(extensions).map_err(|refusal| to_status(&refusal))? {
            Principal::Coordinator { node, .. } => Ok(node),
            other @ (Principal::Agent { .. } | Principal::User { .. }) => Err(denied(format!(
                "{other} is no coordinator; only coordinators speak Raft"
            ))),
        }
    }

    /// That the message may reach Raft.
    fn check_route(&self, caller: &NodeId, route: Option<&pb::Route>) -> Result<(), Status> {
        self.check_address(caller, route)?;
        let heard = route.map_or(Ok(()), |route| self.node.check_let_in(route));
        heard.map_err(|refusal| to_status(&refusal))
    }

    /// That it comes from whom it says, and is meant for this node, disk and cluster.
    fn check_address(&self, caller: &NodeId, route: Option<&pb::Route>) -> Result<(), Status> {
        let route = route.ok_or_else(|| malformed(&Malformed("route is missing".to_owned())))?;
        if route.from != raft_id(caller) {
            let text = format!(
                "the certificate of {caller} does not send as raft id {}",
                route.from
            );
            return Err(denied(text));
        }
        if route.to != self.node.own_id() {
            let text = format!(
                "this is raft node {}, the message is for {}",
                self.node.own_id(),
                route.to
            );
            return Err(to_status(&Refusal::new(Reason::ClusterState, text)));
        }
        match self.node.cluster_id() {
            // It has nothing on its disk: a newcomer that no leader has called new yet, or a voter whose disk was wiped.
            // The latter forgot what it acknowledged; its vote and its answers would count as if it had not.
            None => {
                let text = "this coordinator knows of no cluster yet; it stores nothing and elects nobody";
                Err(to_status(&Refusal::new(Reason::ClusterState, text)))
            }
            // A sender without a cluster has none to speak for: who was taken in knew its cluster before.
            Some(own) if route.cluster_id != own.to_bytes() => {
                let text = format!(
                    "this node belongs to cluster {own}, the message comes from another, or from none"
                );
                Err(to_status(
                    &Refusal::new(Reason::WrongCluster, text).with("current", own),
                ))
            }
            Some(_) => self.check_disk(&route.to_disk),
        }
    }

    /// Two directories may each have been called new before either was a member, or one may stand where the other did: only
    /// the one that the membership names has stored what its members count on.
    fn check_disk(&self, meant: &[u8]) -> Result<(), Status> {
        match self.node.own_peer().disk {
            Some(own) if !meant.is_empty() && meant != own.to_bytes() => {
                let text = format!("the message is for another disk of this node's name; this one is {own}");
                Err(to_status(&Refusal::new(Reason::ClusterState, text)))
            }
            _ => Ok(()),
        }
    }

    /// The message, if its caller may send it.
    fn admit<T>(
        &self,
        request: Request<T>,
        route: impl FnOnce(&T) -> Option<&pb::Route>,
    ) -> Result<T, Status> {
        let caller = self.caller(request.extensions())?;
        let message = request.into_inner();
        self.check_route(&caller, route(&message))?;
        Ok(message)
    }

    async fn receive(
        &self,
        caller: &NodeId,
        parts: &mut Streaming<pb::SnapshotPart>,
    ) -> Result<(super::types::Vote, SnapshotFile), Status> {
        let check = |header: &pb::SnapshotHeader| self.check_route(caller, header.route.as_ref());
        let (header, file) = collect(self.node.store(), parts, check).await?;
        Ok((convert::vote_in(header.vote).map_err(|e| malformed(&e))?, file))
    }
}

/// Takes a snapshot in, once `check` has let its header pass; what was cut or changed on its way is refused.
pub(super) async fn collect(
    store: &Store,
    parts: &mut Streaming<pb::SnapshotPart>,
    check: impl FnOnce(&pb::SnapshotHeader) -> Result<(), Status>,
) -> Result<(pb::SnapshotHeader, SnapshotFile), Status> {
    use pb::snapshot_part::Part;
    let Some(Part::Header(header)) = next_part(parts).await? else {
        return Err(malformed(&Malformed("a snapshot without a header".to_owned())));
    };
    check(&header)?;
    if header.size_bytes > SNAPSHOT_BYTES_MAX {
        let text = format!(
            "a snapshot of {} bytes; {SNAPSHOT_BYTES_MAX} is the limit",
            header.size_bytes
        );
        return Err(to_status(&Refusal::new(Reason::LimitExceeded, text)));
    }
    let mut incoming = store.receive().map_err(|e| io_status(&e))?;
    let mut rest = header.size_bytes;
    while let Some(part) = next_part(parts).await? {
        let Part::Chunk(chunk) = part else {
            return Err(malformed(&Malformed("two headers".to_owned())));
        };
        rest = rest
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| malformed(&Malformed("more bytes than the header said".to_owned())))?;
        incoming = write_chunk(incoming, chunk).await?;
    }
    let whole = incoming.is_whole();
    let file = finish(incoming).await?;
    let digest = file.digest().map_err(|e| io_status(&e))?;
    if rest > 0 || !whole || digest[..] != header.sha256[..] {
        return Err(malformed(&Malformed(
            "the snapshot was cut or changed on its way".to_owned(),
        )));
    }
    Ok((header, file))
}

async fn next_part(
    parts: &mut Streaming<pb::SnapshotPart>,
) -> Result<Option<pb::snapshot_part::Part>, Status> {
    let part = timeout(SNAPSHOT_PART_TIMEOUT, parts.message()).await;
    let part = part.map_err(|_| Status::deadline_exceeded("the snapshot stopped coming"))??;
    Ok(part.and_then(|p| p.part))
}

async fn write_chunk(mut incoming: Incoming, chunk: Vec<u8>) -> Result<Incoming, Status> {
    let write = move || incoming.write(&chunk).map(|()| incoming);
    let written = tokio::task::spawn_blocking(write).await;
    written.map_err(stopped)?.map_err(|e| io_status(&e))
}

async fn finish(incoming: Incoming) -> Result<SnapshotFile, Status> {
    let finished = tokio::task::spawn_blocking(move || incoming.finish()).await;
    finished.map_err(stopped)?.map_err(|e| io_status(&e))
}

fn denied(text: String) -> Status {
    to_status(&Refusal::new(Reason::PermissionDenied, text))
}

fn malformed(error: &Malformed) -> Status {
    to_status(&Refusal::new(Reason::InvalidArgument, error.to_string()))
}

fn io_status(error: &std::io::Error) -> Status {
    to_status(&Refusal::new(Reason::Internal, error.to_string()))
}

fn stopped(error: impl std::fmt::Display) -> Status {
    to_status(&Refusal::new(Reason::NotServing, error.to_string()))
}

#[tonic::async_trait]
impl RaftService for RaftRpc {
    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let message = self.admit(request, |m| m.route.as_ref())?;
        let message = convert::vote_request_in(message).map_err(|e| malformed(&e))?;
        let response = self.node.raft().vote(message).await.map_err(stopped)?;
        Ok(Response::new(convert::vote_response_out(&response)))
    }

    async fn pre_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        let message = self.admit(request, |m| m.route.as_ref())?;
        let message = convert::vote_request_in(message).map_err(|e| malformed(&e))?;
        let response = self.node.raft().pre_vote(message).await.map_err(stopped)?;
        Ok(Response::new(convert::vote_response_out(&response)))
    }

    async fn append(
        &self,
        request: Request<pb::AppendRequest>,
    ) -> Result<Response<pb::AppendResponse>, Status> {
        let message = self.admit(request, |m| m.route.as_ref())?;
        let message = convert::append_in(message).map_err(|e| malformed(&e))?;
        self.node.hearing().note(&message.vote, Instant::now());
        let prev = message.prev_log_id;
        // A heartbeat takes no room, and whoever gave it up waits for it no more.
        if !message.entries.is_empty() {
            let problem = "entries come in the stream alone, where their room is reckoned";
            return Err(malformed(&Malformed(problem.to_owned())));
        }
        let response = self.node.raft().append_entries(message).await;
        let result = match response.map_err(stopped)? {
            // openraft's conversion wants to know where the conflict is; without a previous entry there is none.
            rpc::AppendEntriesResponse::Conflict if prev.is_none() => {
                return Err(stopped("a conflict before the first entry"));
            }
            other => other.into_stream_result(prev, prev),
        };
        Ok(Response::new(convert::stream_result_out(result)))
    }

    type StreamAppendStream = Pin<Box<dyn Stream<Item = Result<pb::AppendResponse, Status>> + Send>>;

    async fn stream_append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        let caller = self.caller(request.extensions())?;
        let mut requests = request.into_inner();
        let this = self.clone();
        // The headers go back at once; who sends is checked on the first message, before Raft sees it.
        let responses = stream::once(async move {
            let first = timeout(FIRST_MESSAGE_TIMEOUT, requests.message()).await;
            let first = first.map_err(|_| Status::deadline_exceeded("the stream sent nothing"))??;
            let Some(first) = first else {
                return Ok(stream::empty().boxed());
            };
            this.check_route(&caller, first.route.as_ref())?;
            // Raft reads ahead in a task of its own; without this it would hold the request open after the answers end.
            let over = CancellationToken::new();
            let (answering, following) = (over.clone().drop_guard(), over.clone().drop_guard());
            let rest = requests
                .take_while(|r| std::future::ready(r.is_ok()))
                .filter_map(async |r| r.ok());
            let node = this.node.clone();
            // A message that makes no sense ends the stream; the leader starts another.
            let decoded = stream::iter([first])
                .chain(rest)
                .map(convert::append_in)
                .take_while(|r| std::future::ready(r.is_ok()))
                .filter_map(async |r| r.ok())
                .inspect(move |message| node.hearing().note(&message.vote, Instant::now()));
            let passed = Passed::default();
            let messages = this.node.let_through(decoded, passed.clone());
            let messages = messages.take_until(over.cancelled_owned());
            let (to_leader, mut answers) = mpsc::channel(ANSWERS_AHEAD);
            let raft = this.node.raft();
            this.node.spawn(move |_| async move {
                let _until_the_end = following;
                follow(raft.stream_append(messages), passed, to_leader).await;
            });
            let answers = stream::poll_fn(move |cx| answers.poll_recv(cx)).map(move |result| {
                let _until_dropped = &answering;
                Ok(convert::stream_result_out(result.map_err(stopped)?))
            });
            Ok::<_, Status>(answers.boxed())
        })
        .try_flatten()
        .take_until(self.node.stopping().clone().cancelled_owned());
        Ok(Response::new(Box::pin(responses)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let caller = self.caller(request.extensions())?;
        let mut parts = request.into_inner();
        let (vote, file) = self.receive(&caller, &mut parts).await?;
        let store = self.node.store().clone();
        let reader = tokio::task::spawn_blocking(move || store.read_incoming(file));
        let (meta, snapshot) = reader.await.map_err(stopped)?.map_err(|e| io_status(&e))?;
        let installed = self
            .node
            .raft()
            .install_full_snapshot(vote, Snapshot { meta, snapshot })
            .await;
        let response = installed.map_err(stopped)?;
        let vote = Some(convert::vote_out(&response.vote));
        Ok(Response::new(pb::SnapshotResponse { vote }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let message = self.admit(request, |m| m.route.as_ref())?;
        let from = convert::vote_in(message.from_leader).map_err(|e| malformed(&e))?;
        let last = message.last_log_id.map(convert::log_id_in);
        if message.to == self.node.own_id() && self.node.is_witness() {
            let refused = "a witness does not take leadership over".to_owned();
            return Ok(Response::new(pb::TransferLeaderResponse { refused }));
        }
        let transfer = rpc::TransferLeaderRequest::new(from, message.to, last);
        let accepted = self
            .node
            .raft()
            .handle_transfer_leader(transfer)
            .await
            .map_err(stopped)?;
        let refused = accepted.err().map(|e| e.to_string()).unwrap_or_default();
        Ok(Response::new(pb::TransferLeaderResponse { refused }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        self.admit(request, |m| m.route.as_ref())?;
        let deadline = Instant::now() + self.node.timing().election_max * 3;
        let confirmed = self.node.own_read_index(deadline).await;
        let index = confirmed.map_err(|e| to_status(&e.to_refusal()))?;
        let time = self.node.reckoned().unwrap_or_default().0;
        Ok(Response::new(pb::ReadIndexResponse { index, time }))
    }

    async fn state_hashes(
        &self,
        request: Request<pb::StateHashesRequest>,
    ) -> Result<Response<pb::StateHashesResponse>, Status> {
        let message = self.admit(request, |m| m.route.as_ref())?;
        let mut hashes = self.node.hashes_from(types::Revision(message.from_revision));
        if self.node.is_witness() {
            hashes.clear();
        }
        let hashes = hashes.into_iter();
        let hashes = hashes.map(|(revision, hash)| pb::StateHashAt {
            revision: revision.0,
            hash: hash.as_bytes().to_vec(),
        });
        Ok(Response::new(pb::StateHashesResponse {
            hashes: hashes.collect(),
        }))
    }

    type FetchSnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotPart, Status>> + Send>>;

    async fn fetch_snapshot(
        &self,
        request: Request<pb::FetchSnapshotRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        let message = self.admit(request, |m| m.route.as_ref())?;
        self.node
            .check_serving()
            .map_err(|e| to_status(&e.to_refusal()))?;
        let file = self.node.snapshot_at_least(message.at_least_index).await;
        let file = file.map_err(|e| io_status(&e))?;
        let header = pb::SnapshotHeader {
            size_bytes: file.size(),
            sha256: file.digest().map_err(|e| io_status(&e))?.to_vec(),
            ..pb::SnapshotHeader::default()
        };
        let parts = snapshot_parts(header, file).map(Ok);
        let parts = parts.take_until(self.node.stopping().clone().cancelled_owned());
        Ok(Response::new(Box::pin(parts)))
    }

    async fn read_clock(
        &self,
        request: Request<pb::ReadClockRequest>,
    ) -> Result<Response<pb::ReadClockResponse>, Status> {
        self.admit(request, |m| m.route.as_ref())?;
        let time = self.node.config().clock.now().0;
        Ok(Response::new(pb::ReadClockResponse { time }))
    }

    async fn ping(&self, request: Request<pb::PingRequest>) -> Result<Response<pb::PingResponse>, Status> {
        let message = self.admit(request, |m| m.route.as_ref())?;
        if message.adopt_revision > 0 {
            let from = message.route.as_ref().map_or(0, |route| route.from);
            self.node
                .adopt_in_turn(message.adopt_revision, from, message.adopt_timing);
        }
        Ok(Response::new(self.node.pong()))
    }

    async fn announce(
        &self,
        request: Request<pb::AnnounceRequest>,
    ) -> Result<Response<pb::AnnounceResponse>, Status> {
        let caller = self.caller(request.extensions())?;
        let message = request.into_inner();
        self.check_address(&caller, message.route.as_ref())?;
        let names_itself = message
            .peer
            .as_ref()
            .is_some_and(|peer| peer.node == caller.as_str());
        if !names_itself {
            return Err(denied(format!("{caller} announces another node")));
        }
        // What it remembers of this disk is a voice, whatever becomes of its own.
        if let Some(route) = &message.route {
            drop(self.node.check_let_in(route));
        }
        let answer = self.node.answer_announcement(&message);
        answer.map(Response::new).map_err(|e| malformed(&e))
    }

    async fn features(
        &self,
        request: Request<pb::FeaturesRequest>,
    ) -> Result<Response<pb::FeaturesResponse>, Status> {
        self.admit(request, |m| m.route.as_ref())?;
        Ok(Response::new(pb::FeaturesResponse {
            supported_level: self.node.supported_level(),
        }))
    }
}
