//! What a decision looks at, and what it may say.

use std::{collections::BTreeSet, time::Duration};

use types::{
    Holder, NodeId, NodeIncarnation, PlanId, RegionId, UnixMillis, VersionKey,
    plan::{PlanKind, PlanRecord, StepKind},
    region::{Health, NodeKind, NodeStatus},
    role::{FailoverMode, RoleRecord},
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
    /// It said with its last heartbeat that it is fit to serve; false before the first.
    pub ready: bool,
    /// Served versions that did not load in it, and that the role's holder answers for
    /// ([`crate::readiness::Loads::cannot_serve`]).
    pub cannot_serve: BTreeSet<VersionKey>,
    /// How many of the versions that some agent which may take the role cannot serve, and another serves, are not served
    /// here either ([`crate::readiness::Loads::lacking`]).
    pub lacks: usize,
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
    /// Targets that failed ([`super::target_failed`]) since a plan of this role succeeded, and how long this leader has seen
    /// them failed.
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

/// How long an agent gets for one attempt of a step.
pub fn step_timeout(role: &RoleRecord) -> Duration {
    role.timing.promotion_absence.max(STEP_TIMEOUT_MIN)
}

/// Whether nothing automatic may move a role now. `apply` asks with state time, the leader with what it reckons by a majority of
/// the voters' clocks.
pub fn is_held(mode: FailoverMode, now: UnixMillis) -> bool {
    match mode {
        FailoverMode::Automatic => false,
        FailoverMode::Manual => true,
        FailoverMode::Paused { until } => now < until,
    }
}

/// The mode as it is to whoever asks now: a pause that is over holds nothing, and nobody has to end it.
pub fn mode_at(mode: FailoverMode, now: UnixMillis) -> FailoverMode {
    let is_paused = matches!(mode, FailoverMode::Paused { .. });
    if is_paused && !is_held(mode, now) {
        FailoverMode::Automatic
    } else {
        mode
    }
}

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
