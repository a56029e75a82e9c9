//! Models and their tags.

use std::collections::BTreeMap;

use proto::{
    convert::registry,
    v1::{self as pb, registry_service_client::RegistryServiceClient},
};
use types::{
    FencingToken, ModelName, RequestId, Revision,
    model::{AliasRecord, ModelRecord, Placement},
    reason::{Reason, Refusal},
};

use super::{Client, Header, options::Kind, pages};
use crate::retry::mint_request_id;

impl Client {
    /// Creates a model.
    pub async fn create_model(
        &self,
        name: &ModelName,
        description: &str,
        tags: BTreeMap<String, String>,
        placement: &Placement,
    ) -> Result<ModelRecord, Refusal> {
        let said = self.said(Kind::CREATE).await?;
        let message = pb::CreateModelRequest {
            request_id: said.request_id,
            validate_only: said.validate_only,
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
        self.list_models_where(&[]).await
    }

    /// All models that meet these conditions, as in `name=fraud.*`; `registry.proto` names the fields.
    pub async fn list_models_where(&self, filter: &[String]) -> Result<Vec<ModelRecord>, Refusal> {
        pages::all(|page_token| async move {
            let message = pb::ListModelsRequest {
                read: self.read_options(),
                page_size: 1000,
                page_token,
                filter: filter.to_vec(),
            };
            let answer = send!(self, Anyone, RegistryServiceClient::list_models, message)?;
            let next = answer.next_page_token.clone();
            Ok((models_of(answer, filter)?, next))
        })
        .await
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
        let named = self.with_request_id(request_id);
        let said = named.said_at(Kind::BY_ETAG, etag).await?;
        let message = pb::SetModelTagsRequest {
            request_id: said.request_id,
            model: model.to_string(),
            set,
            remove,
            etag: said.etag,
            token: token.map(Into::into),
            validate_only: said.validate_only,
        };
        let answer = send!(self, Change, RegistryServiceClient::set_model_tags, message)?;
        let model = registry::model(proto::convert::required("model", answer.model)?)?;
        Ok((model, Header::read(answer.header)?))
    }
}

fn models_of(answer: pb::ListModelsResponse, filter: &[String]) -> Result<Vec<ModelRecord>, Refusal> {
    check_filtered(filter, answer.filtered)?;
    answer.models.into_iter().map(registry::model).collect()
}

/// A coordinator that does not know filters sends everything.
pub(super) fn check_filtered(filter: &[String], filtered: bool) -> Result<(), Refusal> {
    if filtered || filter.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::FeatureLevel,
        "the coordinator that answered is too old for conditions, and listed everything: upgrade the coordinators, or leave \
         the conditions out",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_was_not_filtered_is_none_of_what_was_asked_for() {
        let wanted = ["name=a".to_owned()];
        let cases: [(&[String], bool, bool); 3] =
            [(&[], false, true), (&wanted, true, true), (&wanted, false, false)];
        for (filter, filtered, is_taken) in cases {
            let answer = pb::ListModelsResponse {
                filtered,
                ..Default::default()
            };
            let taken = models_of(answer, filter);
            assert_eq!(taken.is_ok(), is_taken, "{filter:?} {filtered}");
            if let Err(refusal) = taken {
                assert_eq!(refusal.reason, Reason::FeatureLevel);
                assert!(refusal.message.contains("upgrade the coordinators"), "{refusal}");
            }
        }
    }
}
