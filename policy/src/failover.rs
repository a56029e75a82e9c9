//! Who shall hold a role, and what a plan does next (design.md sections 4 and 8, I8).
//!
//! Absent on purpose: clocks, sessions, leases, and the times that records carry: those follow any leader's wall clock,
//! and one fast clock would hold every failover. The driver builds a [`FailoverView`] from what it sees, with ages by
//! its own monotonic clock, proposes what [`decide`] says, and asks again; after a change of leader the next driver goes
//! on from the committed plan, and counts anew.
//! Invariants: an unqualified target is never chosen; a living holder is never fenced but by a person's plan; without
//! a qualified candidate nothing is fenced.

use std::{fmt, time::Duration};

use types::{
    Holder, NodeId, NodeIncarnation, PlanId, Principal, RegionId, UnixMillis,
    plan::{PlanKind, PlanRecord, StepKind, StepRecord, StepState},
    region::{Health, NodeKind, NodeStatus},
    role::{FailoverMode, RoleRecord},
    units::format_duration,
};

use crate::readiness::Coverage;

/// What the registry says of somebody who might take a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetView {
    /// Who.
    pub target: Holder,
    /// The role's candidates name the region.
    pub is_candidate: bool,
    /// The region's committed verdict; none if there is no such region.
    pub health: Option<Health>,
    /// The node; none if it is not registered.
    pub node: Option<NodeStanding>,
    /// Which copies the region must have, and has.
    pub coverage: Coverage,
}

/// A node's committed standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStanding {
    /// Its region.
    pub region: RegionId,
    /// What it runs.
    pub kind: NodeKind,
    /// Its current run.
    pub incarnation: NodeIncarnation,
    /// Up or down.
    pub status: NodeStatus,
}

/// Why somebody may not take a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The role's candidates do not name the region.
    NoCandidate,
    /// There is no such region.
    UnknownRegion,
    /// The region is not HEALTHY.
    RegionHealth(Health),
    /// The node is not registered.
    UnknownNode,
    /// The node is a coordinator, or in another region.
    NoAgentOfTheRegion,
    /// The node runs again, as somebody else.
    OtherIncarnation,
    /// The node is down.
    NodeDown,
    /// Served versions are not verified in the region.
    CopiesMissing(Coverage),
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCandidate => f.write_str("its region is no candidate"),
            Self::UnknownRegion => f.write_str("its region is not registered"),
            Self::RegionHealth(health) => write!(f, "its region is {health}"),
            Self::UnknownNode => f.write_str("it is not registered"),
            Self::NoAgentOfTheRegion => f.write_str("it is no agent of that region"),
            Self::OtherIncarnation => f.write_str("it has restarted since"),
            Self::NodeDown => f.write_str("it is DOWN"),
            Self::CopiesMissing(c) => {
                write!(
                    f,
                    "{} of {} served versions are verified in its region",
                    c.verified, c.wanted
                )
            }
        }
    }
}

/// Whether the registry knows the target able to serve; all that is missing otherwise. `apply` asks once more at FENCE
/// and at PROMOTE.
pub fn qualified(view: &TargetView) -> Result<(), Vec<Unmet>> {
    let mut unmet = Vec::new();
    if !view.is_candidate {
        unmet.push(Unmet::NoCandidate);
    }
    match view.health {
        Some(Health::Healthy) => {}
        Some(health @ (Health::Unhealthy | Health::Recovering)) => unmet.push(Unmet::RegionHealth(health)),
        None => unmet.push(Unmet::UnknownRegion),
    }
    match &view.node {
        None => unmet.push(Unmet::UnknownNode),
        Some(node) => unmet.extend(node_unmet(&view.target, node)),
    }
    if !view.coverage.is_complete() {
        unmet.push(Unmet::CopiesMissing(view.coverage));
    }
    if unmet.is_empty() { Ok(()) } else { Err(unmet) }
}

