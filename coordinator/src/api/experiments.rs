//! `ExperimentService`: splits of a model's users, and who gets what of them.

use std::{fmt, str::FromStr, sync::Arc};

use policy::experiment::{Assignment, assign};
use proto::{
    convert::{experiments as conv, invalid, text},
    v1::{self as pb, experiment_service_server::ExperimentService},
};
use state::{Command, ControlState};
use tonic::{Request, Response, Status};
use types::{
    ExperimentName, InvalidId, ModelName, ModelVersion, Reason, RegionId, VersionKey,
    experiment::ExperimentRecord, reason::Refusal,
};

use super::{
    Api, Manner, caller,
    filter::{Conditions, fields::is_verified},
    list, not_found, status,
};

type Answer<T> = Result<Response<T>, Status>;

/// Bytes of a user's id.
const USER_BYTES_MAX: usize = 512;

/// The service.
#[derive(Clone, Debug)]
pub struct Experiments(pub Arc<Api>);

/// An experiment's key; as a page token carries it: `MODEL/NAME`. No model's name has a slash.
#[derive(Clone, Debug)]
struct Key {
    model: ModelName,
    name: ExperimentName,
}

impl Key {
    fn of(model: &str, name: &str) -> Result<Self, Status> {
        Ok(Self {
            model: text("model", model).map_err(status)?,
            name: text("name", name).map_err(status)?,
        })
    }

    fn find<'a>(&self, state: &'a ControlState) -> Result<&'a ExperimentRecord, Status> {
        state.experiment(&self.model, &self.name).ok_or_else(|| {
            let name = format!("{} of {}", self.name, self.model);
            not_found(Reason::ExperimentNotFound, "experiment", name)
        })
    }
}

impl FromStr for Key {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (model, name) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self {
            model: model.parse()?,
            name: name.parse()?,
        })
    }
}
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.model, self.name)
    }
}

impl Experiments {
    /// Makes a change, and answers with the experiment as it is then.
    async fn change<R>(
        &self,
        request: Request<R>,
        read: impl FnOnce(R) -> Result<(Key, Manner, Command), Status>,
    ) -> Answer<pb::ExperimentResponse> {
        let (key, done) = self.0.change(request, read).await?;
        let key = (key.model, key.name);
        let experiment = done.record(&self.0, &key, |experiment: &ExperimentRecord| experiment.into())?;
        Ok(Response::new(pb::ExperimentResponse {
            header: Some(done.header),
            experiment: Some(experiment),
        }))
    }
}

#[tonic::async_trait]
impl ExperimentService for Experiments {
    async fn create_experiment(
        &self,
        request: Request<pb::CreateExperimentRequest>,
    ) -> Answer<pb::ExperimentResponse> {
        self.change(request, |r| {
            let key = Key::of(&r.model, &r.name)?;
            let manner = Manner::of(&r.request_id).validate_only(r.validate_only);
            let command = Command::CreateExperiment {
                model: key.model.clone(),
                name: key.name.clone(),
                description: r.description,
                split: conv::split(r.split).map_err(status)?,
            };
            Ok((key, manner, command))
        })
        .await
    }

