//! Everything that is in a state, as a list in pieces: what a piece costs does not depend on how much there is.
//!
//! Invariant: going on from each place that was given out, until there is none, gives every record once.

use proto::{convert::watch::Resource, v1 as pb};
use state::ControlState;
use types::{
    AliasName, ExperimentName, ModelName, NodeId, PlanId, RegionId, RoleName, VersionKey, WatchFilter,
    replica::ReplicaKey, service::ServiceKey,
};

use super::super::list;

/// Where a list goes on: behind a record of a kind, or before all of the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// At the beginning.
    #[default]
    Timing,
    Regions(Option<RegionId>),
    Nodes(Option<NodeId>),
    Models(Option<ModelName>),
    Versions(Option<VersionKey>),
    Aliases(Option<(ModelName, AliasName)>),
    Replicas(Option<ReplicaKey>),
    Roles(Option<RoleName>),
    Plans(Option<PlanId>),
    Experiments(Option<(ModelName, ExperimentName)>),
    Services(Option<ServiceKey>),
}

impl Place {
    /// Before all of the next kind.
    fn next_kind(&self) -> Option<Self> {
        match self {
            Self::Timing => Some(Self::Regions(None)),
            Self::Regions(_) => Some(Self::Nodes(None)),
            Self::Nodes(_) => Some(Self::Models(None)),
            Self::Models(_) => Some(Self::Versions(None)),
            Self::Versions(_) => Some(Self::Aliases(None)),
            Self::Aliases(_) => Some(Self::Replicas(None)),
            Self::Replicas(_) => Some(Self::Roles(None)),
            Self::Roles(_) => Some(Self::Plans(None)),
            Self::Plans(_) => Some(Self::Experiments(None)),
            Self::Experiments(_) => Some(Self::Services(None)),
            Self::Services(_) => None,
        }
    }

    /// Up to so many records of this kind from here on, each with the place behind it.
    fn records(self, state: &ControlState, limit: usize) -> Vec<(Self, Resource)> {
        match self {
            Self::Timing => (state.cluster().into_iter())
                .map(|c| (Self::Timing, Resource::Timing(c.timing.clone())))
                .collect(),
            Self::Regions(from) => (state.regions_after(from.as_ref()).take(limit))
                .map(|r| (Self::Regions(Some(r.region.clone())), Resource::Region(r.clone())))
                .collect(),
            Self::Nodes(from) => (state.nodes_after(from).take(limit))
                .map(|n| (Self::Nodes(Some(n.node.clone())), Resource::Node(n.clone())))
                .collect(),
            Self::Models(from) => (state.models(from, limit).items.into_iter())
                .map(|m| (Self::Models(Some(m.name.clone())), Resource::Model(m.clone())))
                .collect(),
            Self::Versions(from) => (state.versions_after(from).take(limit))
                .map(|v| (Self::Versions(Some(v.key.clone())), Resource::Version(v.clone())))
                .collect(),
            Self::Aliases(from) => (state.aliases_after(from).take(limit))
                .map(|a| {
                    let key = (a.model.clone(), a.alias.clone());
                    (Self::Aliases(Some(key)), Resource::Alias(a.clone()))
                })
                .collect(),
            Self::Replicas(from) => (state.replicas(from, limit).items.into_iter())
                .map(|r| (Self::Replicas(Some(r.key.clone())), Resource::Replica(r.clone())))
                .collect(),
            Self::Roles(from) => (state.roles_after(from).take(limit))
                .map(|r| {
                    (
                        Self::Roles(Some(r.role.clone())),
                        Resource::Role(Box::new(r.clone())),
                    )
                })
                .collect(),
            Self::Plans(from) => (state.plans(from, limit).items.into_iter())
                .map(|p| (Self::Plans(Some(p.plan)), Resource::Plan(Box::new(p.clone()))))
                .collect(),
            Self::Services(from) => (state.services_after(from).take(limit))
                .map(|s| {
                    (
                        Self::Services(Some(s.key.clone())),
                        Resource::Service(Box::new(s.clone())),
                    )
                })
                .collect(),
            Self::Experiments(from) => (state.experiments_after(from).take(limit))
                .map(|e| {
                    let key = (e.model.clone(), e.name.clone());
                    (
                        Self::Experiments(Some(key)),
                        Resource::Experiment(Box::new(e.clone())),
                    )
                })
                .collect(),
        }
    }
}

/// How many records a piece of a filtered list looks at, for each that it may have.
const LOOKED_AT: usize = 50;

/// Records from a place on that the filter takes, as many as fit a message and `most` at most, and where the list goes on.
/// There may be none, with more to come.
pub(super) fn fill_from(
    state: &ControlState,
    from: Place,
    most: usize,
    filter: &WatchFilter,
) -> (Vec<pb::Resource>, Option<Place>) {
    let limit = if filter.is_everything() {
        most
    } else {
        most.saturating_mul(LOOKED_AT)
    };
    let (mut found, mut kind) = (Vec::new(), Some(from));
    while let Some(at) = kind.filter(|_| found.len() < limit) {
        kind = at.next_kind();
        found.extend(at.records(state, limit - found.len()));
    }
    let wanted = || {
        found
            .iter()
            .filter(|(_, resource)| filter.takes(&resource.subject()))
    };
    let filled = wanted()
        .take(most)
        .map(|(_, resource)| pb::Resource::from(resource));
    let filled = list::fill(list::BYTES, filled);
    // Full where a kind ended: whether anything follows is seen by the next look.
    let is_whole = wanted().nth(filled.len()).is_none();
    if is_whole && found.len() < limit {
        return (filled, None);
    }
    // What is wanted and did not fit comes next; of the rest nothing was.
    let last = match filled.len().checked_sub(1) {
        Some(last) if !is_whole => wanted().nth(last),
        Some(_) | None => found.last(),
    };
    let behind = last.map(|(place, _)| match place {
        Place::Timing => Place::Regions(None),
        place => place.clone(),
    });
    (filled, behind)
}

#[cfg(test)]
mod tests;
