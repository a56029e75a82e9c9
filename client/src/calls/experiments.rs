//! Experiments: splits of a model's users, and who gets what of them.

use std::collections::BTreeMap;

use proto::{
    convert::experiments,
    v1::{self as pb, experiment_service_client::ExperimentServiceClient},
};
use types::{
    ExperimentName, MetricName, Micros, ModelName, ModelVersion, RegionId, Revision,
    experiment::{ExperimentRecord, Share},
    reason::Refusal,
};

use super::{Client, options::Kind, pages};

/// What a user gets of an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The user's slot, 0 to 99.
    pub slot: u32,
    /// The version of the arm that the slot belongs to.
    pub arm: ModelVersion,
    /// The version to serve: the arm's, or the first arm's where that cannot be served; none where neither can.
    pub version: Option<ModelVersion>,
}

impl Client {
    /// Begins to split a model's users; the first version is the fallback.
    pub async fn create_experiment(
        &self,
        model: &ModelName,
        name: &ExperimentName,
        description: &str,
        split: &[Share],
    ) -> Result<ExperimentRecord, Refusal> {
        let said = self.said(Kind::CREATE).await?;
        let message = pb::CreateExperimentRequest {
            request_id: said.request_id,
            model: model.to_string(),
            name: name.to_string(),
            description: description.to_owned(),
            split: split.iter().map(Into::into).collect(),
            validate_only: said.validate_only,
        };
        read(send!(
            self,
            Change,
            ExperimentServiceClient::create_experiment,
            message
        )?)
    }

    /// One experiment.
    pub async fn get_experiment(
        &self,
        model: &ModelName,
        name: &ExperimentName,
    ) -> Result<ExperimentRecord, Refusal> {
        let message = pb::GetExperimentRequest {
            read: self.read_options(),
            model: model.to_string(),
            name: name.to_string(),
        };
        read(send!(
            self,
            Anyone,
            ExperimentServiceClient::get_experiment,
            message
        )?)
    }

    /// All experiments, of one model where one is named, that meet these conditions; `experiments.proto` names the fields.
    pub async fn list_experiments(
        &self,
        model: Option<&ModelName>,
        filter: &[String],
    ) -> Result<Vec<ExperimentRecord>, Refusal> {
        pages::all(|page_token| async move {
            let message = pb::ListExperimentsRequest {
                read: self.read_options(),
                model: model.map(ToString::to_string).unwrap_or_default(),
                page_size: 1000,
                page_token,
                filter: filter.to_vec(),
            };
            let answer = send!(self, Anyone, ExperimentServiceClient::list_experiments, message)?;
            let page: Result<_, _> = answer
                .experiments
                .into_iter()
                .map(experiments::experiment)
                .collect();
            Ok((page?, answer.next_page_token))
        })
        .await
    }

    /// Changes who gets what of a running experiment that still is as it was at `etag`.
    pub async fn set_experiment_split(
        &self,
        model: &ModelName,
        name: &ExperimentName,
        split: &[Share],
        etag: Revision,
    ) -> Result<ExperimentRecord, Refusal> {
        let said = self.said_at(Kind::BY_ETAG, Some(etag)).await?;
        let message = pb::SetExperimentSplitRequest {
            request_id: said.request_id,
            model: model.to_string(),
            name: name.to_string(),
            split: split.iter().map(Into::into).collect(),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        read(send!(
            self,
            Change,
            ExperimentServiceClient::set_experiment_split,
            message
        )?)
    }

    /// Says what was measured of one arm.
    pub async fn report_experiment(
        &self,
        model: &ModelName,
        name: &ExperimentName,
        version: ModelVersion,
        metrics: &BTreeMap<MetricName, Micros>,
    ) -> Result<ExperimentRecord, Refusal> {
        let said = self.said(Kind::BY_ETAG).await?;
        let message = pb::ReportExperimentRequest {
            request_id: said.request_id,
            model: model.to_string(),
            name: name.to_string(),
            version: version.0,
            metrics: experiments::metrics_to_pb(metrics),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        read(send!(
            self,
            Change,
            ExperimentServiceClient::report_experiment,
            message
        )?)
    }

    /// Ends an experiment, for ever.
    pub async fn end_experiment(
        &self,
        model: &ModelName,
        name: &ExperimentName,
        reason: &str,
    ) -> Result<ExperimentRecord, Refusal> {
        let said = self.said(Kind::BY_ETAG).await?;
        let message = pb::EndExperimentRequest {
            request_id: said.request_id,
            model: model.to_string(),
            name: name.to_string(),
            reason: reason.to_owned(),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        read(send!(
            self,
            Change,
            ExperimentServiceClient::end_experiment,
            message
        )?)
    }

    /// Which version a user gets; from this region's copies alone where one is named.
    pub async fn assign_user(
        &self,
        model: &ModelName,
        name: &ExperimentName,
        user: &str,
        region: Option<&RegionId>,
    ) -> Result<Assigned, Refusal> {
        let message = pb::AssignUserRequest {
            read: self.read_options(),
            model: model.to_string(),
            name: name.to_string(),
            user: user.to_owned(),
            region: region.map(ToString::to_string).unwrap_or_default(),
        };
        let answer = send!(self, Anyone, ExperimentServiceClient::assign_user, message)?;
        Ok(Assigned {
            slot: answer.slot,
            arm: ModelVersion(answer.arm),
            version: (answer.version != 0).then_some(ModelVersion(answer.version)),
        })
    }
}

fn read(answer: pb::ExperimentResponse) -> Result<ExperimentRecord, Refusal> {
    experiments::experiment(proto::convert::required("experiment", answer.experiment)?)
}
