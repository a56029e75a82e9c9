//! `RegistryService`: models, versions, aliases, replication records.

use std::{str::FromStr, sync::Arc};

use proto::{
    convert::{self, experiments::metrics, invalid, regions, registry as conv, text},
    v1::{self as pb, registry_service_server::RegistryService, report_replica_request::Report},
};
use state::{Command, ControlState, ReplicaReport, Reply};
use tonic::{Request, Response, Status};
use types::{
    AliasName, ByteCount, DatasetName, ModelName, ModelVersion, Reason, RegionId, VersionKey,
    history::DeploymentRecord,
    model::{AliasRecord, ModelRecord, VersionRecord},
    replica::{ReplicaKey, ReplicaRecord},
};

use super::{Api, Manner, caller, filter::Conditions, list, not_found, require_agent, status};

type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Clone, Debug)]
pub struct Registry(pub Arc<Api>);

fn model_of(state: &ControlState, name: &ModelName) -> Result<pb::Model, Status> {
    let found = state.model(name).map(Into::into);
    found.ok_or_else(|| not_found(Reason::ModelNotFound, "model", name))
}

fn version_of(state: &ControlState, key: &VersionKey) -> Result<pb::ModelVersion, Status> {
    let found = state.version(key).map(Into::into);
    found.ok_or_else(|| not_found(Reason::VersionNotFound, "version", key))
}

/// Artifacts of one version; more are refused before anything is read.
const ARTIFACTS_MAX: usize = 10_000;

impl Registry {
    /// Makes a change of a version, and answers with the version as it is then.
    async fn change_version<R>(
        &self,
        request: Request<R>,
        read: impl FnOnce(R) -> Result<(VersionKey, Manner, Command), Status>,
    ) -> Answer<pb::VersionResponse> {
        let (key, done) = self.0.change(request, read).await?;
        let version = done.record(&self.0, &key, |version: &VersionRecord| version.into())?;
        Ok(version_response(done.header, version))
    }

    /// As above, of a change that needs no more than a reason.
    async fn retire_version(
        &self,
        request: Request<pb::ChangeVersionRequest>,
        command: fn(VersionKey, String) -> Command,
    ) -> Answer<pb::VersionResponse> {
        self.change_version(request, |r| {
            let key = conv::version_key(&r.model, r.version).map_err(status)?;
            let manner = Manner::said(&r.request_id, &r.etag, r.validate_only)?;
            Ok((key.clone(), manner, command(key, r.reason)))
        })
        .await
    }
}

fn version_response(header: pb::ResponseHeader, version: pb::ModelVersion) -> Response<pb::VersionResponse> {
    Response::new(pb::VersionResponse {
        header: Some(header),
        version: Some(version),
    })
}

