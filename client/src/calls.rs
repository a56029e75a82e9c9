//! One method per call. Each has one deadline for all its attempts.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use proto::{
    convert::{primaries, regions, registry, status},
    v1::{
        self as pb, cluster_service_client::ClusterServiceClient,
        primary_service_client::PrimaryServiceClient, region_service_client::RegionServiceClient,
        registry_service_client::RegistryServiceClient,
    },
};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status, transport::Channel};
use types::{
    AliasName, ClusterId, Epoch, FencingToken, ModelName, NodeIncarnation, PlanId, RegionId, RequestId,
    Revision, RoleName, VersionKey,
    model::{AliasRecord, Artifact, ModelRecord, Placement, VersionRecord},
    plan::{DoorClaim, PlanRecord, StepKind},
    reason::{Category, Reason, Refusal},
    region::{NodeRecord, RegionRecord, StoreBinding},
    replica::{ReplicaKey, ReplicaRecord},
    role::{FailoverMode, RoleRecord, TimingPolicy},
};

use crate::{
    channel::{Channels, ClientConfig},
    retry::{self, Next, mint_request_id},
};

/// Where an answer was read, or what revision a change made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The cluster that answered; part of a watch token (I7).
    pub cluster_id: ClusterId,
    /// The state's revision.
    pub revision: Revision,
    /// For a stale read, how old it may be.
    pub age: Option<Duration>,
}

impl Header {
    pub(crate) fn read(header: Option<pb::ResponseHeader>) -> Result<Self, Refusal> {
        let header = proto::convert::required("header", header)?;
        Ok(Self {
            cluster_id: proto::convert::text("header.cluster_id", &header.cluster_id)?,
            revision: Revision(header.revision),
            age: header.stale.then_some(Duration::from_millis(header.age_millis)),
        })
    }
}

/// How far a copy is, as its region's agent reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaReport {
    /// An attempt begins; bytes come from this region, or are in the own store already.
    Started {
        /// The region that the bytes come from.
        source: Option<RegionId>,
    },
    /// Bytes moved so far.
    Progress {
        /// The attempt, as the answer to `Started` numbered it.
        attempt: u32,
        /// Bytes moved.
        bytes_done: u64,
    },
    /// Every artifact was re-read from the region's own store and matched.
    Verified {
        /// The attempt.
        attempt: u32,
        /// Bytes of all artifacts.
        bytes: u64,
    },
    /// The attempt failed.
    Failed {
        /// The attempt.
        attempt: u32,
        /// How.
        error: String,
        /// The bytes have another digest than the manifest says.
        digest_mismatch: bool,
    },
}

/// The answer to a lease renewal; the caller counts from the time at which it *sent* the request (L4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// How long the lease holds from the send time, before drift is taken off.
    pub ttl: Duration,
    /// How often to renew.
    pub renew_interval: Duration,
    /// How long before the end work must stop.
    pub drain_margin: Duration,
}

/// The answer to [`Client::check_fence`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceStanding {
    /// The token names the current epoch and its holder.
    pub current: bool,
    /// The token names the epoch that a running plan reserved, and its target: good for claims only.
    pub reserved: bool,
    /// The role's committed epoch.
    pub current_epoch: Epoch,
    /// Its holder.
    pub current_holder: Option<types::Holder>,
}

/// A handle to the cluster; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    channels: Arc<Channels>,
    deadline: Duration,
    attempt_timeout: Duration,
    allow_stale: bool,
    /// The id of every change; none: each gets its own.
    request_id: Option<RequestId>,
}

/// Whether a call is answered by the leader only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Leader,
    Anyone,
}

impl Client {
    /// Reads the identity and prepares channels; connects to nobody yet.
    pub fn new(config: ClientConfig) -> Result<Self, Refusal> {
        Ok(Self {
            channels: Arc::new(Channels::new(&config)?),
            deadline: config.deadline,
            attempt_timeout: config.attempt_timeout,
            allow_stale: false,
            request_id: None,
        })
    }

