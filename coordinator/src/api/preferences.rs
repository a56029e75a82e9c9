//! `PreferenceService`: what people want of tools.

use std::sync::Arc;

use proto::{
    convert::text,
    v1::{self as pb, preference_service_server::PreferenceService},
};
use state::{Command, ControlState};
use tonic::{Request, Response, Status};
use types::{Principal, Reason, reason::Refusal};

use super::{Api, Manner, caller, status};

type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Clone, Debug)]
pub struct Preferences(pub Arc<Api>);

/// Whose preferences are meant.
fn owner(named: &str, caller: &Principal) -> Result<Principal, Status> {
    match named {
        "" => Ok(caller.clone()),
        named => text("principal", named).map_err(status),
    }
}

/// That the caller may read them; that they may change them is the registry's to say.
fn check_reader(caller: &Principal, owner: &Principal) -> Result<(), Status> {
    if caller == owner || caller.is_admin() {
        return Ok(());
    }
    let why = format!("{caller} reads their own preferences, and not those of {owner}");
    let refusal = Refusal::new(Reason::PermissionDenied, why).with("actor", caller);
    Err(status(refusal.with("needs", "the user admin")))
}

/// Who has none has an empty record.
fn found(state: &ControlState, owner: &Principal) -> pb::Preferences {
    let none = || pb::Preferences {
        principal: owner.to_string(),
        changed_by: owner.to_string(),
        ..pb::Preferences::default()
    };
    state.preferences(owner).map_or_else(none, Into::into)
}

fn response(header: pb::ResponseHeader, preferences: pb::Preferences) -> Response<pb::PreferencesResponse> {
    Response::new(pb::PreferencesResponse {
        header: Some(header),
        preferences: Some(preferences),
    })
}

#[tonic::async_trait]
impl PreferenceService for Preferences {
    async fn get_preferences(
        &self,
        request: Request<pb::GetPreferencesRequest>,
    ) -> Answer<pb::PreferencesResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let owner = owner(&r.principal, &caller.principal)?;
        check_reader(&caller.principal, &owner)?;
        let (header, preferences) = self.0.read(&caller, r.read, |s| found(s, &owner)).await?;
        Ok(response(header, preferences))
    }

    async fn set_preferences(
        &self,
        request: Request<pb::SetPreferencesRequest>,
    ) -> Answer<pb::PreferencesResponse> {
        let own = caller(&request)?.principal;
        let read = |r: pb::SetPreferencesRequest| {
            let owner = owner(&r.principal, &own)?;
            let manner = Manner::said(&r.request_id, &r.etag, r.validate_only)?;
            let command = Command::SetPreferences {
                principal: owner.clone(),
                set: r.set,
                remove: r.remove.into_iter().collect(),
            };
            Ok((owner, manner, command))
        };
        let (owner, done) = self.0.change(request, read).await?;
        let preferences = done.read(&self.0, |s| found(s, &owner));
        Ok(response(done.header, preferences))
    }
}
