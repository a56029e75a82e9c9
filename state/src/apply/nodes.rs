//! Nodes: their runs and their committed standing. Sessions, which are soft, lead to these.

use types::{
    NodeId, NodeIncarnation, RegionId,
    region::{NodeKind, NodeRecord, NodeStatus},
};

use super::{Outcome, change::Change, text::at_most, uses};
use crate::{command::Command, features::Feature, rejection::Rejection, reply::Reply};

/// Nodes that a cluster may have.
const NODES_MAX: u64 = 10_000;
/// Earlier runs that are remembered of a node: an old one would have to outlive as many restarts to be taken for new.
const SUPERSEDED_KEPT: usize = 64;

/// Adds a node or a new run of it. A role that the old run held stays with the old run until a plan moves it (L2). A run
/// that another one has followed never comes back: it may only have been paused, and would take the node from its
/// successor.
pub(super) fn register(change: &mut Change<'_>, command: &Command) -> Outcome {
    let Command::RegisterNode {
        node,
        region,
        kind,
        incarnation,
        endpoints,
        zone,
    } = command
    else {
        return Err(Rejection::invalid("command", "is no RegisterNode"));
    };
    check_place(change, *kind, region)?;
    if zone.is_some() {
        change.enabled(Feature::Zones)?;
    }
    let texts = [
        &endpoints.api,
        &endpoints.raft,
        &endpoints.agent,
        &endpoints.inference,
    ];
    for text in texts {
        at_most("bytes of an endpoint", text.len(), 512)?;
    }
    let known = change.state.nodes.get(node).cloned();
    let mut new = NodeRecord {
        node: node.clone(),
        region: region.clone(),
        zone: zone.clone(),
        kind: *kind,
        incarnation: *incarnation,
        endpoints: endpoints.clone(),
        status: NodeStatus::Up,
        changed_at: change.now(),
        modified: change.revision(),
    };
    match known {
        None => at_most("count of nodes", change.state.nodes.len() + 1, NODES_MAX)?,
        Some(known) => {
            check_same_node(change, &known, &new)?;
            check_not_removed(&known, &new)?;
            if is_same_run(&known, &new) {
                return Ok(Reply::Done {
                    modified: known.modified,
                });
            }
            check_not_superseded(change, &known, new.incarnation)?;
            if known.incarnation != new.incarnation {
                change.supersede(node, known.incarnation, SUPERSEDED_KEPT);
            } else if only_zone_differs(&known, &new) {
                new.changed_at = known.changed_at;
            }
        }
    }
    change.put_node(new);
    Ok(change.done())
}

fn check_not_superseded(
    change: &Change<'_>,
    known: &NodeRecord,
    shown: NodeIncarnation,
) -> Result<(), Rejection> {
    let superseded = change.state.superseded.get(&known.node);
    if !superseded.is_some_and(|runs| runs.contains(&shown)) {
        return Ok(());
    }
    Err(Rejection::StaleIncarnation {
        node: known.node.clone(),
        shown,
        current: known.incarnation,
    })
}

/// A witness serves nobody, so where it stands need be no region that is served. Builds that do not know of witnesses must
/// never meet one.
fn check_place(change: &Change<'_>, kind: NodeKind, region: &RegionId) -> Result<(), Rejection> {
    match kind {
        NodeKind::Coordinator | NodeKind::Agent => change.region(region).map(drop),
        NodeKind::Witness => change.enabled(Feature::Witnesses),
    }
}

/// A node's name is unique in the cluster; it never moves to another region or becomes something else. The name of a
/// coordinator that was taken out may come back as a witness, and the other way round: that is another disk.
fn check_same_node(change: &Change<'_>, known: &NodeRecord, new: &NodeRecord) -> Result<(), Rejection> {
    let votes = |node: &NodeRecord| matches!(node.kind, NodeKind::Coordinator | NodeKind::Witness);
    let renewed = known.status == NodeStatus::Removed
        && change.features().has(Feature::Witnesses)
        && votes(known)
        && votes(new);
    if known.region == new.region && (known.kind == new.kind || renewed) {
        return Ok(());
    }
    Err(Rejection::IllegalTransition {
        what: format!("node {}", known.node),
        from: format!("{:?} of {}", known.kind, known.region),
        to: format!("{:?} of {}", new.kind, new.region),
    })
}

