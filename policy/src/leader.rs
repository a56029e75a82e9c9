//! Which coordinator should lead, where the operator prefers regions for it.
//!
//! Absent on purpose: elections. Whoever wins one leads; this says when it hands over to another.
//! Invariant: no ping-pong. A leader in the most wanted region that has a fit voter keeps leading, and a newcomer must have
//! been fit for [`STEADY`] first. Nor is one named that would itself hand over
//! at once because it goes by another election timing.

use std::time::Duration;

use types::{NodeId, RegionId};

/// For so long a voter must have answered and been caught up before leadership moves to it.
pub const STEADY: Duration = Duration::from_secs(10);

/// A voter, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its name.
    pub node: NodeId,
    /// Its region.
    pub region: RegionId,
    /// For how long it has answered in time and been caught up without a break; `None`: it is not now.
    pub fit_for: Option<Duration>,
    /// It may lead for good: no witness.
    pub may_lead: bool,
    /// It goes by the cluster's election timing: another would hand over again at once.
    pub goes_by_timing: bool,
}

/// The leader, and what it is in the middle of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Where it is.
    pub region: RegionId,
    /// Since its election.
    pub led_for: Duration,
    /// It goes by the cluster's election timing; otherwise the change to that says who leads.
    pub goes_by_timing: bool,
    /// A plan runs, or a change of membership: the next leader would have to find out how far it got, and a failover would
    /// wait for leases anew.
    pub busy: bool,
}

/// Who should lead instead of the leader; `None`: it leads on.
pub fn better(preferred: &[RegionId], leader: &Seat, others: &[Voter]) -> Option<NodeId> {
    let rank = |region: &RegionId| preferred.iter().position(|p| p == region);
    let own = rank(&leader.region).unwrap_or(preferred.len());
    if leader.busy || !leader.goes_by_timing || leader.led_for < STEADY {
        return None;
    }
    let fit = others
        .iter()
        .filter(|v| v.may_lead && v.goes_by_timing && v.fit_for.is_some_and(|fit| fit >= STEADY));
    let wanted = fit.filter_map(|v| Some((rank(&v.region)?, v)));
    let (_, best) = wanted
        .filter(|(rank, _)| *rank < own)
        .min_by_key(|(rank, v)| (*rank, v.node.clone()))?;
    Some(best.node.clone())
}

/// Who takes over from a leader that cannot lead for good, as a witness or one whose disk is full: the most caught-up voter that may lead and is fit now.
pub fn relief<'v>(others: impl IntoIterator<Item = (&'v Voter, u64)>) -> Option<NodeId> {
    let fit = others
        .into_iter()
        .filter(|(v, _)| v.may_lead && v.fit_for.is_some());
    let best = fit.max_by_key(|(_, matched)| *matched);
    best.map(|(v, _)| v.node.clone())
}
