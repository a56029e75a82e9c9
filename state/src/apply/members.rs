//! Coordinators that leave. Who votes is Raft's own record; here is what outlives it: whose disk never comes back.

use types::{
    DiskId, NodeId, Principal,
    region::{NodeKind, NodeRecord, NodeStatus},
};

use super::{Outcome, change::Change};
use crate::{
    features::Feature,
    rejection::Rejection,
    reply::Reply,
    state::{ClusterRecord, RemovedCoordinator},
};

/// Removed coordinators that are remembered. An older disk would be a stranger's again, and taken in as one: it follows the
/// log from wherever it ends, and votes for nothing that it forgot.
const REMOVED_KEPT: usize = 1_000;

/// Bars a coordinator's disk and marks its record. The name may join anew, with another disk and as another run.
pub(super) fn remove(change: &mut Change<'_>, node: &NodeId, disk: Option<DiskId>) -> Outcome {
    change.enabled(Feature::CoordinatorsLeave)?;
    check_actor(change.actor())?;
    let cluster = change.cluster()?;
    let record = change.state.nodes.get(node).cloned();
    if let Some(record) = &record {
        check_kind(record)?;
        if record.status == NodeStatus::Removed && is_barred(&cluster, node, disk) {
            return Ok(Reply::Done {
                modified: record.modified,
            });
        }
    }
    bar(change, cluster, node, disk);
    if let Some(record) = record {
        change.put_node(NodeRecord {
            status: NodeStatus::Removed,
            changed_at: change.now(),
            ..record
        });
    }
    Ok(change.done())
}

fn check_actor(actor: &Principal) -> Result<(), Rejection> {
    match actor {
        Principal::User { .. } | Principal::Coordinator { .. } => Ok(()),
        Principal::Agent { .. } => Err(Rejection::PermissionDenied {
            actor: actor.clone(),
            needs: "a user or a coordinator".to_owned(),
        }),
    }
}

fn check_kind(record: &NodeRecord) -> Result<(), Rejection> {
    match record.kind {
        NodeKind::Coordinator | NodeKind::Witness => Ok(()),
        NodeKind::Agent => Err(Rejection::IllegalTransition {
            what: format!("node {}", record.node),
            from: "an agent".to_owned(),
            to: "a removed coordinator".to_owned(),
        }),
    }
}

fn is_barred(cluster: &ClusterRecord, node: &NodeId, disk: Option<DiskId>) -> bool {
    let mut removed = cluster.removed.iter();
    removed.any(|r| r.node == *node && r.disk == disk)
}

fn bar(change: &mut Change<'_>, mut cluster: ClusterRecord, node: &NodeId, disk: Option<DiskId>) {
    if is_barred(&cluster, node, disk) {
        return;
    }
    cluster.removed.push(RemovedCoordinator {
        node: node.clone(),
        disk,
        at: change.now(),
        by: change.actor().clone(),
    });
    let surplus = cluster.removed.len().saturating_sub(REMOVED_KEPT);
    cluster.removed.drain(..surplus);
    change.put_cluster(cluster);
}
