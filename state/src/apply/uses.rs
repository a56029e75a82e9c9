//! What keeps a region, or a node, from being taken away: whatever stands in it or names it.
//!
//! Absent on purpose: copies in the region itself, begun or verified. Where no agent is left nobody reads or writes them, and a
//! region with agents is in use by these. But for the only one of a version that is left: with its record it would be lost.

use types::{
    NodeId, RegionId,
    model::{Placement, VersionState},
    plan::{PlanRecord, PlanState},
    region::{NodeKind, NodeStatus},
    replica::{ReplicaKey, ReplicaRecord, ReplicaState},
    role::RoleRecord,
};

use crate::{
    rejection::{Use, UseKind},
    state::ControlState,
};

/// Uses that a refusal names of each kind; the others are counted.
const NAMED_MAX: u64 = 8;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Uses {
    named: Vec<Use>,
    count: u64,
}

impl Uses {
    fn add(&mut self, kind: UseKind, names: impl Iterator<Item = String>) {
        for (n, name) in (0..).zip(names) {
            self.count += 1;
            if n < NAMED_MAX {
                self.named.push(Use { kind, name });
            }
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first ones of each kind, and how many there are of all.
    pub(super) fn told(self) -> (Vec<Use>, u64) {
        (self.named, self.count)
    }
}

/// What stands in a region or names it.
pub(super) fn of_region(s: &ControlState, region: &RegionId) -> Uses {
    let mut uses = Uses::default();
    // Who was taken out stands nowhere; where a witness stands need be no region.
    let nodes = s
        .nodes
        .values()
        .filter(|n| n.region == *region && n.status != NodeStatus::Removed && n.kind != NodeKind::Witness);
    uses.add(UseKind::Node, nodes.map(|n| n.node.to_string()));
    let only = s.replicas.values().filter(|r| is_only_copy(s, r, region));
    uses.add(UseKind::OnlyCopy, only.map(|r| r.key.version.to_string()));
    let begun = s.replicas.values().filter(|r| copies_from(s, r, region));
    uses.add(UseKind::Copy, begun.map(|r| r.key.to_string()));
    let uploads = s.versions.values().filter(|v| {
        v.source_region == *region && matches!(v.state, VersionState::PendingUpload | VersionState::Verifying)
    });
    uses.add(UseKind::Upload, uploads.map(|v| v.key.to_string()));
    let roles = s.roles().filter(|role| names_region(role, region));
    uses.add(UseKind::Role, roles.map(|role| role.role.to_string()));
    let plans = running(s).filter(|plan| plan_names_region(plan, region));
    uses.add(UseKind::Plan, plans.map(|plan| plan.plan.to_string()));
    let placed = s.models.values().filter(|m| match &m.placement {
        Placement::Everywhere => false,
        Placement::Regions(regions) => regions.contains(region),
    });
    uses.add(UseKind::Placement, placed.map(|m| m.name.to_string()));
    let preferred = s
        .cluster()
        .map(|c| c.elections.preferred.as_slice())
        .unwrap_or_default();
    let preferred = preferred.iter().filter(|preferred| *preferred == region);
    uses.add(UseKind::LeaderPreference, preferred.map(ToString::to_string));
    uses
}

/// What an agent holds, or is about to.
pub(super) fn of_agent(s: &ControlState, node: &NodeId) -> Uses {
    let mut uses = Uses::default();
    let holds = |role: &&RoleRecord| {
        let promised = role.reservation.as_ref().map(|r| &r.target);
        role.holder.iter().chain(promised).any(|h| h.node == *node)
    };
    uses.add(
        UseKind::Role,
        s.roles().filter(holds).map(|role| role.role.to_string()),
    );
    let named = |plan: &&PlanRecord| plan.from.iter().chain([&plan.target]).any(|h| h.node == *node);
    uses.add(
        UseKind::Plan,
        running(s).filter(named).map(|plan| plan.plan.to_string()),
    );
    uses
}

/// Whether a copy in the region was complete once, and none elsewhere is verified now.
fn is_only_copy(s: &ControlState, copy: &ReplicaRecord, region: &RegionId) -> bool {
    let is_verified = |other: &RegionId| {
        let key = ReplicaKey {
            version: copy.key.version.clone(),
            region: other.clone(),
        };
        s.replicas
            .get(&key)
            .is_some_and(|r| r.state == ReplicaState::Verified)
    };
    copy.key.region == *region
        && copy.completed_at.is_some()
        && !s
            .regions
            .keys()
            .any(|other| other != region && is_verified(other))
}

/// Whether a copy elsewhere was begun from the region, by somebody who may go on with it.
fn copies_from(s: &ControlState, copy: &ReplicaRecord, region: &RegionId) -> bool {
    let is_alive = || {
        let mut nodes = s.nodes.values();
        nodes.any(|n| n.region == copy.key.region && n.kind == NodeKind::Agent && n.status == NodeStatus::Up)
    };
    copy.state == ReplicaState::Copying
        && copy.source.as_ref() == Some(region)
        && copy.key.region != *region
        && is_alive()
}

fn names_region(role: &RoleRecord, region: &RegionId) -> bool {
    let promised = role.reservation.as_ref().map(|r| &r.target);
    let mut holders = role.holder.iter().chain(promised);
    holders.any(|h| h.region == *region) || role.candidates.contains(region)
}

fn plan_names_region(plan: &PlanRecord, region: &RegionId) -> bool {
    let mut holders = plan.from.iter().chain([&plan.target]);
    let pointer = format!("pointer/{region}");
    holders.any(|h| h.region == *region) || plan.doors.iter().any(|door| door.door == pointer)
}

fn running(s: &ControlState) -> impl Iterator<Item = &PlanRecord> {
    s.plans.values().filter(|plan| plan.state == PlanState::Running)
}
