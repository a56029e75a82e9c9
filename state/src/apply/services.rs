//! Instances of services. Their lease is the session of the node that hosts them: each ends with the run that it was registered
//! for, and is as healthy as that run's committed standing says.
//!
//! Absent on purpose: heartbeats of their own. An instance that stopped while its node lives is deregistered by whoever stopped it.
//! Invariant: no instance outlives its run, and no entry is needed for that besides the node's own.

use std::collections::BTreeMap;

use types::{
    NodeIncarnation, Principal,
    region::{NodeKind, NodeRecord, NodeStatus},
    service::{ServiceHealth, ServiceKey, ServiceProtocol, ServiceRecord},
};

use super::{Outcome, change::Change, text::at_most};
use crate::{command::Command, features::Feature, rejection::Rejection, reply::Reply};

/// Instances that a node may host.
const PER_NODE_MAX: u64 = 64;
/// Instances of a cluster.
const ALL_MAX: u64 = 10_000;
/// Bytes of an address: the longest name in DNS.
const ADDRESS_BYTES_MAX: u64 = 253;
/// Labels of an instance: every caller reads them, and holds them of every instance.
const LABELS_MAX: u64 = 16;
/// Bytes of a key or a value of a label.
const LABEL_BYTES_MAX: u64 = 128;

/// How healthy an instance is by the record of its node; none where the run that it was registered for is over.
pub(crate) fn standing(instance: &ServiceRecord, node: &NodeRecord) -> Option<ServiceHealth> {
    if instance.incarnation != node.incarnation {
        return None;
    }
    match node.status {
        NodeStatus::Up => Some(ServiceHealth::Healthy),
        NodeStatus::Down => Some(ServiceHealth::Unhealthy),
        NodeStatus::Removed => None,
    }
}

/// The same again changes nothing, so that an agent may say it whenever it has doubts.
pub(super) fn register(change: &mut Change<'_>, command: &Command) -> Outcome {
    let Command::RegisterService {
        key,
        incarnation,
        address,
        protocol,
        labels,
    } = command
    else {
        return Err(Rejection::invalid("command", "is no RegisterService"));
    };
    let node = check_host(change, key, *incarnation)?;
    check_up(&node)?;
    check_address(address)?;
    check_labels(labels)?;
    let known = change.state.service(key).cloned();
    if let Some(known) = &known {
        if is_same(known, address, *protocol, labels) {
            return Ok(Reply::Done {
                modified: known.modified,
            });
        }
    } else {
        let hosted = change.state.services_on(&key.node).count();
        at_most("count of services of a node", hosted + 1, PER_NODE_MAX)?;
        at_most("count of services", change.state.services.len() + 1, ALL_MAX)?;
    }
    change.put_service(ServiceRecord {
        key: key.clone(),
        region: node.region,
        incarnation: node.incarnation,
        address: address.clone(),
        protocol: *protocol,
        labels: labels.clone(),
        health: ServiceHealth::Healthy,
        registered_at: change.now(),
        registered_by: change.actor().clone(),
        modified: change.revision(),
    });
    Ok(change.done())
}

pub(super) fn deregister(
    change: &mut Change<'_>,
    key: &ServiceKey,
    incarnation: Option<NodeIncarnation>,
) -> Outcome {
    check_host(change, key, incarnation)?;
    let Some(known) = change.state.service(key).cloned() else {
        return Err(Rejection::ServiceNotFound { key: key.clone() });
    };
    change.delete_service(&known);
    Ok(change.done())
}

/// The node, if the caller may speak of what it hosts: an agent of its own present run, or a person.
fn check_host(
    change: &Change<'_>,
    key: &ServiceKey,
    shown: Option<NodeIncarnation>,
) -> Result<NodeRecord, Rejection> {
    change.enabled(Feature::Services)?;
    let known = change.state.nodes.get(&key.node).cloned();
    let node = known.ok_or_else(|| Rejection::NodeNotFound {
        node: key.node.clone(),
    })?;
    check_sender(change.actor(), &node, shown)?;
    match shown {
        Some(shown) if shown != node.incarnation => Err(Rejection::StaleIncarnation {
            node: node.node,
            shown,
            current: node.incarnation,
        }),
        Some(_) | None => Ok(node),
    }
}

fn check_sender(
    actor: &Principal,
    host: &NodeRecord,
    shown: Option<NodeIncarnation>,
) -> Result<(), Rejection> {
    let denied = |needs: String| {
        Err(Rejection::PermissionDenied {
            actor: actor.clone(),
            needs,
        })
    };
    match actor {
        Principal::User { .. } => Ok(()),
        Principal::Agent { region, node } if *region == host.region && *node == host.node => match shown {
            Some(_) => Ok(()),
            None => denied("to say which run of its node it is".to_owned()),
        },
        Principal::Agent { .. } | Principal::Coordinator { .. } => {
            denied(format!("a user, or the agent of node {}", host.node))
        }
    }
}

/// What would be gone as soon as it is there is refused.
fn check_up(node: &NodeRecord) -> Result<(), Rejection> {
    let refused = |from: String| {
        Err(Rejection::IllegalTransition {
            what: format!("node {}", node.node),
            from,
            to: "the host of a service".to_owned(),
        })
    };
    match (node.kind, node.status) {
        (NodeKind::Agent, NodeStatus::Up) => Ok(()),
        (NodeKind::Agent, NodeStatus::Down | NodeStatus::Removed) => refused(node.status.to_string()),
        (NodeKind::Coordinator | NodeKind::Witness, _) => refused("no agent".to_owned()),
    }
}

fn check_address(address: &str) -> Result<(), Rejection> {
    at_most("bytes of the address", address.len(), ADDRESS_BYTES_MAX)?;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    if !address.is_empty() && address.bytes().all(is_plain) {
        return Ok(());
    }
    let problem = "must be a host name or an IP address, without port or brackets";
    Err(Rejection::invalid("address", problem))
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Rejection> {
    at_most("count of labels", labels.len(), LABELS_MAX)?;
    for (key, value) in labels {
        if key.is_empty() {
            return Err(Rejection::invalid("labels", "a key is empty"));
        }
        at_most("bytes of a key of labels", key.len(), LABEL_BYTES_MAX)?;
        at_most(&format!("bytes of label {key}"), value.len(), LABEL_BYTES_MAX)?;
    }
    Ok(())
}

fn is_same(
    known: &ServiceRecord,
    address: &str,
    protocol: ServiceProtocol,
    labels: &BTreeMap<String, String>,
) -> bool {
    known.address == address && known.protocol == protocol && known.labels == *labels
}