    /// The same connections with another deadline per call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self {
            deadline,
            attempt_timeout: self.attempt_timeout.min(deadline),
            ..self.clone()
        }
    }

    /// How long a silent coordinator is waited for.
    pub(crate) fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
    }

    /// The same connections, where a coordinator that is silent for this long is given up for the next one.
    #[must_use]
    pub fn with_attempt_timeout(&self, attempt_timeout: Duration) -> Self {
        Self {
            attempt_timeout: attempt_timeout.min(self.deadline),
            ..self.clone()
        }
    }

    /// The same connections with reads answered from the nearest coordinator's local state, also without a quorum.
    #[must_use]
    pub fn with_stale_reads(&self) -> Self {
        Self {
            allow_stale: true,
            ..self.clone()
        }
    }

    /// The same connections for one change under an id of the caller's: to ask again for one whose outcome was unknown.
    /// The registry answers it once, whatever the number of times that it is asked (I9).
    #[must_use]
    pub fn with_request_id(&self, request_id: RequestId) -> Self {
        Self {
            request_id: Some(request_id),
            ..self.clone()
        }
    }

    fn change_id(&self) -> String {
        self.request_id.unwrap_or_else(mint_request_id).to_string()
    }

    /// API endpoint of the coordinator that is believed to lead.
    pub fn leader_hint(&self) -> Option<String> {
        self.channels.leader()
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }

    fn read_options(&self) -> Option<pb::ReadOptions> {
        Some(pb::ReadOptions {
            allow_stale: self.allow_stale,
        })
    }

    /// Sends `message` until an answer is final or the deadline is over. The only loop that retries.
    async fn call<M, T, F, R>(&self, to: To, message: M, send: F) -> Result<T, Refusal>
    where
        M: Clone,
        F: Fn(Channel, Request<M>) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let end = Instant::now() + self.deadline;
        let (mut turn, mut attempt, mut hints, mut any_unknown) = (0_usize, 0_u32, 0_u32, false);
        let mut last = None;
        while Instant::now() < end {
            let (endpoint, channel) = self.channels.pick(turn, to == To::Leader)?;
            let until = end.min(Instant::now() + self.attempt_timeout);
            let mut request = Request::new(message.clone());
            request.set_timeout(until.saturating_duration_since(Instant::now()));
            let refusal = match timeout_at(until, send(channel, request)).await {
                Ok(Ok(response)) => {
                    if to == To::Leader {
                        self.channels.set_leader(&endpoint);
                    }
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => status::from_status(&status),
                Err(_) => Refusal::new(
                    Reason::OutcomeUnknown,
                    format!("{endpoint} did not answer in time"),
                ),
            };
            any_unknown |= refusal.reason.category() == Category::Unknown;
            match retry::next(attempt, hints, &refusal) {
                Next::Stop => return Err(refusal),
                Next::AskLeader(leader) => {
                    self.channels.set_leader(&leader);
                    (turn, hints) = (0, hints + 1);
                }
                Next::AskNext { wait } => {
                    self.channels.forget_leader(&endpoint);
                    (turn, hints, attempt) = (turn + 1, 0, attempt + 1);
                    let wait = retry::jittered(wait).min(end.saturating_duration_since(Instant::now()));
                    sleep(wait).await;
                }
            }
            last = Some(refusal);
        }
        Err(retry::out_of_time(last, any_unknown, self.deadline))
    }
}

/// Writes one method body: build the request, send it, read the answer. A `Change` goes to the leader under its request
/// id, and an unknown outcome says under which.
macro_rules! send {
    ($self:ident, Change, $service:ident :: $method:ident, $message:expr) => {{
        let message = $message;
        let request_id = message.request_id.clone();
        send!($self, Leader, $service::$method, message)
            .map_err(|refusal| retry::name_request(refusal, &request_id))
    }};
    ($self:ident, $to:ident, $service:ident :: $method:ident, $message:expr) => {
        $self
            .call(To::$to, $message, |channel, request| async move {
                $service::new(channel)
                    .max_decoding_message_size(MAX_MESSAGE)
                    .$method(request)
                    .await
            })
            .await
    };
}

/// Largest answer that is read: lists are paginated far below it.
const MAX_MESSAGE: usize = 16 << 20;

/// The registry: models, versions, aliases, replication records.
impl Client {
    /// Creates a model.
    pub async fn create_model(
        &self,
        name: &ModelName,
        description: &str,
        tags: BTreeMap<String, String>,
        placement: &Placement,
    ) -> Result<ModelRecord, Refusal> {
        let message = pb::CreateModelRequest {
            request_id: self.change_id(),
            name: name.to_string(),
            description: description.to_owned(),
            tags,
            placement: Some(placement.into()),
        };
        let answer = send!(self, Change, RegistryServiceClient::create_model, message)?;
        registry::model(proto::convert::required("model", answer.model)?)
    }

