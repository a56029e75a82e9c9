//! Aliases: names that move by compare-and-set.

use proto::{
    convert::registry,
    v1::{self as pb, registry_service_client::RegistryServiceClient},
};
use types::{AliasName, ModelName, Revision, VersionKey, model::AliasRecord, reason::Refusal};

use super::{Client, Header, options::Kind};

impl Client {
    /// Points an alias at a version; `etag` makes it a compare-and-set.
    pub async fn set_alias(
        &self,
        key: &VersionKey,
        alias: &AliasName,
        reason: &str,
        etag: Option<Revision>,
    ) -> Result<AliasRecord, Refusal> {
        let said = self.said_at(Kind::BY_ETAG, etag).await?;
        let message = pb::SetAliasRequest {
            request_id: said.request_id,
            model: key.model.to_string(),
            alias: alias.to_string(),
            version: key.version.0,
            reason: reason.to_owned(),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        let answer = send!(self, Change, RegistryServiceClient::set_alias, message)?;
        registry::alias(proto::convert::required("alias", answer.alias)?)
    }

    /// Removes an alias, and says by which revision it is gone; `etag` makes it a compare-and-set.
    pub async fn delete_alias(
        &self,
        model: &ModelName,
        alias: &AliasName,
        etag: Option<Revision>,
    ) -> Result<Revision, Refusal> {
        let said = self.said_at(Kind::BY_ETAG, etag).await?;
        let message = pb::DeleteAliasRequest {
            request_id: said.request_id,
            model: model.to_string(),
            alias: alias.to_string(),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        let answer = send!(self, Change, RegistryServiceClient::delete_alias, message)?;
        Ok(Header::read(answer.header)?.revision)
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
}
