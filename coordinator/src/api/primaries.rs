//! `PrimaryService`: roles, plans, leases, fences.

mod first_try;

use std::sync::Arc;

use policy::{
    failover::{FailoverView, choose_in_region, holder_gone},
    fence::{self, Confirmation},
};
use proto::{
    convert::{invalid, primaries as conv, regions, text},
    v1::{self as pb, primary_service_server::PrimaryService},
};
use state::{Command, ControlState, Reply, StepOutcome};
use tonic::{Request, Response, Status};
use types::{
    FencingToken, Holder, PlanId, Principal, Reason, RegionId, RoleName, UnixMillis,
    plan::{PlanKind, PlanRecord},
    reason::Refusal,
    role::{FailoverMode, RoleRecord},
};

use first_try::FirstTry;

use super::{Api, Committed, Manner, caller, list, not_found, pause, require_agent, status};
use crate::{authz::Caller, failover::driver::view_now};

type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Clone, Debug)]
pub struct Primaries(pub Arc<Api>);

fn role_of<'a>(state: &'a ControlState, role: &RoleName) -> Result<&'a RoleRecord, Status> {
    state
        .role(role)
        .ok_or_else(|| not_found(Reason::RoleNotFound, "role", role))
}

/// A role as it is at this time, by which the driver goes too: a pause ends without an entry.
fn told(role: &RoleRecord, now: UnixMillis) -> pb::Role {
    let mode = policy::failover::mode_at(role.mode, now);
    (&RoleRecord { mode, ..role.clone() }).into()
}

fn plan_of(state: &ControlState, plan: PlanId) -> Result<pb::Plan, Status> {
    let found = state.plan(plan).map(Into::into);
    found.ok_or_else(|| not_found(Reason::PlanNotFound, "plan", plan))
}

fn candidates(names: &[String]) -> Result<Vec<RegionId>, Status> {
    let parsed = names.iter().map(|name| text("candidates", name));
    parsed.collect::<Result<_, _>>().map_err(status)
}

/// Remembered plans that match, newest first, before `start`; and the one to go on before.
fn plan_page(
    state: &ControlState,
    role: Option<&RoleName>,
    start: Option<PlanId>,
    size: usize,
) -> (Vec<pb::Plan>, Option<PlanId>) {
    let mut plans = state.newest_plans(role, start, size.saturating_add(1));
    let more = plans.len() > size;
    plans.truncate(size);
    let next = plans.last().filter(|_| more).map(|p| p.plan);
    (plans.into_iter().map(Into::into).collect(), next)
}

/// That the token is the caller's own: its agent's region and node. The run is checked against the committed holder.
fn own_token(caller: &Caller, token: Option<pb::FencingToken>) -> Result<FencingToken, Status> {
    let token = regions::token(token).map_err(status)?;
    let (region, node) = require_agent(&caller.principal)?;
    if region != &token.holder.region || node != &token.holder.node {
        let why = format!("the token of {} was shown by {}", token.holder, caller.principal);
        let refusal = Refusal::new(Reason::PermissionDenied, why)
            .with("holder", &token.holder)
            .with("actor", &caller.principal);
        return Err(status(refusal));
    }
    Ok(token)
}

fn not_a_plan(reply: &Reply) -> Status {
    let message = format!("apply answered with another kind of reply: {reply:?}");
    status(Refusal::new(Reason::Internal, message))
}

/// How roles, plans and fences are read: whoever asks who holds what, under which epoch, is about to act, so a stale answer is
/// no answer.
pub(super) fn confirmed_only(read: Option<pb::ReadOptions>) -> Result<Option<pb::ReadOptions>, Status> {
    let is_stale = |read: &pb::ReadOptions| read.allow_stale || read.max_staleness_millis > 0;
    if read.as_ref().is_some_and(is_stale) {
        let why = "roles, plans and fences are answered by a quorum, never stale: leave allow_stale and max_staleness_millis out";
        return Err(status(invalid("read", why)));
    }
    Ok(read)
}