/// The run that was taken out is over; another one of this name is another disk, which the leader has looked at.
fn check_not_removed(known: &NodeRecord, new: &NodeRecord) -> Result<(), Rejection> {
    if known.status != NodeStatus::Removed || known.incarnation != new.incarnation {
        return Ok(());
    }
    Err(Rejection::IllegalTransition {
        what: format!("node {}", known.node),
        from: NodeStatus::Removed.to_string(),
        to: new.status.to_string(),
    })
}

/// Whether nothing would change.
fn is_same_run(known: &NodeRecord, new: &NodeRecord) -> bool {
    only_zone_differs(known, new) && known.zone == new.zone
}

/// Whether the run goes on, and at most its label is another.
fn only_zone_differs(known: &NodeRecord, new: &NodeRecord) -> bool {
    known.incarnation == new.incarnation && known.endpoints == new.endpoints && known.status == new.status
}

pub(super) fn set_status(
    change: &mut Change<'_>,
    node: &NodeId,
    incarnation: NodeIncarnation,
    status: NodeStatus,
) -> Outcome {
    let known = change.state.nodes.get(node).cloned();
    let record = known.ok_or_else(|| Rejection::NodeNotFound { node: node.clone() })?;
    if record.incarnation != incarnation {
        let (node, current) = (node.clone(), record.incarnation);
        return Err(Rejection::StaleIncarnation {
            node,
            shown: incarnation,
            current,
        });
    }
    if record.status != status && [record.status, status].contains(&NodeStatus::Removed) {
        // That takes a `RemoveCoordinator`, and is for ever.
        return Err(Rejection::IllegalTransition {
            what: format!("node {node}"),
            from: record.status.to_string(),
            to: status.to_string(),
        });
    }
    if record.status == status {
        return Ok(Reply::Done {
            modified: record.modified,
        });
    }
    change.put_node(NodeRecord {
        status,
        changed_at: change.now(),
        ..record
    });
    Ok(change.done())
}

/// Drops an agent that is down. Its place is free: should it come back after all, it is registered as any new node, whichever run
/// it is. What it held under an epoch it holds no more by then: a holder, and who is to be one, is not dropped.
pub(super) fn remove(change: &mut Change<'_>, node: &NodeId) -> Outcome {
    change.enabled(Feature::Regions)?;
    let known = change.state.nodes.get(node).cloned();
    let record = known.ok_or_else(|| Rejection::NodeNotFound { node: node.clone() })?;
    check_agent(&record)?;
    if record.status == NodeStatus::Up {
        return Err(Rejection::IllegalTransition {
            what: format!("node {node}"),
            from: record.status.to_string(),
            to: "one that is gone: stop it first".to_owned(),
        });
    }
    let uses = uses::of_agent(change.state, node);
    if !uses.is_empty() {
        let (uses, count) = uses.told();
        return Err(Rejection::NodeInUse {
            node: node.clone(),
            uses,
            count,
        });
    }
    change.delete_node(node, &record.region);
    Ok(change.done())
}

/// What a coordinator stored has to be counted out of the majority, and its disk barred.
fn check_agent(record: &NodeRecord) -> Result<(), Rejection> {
    match record.kind {
        NodeKind::Agent => Ok(()),
        NodeKind::Coordinator | NodeKind::Witness => Err(Rejection::IllegalTransition {
            what: format!("node {}", record.node),
            from: "a coordinator".to_owned(),
            to: "one that is dropped: it leaves the membership".to_owned(),
        }),
    }
}
