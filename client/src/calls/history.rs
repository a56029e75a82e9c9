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

use super::Client;

impl Client {
    /// The moves of aliases that are remembered, of one model where one is named, oldest first within a model: those that meet these
    /// conditions; `registry.proto` names the fields.
    pub async fn list_deployments(
        &self,
        model: Option<&ModelName>,
        filter: &[String],
    ) -> Result<Vec<DeploymentRecord>, Refusal> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let message = pb::ListDeploymentsRequest {
                read: self.read_options(),
                model: model.map(ToString::to_string).unwrap_or_default(),
                page_size: 1000,
                page_token,
                filter: filter.to_vec(),
            };
            let answer = send!(self, Anyone, RegistryServiceClient::list_deployments, message)?;
            page_token = answer.next_page_token;
            let page = answer.deployments.into_iter().map(history::deployment);
            found.extend(page.collect::<Result<Vec<_>, _>>()?);
            // Also a page without any may have a next one.
            if page_token.is_empty() {
                return Ok(found);
            }
        }
    }

    /// As [`Self::list_deployments`], how regions and nodes have stood; `regions.proto` names the fields.
    pub async fn list_health_changes(
        &self,
        subject: Option<&HealthSubject>,
        filter: &[String],
    ) -> Result<Vec<HealthChange>, Refusal> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let message = pb::ListHealthChangesRequest {
                read: self.read_options(),
                subject: subject.map(ToString::to_string).unwrap_or_default(),
                page_size: 1000,
                page_token,
                filter: filter.to_vec(),
            };
            let answer = send!(self, Anyone, RegionServiceClient::list_health_changes, message)?;
            page_token = answer.next_page_token;
            let page = answer.changes.into_iter().map(history::health_change);
            found.extend(page.collect::<Result<Vec<_>, _>>()?);
            // Also a page without any may have a next one.
            if page_token.is_empty() {
                return Ok(found);
            }
        }
    }
}