fn node_unmet(target: &Holder, node: &NodeStanding) -> Option<Unmet> {
    if node.kind != NodeKind::Agent || node.region != target.region {
        Some(Unmet::NoAgentOfTheRegion)
    } else if node.incarnation != target.incarnation {
        Some(Unmet::OtherIncarnation)
    } else if node.status != NodeStatus::Up {
        Some(Unmet::NodeDown)
    } else {
        None
    }
}

/// One agent of the cluster, with what the leader saw of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentView {
    /// The machine.
    pub node: NodeId,
    /// What the registry says of its current run as a target.
    pub as_target: TargetView,
    /// How long ago it was last heard, counted from the election at the earliest.
    pub silent_for: Duration,
    /// It was heard by this leader, since its election.
    pub heard: bool,
}

/// All that a decision about one role looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverView {
    /// The role.
    pub role: RoleRecord,
    /// The plan that moves it now.
    pub plan: Option<PlanRecord>,
    /// Regions that may hold it, most wanted first.
    pub candidates: Vec<RegionId>,
    /// The agents of the whole cluster, with their current runs.
    pub agents: Vec<AgentView>,
    /// How long this leader has seen the running plan's current step as it is: same attempt, same state.
    pub step_age: Duration,
    /// Targets of the plans of this role that failed since one succeeded, and how long this leader has seen them failed.
    pub failed: Vec<(Holder, Duration)>,
    /// Time since this leader last granted the present holder a renewal; none: it did not, or the holder has released.
    pub holder_renewed: Option<Duration>,
    /// No lease of this role can be outstanding, by the leader's own monotonic deadline (L8): neither of the present
    /// holder nor of a fenced one, also counting grants of earlier leaders.
    pub lease_lapsed: bool,
    /// The holder said that it has stopped acting, for ever under this epoch; only asked for in a switchover (L11).
    pub released: bool,
}

/// Attempts of one step before its plan is given up.
pub const STEP_ATTEMPTS_MAX: u32 = 3;
/// The shortest time that an agent gets for a step, whatever the timing policy says.
pub const STEP_TIMEOUT_MIN: Duration = Duration::from_secs(5);

/// What to propose or to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing; `why` is for `primary get` and the log.
    Nothing {
        /// Why not.
        why: String,
    },
    /// Begin a plan.
    StartPlan {
        /// Its kind.
        kind: PlanKind,
        /// Who shall hold the role.
        target: Holder,
        /// What led to it, with the observations.
        trigger: String,
    },
    /// Begin the first attempt of a step.
    StartStep {
        /// The plan.
        plan: PlanId,
        /// The step.
        step: StepKind,
        /// The attempt.
        attempt: u32,
    },
    /// Begin another attempt of a step.
    RetryStep {
        /// The plan.
        plan: PlanId,
        /// The step.
        step: StepKind,
        /// The attempt.
        attempt: u32,
        /// What was wrong with the one before.
        why: String,
    },
    /// Propose the plan's fence.
    Fence {
        /// The plan.
        plan: PlanId,
        /// The attempt of `FENCE`.
        attempt: u32,
    },
    /// Wait for the target's agent to report the attempt.
    AwaitAgent {
        /// The plan.
        plan: PlanId,
        /// The step.
        step: StepKind,
        /// The attempt.
        attempt: u32,
        /// After which another attempt is due.
        left: Duration,
    },
    /// Wait until the leases of the role have ended.
    AwaitLease {
        /// The plan.
        plan: PlanId,
    },
    /// Ask the holder to stop, and answer none of its renewals; once it has stopped, or its lease is over, ask again.
    AskRelease {
        /// The plan.
        plan: PlanId,
        /// Who holds the role.
        holder: Holder,
    },
    /// Finish `WAIT_LEASE`.
    LeaseWaited {
        /// The plan.
        plan: PlanId,
        /// The attempt of `WAIT_LEASE`.
        attempt: u32,
    },
    /// Propose the plan's promotion.
    Promote {
        /// The plan.
        plan: PlanId,
        /// The attempt of `PROMOTE`.
        attempt: u32,
    },
    /// Give the plan up; the next decision may start another.
    FailPlan {
        /// The plan.
        plan: PlanId,
        /// Why.
        reason: String,
    },
}

