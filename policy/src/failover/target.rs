//! Who may take a role, and who takes it first (I8).

use std::{collections::BTreeSet, fmt, time::Duration};

use types::{
    Holder, RegionId, VersionKey,
    region::{Health, NodeKind, NodeStatus},
    role::RoleRecord,
    units::{format_age, format_duration},
};

use super::view::{AgentView, FailoverView, NodeStanding, TargetView, step_timeout};
use crate::readiness::Coverage;

/// Why somebody may not take a role.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Served versions did not load in it, and the holder answers for them, or for their models ([`crate::readiness`]).
    CannotServe(BTreeSet<VersionKey>),
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
            Self::CannotServe(versions) => {
                let names: Vec<_> = versions.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "it cannot load {}, and the holder answers for what it cannot",
                    names.join(", ")
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

/// The agent that may take the role now, is fit to serve, and lacks the fewest versions that did not load somewhere; of equals
/// the first by candidate order, then node name. One that is not fit yet is better than nobody. Never one that just failed, and never the present holder, unless it released its lease and can only
/// go on under a new epoch. The error says for each agent of a candidate region why it is not.
pub fn choose_target(view: &FailoverView) -> Result<Holder, String> {
    let (mut fit, mut reasons) = (Vec::new(), Vec::new());
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
                None => fit.push(agent),
                Some(why) => reasons.push(format!("{}: {why}", agent.as_target.target)),
            }
        }
    }
    // The first of the best: none of them would keep its plan waiting, then fail it, while another could serve.
    if let Some(best) = fit.into_iter().min_by_key(|agent| (!agent.ready, agent.lacks)) {
        return Ok(best.as_target.target.clone());
    }
    if reasons.is_empty() {
        reasons.push("there is no candidate region".to_owned());
    }
    Err(reasons.join("; "))
}

/// Whom a person's wish to have the role in `region` means: the best of its agents that qualify, as for [`choose_target`]; one
/// that is silent last. From a holder that lives the role goes to nobody who is known not to load what it serves: nothing
/// forces the move. The error says what each agent of the region lacks; it is empty if there is none.
pub fn choose_in_region(
    view: &FailoverView,
    region: &RegionId,
    holder_lives: bool,
) -> Result<Holder, Vec<(Holder, Vec<Unmet>)>> {
    let agents = view
        .agents
        .iter()
        .filter(|a| &a.as_target.target.region == region);
    let mut agents: Vec<_> = agents.collect();
    let is_mute = |a: &AgentView| !a.heard || is_silent(&view.role, a.silent_for);
    agents.sort_by_key(|a| (is_mute(a), !a.ready, a.lacks, a.node.clone()));
    let mut refused = Vec::new();
    for agent in agents {
        let mut unmet = qualified(&agent.as_target).err().unwrap_or_default();
        if holder_lives && !agent.cannot_serve.is_empty() {
            unmet.push(Unmet::CannotServe(agent.cannot_serve.clone()));
        }
        let target = agent.as_target.target.clone();
        if unmet.is_empty() {
            return Ok(target);
        }
        refused.push((target, unmet));
    }
    Err(refused)
}

/// Whether an agent that was last heard so long ago is not to be counted on.
pub fn is_silent(role: &RoleRecord, silent_for: Duration) -> bool {
    silent_for > role.timing.heartbeat_interval * 3
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
    if !agent.heard || is_silent(&view.role, agent.silent_for) {
        return Some(format!("it is silent for {}", format_age(agent.silent_for)));
    }
    let cool_down = step_timeout(&view.role);
    let cooling = |(failed, ago): &(Holder, Duration)| failed == target && *ago < cool_down;
    let failed_just_now = view.failed.iter().any(cooling);
    failed_just_now.then(|| format!("it failed a plan less than {} ago", format_duration(cool_down)))
}
