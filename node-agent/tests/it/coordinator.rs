//! A coordinator that does what a script says: a state that tests commit to, a watch of it, and the few calls that an
//! agent makes. It keeps no rules but those that the calls need.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use node_agent::{identity::server_tls, view::View};
use policy::fence::{Confirmation, confirm};
use proto::{
    convert::{regions, registry, services, status::to_status, watch::Resource},
    v1::{
        self as pb,
        discovery_service_server::{DiscoveryService, DiscoveryServiceServer},
        primary_service_server::{PrimaryService, PrimaryServiceServer},
        region_service_server::{RegionService, RegionServiceServer},
        registry_service_server::{RegistryService, RegistryServiceServer},
        report_replica_request::Report,
        session_request, session_response,
        session_service_server::{SessionService, SessionServiceServer},
        watch_service_server::{WatchService, WatchServiceServer},
    },
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};
use types::{
    AliasName, ByteCount, ClusterId, Holder, NodeIncarnation, Principal, Reason, Revision, RoleName,
    UnixMillis,
    model::{AliasRecord, VersionState},
    reason::Refusal,
    region::{Endpoints, NodeKind, NodeRecord, NodeStatus},
    replica::ReplicaState,
    role::TimingPolicy,
    service::{ServiceHealth, ServiceRecord},
};

pub(crate) const CLUSTER: ClusterId = ClusterId::from_u128(77);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) view: View,
    history: Vec<(u64, Vec<pb::Event>)>,
    pub(crate) heartbeat: Option<pb::Heartbeat>,
    pub(crate) steps: Vec<pb::ReportStepRequest>,
    pub(crate) released: Vec<u64>,
    /// Epochs for which a renewal came, each once in a row.
    pub(crate) asked: Vec<u64>,
    pub(crate) reports: Vec<String>,
    /// The agent of the last session.
    pub(crate) agent: Option<Holder>,
    /// The run that took the place of all that say hello.
    pub(crate) taken_over_by: Option<NodeIncarnation>,
    /// Whether renewals and fence checks are answered.
    pub(crate) quorum: bool,
    /// Whether no attempt at a copy may begin.
    pub(crate) no_starts: bool,
}

#[derive(Clone)]
pub(crate) struct Coordinator {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

pub(crate) struct Running {
    pub(crate) endpoint: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

impl Coordinator {
    pub(crate) fn new() -> Self {
        let mut state = State {
            quorum: true,
            ..State::default()
        };
        state.view.cluster_id = Some(CLUSTER);
        state.view.revision = Revision(1);
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: watch::Sender::new(0),
        }
    }

