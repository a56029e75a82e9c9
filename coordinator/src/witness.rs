//! What a witness runs: Raft, how it stands, its health; nothing for clients and agents.
//!
//! Absent on purpose: watch hub, sessions, leases, the loops of a leader, and every service of the API but `GetStatus`. How a witness
//! takes part in Raft is in [`crate::raft`], what it is for in `docs/protocol/witness.md`.
//! Invariant: a call that takes a state is refused before anything looks at it, with who serves.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use proto::{
    convert::status::to_status,
    v1::{self as pb, cluster_service_server::ClusterService},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::info;
use types::{
    NodeIncarnation,
    reason::{Reason, Refusal},
};

use crate::{
    Coordinator, RunError, api,
    exposition::{self, Seen},
    join,
    loops::Loops,
    raft::{Member, ProposeError, RaftNode},
    server,
    sessions::Sessions,
};

/// What a witness answers: who asks for anything else is told who serves.
const ANSWERED: [&str; 2] = ["/regent.v1.ClusterService/GetStatus", "/grpc.health.v1.Health/"];

impl Coordinator {
    /// Serves as a witness until `shutdown`, or until something stops by itself.
    pub(crate) async fn run_witness(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let (stop, stop_raft) = (CancellationToken::new(), CancellationToken::new());
        let reporter = tonic_health::server::HealthReporter::new();
        let mut loops = Loops::default();
        let reporting = server::report_health(self.raft.clone(), reporter.clone(), stop.clone());
        loops.spawn("the report of the own health", reporting);
        if let Some(listener) = self.sockets.metrics {
            let seen = Seen {
                raft: self.raft.clone(),
                sessions: Sessions::default(),
            };
            loops.spawn(
                "the metrics server",
                exposition::serve(seen, listener, stop.clone()),
            );
        }
        let mut parts: JoinSet<Result<(), RunError>> = JoinSet::new();
        let (raft, tls, listener) = (self.raft.clone(), self.tls.clone(), self.sockets.raft);
        let end = stop_raft.clone();
        parts.spawn(async move { server::serve_raft(raft, &tls, listener, end).await });
        let (raft, tls, listener) = (self.raft.clone(), self.tls.clone(), self.sockets.api);
        let end = stop.clone();
        parts.spawn(async move { server::serve_witness_api(raft, &tls, listener, reporter, end).await });
        let joiner = join::Joiner {
            raft: self.raft.clone(),
            api: None,
            tls: self.tls,
            incarnation: NodeIncarnation::from_u128(uuid::Uuid::now_v7().as_u128()),
            zone: self.config.zone,
            found: None,
            seeds: self.config.join,
        };
        let end = stop.clone();
        parts.spawn(async move { joiner.run(end).await.map_err(RunError::Join) });
        info!(endpoint = %self.raft.own_peer().api_endpoint, "witness votes, and serves nobody");
        crate::until_the_end(self.raft, parts, loops, (stop, stop_raft), &shutdown).await
    }
}

/// Lets nothing pass but what a witness answers.
#[derive(Clone)]
pub(crate) struct WitnessLayer(pub(crate) RaftNode);

impl<S> Layer<S> for WitnessLayer {
    type Service = WitnessDoor<S>;
    fn layer(&self, inner: S) -> WitnessDoor<S> {
        WitnessDoor {
            raft: self.0.clone(),
            inner,
        }
    }
}

/// The service that [`WitnessLayer`] makes.
#[derive(Clone)]
pub(crate) struct WitnessDoor<S> {
    raft: RaftNode,
    inner: S,
}

impl<S> Service<Request<Body>> for WitnessDoor<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if ANSWERED.iter().any(|path| request.uri().path().starts_with(path)) {
            return Box::pin(self.inner.call(request));
        }
        let refused = refused(&self.raft).into_http();
        Box::pin(std::future::ready(Ok(refused)))
    }
}

/// That this is a witness, and who serves: the leader, if it is known, and all others in the text.
fn refused(raft: &RaftNode) -> Status {
    let Some(error) = raft.refused_by_witness() else {
        return to_status(&Refusal::new(Reason::Internal, "no witness refuses as one"));
    };
    let refusal = error.to_refusal();
    let serving = serving(&raft.members());
    let message = match (&error, serving.as_str()) {
        (ProposeError::Witness { leader: Some(_), .. }, _) | (_, "") => refusal.message.clone(),
        _ => format!("{}; ask {serving}", refusal.message),
    };
    to_status(&Refusal { message, ..refusal })
}

/// Voters that serve, with their endpoints.
fn serving(members: &[Member]) -> String {
    let serving = members.iter().filter(|m| m.voter && !m.peer.witness);
    let named = serving.map(|m| format!("{} at {}", m.peer.node, m.peer.api_endpoint));
    named.collect::<Vec<_>>().join(" or ")
}

/// `ClusterService` of a witness: `GetStatus`. The rest is refused in front of it, and here once more.
pub(crate) struct WitnessStatus(pub(crate) RaftNode);

type Answer<T> = Result<tonic::Response<T>, Status>;

#[tonic::async_trait]
impl ClusterService for WitnessStatus {
    type SaveSnapshotStream = api::cluster::SavedStream;

    async fn get_status(&self, _: tonic::Request<pb::GetStatusRequest>) -> Answer<pb::GetStatusResponse> {
        Ok(tonic::Response::new(api::cluster::standing(&self.0, 0)))
    }

    async fn save_snapshot(
        &self,
        _: tonic::Request<pb::SaveSnapshotRequest>,
    ) -> Answer<Self::SaveSnapshotStream> {
        Err(refused(&self.0))
    }

    async fn join(&self, _: tonic::Request<pb::JoinRequest>) -> Answer<pb::JoinResponse> {
        Err(refused(&self.0))
    }

    async fn transfer_leadership(
        &self,
        _: tonic::Request<pb::TransferLeadershipRequest>,
    ) -> Answer<pb::TransferLeadershipResponse> {
        Err(refused(&self.0))
    }

    async fn remove_member(
        &self,
        _: tonic::Request<pb::RemoveMemberRequest>,
    ) -> Answer<pb::RemoveMemberResponse> {
        Err(refused(&self.0))
    }

    async fn get_settings(&self, _: tonic::Request<pb::GetSettingsRequest>) -> Answer<pb::Settings> {
        Err(refused(&self.0))
    }

    async fn set_timing(&self, _: tonic::Request<pb::SetTimingRequest>) -> Answer<pb::Settings> {
        Err(refused(&self.0))
    }

    async fn set_election_timing(
        &self,
        _: tonic::Request<pb::SetElectionTimingRequest>,
    ) -> Answer<pb::Settings> {
        Err(refused(&self.0))
    }

    async fn set_leader_preference(
        &self,
        _: tonic::Request<pb::SetLeaderPreferenceRequest>,
    ) -> Answer<pb::Settings> {
        Err(refused(&self.0))
    }

    async fn record_rebind(&self, _: tonic::Request<pb::RecordRebindRequest>) -> Answer<pb::Rebinds> {
        Err(refused(&self.0))
    }
}