    /// A model with its aliases.
    pub async fn get_model(&self, name: &ModelName) -> Result<(ModelRecord, Vec<AliasRecord>), Refusal> {
        let message = pb::GetModelRequest {
            read: self.read_options(),
            name: name.to_string(),
        };
        let answer = send!(self, Anyone, RegistryServiceClient::get_model, message)?;
        let aliases = answer
            .aliases
            .into_iter()
            .map(registry::alias)
            .collect::<Result<_, _>>()?;
        Ok((
            registry::model(proto::convert::required("model", answer.model)?)?,
            aliases,
        ))
    }

    /// All models, page by page.
    pub async fn list_models(&self) -> Result<Vec<ModelRecord>, Refusal> {
        let mut models = Vec::new();
        let mut page_token = String::new();
        loop {
            let message = pb::ListModelsRequest {
                read: self.read_options(),
                page_size: 1000,
                page_token,
            };
            let answer = send!(self, Anyone, RegistryServiceClient::list_models, message)?;
            for model in answer.models {
                models.push(registry::model(model)?);
            }
            if answer.next_page_token.is_empty() {
                return Ok(models);
            }
            page_token = answer.next_page_token;
        }
    }

    /// Sets and removes tags; under a token only while its epoch is current and the caller holds it (L12). An agent
    /// must show one; a person may write without.
    pub async fn set_model_tags(
        &self,
        model: &ModelName,
        set: BTreeMap<String, String>,
        remove: Vec<String>,
        etag: Option<Revision>,
        token: Option<&FencingToken>,
    ) -> Result<(ModelRecord, Header), Refusal> {
        let request_id = self.request_id.unwrap_or_else(mint_request_id);
        self.set_model_tags_as(request_id, model, set, remove, etag, token)
            .await
    }

    /// As [`Self::set_model_tags`], under a request id of the caller's: to retry an unknown outcome later.
    pub async fn set_model_tags_as(
        &self,
        request_id: RequestId,
        model: &ModelName,
        set: BTreeMap<String, String>,
        remove: Vec<String>,
        etag: Option<Revision>,
        token: Option<&FencingToken>,
    ) -> Result<(ModelRecord, Header), Refusal> {
        let message = pb::SetModelTagsRequest {
            request_id: request_id.to_string(),
            model: model.to_string(),
            set,
            remove,
            etag: etag.map(|r| r.0.to_string()).unwrap_or_default(),
            token: token.map(Into::into),
        };
        let answer = send!(self, Change, RegistryServiceClient::set_model_tags, message)?;
        let model = registry::model(proto::convert::required("model", answer.model)?)?;
        Ok((model, Header::read(answer.header)?))
    }

    /// Announces a version, and the model if it is new.
    pub async fn create_version(
        &self,
        model: &ModelName,
        source_region: &RegionId,
        artifacts: &[Artifact],
        framework: &str,
        metadata: BTreeMap<String, String>,
    ) -> Result<VersionRecord, Refusal> {
        let message = pb::CreateVersionRequest {
            request_id: self.change_id(),
            model: model.to_string(),
            source_region: source_region.to_string(),
            artifacts: artifacts.iter().map(Into::into).collect(),
            framework: framework.to_owned(),
            metadata,
        };
        version_of(send!(
            self,
            Change,
            RegistryServiceClient::create_version,
            message
        )?)
    }

    /// Says that all bytes are in the source region's store.
    pub async fn complete_upload(&self, key: &VersionKey) -> Result<VersionRecord, Refusal> {
        let message = pb::CompleteUploadRequest {
            request_id: self.change_id(),
            model: key.model.to_string(),
            version: key.version.0,
        };
        version_of(send!(
            self,
            Change,
            RegistryServiceClient::complete_upload,
            message
        )?)
    }

    /// Gives up a version that never became ready.
    pub async fn abort_version(&self, key: &VersionKey, reason: &str) -> Result<VersionRecord, Refusal> {
        let message = change(self.change_id(), key, reason);
        version_of(send!(
            self,
            Change,
            RegistryServiceClient::abort_version,
            message
        )?)
    }

