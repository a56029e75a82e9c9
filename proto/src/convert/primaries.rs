//! Roles, timings and plans.

use std::time::Duration;

use types::{
    Epoch, PlanId, Revision, UnixMillis,
    plan::{DoorClaim, PlanKind, PlanRecord, PlanState, StepKind, StepRecord, StepState},
    role::{FailoverMode, Reservation, RoleRecord, TimingPolicy},
};

use super::{
    Parsed, enum_table, invalid, millis, optional_time,
    regions::{holder, optional_holder},
    required, text, time_from,
};
use crate::v1 as pb;

enum_table!(plan_kind_to_pb, plan_kind_from_pb, "kind", PlanKind, pb::PlanKind, {
    PlanKind::Assign = pb::PlanKind::Assign,
    PlanKind::Failover = pb::PlanKind::Failover,
    PlanKind::Switchover = pb::PlanKind::Switchover,
});
enum_table!(step_kind_to_pb, step_kind_from_pb, "step", StepKind, pb::StepKind, {
    StepKind::Detect = pb::StepKind::Detect,
    StepKind::VerifyTarget = pb::StepKind::VerifyTarget,
    StepKind::Fence = pb::StepKind::Fence,
    StepKind::Claim = pb::StepKind::Claim,
    StepKind::WaitLease = pb::StepKind::WaitLease,
    StepKind::Promote = pb::StepKind::Promote,
});
enum_table!(step_state_to_pb, step_state_from_pb, "state", StepState, pb::StepState, {
    StepState::Waiting = pb::StepState::Waiting,
    StepState::Running = pb::StepState::Running,
    StepState::Done = pb::StepState::Done,
    StepState::Failed = pb::StepState::Failed,
});
enum_table!(plan_state_to_pb, plan_state_from_pb, "state", PlanState, pb::PlanState, {
    PlanState::Running = pb::PlanState::PlanRunning,
    PlanState::Succeeded = pb::PlanState::PlanSucceeded,
    PlanState::Failed = pb::PlanState::PlanFailed,
});

impl From<&TimingPolicy> for pb::TimingPolicy {
    fn from(t: &TimingPolicy) -> Self {
        Self {
            name: t.name.clone(),
            heartbeat_interval_millis: millis(t.heartbeat_interval),
            probe_interval_millis: millis(t.probe_interval),
            probe_failures: t.probe_failures,
            promotion_absence_millis: millis(t.promotion_absence),
            lease_ttl_millis: millis(t.lease_ttl),
            renew_interval_millis: millis(t.renew_interval),
            drain_margin_millis: millis(t.drain_margin),
        }
    }
}

/// Reads a timing policy and checks the relations between its values.
pub fn timing(value: Option<pb::TimingPolicy>) -> Parsed<TimingPolicy> {
    let t = required("timing", value)?;
    let policy = TimingPolicy {
        name: t.name,
        heartbeat_interval: Duration::from_millis(t.heartbeat_interval_millis),
        probe_interval: Duration::from_millis(t.probe_interval_millis),
        probe_failures: t.probe_failures,
        promotion_absence: Duration::from_millis(t.promotion_absence_millis),
        lease_ttl: Duration::from_millis(t.lease_ttl_millis),
        renew_interval: Duration::from_millis(t.renew_interval_millis),
        drain_margin: Duration::from_millis(t.drain_margin_millis),
    };
    policy.validate().map_err(|e| invalid("timing", e))?;
    Ok(policy)
}

/// A failover mode as wire number and end of the pause.
pub fn mode_to_pb(mode: FailoverMode) -> (i32, u64) {
    match mode {
        FailoverMode::Automatic => (pb::FailoverMode::Automatic as i32, 0),
        FailoverMode::Manual => (pb::FailoverMode::Manual as i32, 0),
        FailoverMode::Paused { until } => (pb::FailoverMode::Paused as i32, until.0),
    }
}

/// Reads a failover mode; a pause must say when it ends.
pub fn mode(value: i32, paused_until_millis: u64) -> Parsed<FailoverMode> {
    match pb::FailoverMode::try_from(value) {
        Ok(pb::FailoverMode::Automatic) => Ok(FailoverMode::Automatic),
        Ok(pb::FailoverMode::Manual) => Ok(FailoverMode::Manual),
        Ok(pb::FailoverMode::Paused) if paused_until_millis > 0 => Ok(FailoverMode::Paused {
            until: UnixMillis(paused_until_millis),
        }),
        Ok(pb::FailoverMode::Paused) => Err(invalid("paused_until_millis", "a pause must say when it ends")),
        Ok(pb::FailoverMode::Unspecified) | Err(_) => Err(invalid("mode", format!("unknown value {value}"))),
    }
}

