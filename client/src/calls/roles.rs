//! Primary roles and their settings.

use proto::{
    convert::primaries,
    v1::{self as pb, primary_service_client::PrimaryServiceClient},
};
use types::{
    RegionId, RoleName,
    reason::Refusal,
    role::{FailoverMode, RoleRecord, TimingPolicy},
};

use super::{Client, Header, options::Kind};

impl Client {
    /// All roles, by name.
    pub async fn list_roles(&self) -> Result<Vec<RoleRecord>, Refusal> {
        let message = pb::ListRolesRequest {
            read: self.read_options(),
        };
        let answer = send!(self, Anyone, PrimaryServiceClient::list_roles, message)?;
        answer.roles.into_iter().map(primaries::role).collect()
    }

    /// One role, and where it was read.
    pub async fn get_role(&self, role: &RoleName) -> Result<(RoleRecord, Header), Refusal> {
        let message = pb::GetRoleRequest {
            read: self.read_options(),
            role: role.to_string(),
        };
        let answer = send!(self, Anyone, PrimaryServiceClient::get_role, message)?;
        let role = primaries::role(proto::convert::required("role", answer.role)?)?;
        Ok((role, Header::read(answer.header)?))
    }

    /// Creates a role; no candidates means every region, in the order in which they joined.
    pub async fn create_role(
        &self,
        role: &RoleName,
        candidates: &[RegionId],
        mode: FailoverMode,
        timing: &TimingPolicy,
    ) -> Result<RoleRecord, Refusal> {
        let said = self.said(Kind::CREATE).await?;
        let message = pb::CreateRoleRequest {
            request_id: said.request_id,
            validate_only: said.validate_only,
            role: role.to_string(),
            candidates: candidates.iter().map(ToString::to_string).collect(),
            mode: primaries::mode_to_pb(mode).0,
            timing: Some(timing.into()),
        };
        role_of(send!(self, Change, PrimaryServiceClient::create_role, message)?)
    }

    /// Says whether failovers of the role run by themselves.
    pub async fn set_role_mode(&self, role: &RoleName, mode: FailoverMode) -> Result<RoleRecord, Refusal> {
        let (mode, paused_until_millis) = primaries::mode_to_pb(mode);
        let said = self.said(Kind::ROLE).await?;
        let message = pb::SetRoleModeRequest {
            request_id: said.request_id,
            etag: said.etag,
            expected_epoch: said.expected_epoch,
            validate_only: said.validate_only,
            role: role.to_string(),
            mode,
            paused_until_millis,
        };
        role_of(send!(self, Change, PrimaryServiceClient::set_role_mode, message)?)
    }

    /// Changes the role's timings; a shorter TTL counts only after one old TTL (L8).
    pub async fn set_role_timing(
        &self,
        role: &RoleName,
        timing: &TimingPolicy,
    ) -> Result<RoleRecord, Refusal> {
        let said = self.said(Kind::ROLE).await?;
        let message = pb::SetRoleTimingRequest {
            request_id: said.request_id,
            etag: said.etag,
            expected_epoch: said.expected_epoch,
            validate_only: said.validate_only,
            role: role.to_string(),
            timing: Some(timing.into()),
        };
        role_of(send!(
            self,
            Change,
            PrimaryServiceClient::set_role_timing,
            message
        )?)
    }

    /// Changes which regions may hold the role, most wanted first.
    pub async fn set_role_candidates(
        &self,
        role: &RoleName,
        candidates: &[RegionId],
    ) -> Result<RoleRecord, Refusal> {
        let said = self.said(Kind::ROLE).await?;
        let message = pb::SetRoleCandidatesRequest {
            request_id: said.request_id,
            etag: said.etag,
            expected_epoch: said.expected_epoch,
            validate_only: said.validate_only,
            role: role.to_string(),
            candidates: candidates.iter().map(ToString::to_string).collect(),
        };
        role_of(send!(
            self,
            Change,
            PrimaryServiceClient::set_role_candidates,
            message
        )?)
    }
}

fn role_of(answer: pb::RoleResponse) -> Result<RoleRecord, Refusal> {
    primaries::role(proto::convert::required("role", answer.role)?)
}