    /// Marks a version as no longer recommended.
    pub async fn deprecate_version(&self, key: &VersionKey, reason: &str) -> Result<VersionRecord, Refusal> {
        let message = change(self.change_id(), key, reason);
        version_of(send!(
            self,
            Change,
            RegistryServiceClient::deprecate_version,
            message
        )?)
    }

    /// Takes a version out of the registry.
    pub async fn delete_version(&self, key: &VersionKey, reason: &str) -> Result<VersionRecord, Refusal> {
        let message = change(self.change_id(), key, reason);
        version_of(send!(
            self,
            Change,
            RegistryServiceClient::delete_version,
            message
        )?)
    }

    /// A version by its number.
    pub async fn get_version(&self, key: &VersionKey) -> Result<VersionRecord, Refusal> {
        let which = Some(pb::get_version_request::Which::Version(key.version.0));
        let message = pb::GetVersionRequest {
            read: self.read_options(),
            model: key.model.to_string(),
            which,
        };
        version_of(send!(self, Anyone, RegistryServiceClient::get_version, message)?)
    }

    /// The version that an alias points at.
    pub async fn get_version_by_alias(
        &self,
        model: &ModelName,
        alias: &AliasName,
    ) -> Result<VersionRecord, Refusal> {
        let which = Some(pb::get_version_request::Which::Alias(alias.to_string()));
        let message = pb::GetVersionRequest {
            read: self.read_options(),
            model: model.to_string(),
            which,
        };
        version_of(send!(self, Anyone, RegistryServiceClient::get_version, message)?)
    }

    /// All versions of a model.
    pub async fn list_versions(&self, model: &ModelName) -> Result<Vec<VersionRecord>, Refusal> {
        let mut versions = Vec::new();
        let mut page_token = String::new();
        loop {
            let message = pb::ListVersionsRequest {
                read: self.read_options(),
                model: model.to_string(),
                page_size: 1000,
                page_token,
            };
            let answer = send!(self, Anyone, RegistryServiceClient::list_versions, message)?;
            for version in answer.versions {
                versions.push(registry::version(version)?);
            }
            if answer.next_page_token.is_empty() {
                return Ok(versions);
            }
            page_token = answer.next_page_token;
        }
    }

    /// Points an alias at a version; `etag` makes it a compare-and-set.
    pub async fn set_alias(
        &self,
        key: &VersionKey,
        alias: &AliasName,
        reason: &str,
        etag: Option<Revision>,
    ) -> Result<AliasRecord, Refusal> {
        let message = pb::SetAliasRequest {
            request_id: self.change_id(),
            model: key.model.to_string(),
            alias: alias.to_string(),
            version: key.version.0,
            reason: reason.to_owned(),
            etag: etag.map(|r| r.0.to_string()).unwrap_or_default(),
        };
        let answer = send!(self, Change, RegistryServiceClient::set_alias, message)?;
        registry::alias(proto::convert::required("alias", answer.alias)?)
    }

    /// Removes an alias.
    pub async fn delete_alias(
        &self,
        model: &ModelName,
        alias: &AliasName,
        etag: Option<Revision>,
    ) -> Result<(), Refusal> {
        let message = pb::DeleteAliasRequest {
            request_id: self.change_id(),
            model: model.to_string(),
            alias: alias.to_string(),
            etag: etag.map(|r| r.0.to_string()).unwrap_or_default(),
        };
        send!(self, Change, RegistryServiceClient::delete_alias, message).map(|_| ())
    }

    /// All aliases of a model.
    pub async fn list_aliases(&self, model: &ModelName) -> Result<Vec<AliasRecord>, Refusal> {
        let message = pb::ListAliasesRequest {
            read: self.read_options(),
            model: model.to_string(),
        };
        let answer = send!(self, Anyone, RegistryServiceClient::list_aliases, message)?;
        answer.aliases.into_iter().map(registry::alias).collect()
    }

    /// Replication records of one model or region, or all.
    pub async fn list_replicas(
        &self,
        model: Option<&ModelName>,
        region: Option<&RegionId>,
    ) -> Result<Vec<ReplicaRecord>, Refusal> {
        let mut replicas = Vec::new();
        let mut page_token = String::new();
        loop {
            let message = pb::ListReplicasRequest {
                read: self.read_options(),
                model: model.map(ToString::to_string).unwrap_or_default(),
                region: region.map(ToString::to_string).unwrap_or_default(),
                page_size: 1000,
                page_token,
            };
            let answer = send!(self, Anyone, RegistryServiceClient::list_replicas, message)?;
            for replica in answer.replicas {
                replicas.push(registry::replica(replica)?);
            }
            if answer.next_page_token.is_empty() {
                return Ok(replicas);
            }
            page_token = answer.next_page_token;
        }
    }

