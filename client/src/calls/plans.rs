//! Plans: a switchover that is asked for, how it goes, and the reports of its steps.

use proto::{
    convert::primaries,
    v1::{self as pb, primary_service_client::PrimaryServiceClient},
};
use types::{
    Epoch, NodeIncarnation, PlanId, RegionId, RoleName,
    plan::{DoorClaim, PlanRecord, StepKind},
    reason::Refusal,
};

use super::{Client, options::Kind};

impl Client {
    /// Starts a planned hand-over; the answer is the plan as it was started, or, where it is only validated, as it would be.
    pub async fn switchover(
        &self,
        role: &RoleName,
        to_region: &RegionId,
        expected_epoch: Option<Epoch>,
    ) -> Result<PlanRecord, Refusal> {
        let said = self.said(Kind::HOLDER).await?;
        let message = pb::SwitchoverRequest {
            request_id: said.request_id,
            role: role.to_string(),
            to_region: to_region.to_string(),
            expected_epoch: expected_epoch.map_or(said.expected_epoch, Epoch::as_u64),
            etag: said.etag,
            validate_only: said.validate_only,
        };
        plan_of(send!(self, Change, PrimaryServiceClient::switchover, message)?)
    }

    /// One plan.
    pub async fn get_plan(&self, plan: PlanId) -> Result<PlanRecord, Refusal> {
        let message = pb::GetPlanRequest {
            read: self.read_options(),
            plan: plan.0,
        };
        plan_of(send!(self, Anyone, PrimaryServiceClient::get_plan, message)?)
    }

    /// The newest plans of a role, or of all, at most `limit` (1 to 1000).
    pub async fn list_plans(&self, role: Option<&RoleName>, limit: u32) -> Result<Vec<PlanRecord>, Refusal> {
        let message = pb::ListPlansRequest {
            read: self.read_options(),
            role: role.map(ToString::to_string).unwrap_or_default(),
            page_size: limit,
            page_token: String::new(),
        };
        let answer = send!(self, Anyone, PrimaryServiceClient::list_plans, message)?;
        answer.plans.into_iter().map(primaries::plan).collect()
    }

    /// The target's agent says how its step went; another run of its node is refused.
    pub async fn report_step(
        &self,
        plan: PlanId,
        step: StepKind,
        attempt: u32,
        result: Result<&str, &str>,
        doors: &[DoorClaim],
        run: NodeIncarnation,
    ) -> Result<PlanRecord, Refusal> {
        let said = self.said(Kind::REPORT).await?;
        let message = pb::ReportStepRequest {
            request_id: said.request_id,
            plan: plan.0,
            step: primaries::step_kind_to_pb(step),
            attempt,
            done: result.is_ok(),
            detail: result.unwrap_or_else(|e| e).to_owned(),
            doors: doors.iter().map(Into::into).collect(),
            incarnation: run.to_string(),
        };
        plan_of(send!(self, Change, PrimaryServiceClient::report_step, message)?)
    }
}

fn plan_of(answer: pb::PlanResponse) -> Result<PlanRecord, Refusal> {
    primaries::plan(proto::convert::required("plan", answer.plan)?)
}