/// What to do about a role now. `now` is the leader's wall clock: it ends a pause, which a person set by it, and nothing
/// else.
pub fn decide(view: &FailoverView, now: UnixMillis) -> Decision {
    match &view.plan {
        Some(plan) => advance(view, plan, now),
        None => begin(view, now),
    }
}

/// Whether nothing automatic may move a role now. `apply` asks with state time, the leader with its wall clock.
pub fn is_held(mode: FailoverMode, now: UnixMillis) -> bool {
    match mode {
        FailoverMode::Automatic => false,
        FailoverMode::Manual => true,
        FailoverMode::Paused { until } => now < until,
    }
}

/// How long an agent gets for one attempt of a step.
pub fn step_timeout(role: &RoleRecord) -> Duration {
    role.timing.promotion_absence.max(STEP_TIMEOUT_MIN)
}

/// The first agent that may take the role now: by candidate order, then node name; never one that just failed, and never
/// the present holder, unless it released its lease and can only go on under a new epoch. The error says for each agent
/// of a candidate region why it is not.
pub fn choose_target(view: &FailoverView) -> Result<Holder, String> {
    let mut reasons = Vec::new();
    for region in &view.candidates {
        let mut agents: Vec<_> = view
            .agents
            .iter()
            .filter(|a| &a.as_target.target.region == region)
            .collect();
        agents.sort_by(|a, b| a.node.cmp(&b.node));
        if agents.is_empty() {
            reasons.push(format!("{region} has no agent"));
        }
        for agent in agents {
            match objection(view, agent) {
                None => return Ok(agent.as_target.target.clone()),
                Some(why) => reasons.push(format!("{}: {why}", agent.as_target.target)),
            }
        }
    }
    if reasons.is_empty() {
        reasons.push("there is no candidate region".to_owned());
    }
    Err(reasons.join("; "))
}

fn objection(view: &FailoverView, agent: &AgentView) -> Option<String> {
    let target = &agent.as_target.target;
    if view.role.holder.as_ref() == Some(target) && !view.released {
        return Some("it holds the role".to_owned());
    }
    if let Err(unmet) = qualified(&agent.as_target) {
        let texts: Vec<_> = unmet.iter().map(ToString::to_string).collect();
        return Some(texts.join(", "));
    }
    if !agent.heard || agent.silent_for > view.role.timing.heartbeat_interval * 3 {
        return Some(format!("it is silent for {}", format_duration(agent.silent_for)));
    }
    let cool_down = step_timeout(&view.role);
    let cooling = |(failed, ago): &(Holder, Duration)| failed == target && *ago < cool_down;
    let failed_just_now = view.failed.iter().any(cooling);
    failed_just_now.then(|| {
        format!(
            "a plan for it failed less than {} ago",
            format_duration(cool_down)
        )
    })
}

/// No plan runs: is one due?
fn begin(view: &FailoverView, now: UnixMillis) -> Decision {
    let (kind, trigger) = match &view.role.holder {
        None => (PlanKind::Assign, "nobody holds the role".to_owned()),
        Some(holder) => match absence(view, holder) {
            Err(why) => return Decision::Nothing { why },
            Ok(trigger) => (PlanKind::Failover, trigger),
        },
    };
    if is_held(view.role.mode, now) {
        return Decision::Nothing {
            why: format!("{trigger}; failovers are {}", view.role.mode),
        };
    }
    match choose_target(view) {
        Ok(target) => Decision::StartPlan {
            kind,
            target,
            trigger,
        },
        Err(reasons) => Decision::Nothing {
            why: format!("{trigger}; nothing is fenced, because no candidate qualifies: {reasons}"),
        },
    }
}

/// How long an agent gave no sign of life. A renewal of the holder's lease is one, also while its session is mute.
fn silence(view: &FailoverView, agent: &AgentView) -> Duration {
    let is_holder = view.role.holder.as_ref() == Some(&agent.as_target.target);
    let renewed = view.holder_renewed.filter(|_| is_holder);
    renewed.map_or(agent.silent_for, |renewed| agent.silent_for.min(renewed))
}

