//! Versions: announced, completed, given up, retired, found.

use std::collections::BTreeMap;

use proto::{
    convert::{experiments::metrics_to_pb, registry},
    v1::{self as pb, registry_service_client::RegistryServiceClient},
};
use types::{
    AliasName, DatasetName, MetricName, Micros, ModelName, RegionId, VersionKey,
    model::{Artifact, VersionRecord},
    reason::Refusal,
};

use super::{
    Client,
    models::check_filtered,
    options::{Kind, Said},
    pages,
};

/// The feature level from which on every coordinator keeps which data sets a version names.
const KNOWS_DATASETS: u32 = 6;

impl Client {
    /// Announces a version, and the model if it is new. `datasets` names what it was trained from, each once.
    pub async fn create_version(
        &self,
        model: &ModelName,
        source_region: &RegionId,
        artifacts: &[Artifact],
        framework: &str,
        metadata: BTreeMap<String, String>,
        datasets: &[DatasetName],
    ) -> Result<VersionRecord, Refusal> {
        if !datasets.is_empty() {
            // An older coordinator would leave them out, and say nothing of it.
            self.check_level(KNOWS_DATASETS, "data sets of a version take")
                .await?;
        }
        let said = self.said(Kind::RECORD).await?;
        let message = pb::CreateVersionRequest {
            request_id: said.request_id,
            etag: said.etag,
            validate_only: said.validate_only,
            model: model.to_string(),
            source_region: source_region.to_string(),
            artifacts: artifacts.iter().map(Into::into).collect(),
            framework: framework.to_owned(),
            metadata,
            datasets: datasets.iter().map(ToString::to_string).collect(),
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
        let said = self.said(Kind::RECORD).await?;
        let message = pb::CompleteUploadRequest {
            request_id: said.request_id,
            etag: said.etag,
            validate_only: said.validate_only,
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
        let message = change(self.said(Kind::RECORD).await?, key, reason);
        version_of(send!(
            self,
            Change,
            RegistryServiceClient::abort_version,
            message
        )?)
    }

    /// Marks a version as no longer recommended.
    pub async fn deprecate_version(&self, key: &VersionKey, reason: &str) -> Result<VersionRecord, Refusal> {
        let message = change(self.said(Kind::RECORD).await?, key, reason);
        version_of(send!(
            self,
            Change,
            RegistryServiceClient::deprecate_version,
            message
        )?)
    }

    /// Takes a version out of the registry.
    pub async fn delete_version(&self, key: &VersionKey, reason: &str) -> Result<VersionRecord, Refusal> {
        let message = change(self.said(Kind::RECORD).await?, key, reason);
        version_of(send!(
            self,
            Change,
            RegistryServiceClient::delete_version,
            message
        )?)
    }

    /// Says what was measured of a version, and forgets what is to be removed; values that are not named stay.
    pub async fn set_version_metrics(
        &self,
        key: &VersionKey,
        set: &BTreeMap<MetricName, Micros>,
        remove: &[MetricName],
    ) -> Result<VersionRecord, Refusal> {
        let said = self.said(Kind::RECORD).await?;
        let message = pb::SetVersionMetricsRequest {
            request_id: said.request_id,
            model: key.model.to_string(),
            version: key.version.0,
            set: metrics_to_pb(set),
            remove: remove.iter().map(ToString::to_string).collect(),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        version_of(send!(
            self,
            Change,
            RegistryServiceClient::set_version_metrics,
            message
        )?)
    }

    /// All versions, of any model, that were trained from a data set and meet these conditions, as
    /// [`Self::list_versions_where`] has them; also those that were deleted since.
    pub async fn list_dependents(
        &self,
        dataset: &DatasetName,
        filter: &[String],
    ) -> Result<Vec<VersionRecord>, Refusal> {
        pages::all(|page_token| async move {
            let message = pb::ListDependentsRequest {
                read: self.read_options(),
                dataset: dataset.to_string(),
                page_size: 1000,
                page_token,
                filter: filter.to_vec(),
            };
            let answer = send!(self, Anyone, RegistryServiceClient::list_dependents, message)?;
            let page: Result<_, _> = answer.versions.into_iter().map(registry::version).collect();
            Ok((page?, answer.next_page_token))
        })
        .await
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
        self.list_versions_where(model, &[]).await
    }

    /// All versions of a model that meet these conditions, as in `state=READY`; `registry.proto` names the fields.
    pub async fn list_versions_where(
        &self,
        model: &ModelName,
        filter: &[String],
    ) -> Result<Vec<VersionRecord>, Refusal> {
        pages::all(|page_token| async move {
            let message = pb::ListVersionsRequest {
                read: self.read_options(),
                model: model.to_string(),
                page_size: 1000,
                page_token,
                filter: filter.to_vec(),
            };
            let answer = send!(self, Anyone, RegistryServiceClient::list_versions, message)?;
            let next = answer.next_page_token.clone();
            Ok((versions_of(answer, filter)?, next))
        })
        .await
    }
}

fn change(said: Said, key: &VersionKey, reason: &str) -> pb::ChangeVersionRequest {
    pb::ChangeVersionRequest {
        request_id: said.request_id,
        etag: said.etag,
        validate_only: said.validate_only,
        model: key.model.to_string(),
        version: key.version.0,
        reason: reason.to_owned(),
    }
}

fn version_of(answer: pb::VersionResponse) -> Result<VersionRecord, Refusal> {
    registry::version(proto::convert::required("version", answer.version)?)
}

fn versions_of(answer: pb::ListVersionsResponse, filter: &[String]) -> Result<Vec<VersionRecord>, Refusal> {
    check_filtered(filter, answer.filtered)?;
    answer.versions.into_iter().map(registry::version).collect()
}

#[cfg(test)]
mod tests {
    use types::reason::Reason;

    use super::*;

    #[test]
    fn versions_that_were_not_filtered_are_none_of_what_was_asked_for() {
        let wanted = ["state=READY".to_owned()];
        let answer = |filtered| pb::ListVersionsResponse {
            filtered,
            ..Default::default()
        };
        assert_eq!(versions_of(answer(true), &wanted).unwrap(), []);
        assert_eq!(versions_of(answer(false), &[]).unwrap(), []);
        let refused = versions_of(answer(false), &wanted).unwrap_err();
        assert_eq!(refused.reason, Reason::FeatureLevel);
    }
}