#[tonic::async_trait]
impl RegistryService for Registry {
    async fn create_model(&self, request: Request<pb::CreateModelRequest>) -> Answer<pb::ModelResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let name: ModelName = text("name", &r.name).map_err(status)?;
        let manner = Manner::of(&r.request_id).validate_only(r.validate_only);
        let command = Command::CreateModel {
            name: name.clone(),
            description: r.description,
            tags: r.tags,
            placement: conv::placement(r.placement).map_err(status)?,
        };
        let done = self.0.propose(&caller, manner, command).await?;
        let model = done.record(&self.0, &name, |model: &ModelRecord| model.into())?;
        Ok(Response::new(pb::ModelResponse {
            header: Some(done.header),
            model: Some(model),
        }))
    }

    async fn get_model(&self, request: Request<pb::GetModelRequest>) -> Answer<pb::GetModelResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let name: ModelName = text("name", &r.name).map_err(status)?;
        let (header, found) = self
            .0
            .read(&caller, r.read, |s| {
                let aliases: Vec<pb::Alias> = s.aliases(&name).map(Into::into).collect();
                model_of(s, &name).map(|model| (model, aliases))
            })
            .await?;
        let (model, aliases) = found?;
        Ok(Response::new(pb::GetModelResponse {
            header: Some(header),
            model: Some(model),
            aliases,
        }))
    }

    async fn list_models(&self, request: Request<pb::ListModelsRequest>) -> Answer<pb::ListModelsResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let start = list::position::<ModelName>(&r.page_token)?;
        let filter = Conditions::of::<ModelRecord>(&r.filter)?;
        let (header, (models, next)) = self
            .0
            .read(&caller, r.read, |s| {
                let size = list::page_size(r.page_size);
                let page = s.models_where(start, size, |model| filter.takes(s, model));
                list::cut(page, |m| m.name.clone())
            })
            .await?;
        Ok(Response::new(pb::ListModelsResponse {
            header: Some(header),
            models,
            next_page_token: list::token(next),
            filtered: !r.filter.is_empty(),
        }))
    }

    async fn set_model_tags(&self, request: Request<pb::SetModelTagsRequest>) -> Answer<pb::ModelResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let name: ModelName = text("model", &r.model).map_err(status)?;
        let token = r
            .token
            .map(|t| regions::token(Some(t)))
            .transpose()
            .map_err(status)?;
        let manner = Manner::of(&r.request_id).validate_only(r.validate_only);
        let command = Command::SetModelTags {
            model: name.clone(),
            set: r.set,
            remove: r.remove.into_iter().collect(),
            etag: convert::etag(&r.etag).map_err(status)?,
            token,
        };
        let done = self.0.propose(&caller, manner, command).await?;
        let model = done.record(&self.0, &name, |model: &ModelRecord| model.into())?;
        Ok(Response::new(pb::ModelResponse {
            header: Some(done.header),
            model: Some(model),
        }))
    }

    async fn create_version(
        &self,
        request: Request<pb::CreateVersionRequest>,
    ) -> Answer<pb::VersionResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        if r.artifacts.len() > ARTIFACTS_MAX {
            let problem = format!("{} files; a version may have {ARTIFACTS_MAX}", r.artifacts.len());
            return Err(status(invalid("artifacts", problem)));
        }
        let artifacts = r.artifacts.into_iter().map(conv::artifact);
        let manner = Manner::said(&r.request_id, &r.etag, r.validate_only)?;
        let command = Command::CreateVersion {
            model: text("model", &r.model).map_err(status)?,
            source_region: text("source_region", &r.source_region).map_err(status)?,
            artifacts: artifacts.collect::<Result<_, _>>().map_err(status)?,
            framework: r.framework,
            metadata: r.metadata,
            datasets: conv::datasets(&r.datasets).map_err(status)?,
        };
        let done = self.0.propose(&caller, manner, command).await?;
        let Reply::Version { key, .. } = done.reply.clone() else {
            return Err(unexpected(&done.reply));
        };
        let version = done.record(&self.0, &key, |version: &VersionRecord| version.into())?;
        Ok(version_response(done.header, version))
    }

    async fn complete_upload(
        &self,
        request: Request<pb::CompleteUploadRequest>,
    ) -> Answer<pb::VersionResponse> {
        self.change_version(request, |r| {
            let key = conv::version_key(&r.model, r.version).map_err(status)?;
            let manner = Manner::said(&r.request_id, &r.etag, r.validate_only)?;
            let command = Command::CompleteUpload { version: key.clone() };
            Ok((key, manner, command))
        })
        .await
    }

    async fn set_version_metrics(
        &self,
        request: Request<pb::SetVersionMetricsRequest>,
    ) -> Answer<pb::VersionResponse> {
        self.change_version(request, |r| {
            let key = conv::version_key(&r.model, r.version).map_err(status)?;
            let manner = Manner::said(&r.request_id, &r.etag, r.validate_only)?;
            let remove = r.remove.iter().map(|name| text("remove", name));
            let command = Command::SetVersionMetrics {
                version: key.clone(),
                set: metrics(r.set).map_err(status)?,
                remove: remove.collect::<Result<_, _>>().map_err(status)?,
            };
            Ok((key, manner, command))
        })
        .await
    }

    async fn list_dependents(
        &self,
        request: Request<pb::ListDependentsRequest>,
    ) -> Answer<pb::ListDependentsResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let dataset: DatasetName = text("dataset", &r.dataset).map_err(status)?;
        let start = list::position::<VersionKey>(&r.page_token)?;
        let filter = Conditions::of::<VersionRecord>(&r.filter)?;
        let size = list::page_size(r.page_size);
        let (header, (versions, next)) = self
            .0
            .read(&caller, r.read, |s| {
                let page = s.dependents_where(&dataset, start, size, |version| filter.takes(s, version));
                list::cut(page, |v| v.key.clone())
            })
            .await?;
        Ok(Response::new(pb::ListDependentsResponse {
            header: Some(header),
            versions,
            next_page_token: list::token(next),
        }))
    }

    async fn abort_version(&self, request: Request<pb::ChangeVersionRequest>) -> Answer<pb::VersionResponse> {
        self.retire_version(request, |version, reason| Command::AbortVersion {
            version,
            reason,
        })
        .await
    }

    async fn deprecate_version(
        &self,
        request: Request<pb::ChangeVersionRequest>,
    ) -> Answer<pb::VersionResponse> {
        self.retire_version(request, |version, reason| Command::DeprecateVersion {
            version,
            reason,
        })
        .await
    }

    async fn delete_version(
        &self,
        request: Request<pb::ChangeVersionRequest>,
    ) -> Answer<pb::VersionResponse> {
        self.retire_version(request, |version, reason| Command::DeleteVersion {
            version,
            reason,
        })
        .await
    }

    async fn get_version(&self, request: Request<pb::GetVersionRequest>) -> Answer<pb::VersionResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let model: ModelName = text("model", &r.model).map_err(status)?;
        let which = which(r.which)?;
        let (header, found) = self
            .0
            .read(&caller, r.read, |s| {
                let number = match &which {
                    Which::Number(number) => *number,
                    Which::Alias(alias) => {
                        let found = s.alias(&model, alias).map(|a| a.version);
                        let name = format!("{alias} of {model}");
                        found.ok_or_else(|| not_found(Reason::AliasNotFound, "alias", name))?
                    }
                };
                let version = number;
                version_of(s, &VersionKey { model, version })
            })
            .await?;
        Ok(version_response(header, found?))
    }

    async fn list_versions(
        &self,
        request: Request<pb::ListVersionsRequest>,
    ) -> Answer<pb::ListVersionsResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let model: ModelName = text("model", &r.model).map_err(status)?;
        let start = list::position::<ModelVersion>(&r.page_token)?;
        let filter = Conditions::of::<VersionRecord>(&r.filter)?;
        let (header, found) = self
            .0
            .read(&caller, r.read, |s| {
                model_of(s, &model)?;
                let size = list::page_size(r.page_size);
                let page = s.versions_where(&model, start, size, |version| filter.takes(s, version));
                let (versions, next) = list::cut(page, |v| v.key.clone());
                Ok::<_, Status>((versions, next.map(|key| key.version)))
            })
            .await?;
        let (versions, next) = found?;
        Ok(Response::new(pb::ListVersionsResponse {
            header: Some(header),
            versions,
            next_page_token: list::token(next),
            filtered: !r.filter.is_empty(),
        }))
    }

    async fn set_alias(&self, request: Request<pb::SetAliasRequest>) -> Answer<pb::AliasResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let key = conv::version_key(&r.model, r.version).map_err(status)?;
        let alias: AliasName = text("alias", &r.alias).map_err(status)?;
        let manner = Manner::of(&r.request_id).validate_only(r.validate_only);
        let command = Command::SetAlias {
            model: key.model.clone(),
            alias: alias.clone(),
            version: key.version,
            reason: r.reason,
            etag: convert::etag(&r.etag).map_err(status)?,
        };
        let done = self.0.propose(&caller, manner, command).await?;
        let key = (key.model, alias);
        let record = done.record(&self.0, &key, |alias: &AliasRecord| alias.into())?;
        Ok(Response::new(pb::AliasResponse {
            header: Some(done.header),
            alias: Some(record),
        }))
    }

    async fn delete_alias(
        &self,
        request: Request<pb::DeleteAliasRequest>,
    ) -> Answer<pb::DeleteAliasResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let manner = Manner::of(&r.request_id).validate_only(r.validate_only);
        let command = Command::DeleteAlias {
            model: text("model", &r.model).map_err(status)?,
            alias: text("alias", &r.alias).map_err(status)?,
            etag: convert::etag(&r.etag).map_err(status)?,
        };
        let done = self.0.propose(&caller, manner, command).await?;
        Ok(Response::new(pb::DeleteAliasResponse {
            header: Some(done.header),
        }))
    }

    async fn list_aliases(
        &self,
        request: Request<pb::ListAliasesRequest>,
    ) -> Answer<pb::ListAliasesResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let model: ModelName = text("model", &r.model).map_err(status)?;
        let (header, found) = self
            .0
            .read(&caller, r.read, |s| {
                model_of(s, &model)?;
                Ok::<Vec<pb::Alias>, Status>(s.aliases(&model).map(Into::into).collect())
            })
            .await?;
        Ok(Response::new(pb::ListAliasesResponse {
            header: Some(header),
            aliases: found?,
        }))
    }

    async fn list_deployments(
        &self,
        request: Request<pb::ListDeploymentsRequest>,
    ) -> Answer<pb::ListDeploymentsResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let model = (!r.model.is_empty()).then(|| text("model", &r.model));
        let model: Option<ModelName> = model.transpose().map_err(status)?;
        let start = list::position::<list::Moment<ModelName>>(&r.page_token)?;
        let filter = Conditions::of::<DeploymentRecord>(&r.filter)?;
        let size = list::page_size(r.page_size);
        let (header, (deployments, next)) = self
            .0
            .read(&caller, r.read, |s| {
                let start = start.map(|list::Moment(model, revision)| (model, revision));
                let page = s.deployments_where(model.as_ref(), start, size, |d| filter.takes(s, d));
                list::cut(page, |d| (d.model.clone(), d.revision))
            })
            .await?;
        Ok(Response::new(pb::ListDeploymentsResponse {
            header: Some(header),
            deployments,
            next_page_token: list::token(next.map(|(model, revision)| list::Moment(model, revision))),
        }))
    }

    async fn list_replicas(
        &self,
        request: Request<pb::ListReplicasRequest>,
    ) -> Answer<pb::ListReplicasResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let filter = Filter::read(&r)?;
        let start = list::position::<Position>(&r.page_token)?;
        let size = list::page_size(r.page_size);
        let (header, (replicas, next)) = self
            .0
            .read(&caller, r.read, |s| filter.page(s, start, size))
            .await?;
        Ok(Response::new(pb::ListReplicasResponse {
            header: Some(header),
            replicas,
            next_page_token: list::token(next),
        }))
    }

    async fn report_replica(
        &self,
        request: Request<pb::ReportReplicaRequest>,
    ) -> Answer<pb::ReplicaResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let (own_region, _) = require_agent(&caller.principal)?;
        let region: RegionId = text("region", &r.region).map_err(status)?;
        if own_region != &region {
            let why = format!(
                "{} reports copies of {own_region}, not of {region}",
                caller.principal
            );
            return Err(status(types::reason::Refusal::new(Reason::PermissionDenied, why)));
        }
        let key = ReplicaKey {
            version: conv::version_key(&r.model, r.version).map_err(status)?,
            region,
        };
        let report = report(r.report)?;
        let manner = Manner::of(&r.request_id);
        let command = Command::ReportReplica {
            key: key.clone(),
            report,
        };
        let done = self.0.propose(&caller, manner, command).await?;
        let replica = done.record(&self.0, &key, |replica: &ReplicaRecord| replica.into());
        Ok(Response::new(pb::ReplicaResponse {
            header: Some(done.header),
            // None: the report ended the version, and with it the record, or it is deleted by now.
            replica: replica.ok(),
        }))
    }
}