    /// An agent says how far the copy in its own region is.
    pub async fn report_replica(
        &self,
        key: &ReplicaKey,
        report: &ReplicaReport,
    ) -> Result<ReplicaRecord, Refusal> {
        let report = match report.clone() {
            ReplicaReport::Started { source } => {
                pb::report_replica_request::Report::Started(pb::ReplicaStarted {
                    source_region: source.map(String::from).unwrap_or_default(),
                })
            }
            ReplicaReport::Progress { attempt, bytes_done } => {
                pb::report_replica_request::Report::Progress(pb::ReplicaProgress { attempt, bytes_done })
            }
            ReplicaReport::Verified { attempt, bytes } => {
                pb::report_replica_request::Report::Verified(pb::ReplicaVerified { attempt, bytes })
            }
            ReplicaReport::Failed {
                attempt,
                error,
                digest_mismatch,
            } => pb::report_replica_request::Report::Failed(pb::ReplicaFailed {
                attempt,
                error,
                digest_mismatch,
            }),
        };
        let message = pb::ReportReplicaRequest {
            request_id: self.change_id(),
            model: key.version.model.to_string(),
            version: key.version.version.0,
            region: key.region.to_string(),
            report: Some(report),
        };
        let answer = send!(self, Change, RegistryServiceClient::report_replica, message)?;
        registry::replica(proto::convert::required("replica", answer.replica)?)
    }
}

fn change(request_id: String, key: &VersionKey, reason: &str) -> pb::ChangeVersionRequest {
    pb::ChangeVersionRequest {
        request_id,
        model: key.model.to_string(),
        version: key.version.0,
        reason: reason.to_owned(),
    }
}

fn version_of(answer: pb::VersionResponse) -> Result<VersionRecord, Refusal> {
    registry::version(proto::convert::required("version", answer.version)?)
}

/// Regions and nodes.
impl Client {
    /// All regions, by name.
    pub async fn list_regions(&self) -> Result<Vec<RegionRecord>, Refusal> {
        let message = pb::ListRegionsRequest {
            read: self.read_options(),
        };
        let answer = send!(self, Anyone, RegionServiceClient::list_regions, message)?;
        answer.regions.into_iter().map(regions::region).collect()
    }

    /// One region.
    pub async fn get_region(&self, region: &RegionId) -> Result<RegionRecord, Refusal> {
        let message = pb::GetRegionRequest {
            read: self.read_options(),
            region: region.to_string(),
        };
        let answer = send!(self, Anyone, RegionServiceClient::get_region, message)?;
        regions::region(proto::convert::required("region", answer.region)?)
    }

    /// The nodes of a region, or all.
    pub async fn list_nodes(&self, region: Option<&RegionId>) -> Result<Vec<NodeRecord>, Refusal> {
        let region = region.map(ToString::to_string).unwrap_or_default();
        let message = pb::ListNodesRequest {
            read: self.read_options(),
            region,
        };
        let answer = send!(self, Anyone, RegionServiceClient::list_nodes, message)?;
        answer.nodes.into_iter().map(regions::node).collect()
    }

    /// Binds a region to its object store.
    pub async fn attach_store(
        &self,
        region: &RegionId,
        store: &StoreBinding,
    ) -> Result<RegionRecord, Refusal> {
        let message = pb::AttachStoreRequest {
            request_id: self.change_id(),
            region: region.to_string(),
            store: Some(store.into()),
        };
        let answer = send!(self, Change, RegionServiceClient::attach_store, message)?;
        regions::region(proto::convert::required("region", answer.region)?)
    }
}

/// Primary roles, leases, plans.
impl Client {
    /// All roles, by name.
    pub async fn list_roles(&self) -> Result<Vec<RoleRecord>, Refusal> {
        let message = pb::ListRolesRequest {
            read: self.read_options(),
        };
        let answer = send!(self, Anyone, PrimaryServiceClient::list_roles, message)?;
        answer.roles.into_iter().map(primaries::role).collect()
    }