/// That the role's holder is gone, with the evidence; none while it lives, or where there is none. A person who moves such
/// a role needs a failover: nobody is left to hand it over.
pub fn holder_gone(view: &FailoverView) -> Option<String> {
    absence(view, view.role.holder.as_ref()?).ok()
}

/// That the holder is gone, with the evidence; or that it is not. One that released its lease is as good as gone under
/// this epoch, but in a switchover, which asked for it.
fn absence(view: &FailoverView, holder: &Holder) -> Result<String, String> {
    let limit = view.role.timing.promotion_absence;
    let asked = |plan: &PlanRecord| plan.kind == PlanKind::Switchover;
    if view.released && !view.plan.as_ref().is_some_and(asked) {
        return Ok(format!("{holder} released its lease under {}", view.role.epoch));
    }
    match view.agents.iter().find(|a| a.node == holder.node) {
        None => Ok(format!("{holder} is not registered")),
        Some(agent) if agent.as_target.target.incarnation != holder.incarnation => {
            Ok(format!("{holder} has restarted as {}", agent.as_target.target))
        }
        Some(agent) if silence(view, agent) >= limit => Ok(format!(
            "{holder} is silent for {}, the limit of {} is {}",
            format_duration(silence(view, agent)),
            view.role.timing.name,
            format_duration(limit)
        )),
        Some(agent) => Err(format!(
            "{holder} was heard {} ago; the limit is {}",
            format_duration(silence(view, agent)),
            format_duration(limit)
        )),
    }
}

/// A plan runs: its next step.
fn advance(view: &FailoverView, plan: &PlanRecord, now: UnixMillis) -> Decision {
    let Some(step) = plan.current_step() else {
        return Decision::Nothing {
            why: format!("plan {} is done", plan.plan),
        };
    };
    if let Some(reason) = stopped(view, plan, now).or_else(|| hopeless(view, plan)) {
        return Decision::FailPlan {
            plan: plan.plan,
            reason,
        };
    }
    match step.state {
        StepState::Waiting => Decision::StartStep {
            plan: plan.plan,
            step: step.kind,
            attempt: step.attempt.saturating_add(1),
        },
        StepState::Running => running(view, plan, step),
        StepState::Failed => failed(view, plan, step),
        StepState::Done => Decision::Nothing {
            why: format!("step {} is done", step.kind),
        },
    }
}

fn is_done(plan: &PlanRecord, kind: StepKind) -> bool {
    plan.steps
        .iter()
        .any(|s| s.kind == kind && s.state == StepState::Done)
}

/// A pause stops what runs by itself before it takes the role from anybody: failed, and not kept waiting, so that a person
/// may start a plan in the pause. A person's plan goes on.
fn stopped(view: &FailoverView, plan: &PlanRecord, now: UnixMillis) -> Option<String> {
    let automatic = matches!(plan.created_by, Principal::Coordinator { .. });
    let takes_the_role = match plan.kind {
        PlanKind::Assign | PlanKind::Failover => StepKind::Fence,
        PlanKind::Switchover => StepKind::Promote,
    };
    let stops = automatic && !is_done(plan, takes_the_role) && is_held(view.role.mode, now);
    stops.then(|| {
        format!(
            "failovers are {}: stopped before {takes_the_role}",
            view.role.mode
        )
    })
}