/// Whom a switchover to `region` would give the role to.
fn switchover_target(view: &FailoverView, region: &RegionId, holder_lives: bool) -> Result<Holder, Refusal> {
    let role = &view.role.role;
    let holder = view.role.holder.as_ref();
    if let Some(holder) = holder.filter(|h| holder_lives && &h.region == region) {
        let why = format!("{holder} of {region} holds {role} already");
        return Err(Refusal::new(Reason::TargetNotQualified, why));
    }
    let refused = match choose_in_region(view, region, holder_lives) {
        Ok(target) => return Ok(target),
        Err(refused) => refused,
    };
    let texts = refused.iter().map(|(target, unmet)| {
        let unmet: Vec<_> = unmet.iter().map(ToString::to_string).collect();
        format!("{target}: {}", unmet.join(", "))
    });
    let texts: Vec<_> = texts.collect();
    let unmet = if texts.is_empty() {
        format!("{region} has no agent")
    } else {
        texts.join("; ")
    };
    let why = format!("{region} cannot take {role}: {unmet}");
    Err(Refusal::new(Reason::TargetNotQualified, why).with("unmet", unmet))
}

impl Primaries {
    async fn change_role(
        &self,
        caller: &Caller,
        manner: Manner,
        role: &RoleName,
        command: Command,
    ) -> Answer<pb::RoleResponse> {
        let done = self.0.propose(caller, manner, command).await?;
        let now = self.0.raft.read(|s| self.0.raft.known_time(s));
        let record = done.record(&self.0, role, |role: &RoleRecord| told(role, now))?;
        Ok(Response::new(pb::RoleResponse {
            header: Some(done.header),
            role: Some(record),
        }))
    }

    fn plan_answer(&self, done: &Committed, plan: PlanId) -> Answer<pb::PlanResponse> {
        let plan = done.record(&self.0, &plan, |plan: &PlanRecord| plan.into())?;
        Ok(Response::new(pb::PlanResponse {
            header: Some(done.header.clone()),
            plan: Some(plan),
        }))
    }

    /// That a report comes from the plan's target.
    fn check_reporter(&self, principal: &Principal, plan: PlanId) -> Result<(), Status> {
        let (region, node) = require_agent(principal)?;
        self.0.raft.read(|s| {
            let record = s
                .plan(plan)
                .ok_or_else(|| not_found(Reason::PlanNotFound, "plan", plan))?;
            if &record.target.region == region && &record.target.node == node {
                return Ok(());
            }
            let why = format!(
                "{principal} is not the target of plan {plan}: {} is",
                record.target
            );
            Err(status(
                Refusal::new(Reason::PermissionDenied, why).with("actor", principal),
            ))
        })
    }
}