    async fn get_experiment(
        &self,
        request: Request<pb::GetExperimentRequest>,
    ) -> Answer<pb::ExperimentResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let key = Key::of(&r.model, &r.name)?;
        let read = self
            .0
            .read(&caller, r.read, |s| key.find(s).map(pb::Experiment::from));
        let (header, found) = read.await?;
        Ok(Response::new(pb::ExperimentResponse {
            header: Some(header),
            experiment: Some(found?),
        }))
    }

    async fn list_experiments(
        &self,
        request: Request<pb::ListExperimentsRequest>,
    ) -> Answer<pb::ListExperimentsResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let model: Option<ModelName> = (!r.model.is_empty())
            .then(|| text("model", &r.model).map_err(status))
            .transpose()?;
        let start = list::position::<Key>(&r.page_token)?.map(|key| (key.model, key.name));
        let filter = Conditions::of::<ExperimentRecord>(&r.filter)?;
        let size = list::page_size(r.page_size);
        let (header, (experiments, next)) = self
            .0
            .read(&caller, r.read, |s| {
                let page = s.experiments_where(model.as_ref(), start, size, |e| filter.takes(s, e));
                list::cut(page, |e| (e.model.clone(), e.name.clone()))
            })
            .await?;
        Ok(Response::new(pb::ListExperimentsResponse {
            header: Some(header),
            experiments,
            next_page_token: list::token(next.map(|(model, name)| Key { model, name })),
        }))
    }

    async fn set_experiment_split(
        &self,
        request: Request<pb::SetExperimentSplitRequest>,
    ) -> Answer<pb::ExperimentResponse> {
        self.change(request, |r| {
            let key = Key::of(&r.model, &r.name)?;
            let manner = Manner::said(&r.request_id, &r.etag, r.validate_only)?;
            let command = Command::SetExperimentSplit {
                model: key.model.clone(),
                name: key.name.clone(),
                split: conv::split(r.split).map_err(status)?,
            };
            Ok((key, manner, command))
        })
        .await
    }

    async fn report_experiment(
        &self,
        request: Request<pb::ReportExperimentRequest>,
    ) -> Answer<pb::ExperimentResponse> {
        self.change(request, |r| {
            let key = Key::of(&r.model, &r.name)?;
            let manner = Manner::said(&r.request_id, &r.etag, r.validate_only)?;
            let command = Command::ReportExperiment {
                model: key.model.clone(),
                name: key.name.clone(),
                version: conv::arm_version("version", r.version).map_err(status)?,
                metrics: conv::metrics(r.metrics).map_err(status)?,
            };
            Ok((key, manner, command))
        })
        .await
    }

    async fn end_experiment(
        &self,
        request: Request<pb::EndExperimentRequest>,
    ) -> Answer<pb::ExperimentResponse> {
        self.change(request, |r| {
            let key = Key::of(&r.model, &r.name)?;
            let manner = Manner::said(&r.request_id, &r.etag, r.validate_only)?;
            let command = Command::EndExperiment {
                model: key.model.clone(),
                name: key.name.clone(),
                reason: r.reason,
            };
            Ok((key, manner, command))
        })
        .await
    }

    async fn assign_user(&self, request: Request<pb::AssignUserRequest>) -> Answer<pb::AssignUserResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let key = Key::of(&r.model, &r.name)?;
        let region: Option<RegionId> = (!r.region.is_empty())
            .then(|| text("region", &r.region).map_err(status))
            .transpose()?;
        check_user(&r.user)?;
        let (header, assigned) = self
            .0
            .read(&caller, r.read, |s| assigned(s, &key, &r.user, region.as_ref()))
            .await?;
        let assigned = assigned?;
        Ok(Response::new(pb::AssignUserResponse {
            header: Some(header),
            slot: u32::try_from(assigned.slot).unwrap_or(u32::MAX),
            arm: assigned.arm.0,
            version: assigned.version.map_or(0, |version| version.0),
        }))
    }
}

fn check_user(user: &str) -> Result<(), Status> {
    if (1..=USER_BYTES_MAX).contains(&user.len()) {
        return Ok(());
    }
    let problem = format!("has {} bytes, and must have 1 to {USER_BYTES_MAX}", user.len());
    Err(status(invalid("user", problem)))
}

/// What a user gets of a running experiment; what can be served is what the registry knows to be verified.
fn assigned(
    state: &ControlState,
    key: &Key,
    user: &str,
    region: Option<&RegionId>,
) -> Result<Assignment, Status> {
    let record = key.find(state)?;
    if let Some(region) = region
        && state.region(region).is_none()
    {
        return Err(not_found(Reason::RegionNotFound, "region", region));
    }
    if !record.is_running() {
        let text = format!(
            "experiment {} of {} has ended: nobody is assigned",
            key.name, key.model
        );
        return Err(status(
            Refusal::new(Reason::IllegalTransition, text).with("current", record.state),
        ));
    }
    let is_servable = |version: ModelVersion| {
        let version = VersionKey {
            model: key.model.clone(),
            version,
        };
        let known = state.version(&version).is_some_and(|v| v.is_replicated());
        known && region.is_none_or(|region| is_verified(state, &version, region))
    };
    assign(record, user, is_servable).ok_or_else(|| {
        let text = format!("experiment {} of {} has no arm for the user", key.name, key.model);
        status(Refusal::new(Reason::Internal, text))
    })
}