    pub(crate) async fn start(&self, tls: &client::TlsFiles) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let server = tonic::transport::Server::builder()
            .tls_config(server_tls(tls).unwrap())
            .unwrap()
            .add_service(WatchServiceServer::new(self.clone()))
            .add_service(SessionServiceServer::new(self.clone()))
            .add_service(RegistryServiceServer::new(self.clone()))
            .add_service(RegionServiceServer::new(self.clone()))
            .add_service(DiscoveryServiceServer::new(self.clone()))
            .add_service(PrimaryServiceServer::new(self.clone()));
        let (end, stopping) = (stop.clone(), self.clone());
        let task = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            let serving = server.serve_with_incoming(incoming);
            tokio::select! {
                // Dropping the server ends its connections, as a kill would.
                () = end.cancelled() => drop(stopping),
                served = serving => served.unwrap(),
            }
        });
        Running { endpoint, stop, task }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// One revision with these records.
    pub(crate) fn commit(&self, records: Vec<Resource>) {
        let mut state = self.lock();
        let revision = state.view.revision.next();
        state.view.revision = revision;
        let event = |resource: &Resource| pb::Event {
            kind: "changed".to_owned(),
            resource: Some(resource.into()),
            deleted: false,
        };
        let events = records.iter().map(event).collect();
        records.into_iter().for_each(|r| state.view.upsert(r));
        state.history.push((revision.0, events));
        drop(state);
        self.touch();
    }

    /// One revision in which this record is gone.
    pub(crate) fn discard(&self, record: &Resource) {
        let mut state = self.lock();
        let revision = state.view.revision.next();
        state.view.revision = revision;
        let event = pb::Event {
            kind: "deleted".to_owned(),
            resource: Some(record.into()),
            deleted: true,
        };
        state.view.remove(record);
        state.history.push((revision.0, vec![event]));
        drop(state);
        self.touch();
    }

    /// The state of the leader is ahead of what is watched: no event tells of this record.
    pub(crate) fn commit_unseen(&self, record: Resource) {
        self.lock().view.upsert(record);
        self.touch();
    }

    fn touch(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Waits until `seen` is true of what the coordinator knows.
    pub(crate) async fn until(&self, what: &str, seen: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if seen(&self.lock()) {
                    return;
                }
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), wait).await.is_err() {
            let state = self.lock();
            panic!(
                "never: {what}\nreports {:?}\nheartbeat {:?}\nsteps {:?}",
                state.reports, state.heartbeat, state.steps
            );
        }
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: CLUSTER.to_string(),
            revision: self.lock().view.revision.0,
            ..Default::default()
        })
    }

    fn after(&self, revision: u64) -> Vec<(u64, Vec<pb::Event>)> {
        let state = self.lock();
        state
            .history
            .iter()
            .filter(|(at, _)| *at > revision)
            .cloned()
            .collect()
    }

    fn welcome(&self, hello: &pb::Hello) {
        let agent = Holder {
            region: hello.region.parse().unwrap(),
            node: hello.node.parse().unwrap(),
            incarnation: hello.incarnation.parse().unwrap(),
        };
        let endpoints = hello.endpoints.clone().unwrap_or_default();
        let record = NodeRecord {
            node: agent.node.clone(),
            region: agent.region.clone(),
            zone: None,
            kind: NodeKind::Agent,
            incarnation: agent.incarnation,
            endpoints: Endpoints {
                agent: endpoints.agent,
                inference: endpoints.inference,
                ..Endpoints::default()
            },
            status: NodeStatus::Up,
            changed_at: UnixMillis(0),
            modified: Revision(0),
        };
        self.lock().agent = Some(agent);
        self.commit(vec![Resource::Node(record)]);
    }

    fn session_answer(
        &self,
        message: session_request::Message,
    ) -> Result<session_response::Message, Refusal> {
        let taken = self.lock().taken_over_by;
        match (message, taken) {
            (session_request::Message::Hello(hello), None) => {
                self.welcome(&hello);
                Ok(session_response::Message::Welcome(pb::Welcome {
                    cluster_id: CLUSTER.to_string(),
                    timing: Some((&TimingPolicy::fast()).into()),
                    revision: 0,
                }))
            }
            (session_request::Message::Heartbeat(heartbeat), None) => {
                let sequence = heartbeat.sequence;
                self.lock().heartbeat = Some(heartbeat);
                self.touch();
                Ok(session_response::Message::Ack(pb::HeartbeatAck {
                    sequence,
                    timing: None,
                }))
            }
            (session_request::Message::Hello(hello), Some(run)) => {
                let text = format!("node {} runs as {run}, not as {}", hello.node, hello.incarnation);
                Err(Refusal::new(Reason::StaleIncarnation, text).with("current", run))
            }
            (session_request::Message::Heartbeat(_), Some(_)) => Err(Refusal::new(
                Reason::IllegalTransition,
                "another session of this node has taken its place",
            )),
        }
    }

    fn report(&self, request: pb::ReportReplicaRequest) -> Result<pb::Replica, Refusal> {
        let key = types::replica::ReplicaKey {
            version: registry::version_key(&request.model, request.version)?,
            region: request
                .region
                .parse()
                .map_err(|e| proto::convert::invalid("region", e))?,
        };
        let (mut replica, mut version) = {
            let state = self.lock();
            let missing = || Refusal::new(Reason::ReplicaNotFound, "no such copy");
            let replica = state.view.replicas.get(&key).cloned().ok_or_else(missing)?;
            let version = state
                .view
                .versions
                .get(&key.version)
                .ok_or_else(missing)?
                .as_ref()
                .clone();
            (replica, version)
        };
        let mut records = Vec::new();
        let line = match request.report {
            Some(Report::Started(_)) if replica.state == ReplicaState::Verified => {
                return Err(Refusal::new(Reason::IllegalTransition, "it is verified"));
            }
            Some(Report::Started(_)) if self.lock().no_starts => {
                self.lock().reports.push(format!("{key}: kept from starting"));
                self.touch();
                return Err(Refusal::new(Reason::InvalidArgument, "not now"));
            }
            Some(Report::Started(_)) => {
                replica.attempts += 1;
                replica.state = ReplicaState::Copying;
                "started"
            }
            Some(Report::Progress(progress)) => {
                replica.bytes_done = ByteCount(progress.bytes_done);
                "progress"
            }
            Some(Report::Verified(_)) => {
                replica.state = ReplicaState::Verified;
                replica.completed_at = Some(UnixMillis(1));
                replica.error.clear();
                if version.state == VersionState::Verifying {
                    version.state = VersionState::Ready;
                    records.push(Resource::Alias(champion(&version.key)));
                }
                "verified"
            }
            Some(Report::Failed(failed)) if failed.attempt != replica.attempts => {
                return Err(Refusal::new(Reason::StaleAttempt, "another attempt has begun"));
            }
            Some(Report::Failed(failed)) => {
                replica.state = ReplicaState::Failed;
                replica.error = failed.error;
                if failed.digest_mismatch && version.state == VersionState::Verifying {
                    version.state = VersionState::Deleted;
                }
                "failed"
            }
            None => "nothing",
        };
        self.lock().reports.push(format!("{key}: {line}"));
        replica.modified = self.lock().view.revision.next();
        let answer = (&replica).into();
        records.push(Resource::Replica(replica));
        records.push(Resource::Version(version));
        self.commit(records);
        Ok(answer)
    }

    fn renew(&self, token: Option<pb::FencingToken>) -> Result<pb::RenewLeaseResponse, Refusal> {
        let token = regions::token(token)?;
        let mut state = self.lock();
        let epoch = token.epoch.as_u64();
        if state.asked.last() != Some(&epoch) {
            state.asked.push(epoch);
        }
        self.touch();
        if !state.quorum {
            return Err(Refusal::new(Reason::NoQuorum, "no quorum"));
        }
        let role = state.view.roles.get(&token.role).cloned();
        drop(state);
        let role = role.ok_or_else(|| Refusal::new(Reason::RoleNotFound, "no such role"))?;
        match confirm(&role, CLUSTER, &token) {
            Confirmation::Current => {}
            Confirmation::Reserved => return Err(Refusal::new(Reason::RoleChanging, "not yet")),
            Confirmation::Refused(refused) => return Err(refused.to_refusal()),
        }
        let timing = &role.timing;
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap();
        Ok(pb::RenewLeaseResponse {
            header: self.header(),
            ttl_millis: millis(timing.lease_ttl),
            renew_interval_millis: millis(timing.renew_interval),
            drain_margin_millis: millis(timing.drain_margin),
        })
    }

    fn check(&self, token: Option<pb::FencingToken>) -> Result<pb::CheckFenceResponse, Refusal> {
        let token = regions::token(token)?;
        let state = self.lock();
        if !state.quorum {
            return Err(Refusal::new(Reason::NoQuorum, "no quorum"));
        }
        let role = state.view.roles.get(&token.role).cloned();
        drop(state);
        let role = role.ok_or_else(|| Refusal::new(Reason::RoleNotFound, "no such role"))?;
        let confirmation = confirm(&role, CLUSTER, &token);
        Ok(pb::CheckFenceResponse {
            header: self.header(),
            current: confirmation == Confirmation::Current,
            reserved: confirmation == Confirmation::Reserved,
            current_epoch: role.epoch.as_u64(),
            current_holder: role.holder.as_ref().map(Into::into),
        })
    }
}