#[tonic::async_trait]
impl PrimaryService for Primaries {
    async fn list_roles(&self, request: Request<pb::ListRolesRequest>) -> Answer<pb::ListRolesResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let (header, roles) = self
            .0
            .read(&caller, confirmed_only(r.read)?, |s| {
                s.roles()
                    .map(|role| told(role, self.0.raft.known_time(s)))
                    .collect()
            })
            .await?;
        Ok(Response::new(pb::ListRolesResponse {
            header: Some(header),
            roles,
        }))
    }

    async fn get_role(&self, request: Request<pb::GetRoleRequest>) -> Answer<pb::RoleResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let role = text("role", &r.role).map_err(status)?;
        let (header, found) = self
            .0
            .read(&caller, confirmed_only(r.read)?, |s| {
                role_of(s, &role).map(|role| told(role, self.0.raft.known_time(s)))
            })
            .await?;
        Ok(Response::new(pb::RoleResponse {
            header: Some(header),
            role: Some(found?),
        }))
    }

    async fn create_role(&self, request: Request<pb::CreateRoleRequest>) -> Answer<pb::RoleResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let role: RoleName = text("role", &r.role).map_err(status)?;
        let timing = r.timing.map(|t| conv::timing(Some(t))).transpose();
        let mode = match r.mode {
            0 => FailoverMode::Automatic,
            mode => conv::mode(mode, 0).map_err(status)?,
        };
        let manner = Manner::of(&r.request_id).validate_only(r.validate_only);
        let command = Command::CreateRole {
            role: role.clone(),
            candidates: candidates(&r.candidates)?,
            mode,
            timing: timing.map_err(status)?,
        };
        self.change_role(&caller, manner, &role, command).await
    }

    async fn set_role_mode(&self, request: Request<pb::SetRoleModeRequest>) -> Answer<pb::RoleResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let role: RoleName = text("role", &r.role).map_err(status)?;
        let mut mode = conv::mode(r.mode, r.paused_until_millis).map_err(status)?;
        if let FailoverMode::Paused { .. } = mode {
            // By the leader's reckoning: another one's refusal would be final, and its clock is its own.
            self.0.require_leader()?;
            let now = self.0.raft.time(caller.deadline).await;
            mode = pause::check(mode, now.map_err(|e| self.0.refuse(&e))?).map_err(status)?;
        }
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let manner = manner.expected_epoch(r.expected_epoch);
        let manner = manner.validate_only(r.validate_only);
        let command = Command::SetRoleMode {
            role: role.clone(),
            mode,
        };
        self.change_role(&caller, manner, &role, command).await
    }

    async fn set_role_timing(&self, request: Request<pb::SetRoleTimingRequest>) -> Answer<pb::RoleResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let role: RoleName = text("role", &r.role).map_err(status)?;
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let manner = manner.expected_epoch(r.expected_epoch);
        let manner = manner.validate_only(r.validate_only);
        let command = Command::SetRoleTiming {
            role: role.clone(),
            timing: conv::timing(r.timing).map_err(status)?,
        };
        self.change_role(&caller, manner, &role, command).await
    }

    async fn set_role_candidates(
        &self,
        request: Request<pb::SetRoleCandidatesRequest>,
    ) -> Answer<pb::RoleResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let role: RoleName = text("role", &r.role).map_err(status)?;
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let manner = manner.expected_epoch(r.expected_epoch);
        let manner = manner.validate_only(r.validate_only);
        let command = Command::SetRoleCandidates {
            role: role.clone(),
            candidates: candidates(&r.candidates)?,
        };
        self.change_role(&caller, manner, &role, command).await
    }

    async fn switchover(&self, request: Request<pb::SwitchoverRequest>) -> Answer<pb::PlanResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let role: RoleName = text("role", &r.role).map_err(status)?;
        let region: RegionId = text("to_region", &r.to_region).map_err(status)?;
        let since = self.0.require_leader()?;
        // All that was committed before this call is applied here: an answer that its first try got, too.
        let revision = self.0.linearize(caller.deadline).await?;
        let request = proto::convert::request_id(&r.request_id).map_err(status)?;
        let first = FirstTry {
            request,
            caller: &caller.principal,
            role: &role,
            region: &region,
            asked: &r,
        };
        let (asked, before) = self.0.raft.read(|s| (first.digest(s), first.answer(s)));
        if let Some(plan) = before {
            let plan = plan?;
            let plan = self.0.raft.read(|s| plan_of(s, plan))?;
            let header = Some(pb::ResponseHeader {
                validated_only: r.validate_only,
                ..self.0.header(revision)
            });
            let plan = Some(plan);
            return Ok(Response::new(pb::PlanResponse { header, plan }));
        }
        let view = view_now(&self.0, since, &role);
        let view = view.ok_or_else(|| not_found(Reason::RoleNotFound, "role", &role))?;
        if self.0.raft.read(|s| s.region(&region).is_none()) {
            return Err(not_found(Reason::RegionNotFound, "region", &region));
        }
        let gone = holder_gone(&view);
        let kind = match (&view.role.holder, &gone) {
            (None, _) => PlanKind::Assign,
            (Some(_), None) => PlanKind::Switchover,
            // Nobody is left to hand over; the mode does not bind a person.
            (Some(_), Some(_)) => PlanKind::Failover,
        };
        let epoch = match r.expected_epoch {
            0 => view.role.epoch,
            shown => types::Epoch::from_u64(shown),
        };
        let target = switchover_target(&view, &region, gone.is_none()).map_err(status)?;
        let command = Command::StartPlan {
            role,
            kind,
            target,
            trigger: match gone {
                None => format!("asked for by {}: move to {region}", caller.principal),
                Some(gone) => format!("asked for by {}: move to {region}; {gone}", caller.principal),
            },
            expected_epoch: epoch,
        };
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let manner = manner.validate_only(r.validate_only).asked(asked);
        let done = self.0.propose(&caller, manner, command).await?;
        let Reply::Plan { plan } = done.reply else {
            return Err(not_a_plan(&done.reply));
        };
        self.plan_answer(&done, plan)
    }

    async fn get_plan(&self, request: Request<pb::GetPlanRequest>) -> Answer<pb::PlanResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let (header, found) = self
            .0
            .read(&caller, confirmed_only(r.read)?, |s| plan_of(s, PlanId(r.plan)))
            .await?;
        Ok(Response::new(pb::PlanResponse {
            header: Some(header),
            plan: Some(found?),
        }))
    }

    async fn list_plans(&self, request: Request<pb::ListPlansRequest>) -> Answer<pb::ListPlansResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let role: Option<RoleName> = match r.role.as_str() {
            "" => None,
            role => Some(text("role", role).map_err(status)?),
        };
        let start = list::position::<PlanId>(&r.page_token)?;
        let size = list::page_size(r.page_size);
        let (header, (plans, next)) = self
            .0
            .read(&caller, confirmed_only(r.read)?, |s| {
                plan_page(s, role.as_ref(), start, size)
            })
            .await?;
        Ok(Response::new(pb::ListPlansResponse {
            header: Some(header),
            plans,
            next_page_token: list::token(next),
        }))
    }

    async fn report_step(&self, request: Request<pb::ReportStepRequest>) -> Answer<pb::PlanResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let plan = PlanId(r.plan);
        let step = conv::step_kind_from_pb(r.step).map_err(status)?;
        if !step.runs_in_agent() {
            return Err(status(invalid("step", format!("{step} is not an agent's"))));
        }
        // The leader's state is the one that has the plan; a follower answers with the hint instead of "no such plan".
        self.0.require_leader()?;
        self.check_reporter(&caller.principal, plan)?;
        let outcome = if r.done {
            StepOutcome::Done {
                detail: r.detail,
                doors: r.doors.into_iter().map(conv::door_claim).collect(),
            }
        } else {
            StepOutcome::Failed { detail: r.detail }
        };
        let command = Command::FinishStep {
            plan,
            step,
            attempt: r.attempt,
            reporter: Some(text("incarnation", &r.incarnation).map_err(status)?),
            outcome,
        };
        let manner = Manner::of(&r.request_id);
        let done = self.0.propose(&caller, manner, command).await?;
        self.plan_answer(&done, plan)
    }

    async fn renew_lease(&self, request: Request<pb::RenewLeaseRequest>) -> Answer<pb::RenewLeaseResponse> {
        let caller = caller(&request)?;
        let token = own_token(&caller, request.into_inner().token)?;
        let renewed = self.0.leases.renew(token, caller.received, caller.deadline).await;
        let (revision, grant) = renewed.map_err(status)?;
        let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Ok(Response::new(pb::RenewLeaseResponse {
            header: Some(self.0.header(revision)),
            ttl_millis: millis(grant.ttl),
            renew_interval_millis: millis(grant.renew_interval),
            drain_margin_millis: millis(grant.drain_margin),
        }))
    }

    async fn release_lease(
        &self,
        request: Request<pb::ReleaseLeaseRequest>,
    ) -> Answer<pb::ReleaseLeaseResponse> {
        let caller = caller(&request)?;
        let token = own_token(&caller, request.into_inner().token)?;
        let leases = &self.0.leases;
        let revision = leases.release(token, caller.deadline).await.map_err(status)?;
        Ok(Response::new(pb::ReleaseLeaseResponse {
            header: Some(self.0.header(revision)),
        }))
    }

    async fn check_fence(&self, request: Request<pb::CheckFenceRequest>) -> Answer<pb::CheckFenceResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let token = regions::token(r.token).map_err(status)?;
        let (header, found) = self
            .0
            .read(&caller, confirmed_only(r.read)?, |s| {
                let role = role_of(s, &token.role)?;
                let cluster_id = s.cluster().map(|c| c.cluster_id).ok_or_else(|| {
                    status(Refusal::new(
                        Reason::ClusterState,
                        "the cluster is not bootstrapped",
                    ))
                })?;
                Ok::<_, Status>((role.clone(), fence::confirm(role, cluster_id, &token)))
            })
            .await?;
        let (role, confirmation) = found?;
        Ok(Response::new(pb::CheckFenceResponse {
            header: Some(header),
            current: matches!(confirmation, Confirmation::Current),
            reserved: matches!(confirmation, Confirmation::Reserved),
            current_epoch: role.epoch.as_u64(),
            current_holder: role.holder.as_ref().map(Into::into),
        }))
    }
}
