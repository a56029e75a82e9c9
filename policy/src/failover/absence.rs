//! Whether a holder is gone.

use std::time::Duration;

use types::{
    Holder,
    plan::{PlanKind, PlanRecord},
    units::{format_age, format_duration},
};

use super::view::{AgentView, FailoverView};

/// How long an agent gave no sign of life. A renewal of the holder's lease is one, also while its session is mute.
pub(super) fn silence(view: &FailoverView, agent: &AgentView) -> Duration {
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
pub(super) fn absence(view: &FailoverView, holder: &Holder) -> Result<String, String> {
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
            format_age(silence(view, agent)),
            view.role.timing.name,
            format_duration(limit)
        )),
        Some(agent) => Err(format!(
            "{holder} was heard {} ago; the limit is {}",
            format_age(silence(view, agent)),
            format_duration(limit)
        )),
    }
}