impl From<&RoleRecord> for pb::Role {
    fn from(r: &RoleRecord) -> Self {
        let (mode, paused_until_millis) = mode_to_pb(r.mode);
        Self {
            role: r.role.to_string(),
            epoch: r.epoch.as_u64(),
            holder: r.holder.as_ref().map(Into::into),
            reservation: r.reservation.as_ref().map(|v| pb::Reservation {
                plan: v.plan.0,
                target: Some((&v.target).into()),
                epoch: v.epoch.as_u64(),
            }),
            candidates: r.candidates.iter().map(ToString::to_string).collect(),
            mode,
            paused_until_millis,
            timing: Some((&r.timing).into()),
            outstanding_ttl_millis: millis(r.outstanding_ttl),
            changed_at_millis: r.changed_at.0,
            reason: r.reason.clone(),
            modified_revision: r.modified.0,
        }
    }
}

fn reservation(value: pb::Reservation) -> Parsed<Reservation> {
    Ok(Reservation {
        plan: PlanId(value.plan),
        target: holder("reservation.target", value.target)?,
        epoch: Epoch::from_u64(value.epoch),
    })
}

/// Reads a role.
pub fn role(r: pb::Role) -> Parsed<RoleRecord> {
    Ok(RoleRecord {
        role: text("role", &r.role)?,
        epoch: Epoch::from_u64(r.epoch),
        holder: optional_holder("holder", r.holder)?,
        reservation: r.reservation.map(reservation).transpose()?,
        candidates: r
            .candidates
            .iter()
            .map(|c| text("candidates", c))
            .collect::<Parsed<_>>()?,
        mode: mode(r.mode, r.paused_until_millis)?,
        timing: timing(r.timing)?,
        outstanding_ttl: Duration::from_millis(r.outstanding_ttl_millis),
        changed_at: UnixMillis(r.changed_at_millis),
        reason: r.reason,
        modified: Revision(r.modified_revision),
    })
}

impl From<&StepRecord> for pb::Step {
    fn from(s: &StepRecord) -> Self {
        Self {
            kind: step_kind_to_pb(s.kind),
            state: step_state_to_pb(s.state),
            attempt: s.attempt,
            detail: s.detail.clone(),
            started_at_millis: optional_time(s.started_at),
            finished_at_millis: optional_time(s.finished_at),
        }
    }
}

fn step(s: pb::Step) -> Parsed<StepRecord> {
    Ok(StepRecord {
        kind: step_kind_from_pb(s.kind)?,
        state: step_state_from_pb(s.state)?,
        attempt: s.attempt,
        detail: s.detail,
        started_at: time_from(s.started_at_millis),
        finished_at: time_from(s.finished_at_millis),
    })
}

impl From<&DoorClaim> for pb::DoorClaim {
    fn from(d: &DoorClaim) -> Self {
        Self {
            door: d.door.clone(),
            claimed: d.claimed,
            error: d.error.clone(),
        }
    }
}

/// Reads what a claim did at one door.
pub fn door_claim(d: pb::DoorClaim) -> DoorClaim {
    DoorClaim {
        door: d.door,
        claimed: d.claimed,
        error: d.error,
    }
}

impl From<&PlanRecord> for pb::Plan {
    fn from(p: &PlanRecord) -> Self {
        Self {
            plan: p.plan.0,
            role: p.role.to_string(),
            kind: plan_kind_to_pb(p.kind),
            trigger: p.trigger.clone(),
            from: p.from.as_ref().map(Into::into),
            from_epoch: p.from_epoch.as_u64(),
            target: Some((&p.target).into()),
            target_epoch: p.target_epoch.map_or(0, Epoch::as_u64),
            steps: p.steps.iter().map(Into::into).collect(),
            state: plan_state_to_pb(p.state),
            reason: p.reason.clone(),
            doors: p.doors.iter().map(Into::into).collect(),
            created_at_millis: p.created_at.0,
            created_by: p.created_by.to_string(),
            finished_at_millis: optional_time(p.finished_at),
            modified_revision: p.modified.0,
        }
    }
}

/// Reads a plan.
pub fn plan(p: pb::Plan) -> Parsed<PlanRecord> {
    Ok(PlanRecord {
        plan: PlanId(p.plan),
        role: text("role", &p.role)?,
        kind: plan_kind_from_pb(p.kind)?,
        trigger: p.trigger,
        from: optional_holder("from", p.from)?,
        from_epoch: Epoch::from_u64(p.from_epoch),
        target: holder("target", p.target)?,
        target_epoch: (p.target_epoch != 0).then_some(Epoch::from_u64(p.target_epoch)),
        steps: p.steps.into_iter().map(step).collect::<Parsed<_>>()?,
        state: plan_state_from_pb(p.state)?,
        reason: p.reason,
        doors: p.doors.into_iter().map(door_claim).collect(),
        created_at: UnixMillis(p.created_at_millis),
        created_by: text("created_by", &p.created_by)?,
        finished_at: time_from(p.finished_at_millis),
        modified: Revision(p.modified_revision),
    })
}
