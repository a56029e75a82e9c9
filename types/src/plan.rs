//! Long work as a record in the log: failovers, their steps and attempts (design.md section 2).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    epoch::{Epoch, Holder},
    ids::{PlanId, RoleName},
    principal::Principal,
    revision::Revision,
    time::UnixMillis,
};

/// Why a plan exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PlanKind {
    /// The role has nobody: first assignment, or a target died on the way.
    Assign,
    /// The holder is gone; it is fenced and waited out.
    Failover,
    /// A planned hand-over between two living regions, in one entry (L11).
    Switchover,
}

impl fmt::Display for PlanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assign => "ASSIGN",
            Self::Failover => "FAILOVER",
            Self::Switchover => "SWITCHOVER",
        })
    }
}

/// One idempotent part of a plan, in the order in which they run. A switchover runs `VerifyTarget`, `Promote`, `Claim`:
/// its claim comes after, because the old holder works until the entry that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepKind {
    /// The absence was seen; its evidence is the plan's trigger.
    Detect,
    /// The target's agent shows that it can serve: copies verified, models loaded, one inference each.
    VerifyTarget,
    /// The old holder loses the epoch; the next one is reserved for the target.
    Fence,
    /// The target rewrites every guarded pointer that it can reach under the reserved epoch (L15).
    Claim,
    /// The old holder's lease is waited out, by the leader's clock (L8).
    WaitLease,
    /// `apply` checks the target once more, and gives it the epoch.
    Promote,
}

impl StepKind {
    /// The steps of a kind of plan, in order.
    pub const fn of(kind: PlanKind) -> &'static [StepKind] {
        use StepKind::{Claim, Detect, Fence, Promote, VerifyTarget, WaitLease};
        match kind {
            PlanKind::Assign | PlanKind::Failover => {
                &[Detect, VerifyTarget, Fence, Claim, WaitLease, Promote]
            }
            PlanKind::Switchover => &[VerifyTarget, Promote, Claim],
        }
    }

    /// Whether an agent carries it out; the leader does the others.
    pub const fn runs_in_agent(self) -> bool {
        matches!(self, Self::VerifyTarget | Self::Claim)
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detect => "DETECT",
            Self::VerifyTarget => "VERIFY_TARGET",
            Self::Fence => "FENCE",
            Self::Claim => "CLAIM",
            Self::WaitLease => "WAIT_LEASE",
            Self::Promote => "PROMOTE",
        })
    }
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepState {
    /// Not begun.
    Waiting,
    /// `StepStarted` is applied; the attempt may have effects.
    Running,
    /// Took effect.
    Done,
    /// The last attempt failed.
    Failed,
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "WAITING",
            Self::Running => "RUNNING",
            Self::Done => "DONE",
            Self::Failed => "FAILED",
        })
    }
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Which step.
    pub kind: StepKind,
    /// How far it is.
    pub state: StepState,
    /// Tries begun, also the current one; a fencing token for the step's effects.
    pub attempt: u32,
    /// What the attempt saw or did, for people; an error text if it failed.
    pub detail: String,
    /// State time at which the current attempt began.
    pub started_at: Option<UnixMillis>,
    /// State time at which it ended.
    pub finished_at: Option<UnixMillis>,
}

/// How far a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PlanState {
    /// Some step is still to be done.
    Running,
    /// Every step took effect.
    Succeeded,
    /// Given up; `reason` says why. The role may be empty now (I8).
    Failed,
}

impl fmt::Display for PlanState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        })
    }
}

/// What a claim did at one door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorClaim {
    /// `pointer/<region>` or `postgres/<database>`.
    pub door: String,
    /// Whether it stands under the new epoch; if not, it is an unfenced door until it is (L15).
    pub claimed: bool,
    /// Why not; empty if claimed.
    pub error: String,
}

/// A plan that moves a primary role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// Its number.
    pub plan: PlanId,
    /// The role that it moves.
    pub role: RoleName,
    /// Why it exists.
    pub kind: PlanKind,
    /// What led to it, for people, with the observations.
    pub trigger: String,
    /// Who held the role when the plan began.
    pub from: Option<Holder>,
    /// The role's epoch when the plan began.
    pub from_epoch: Epoch,
    /// Who shall hold it.
    pub target: Holder,
    /// The epoch that the target gets; known from the fence on.
    pub target_epoch: Option<Epoch>,
    /// Its steps, in order.
    pub steps: Vec<StepRecord>,
    /// How far it is.
    pub state: PlanState,
    /// Why it failed; empty otherwise.
    pub reason: String,
    /// Doors that the claim reached, and those it did not.
    pub doors: Vec<DoorClaim>,
    /// State time of creation.
    pub created_at: UnixMillis,
    /// Who created it.
    pub created_by: Principal,
    /// State time at which it ended.
    pub finished_at: Option<UnixMillis>,
    /// Revision of the last change.
    pub modified: Revision,
}

impl PlanRecord {
    /// The first step that is not done; none once all are.
    pub fn current_step(&self) -> Option<&StepRecord> {
        self.steps.iter().find(|s| s.state != StepState::Done)
    }
}