    /// One role, and where it was read.
    pub async fn get_role(&self, role: &RoleName) -> Result<(RoleRecord, Header), Refusal> {
        let message = pb::GetRoleRequest {
            read: self.read_options(),
            role: role.to_string(),
        };
        let answer = send!(self, Anyone, PrimaryServiceClient::get_role, message)?;
        let role = primaries::role(proto::convert::required("role", answer.role)?)?;
        Ok((role, Header::read(answer.header)?))
    }

    /// Creates a role; no candidates means every region, in the order in which they joined.
    pub async fn create_role(
        &self,
        role: &RoleName,
        candidates: &[RegionId],
        mode: FailoverMode,
        timing: &TimingPolicy,
    ) -> Result<RoleRecord, Refusal> {
        let message = pb::CreateRoleRequest {
            request_id: self.change_id(),
            role: role.to_string(),
            candidates: candidates.iter().map(ToString::to_string).collect(),
            mode: primaries::mode_to_pb(mode).0,
            timing: Some(timing.into()),
        };
        role_of(send!(self, Change, PrimaryServiceClient::create_role, message)?)
    }

    /// Says whether failovers of the role run by themselves.
    pub async fn set_role_mode(&self, role: &RoleName, mode: FailoverMode) -> Result<RoleRecord, Refusal> {
        let (mode, paused_until_millis) = primaries::mode_to_pb(mode);
        let message = pb::SetRoleModeRequest {
            request_id: self.change_id(),
            role: role.to_string(),
            mode,
            paused_until_millis,
        };
        role_of(send!(self, Change, PrimaryServiceClient::set_role_mode, message)?)
    }

    /// Changes the role's timings; a shorter TTL counts only after one old TTL (L8).
    pub async fn set_role_timing(
        &self,
        role: &RoleName,
        timing: &TimingPolicy,
    ) -> Result<RoleRecord, Refusal> {
        let message = pb::SetRoleTimingRequest {
            request_id: self.change_id(),
            role: role.to_string(),
            timing: Some(timing.into()),
        };
        role_of(send!(
            self,
            Change,
            PrimaryServiceClient::set_role_timing,
            message
        )?)
    }

    /// Changes which regions may hold the role, most wanted first.
    pub async fn set_role_candidates(
        &self,
        role: &RoleName,
        candidates: &[RegionId],
    ) -> Result<RoleRecord, Refusal> {
        let message = pb::SetRoleCandidatesRequest {
            request_id: self.change_id(),
            role: role.to_string(),
            candidates: candidates.iter().map(ToString::to_string).collect(),
        };
        role_of(send!(
            self,
            Change,
            PrimaryServiceClient::set_role_candidates,
            message
        )?)
    }

    /// Starts a planned hand-over; the answer is the plan as it was started.
    pub async fn switchover(
        &self,
        role: &RoleName,
        to_region: &RegionId,
        expected_epoch: Option<Epoch>,
    ) -> Result<PlanRecord, Refusal> {
        let message = pb::SwitchoverRequest {
            request_id: self.change_id(),
            role: role.to_string(),
            to_region: to_region.to_string(),
            expected_epoch: expected_epoch.map_or(0, Epoch::as_u64),
        };
        plan_of(send!(self, Change, PrimaryServiceClient::switchover, message)?)
    }

    /// One plan.
    pub async fn get_plan(&self, plan: PlanId) -> Result<PlanRecord, Refusal> {
        let message = pb::GetPlanRequest {
            read: self.read_options(),
            plan: plan.0,
        };
        plan_of(send!(self, Anyone, PrimaryServiceClient::get_plan, message)?)
    }

    /// The newest plans of a role, or of all, at most `limit` (1 to 1000).
    pub async fn list_plans(&self, role: Option<&RoleName>, limit: u32) -> Result<Vec<PlanRecord>, Refusal> {
        let message = pb::ListPlansRequest {
            read: self.read_options(),
            role: role.map(ToString::to_string).unwrap_or_default(),
            page_size: limit,
            page_token: String::new(),
        };
        let answer = send!(self, Anyone, PrimaryServiceClient::list_plans, message)?;
        answer.plans.into_iter().map(primaries::plan).collect()
    }

