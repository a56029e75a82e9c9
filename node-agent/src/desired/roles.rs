//! Which roles this run holds, which pointers it raises for others, and which steps of plans it carries out. Pure.
//!
//! Invariant: nothing in here grants a right to act: a wish to hold is a wish to ask for a lease (L4).

use std::{collections::BTreeMap, time::Duration};

use policy::failover::{STEP_TIMEOUT_MIN, next_holder, step_timeout};
use types::{
    ClusterId, FencingToken, Holder, PlanId, RoleName,
    plan::{PlanState, StepKind, StepState},
    role::{RoleRecord, TimingPolicy},
};

use crate::view::View;

/// A role and the epoch under which this run is to claim its doors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleWish {
    /// The token; its holder is this run.
    pub token: FencingToken,
    /// The role's timings.
    pub timing: TimingPolicy,
    /// How far the role is ours.
    pub phase: RolePhase,
}

/// How far a role is this run's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolePhase {
    /// The epoch is reserved: good for claims only.
    Reserved,
    /// The epoch is reserved and its promotion under way: as [`Self::Reserved`], and ask for its lease already (L11).
    Promised,
    /// A switchover is about to commit the epoch: ask for its lease already; nothing else is good yet (L11).
    Expected,
    /// The epoch is committed: renew its lease.
    Held,
    /// A switchover is about to promote another: stop acting, and say so (L11).
    Yielding,
}

/// One try of one step; also its idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepId {
    /// The plan.
    pub plan: PlanId,
    /// The step.
    pub step: StepKind,
    /// The try.
    pub attempt: u32,
}

/// What a step needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepWish {
    /// The role that the plan moves.
    pub role: RoleName,
    /// The token to claim under; none for steps that claim nothing.
    pub token: Option<FencingToken>,
    /// How long one attempt may take.
    pub time: Duration,
}

/// Who shall act under a role, and may claim its doors now: its committed holder, or the target of a plan from its claim
/// on. Both epochs were given out by the log after every older holder was fenced.
fn claimant(view: &View, role: &RoleRecord, cluster_id: ClusterId) -> Option<(FencingToken, bool)> {
    let reserved = role.reservation.as_ref().filter(|r| claims_now(view, r.plan));
    let (epoch, holder, committed) = match (&role.holder, reserved) {
        (Some(holder), _) => (role.epoch, holder, true),
        (None, Some(reserved)) => (reserved.epoch, &reserved.target, false),
        (None, None) => return None,
    };
    let token = FencingToken {
        cluster_id,
        role: role.role.clone(),
        epoch,
        holder: holder.clone(),
    };
    Some((token, committed))
}

pub(super) fn roles(view: &View, me: &Holder, cluster_id: ClusterId) -> BTreeMap<RoleName, RoleWish> {
    let wish = |role: &RoleRecord| {
        let (token, phase) =
            claimed(view, role, me, cluster_id).or_else(|| expected(view, role, me, cluster_id))?;
        let timing = role.timing.clone();
        Some((role.role.clone(), RoleWish { token, timing, phase }))
    };
    view.roles.values().filter_map(|role| wish(role)).collect()
}

/// A role under which this run may claim doors now.
fn claimed(
    view: &View,
    role: &RoleRecord,
    me: &Holder,
    cluster_id: ClusterId,
) -> Option<(FencingToken, RolePhase)> {
    let (token, committed) = claimant(view, role, cluster_id).filter(|(t, _)| t.holder == *me)?;
    let moves_now = view.plans.values().any(|plan| next_holder(role, plan).is_some());
    let phase = match (committed, moves_now) {
        (false, false) => RolePhase::Reserved,
        (false, true) => RolePhase::Promised,
        // A switchover waits for this holder to stop.
        (true, true) => RolePhase::Yielding,
        (true, false) => RolePhase::Held,
    };
    Some((token, phase))
}

/// A role that a switchover is about to give to this run.
fn expected(
    view: &View,
    role: &RoleRecord,
    me: &Holder,
    cluster_id: ClusterId,
) -> Option<(FencingToken, RolePhase)> {
    let mut next = view.plans.values().filter_map(|plan| next_holder(role, plan));
    let (epoch, holder) = next.find(|(_, holder)| *holder == me)?;
    let token = FencingToken {
        cluster_id,
        role: role.role.clone(),
        epoch,
        holder: holder.clone(),
    };
    Some((token, RolePhase::Expected))
}

/// Pointers in the own region's store that are raised for somebody else: who sits beside a store wins every race at it,
/// and reaches it when the holder does not (L15).
pub(super) fn raises(view: &View, me: &Holder, cluster_id: ClusterId) -> BTreeMap<RoleName, FencingToken> {
    let tokens = view.roles.values().filter_map(|role| {
        let (token, _) = claimant(view, role, cluster_id)?;
        (token.holder != *me).then(|| (role.role.clone(), token))
    });
    tokens.collect()
}

/// Whether the plan's claim has begun: from then until promotion the target takes doors under the reserved epoch.
fn claims_now(view: &View, plan: PlanId) -> bool {
    let running = view.plans.get(&plan).filter(|p| p.state == PlanState::Running);
    running.is_some_and(|p| {
        let claim = p.steps.iter().find(|s| s.kind == StepKind::Claim);
        claim.is_some_and(|s| matches!(s.state, StepState::Running | StepState::Done))
    })
}

pub(super) fn steps(view: &View, me: &Holder, cluster_id: ClusterId) -> BTreeMap<StepId, StepWish> {
    let mut wishes = BTreeMap::new();
    let mine = view
        .plans
        .values()
        .filter(|p| p.state == PlanState::Running && p.target == *me);
    for plan in mine {
        let Some(step) = plan.current_step() else { continue };
        if step.state != StepState::Running || !step.kind.runs_in_agent() {
            continue;
        }
        let epoch = plan.target_epoch.filter(|_| step.kind == StepKind::Claim);
        let token = epoch.map(|epoch| FencingToken {
            cluster_id,
            role: plan.role.clone(),
            epoch,
            holder: me.clone(),
        });
        let id = StepId {
            plan: plan.plan,
            step: step.kind,
            attempt: step.attempt,
        };
        let role = plan.role.clone();
        let time = view
            .roles
            .get(&role)
            .map_or(STEP_TIMEOUT_MIN, |role| step_timeout(role));
        wishes.insert(id, StepWish { role, token, time });
    }
    wishes
}