pub(crate) fn champion(key: &types::VersionKey) -> AliasRecord {
    AliasRecord {
        model: key.model.clone(),
        alias: AliasName::new("champion").unwrap(),
        version: key.version,
        reason: String::new(),
        moved_at: UnixMillis(0),
        moved_by: "spiffe://regent.local/user/admin".parse().unwrap(),
        modified: Revision(0),
    }
}

fn answer<T>(result: Result<T, Refusal>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|r| to_status(&r))
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'a>>;

/// A method that is answered by an expression, or not at all.
macro_rules! rpc {
    ($name:ident($request:ident) -> $response:ident) => {
        rpc!($name($request) -> $response, |_, _| Err(Refusal::new(Reason::Internal, "not in the script")));
    };
    ($name:ident($request:ident) -> $response:ident, $answer:expr) => {
        fn $name<'a, 'b>(&'a self, request: Request<pb::$request>) -> Answer<'b, pb::$response>
        where
            'a: 'b,
            Self: 'b,
        {
            let f: fn(&Coordinator, pb::$request) -> Result<pb::$response, Refusal> = $answer;
            let result = f(self, request.into_inner());
            Box::pin(async move { answer(result) })
        }
    };
}

impl RegistryService for Coordinator {
    rpc!(create_model(CreateModelRequest) -> ModelResponse);
    rpc!(get_model(GetModelRequest) -> GetModelResponse);
    rpc!(list_models(ListModelsRequest) -> ListModelsResponse);
    rpc!(set_model_tags(SetModelTagsRequest) -> ModelResponse);
    rpc!(create_version(CreateVersionRequest) -> VersionResponse);
    rpc!(complete_upload(CompleteUploadRequest) -> VersionResponse);
    rpc!(abort_version(ChangeVersionRequest) -> VersionResponse);
    rpc!(deprecate_version(ChangeVersionRequest) -> VersionResponse);
    rpc!(delete_version(ChangeVersionRequest) -> VersionResponse);
    rpc!(get_version(GetVersionRequest) -> VersionResponse);
    rpc!(list_versions(ListVersionsRequest) -> ListVersionsResponse);
    rpc!(set_version_metrics(SetVersionMetricsRequest) -> VersionResponse);
    rpc!(list_dependents(ListDependentsRequest) -> ListDependentsResponse);
    rpc!(set_alias(SetAliasRequest) -> AliasResponse);
    rpc!(delete_alias(DeleteAliasRequest) -> DeleteAliasResponse);
    rpc!(list_aliases(ListAliasesRequest) -> ListAliasesResponse);
    rpc!(list_deployments(ListDeploymentsRequest) -> ListDeploymentsResponse);
    rpc!(list_replicas(ListReplicasRequest) -> ListReplicasResponse);
    rpc!(report_replica(ReportReplicaRequest) -> ReplicaResponse, |this, request| {
        let replica = this.report(request)?;
        Ok(pb::ReplicaResponse { header: this.header(), replica: Some(replica) })
    });
}

impl RegionService for Coordinator {
    rpc!(list_regions(ListRegionsRequest) -> ListRegionsResponse);
    rpc!(get_region(GetRegionRequest) -> GetRegionResponse);
    rpc!(list_health_changes(ListHealthChangesRequest) -> ListHealthChangesResponse);
    rpc!(list_nodes(ListNodesRequest) -> ListNodesResponse);
    rpc!(create_region(CreateRegionRequest) -> GetRegionResponse);
    rpc!(update_region(UpdateRegionRequest) -> GetRegionResponse);
    rpc!(delete_region(DeleteRegionRequest) -> DeleteRegionResponse);
    rpc!(remove_node(RemoveNodeRequest) -> RemoveNodeResponse);
    rpc!(get_node(GetNodeRequest) -> GetNodeResponse);
    rpc!(attach_store(AttachStoreRequest) -> GetRegionResponse, |this, request| {
        let name: types::RegionId = request.region.parse().unwrap();
        let mut region = this.lock().view.regions[&name].clone();
        region.store = Some(regions::store(request.store)?);
        let answer = (&region).into();
        this.commit(vec![Resource::Region(region)]);
        Ok(pb::GetRegionResponse { header: this.header(), region: Some(answer) })
    });
}

impl DiscoveryService for Coordinator {
    rpc!(register_service(RegisterServiceRequest) -> ServiceResponse, |this, request| {
        let key = services::key(&request.service, &request.node, request.port)?;
        let (region, incarnation) = {
            let state = this.lock();
            let node = &state.view.nodes[&key.node];
            (node.region.clone(), node.incarnation)
        };
        let record = ServiceRecord {
            registered_by: Principal::Agent { region: region.clone(), node: key.node.clone() },
            key,
            region,
            incarnation,
            address: request.address,
            protocol: services::protocol_from_pb(request.protocol)?,
            labels: request.labels,
            health: ServiceHealth::Healthy,
            registered_at: UnixMillis(0),
            modified: Revision(1),
        };
        let answer = (&record).into();
        this.commit(vec![Resource::Service(Box::new(record))]);
        Ok(pb::ServiceResponse { header: this.header(), instance: Some(answer) })
    });
    rpc!(deregister_service(DeregisterServiceRequest) -> DeregisterServiceResponse, |this, request| {
        let key = services::key(&request.service, &request.node, request.port)?;
        let known = this.lock().view.services.get(&key).cloned();
        let known = known.ok_or_else(|| Refusal::new(Reason::ServiceNotFound, "no such service"))?;
        this.discard(&Resource::Service(Box::new(known)));
        Ok(pb::DeregisterServiceResponse { header: this.header() })
    });
    rpc!(get_service(GetServiceRequest) -> ServiceResponse);
    rpc!(list_services(ListServicesRequest) -> ListServicesResponse);
}

impl PrimaryService for Coordinator {
    rpc!(list_roles(ListRolesRequest) -> ListRolesResponse);
    rpc!(get_role(GetRoleRequest) -> RoleResponse);
    rpc!(create_role(CreateRoleRequest) -> RoleResponse);
    rpc!(set_role_mode(SetRoleModeRequest) -> RoleResponse);
    rpc!(set_role_timing(SetRoleTimingRequest) -> RoleResponse);
    rpc!(set_role_candidates(SetRoleCandidatesRequest) -> RoleResponse);
    rpc!(switchover(SwitchoverRequest) -> PlanResponse);
    rpc!(get_plan(GetPlanRequest) -> PlanResponse);
    rpc!(list_plans(ListPlansRequest) -> ListPlansResponse);
    rpc!(report_step(ReportStepRequest) -> PlanResponse, |this, request| {
        let plan = this.lock().view.plans.get(&types::PlanId(request.plan)).cloned();
        this.lock().steps.push(request);
        this.touch();
        let plan = plan.ok_or_else(|| Refusal::new(Reason::PlanNotFound, "no such plan"))?;
        Ok(pb::PlanResponse { header: this.header(), plan: Some(plan.as_ref().into()) })
    });
    rpc!(renew_lease(RenewLeaseRequest) -> RenewLeaseResponse, |this, request| this.renew(request.token));
    rpc!(release_lease(ReleaseLeaseRequest) -> ReleaseLeaseResponse, |this, request| {
        let token = regions::token(request.token)?;
        this.lock().released.push(token.epoch.as_u64());
        this.touch();
        Ok(pb::ReleaseLeaseResponse { header: this.header() })
    });
    rpc!(check_fence(CheckFenceRequest) -> CheckFenceResponse, |this, request| this.check(request.token));
}

#[tonic::async_trait]
impl WatchService for Coordinator {
    type ListStream = ReceiverStream<Result<pb::ListChunk, Status>>;
    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn list(&self, _: Request<pb::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let header = self.header();
        let state = self.lock();
        let view = &state.view;
        let resources = (view.regions.values().cloned().map(Resource::Region))
            .chain(view.nodes.values().cloned().map(Resource::Node))
            .chain(
                view.versions
                    .values()
                    .map(|v| Resource::Version(v.as_ref().clone())),
            )
            .chain(view.aliases.values().cloned().map(Resource::Alias))
            .chain(view.replicas.values().cloned().map(Resource::Replica))
            .chain(
                view.roles
                    .values()
                    .map(|r| Resource::Role(Box::new(r.as_ref().clone()))),
            )
            .chain(
                view.plans
                    .values()
                    .map(|p| Resource::Plan(Box::new(p.as_ref().clone()))),
            );
        let chunk = pb::ListChunk {
            header,
            resources: resources.map(|r| (&r).into()).collect(),
            last: true,
        };
        let (send, receive) = mpsc::channel(1);
        send.try_send(Ok(chunk)).unwrap();
        Ok(Response::new(ReceiverStream::new(receive)))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (send, receive) = mpsc::channel(16);
        let (this, mut after) = (self.clone(), request.into_inner().after_revision);
        let mut changed = self.changed.subscribe();
        tokio::spawn(async move {
            loop {
                changed.borrow_and_update();
                for (revision, events) in this.after(after) {
                    after = revision;
                    let header = Some(pb::ResponseHeader {
                        revision,
                        ..this.header().unwrap()
                    });
                    if send
                        .send(Ok(pb::WatchResponse {
                            header,
                            events,
                            more: false,
                        }))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
                tokio::select! {
                    changed = changed.changed() => if changed.is_err() { return },
                    () = send.closed() => return,
                    // Bookmarks keep a silent watch alive.
                    () = tokio::time::sleep(Duration::from_millis(500)) => {
                        let header = Some(pb::ResponseHeader { revision: after, ..this.header().unwrap() });
                        if send.send(Ok(pb::WatchResponse { header, ..Default::default() })).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}

#[tonic::async_trait]
impl SessionService for Coordinator {
    type SessionStream = ReceiverStream<Result<pb::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (send, receive) = mpsc::channel(4);
        let (this, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let answer = this.session_answer(request.message.unwrap());
                let over = answer.is_err();
                let answer = answer.map_err(|refusal| to_status(&refusal));
                let sent = send.send(answer.map(|message| pb::SessionResponse {
                    message: Some(message),
                }));
                if sent.await.is_err() || over {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}

pub(crate) fn global() -> RoleName {
    RoleName::global()
}
