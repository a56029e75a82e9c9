//! What lies between what the leader sees and [`policy::failover::decide`], and between that and the log. Pure: the driver
//! reads clock, sessions and leases, and the simulation calls the same functions.
//!
//! Absent on purpose: decisions about plans ([`policy::failover`]) and about leases ([`crate::leases::rules`]).
//! Invariant: what changes a role's epoch is [`Due::Change`], and nothing else is (L6).

use policy::failover::{Decision, FailoverView};
use state::{
    Command, ControlState, StepOutcome,
    query::{LeaseView, Seen},
};
use tokio::time::Instant;
use types::{
    Epoch, NodeId, PlanId, RoleName,
    plan::{PlanKind, StepKind},
    region::NodeRecord,
};

use super::memory::Memory;
use crate::sessions;

/// What the leader of now has seen of one role.
pub(crate) struct Sight<'a> {
    /// The role.
    pub(crate) role: &'a RoleName,
    /// What it knows of its leases.
    pub(crate) lease: LeaseView,
    /// Since when this node leads.
    pub(crate) since: Instant,
    /// Now.
    pub(crate) now: Instant,
}

/// All that a decision looks at: the applied state, sessions, leases, and how long plans have stood.
pub(crate) fn view(
    state: &ControlState,
    memory: &mut Memory,
    sight: &Sight<'_>,
    session: impl Fn(&NodeId) -> Option<sessions::Seen>,
) -> Option<FailoverView> {
    let Sight {
        role,
        lease,
        since,
        now,
    } = *sight;
    memory.look(role, state.unsettled_plans(role), now);
    let seen = |node: &NodeRecord| seen(session(&node.node), node, since, now);
    state.failover_view(role, seen, lease, |plan| memory.age(plan, now))
}

/// What was heard of a node's current run; silence counts from the election at the earliest.
fn seen(session: Option<sessions::Seen>, node: &NodeRecord, since: Instant, now: Instant) -> Seen {
    let since_election = now.saturating_duration_since(since);
    let heard = session.filter(|s| s.incarnation == node.incarnation);
    let silence = heard
        .as_ref()
        .map(|s| now.saturating_duration_since(s.last_heard));
    let silent_for = silence.unwrap_or(since_election).min(since_election);
    let is_heard = heard.is_some();
    let report = heard.and_then(|s| s.report).unwrap_or_default();
    Seen {
        silent_for,
        heard: is_heard,
        ready: report.ready,
        loads: report.loads,
    }
}

/// What carries a decision out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing but time, or somebody else.
    Wait,
    /// Answer no renewals of this epoch while the plan lasts, so that its holder stops (L11).
    Hold {
        /// The holder's.
        epoch: Epoch,
        /// For whose sake.
        plan: PlanId,
    },
    /// Propose this, which changes nobody's epoch.
    Propose(Command),
    /// Propose this in order with the renewals of the role's epoch (L6).
    Change {
        /// What.
        command: Command,
        /// Only while no lease of the role can be believed in: a hand-over in one entry. After a fence the lease was waited
        /// out as a committed step.
        needs_free: bool,
    },
}

/// What is due by a decision.
pub(crate) fn due(view: &FailoverView, decision: Decision) -> Due {
    if let Decision::AskRelease { plan, .. } = decision {
        let epoch = view.role.epoch;
        return Due::Hold { epoch, plan };
    }
    match command(view, decision) {
        None => Due::Wait,
        Some(command @ Command::Fence { .. }) => Due::Change {
            command,
            needs_free: false,
        },
        Some(command @ Command::Promote { .. }) => Due::Change {
            command,
            needs_free: view.plan.as_ref().is_some_and(|p| p.kind == PlanKind::Switchover),
        },
        Some(command) => Due::Propose(command),
    }
}

/// What carries a decision out; none where it is to wait.
pub(crate) fn command(view: &FailoverView, decision: Decision) -> Option<Command> {
    Some(match decision {
        Decision::Nothing { .. }
        | Decision::AwaitAgent { .. }
        | Decision::AwaitLease { .. }
        | Decision::AskRelease { .. } => return None,
        Decision::StartPlan {
            kind,
            target,
            trigger,
        } => Command::StartPlan {
            role: view.role.role.clone(),
            kind,
            target,
            trigger,
            expected_epoch: view.role.epoch,
        },
        Decision::StartStep { plan, step, attempt }
        | Decision::RetryStep {
            plan, step, attempt, ..
        } => Command::StartStep { plan, step, attempt },
        Decision::Fence { plan, attempt } => Command::Fence { plan, attempt },
        Decision::Promote { plan, attempt } => Command::Promote { plan, attempt },
        Decision::LeaseWaited { plan, attempt } => Command::FinishStep {
            plan,
            step: StepKind::WaitLease,
            attempt,
            reporter: None,
            outcome: StepOutcome::Done {
                detail: "no lease under an earlier epoch can be outstanding".to_owned(),
                doors: Vec::new(),
            },
        },
        Decision::FailPlan { plan, reason } => Command::FailPlan { plan, reason },
    })
}
