//! What happened: moves of aliases, and changes of health.

use proto::{
    convert::history,
    v1::{
        self as pb, region_service_client::RegionServiceClient,
        registry_service_client::RegistryServiceClient,
    },
};
use types::{
    ModelName,
    history::{DeploymentRecord, HealthChange, HealthSubject},
    reason::Refusal,
};

use super::{Client, pages};

impl Client {
    /// The moves of aliases that are remembered, of one model where one is named, oldest first within a model: those that meet these
    /// conditions; `registry.proto` names the fields.
    pub async fn list_deployments(
        &self,
        model: Option<&ModelName>,
        filter: &[String],
    ) -> Result<Vec<DeploymentRecord>, Refusal> {
        pages::all(|page_token| async move {
            let message = pb::ListDeploymentsRequest {
                read: self.read_options(),
                model: model.map(ToString::to_string).unwrap_or_default(),
                page_size: 1000,
                page_token,
                filter: filter.to_vec(),
            };
            let answer = send!(self, Anyone, RegistryServiceClient::list_deployments, message)?;
            let page: Result<_, _> = answer.deployments.into_iter().map(history::deployment).collect();
            Ok((page?, answer.next_page_token))
        })
        .await
    }

    /// As [`Self::list_deployments`], how regions and nodes have stood; `regions.proto` names the fields.
    pub async fn list_health_changes(
        &self,
        subject: Option<&HealthSubject>,
        filter: &[String],
    ) -> Result<Vec<HealthChange>, Refusal> {
        pages::all(|page_token| async move {
            let message = pb::ListHealthChangesRequest {
                read: self.read_options(),
                subject: subject.map(ToString::to_string).unwrap_or_default(),
                page_size: 1000,
                page_token,
                filter: filter.to_vec(),
            };
            let answer = send!(self, Anyone, RegionServiceClient::list_health_changes, message)?;
            let page: Result<_, _> = answer.changes.into_iter().map(history::health_change).collect();
            Ok((page?, answer.next_page_token))
        })
        .await
    }
}
