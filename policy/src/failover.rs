//! Who shall hold a role, and what a plan does next (design.md sections 4 and 8, I8).
//!
//! Absent on purpose: clocks, sessions, leases, and the times that records carry: those follow wall clocks, which
//! people set, and a jump would hold every failover. The driver builds a [`FailoverView`] from what it sees, with ages by
//! its own monotonic clock, proposes what [`decide`] says, and asks again; after a change of leader the next driver goes
//! on from the committed plan, and counts anew.
//! Invariants: an unqualified target is never chosen; a living holder is never fenced but by a person's plan; without
//! a qualified candidate nothing is fenced.

mod absence;
mod advance;
mod handover;
mod target;
mod view;

use types::{UnixMillis, plan::PlanKind};

use self::absence::absence;
pub use self::{
    absence::holder_gone,
    advance::target_failed,
    handover::next_holder,
    target::{Unmet, choose_in_region, choose_target, is_silent, qualified},
    view::{
        AgentView, Decision, FailoverView, NodeStanding, STEP_ATTEMPTS_MAX, STEP_TIMEOUT_MIN, TargetView,
        is_held, mode_at, step_timeout,
    },
};

/// What to do about a role now. `now` is the time by a majority of the voters' clocks: it ends a pause, which a person set by it, and
/// nothing else.
pub fn decide(view: &FailoverView, now: UnixMillis) -> Decision {
    match &view.plan {
        Some(plan) => advance::advance(view, plan, now),
        None => begin(view, now),
    }
}

/// That nobody holds the role, and which fence took it from its last holder: of the plans that failed to give it to somebody
/// since, each names that one too, so the innermost is the first.
fn vacancy(role_reason: &str) -> String {
    match role_reason.rfind("fenced by plan") {
        Some(at) => format!("nobody holds the role; {}", &role_reason[at..]),
        None => "nobody holds the role".to_owned(),
    }
}

/// No plan runs: is one due?
fn begin(view: &FailoverView, now: UnixMillis) -> Decision {
    let (kind, trigger) = match &view.role.holder {
        None => (PlanKind::Assign, vacancy(&view.role.reason)),
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