/// Why a plan cannot succeed any more, or must not.
fn hopeless(view: &FailoverView, plan: &PlanRecord) -> Option<String> {
    let target = &plan.target;
    let promoted = is_done(plan, StepKind::Promote);
    match view.agents.iter().find(|a| a.node == target.node) {
        None => return Some(format!("target {target} is not registered")),
        Some(agent) if agent.as_target.target != *target => {
            return Some(format!("target {target} has restarted"));
        }
        Some(agent) if silence(view, agent) >= view.role.timing.promotion_absence => {
            let silence = format_duration(silence(view, agent));
            return Some(format!("target {target} is silent for {silence}"));
        }
        Some(agent) if !promoted => {
            if let Err(unmet) = qualified(&agent.as_target) {
                let texts: Vec<_> = unmet.iter().map(ToString::to_string).collect();
                return Some(format!(
                    "target {target} is not able to serve: {}",
                    texts.join(", ")
                ));
            }
        }
        Some(_) => {}
    }
    holder_changed_its_mind(view, plan, promoted)
}

/// A failover ends where its holder is back before the fence, and a switchover where its holder is gone before the
/// promotion: then a failover is what is needed. A person's failover goes on: it may be meant for a living holder.
fn holder_changed_its_mind(view: &FailoverView, plan: &PlanRecord, promoted: bool) -> Option<String> {
    let holder = view.role.holder.as_ref()?;
    let automatic = matches!(plan.created_by, Principal::Coordinator { .. });
    match (plan.kind, absence(view, holder)) {
        (PlanKind::Failover, Err(why)) if automatic && !is_done(plan, StepKind::Fence) => {
            Some(format!("the holder is back: {why}"))
        }
        (PlanKind::Switchover, Ok(why)) if !promoted => Some(format!("the holder is gone: {why}")),
        (PlanKind::Failover | PlanKind::Switchover | PlanKind::Assign, Ok(_) | Err(_)) => None,
    }
}

fn running(view: &FailoverView, plan: &PlanRecord, step: &StepRecord) -> Decision {
    let (id, attempt) = (plan.plan, step.attempt);
    match step.kind {
        StepKind::VerifyTarget | StepKind::Claim => await_agent(view, id, step),
        StepKind::Fence => Decision::Fence { plan: id, attempt },
        StepKind::WaitLease if view.lease_lapsed => Decision::LeaseWaited { plan: id, attempt },
        StepKind::WaitLease => Decision::AwaitLease { plan: id },
        StepKind::Promote => match (&view.role.holder, plan.kind) {
            (Some(holder), PlanKind::Switchover) if !view.released && !view.lease_lapsed => {
                Decision::AskRelease {
                    plan: id,
                    holder: holder.clone(),
                }
            }
            (_, PlanKind::Assign | PlanKind::Failover | PlanKind::Switchover) => {
                Decision::Promote { plan: id, attempt }
            }
        },
        // `apply` completes it with the plan: its evidence is the trigger.
        StepKind::Detect => Decision::FailPlan {
            plan: id,
            reason: "its DETECT never ended".to_owned(),
        },
    }
}

fn await_agent(view: &FailoverView, plan: PlanId, step: &StepRecord) -> Decision {
    let timeout = step_timeout(&view.role);
    match timeout.checked_sub(view.step_age) {
        Some(left) if !left.is_zero() => Decision::AwaitAgent {
            plan,
            step: step.kind,
            attempt: step.attempt,
            left,
        },
        Some(_) | None => retry(
            plan,
            step,
            format!("no answer within {}", format_duration(timeout)),
        ),
    }
}

/// The last attempt failed: another one after a pause, so that a target that fails at once is not asked in a loop.
fn failed(view: &FailoverView, plan: &PlanRecord, step: &StepRecord) -> Decision {
    let pause = view.role.timing.heartbeat_interval;
    if step.attempt < STEP_ATTEMPTS_MAX && view.step_age < pause {
        return Decision::Nothing {
            why: format!("step {} is tried again soon", step.kind),
        };
    }
    retry(plan.plan, step, step.detail.clone())
}

fn retry(plan: PlanId, step: &StepRecord, why: String) -> Decision {
    if step.attempt >= STEP_ATTEMPTS_MAX {
        let reason = format!("step {} failed {} times; last: {why}", step.kind, step.attempt);
        return Decision::FailPlan { plan, reason };
    }
    Decision::RetryStep {
        plan,
        step: step.kind,
        attempt: step.attempt + 1,
        why,
    }
}