    /// The target's agent says how its step went; another run of its node is refused.
    pub async fn report_step(
        &self,
        plan: PlanId,
        step: StepKind,
        attempt: u32,
        result: Result<&str, &str>,
        doors: &[DoorClaim],
        run: NodeIncarnation,
    ) -> Result<PlanRecord, Refusal> {
        let message = pb::ReportStepRequest {
            request_id: self.change_id(),
            plan: plan.0,
            step: primaries::step_kind_to_pb(step),
            attempt,
            done: result.is_ok(),
            detail: result.unwrap_or_else(|e| e).to_owned(),
            doors: doors.iter().map(Into::into).collect(),
            incarnation: run.to_string(),
        };
        plan_of(send!(self, Change, PrimaryServiceClient::report_step, message)?)
    }

    /// Asks the leader to extend the lease. The caller takes the send time *before* it calls, and makes one call per
    /// attempt: set a deadline below the time that is left ([`Self::with_deadline`]).
    pub async fn renew_lease(&self, token: &FencingToken) -> Result<Renewal, Refusal> {
        let message = pb::RenewLeaseRequest {
            token: Some(token.into()),
        };
        let answer = send!(self, Leader, PrimaryServiceClient::renew_lease, message)?;
        Ok(Renewal {
            ttl: Duration::from_millis(answer.ttl_millis),
            renew_interval: Duration::from_millis(answer.renew_interval_millis),
            drain_margin: Duration::from_millis(answer.drain_margin_millis),
        })
    }

    /// Says that the holder has stopped acting under this token and will not begin again, so that a hand-over need not
    /// wait out its lease (L11).
    pub async fn release_lease(&self, token: &FencingToken) -> Result<(), Refusal> {
        let message = pb::ReleaseLeaseRequest {
            token: Some(token.into()),
        };
        send!(self, Leader, PrimaryServiceClient::release_lease, message).map(|_| ())
    }

    /// Whether a token is current, by a linearizable read (L18).
    pub async fn check_fence(&self, token: &FencingToken) -> Result<FenceStanding, Refusal> {
        let message = pb::CheckFenceRequest {
            token: Some(token.into()),
        };
        let answer = send!(self, Anyone, PrimaryServiceClient::check_fence, message)?;
        Ok(FenceStanding {
            current: answer.current,
            reserved: answer.reserved,
            current_epoch: Epoch::from_u64(answer.current_epoch),
            current_holder: regions::optional_holder("current_holder", answer.current_holder)?,
        })
    }
}

fn role_of(answer: pb::RoleResponse) -> Result<RoleRecord, Refusal> {
    primaries::role(proto::convert::required("role", answer.role)?)
}

fn plan_of(answer: pb::PlanResponse) -> Result<PlanRecord, Refusal> {
    primaries::plan(proto::convert::required("plan", answer.plan)?)
}

/// The cluster itself.
impl Client {
    /// The own view of whichever coordinator answers first; works without a quorum.
    pub async fn status(&self) -> Result<pb::GetStatusResponse, Refusal> {
        send!(
            self,
            Anyone,
            ClusterServiceClient::get_status,
            pb::GetStatusRequest {}
        )
    }

    /// A coordinator asks to be taken in.
    pub async fn join(&self, request: pb::JoinRequest) -> Result<pb::JoinResponse, Refusal> {
        send!(self, Leader, ClusterServiceClient::join, request)
    }

    /// Hands Raft leadership to another voter; an empty name means the most caught-up one.
    pub async fn transfer_leadership(&self, to_node: &str) -> Result<String, Refusal> {
        let message = pb::TransferLeadershipRequest {
            to_node: to_node.to_owned(),
        };
        Ok(send!(self, Leader, ClusterServiceClient::transfer_leadership, message)?.leader_node)
    }

    /// The cluster's timing policy, and where it was read.
    pub async fn timing(&self) -> Result<(TimingPolicy, Header), Refusal> {
        let message = pb::GetSettingsRequest {
            read: self.read_options(),
        };
        let answer = send!(self, Anyone, ClusterServiceClient::get_settings, message)?;
        Ok((primaries::timing(answer.timing)?, Header::read(answer.header)?))
    }

    /// Changes the cluster's timing policy.
    pub async fn set_timing(&self, timing: &TimingPolicy) -> Result<TimingPolicy, Refusal> {
        let message = pb::SetTimingRequest {
            request_id: self.change_id(),
            timing: Some(timing.into()),
        };
        primaries::timing(send!(self, Change, ClusterServiceClient::set_timing, message)?.timing)
    }
}