enum Which {
    Number(ModelVersion),
    Alias(AliasName),
}

fn which(which: Option<pb::get_version_request::Which>) -> Result<Which, Status> {
    use pb::get_version_request::Which as Wire;
    match which {
        Some(Wire::Version(0)) => Err(status(invalid("version", "must be a whole number from 1"))),
        Some(Wire::Version(number)) => Ok(Which::Number(ModelVersion(number))),
        Some(Wire::Alias(alias)) => text("alias", &alias).map(Which::Alias).map_err(status),
        None => Err(status(invalid("which", "say a version or an alias"))),
    }
}

fn report(report: Option<Report>) -> Result<ReplicaReport, Status> {
    match report {
        None => Err(status(invalid("report", "is missing"))),
        Some(Report::Started(r)) => {
            let source = match r.source_region.as_str() {
                "" => None,
                source => Some(text("source_region", source).map_err(status)?),
            };
            Ok(ReplicaReport::Started { source })
        }
        Some(Report::Progress(r)) => Ok(ReplicaReport::Progress {
            attempt: r.attempt,
            bytes_done: ByteCount(r.bytes_done),
        }),
        Some(Report::Verified(r)) => Ok(ReplicaReport::Verified {
            attempt: r.attempt,
            bytes: ByteCount(r.bytes),
        }),
        Some(Report::Failed(r)) => Ok(ReplicaReport::Failed {
            attempt: r.attempt,
            digest_mismatch: r.digest_mismatch,
            error: r.error,
        }),
    }
}

