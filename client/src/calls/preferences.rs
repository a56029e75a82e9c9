//! What people want of tools.

use std::collections::BTreeMap;

use proto::{
    convert::preferences,
    v1::{self as pb, preference_service_client::PreferenceServiceClient},
};
use types::{Principal, preferences::PreferencesRecord, reason::Refusal};

use super::{Client, options::Kind};

impl Client {
    /// A user's preferences, empty where there are none; the caller's own where nobody is named.
    pub async fn get_preferences(&self, owner: Option<&Principal>) -> Result<PreferencesRecord, Refusal> {
        let message = pb::GetPreferencesRequest {
            read: self.read_options(),
            principal: owner.map(ToString::to_string).unwrap_or_default(),
        };
        read(send!(
            self,
            Anyone,
            PreferenceServiceClient::get_preferences,
            message
        )?)
    }

    /// Sets and removes a user's preferences; the caller's own where nobody is named.
    pub async fn set_preferences(
        &self,
        owner: Option<&Principal>,
        set: BTreeMap<String, String>,
        remove: Vec<String>,
    ) -> Result<PreferencesRecord, Refusal> {
        let said = self.said(Kind::RECORD).await?;
        let message = pb::SetPreferencesRequest {
            request_id: said.request_id,
            principal: owner.map(ToString::to_string).unwrap_or_default(),
            set,
            remove,
            etag: said.etag,
            validate_only: said.validate_only,
        };
        read(send!(
            self,
            Change,
            PreferenceServiceClient::set_preferences,
            message
        )?)
    }
}

fn read(answer: pb::PreferencesResponse) -> Result<PreferencesRecord, Refusal> {
    preferences::preferences(proto::convert::required("preferences", answer.preferences)?)
}