/// A replication record's key as a page token carries it: `MODEL@VERSION/REGION`.
struct Position(ReplicaKey);

impl FromStr for Position {
    type Err = types::InvalidId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (version, region) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self(ReplicaKey {
            version: version.parse()?,
            region: region.parse()?,
        }))
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0.version, self.0.region)
    }
}

/// Which replication records are asked for.
struct Filter {
    model: Option<ModelName>,
    region: Option<RegionId>,
}

impl Filter {
    fn read(r: &pb::ListReplicasRequest) -> Result<Self, Status> {
        let model = (!r.model.is_empty()).then(|| text("model", &r.model));
        let region = (!r.region.is_empty()).then(|| text("region", &r.region));
        Ok(Self {
            model: model.transpose().map_err(status)?,
            region: region.transpose().map_err(status)?,
        })
    }

    fn page(
        &self,
        state: &ControlState,
        start: Option<Position>,
        size: usize,
    ) -> (Vec<pb::Replica>, Option<Position>) {
        let in_region = |r: &ReplicaRecord| self.region.as_ref().is_none_or(|region| *region == r.key.region);
        let page = state.replicas_where(self.model.as_ref(), start.map(|p| p.0), size, in_region);
        let (replicas, next) = list::cut(page, |r| r.key.clone());
        (replicas, next.map(Position))
    }
}

fn unexpected(reply: &Reply) -> Status {
    let message = format!("apply answered with another kind of reply: {reply:?}");
    status(types::reason::Refusal::new(Reason::Internal, message))
}
