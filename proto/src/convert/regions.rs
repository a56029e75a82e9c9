//! Regions, nodes and what they are made of.

use types::{
    UnixMillis, ZoneName,
    epoch::{Epoch, FencingToken, Holder},
    region::{
        Endpoints, FencingDoor, Health, NodeKind, NodeRecord, NodeStatus, RegionLabels, RegionRecord,
        StoreBinding,
    },
    revision::Revision,
};

use super::{Parsed, enum_table, required, text};
use crate::v1 as pb;

enum_table!(health_to_pb, health_from_pb, "health", Health, pb::Health, {
    Health::Healthy = pb::Health::Healthy,
    Health::Unhealthy = pb::Health::Unhealthy,
    Health::Recovering = pb::Health::Recovering,
});
/// A witness is told as a coordinator, and what it is beside it: no reader calls a coordinator by its record.
fn node_kind_to_pb(kind: NodeKind) -> (i32, bool) {
    match kind {
        NodeKind::Coordinator => (pb::NodeKind::Coordinator as i32, false),
        NodeKind::Agent => (pb::NodeKind::Agent as i32, false),
        NodeKind::Witness => (pb::NodeKind::Coordinator as i32, true),
    }
}

fn node_kind_from_pb(kind: i32, witness: bool) -> Parsed<NodeKind> {
    match pb::NodeKind::try_from(kind) {
        Ok(pb::NodeKind::Coordinator) if witness => Ok(NodeKind::Witness),
        Ok(pb::NodeKind::Coordinator) => Ok(NodeKind::Coordinator),
        Ok(pb::NodeKind::Agent) => Ok(NodeKind::Agent),
        Ok(pb::NodeKind::Unspecified) | Err(_) => {
            Err(super::invalid("kind", format!("unknown value {kind}")))
        }
    }
}

/// A removed node is told as one that is down, and that it was removed beside it: a reader that does not know of the latter
/// does right by the former.
fn node_status_to_pb(status: NodeStatus) -> (i32, bool) {
    match status {
        NodeStatus::Up => (pb::NodeStatus::Up as i32, false),
        NodeStatus::Down => (pb::NodeStatus::Down as i32, false),
        NodeStatus::Removed => (pb::NodeStatus::Down as i32, true),
    }
}

fn node_status_from_pb(status: i32, removed: bool) -> Parsed<NodeStatus> {
    match pb::NodeStatus::try_from(status) {
        Ok(pb::NodeStatus::Up) => Ok(NodeStatus::Up),
        Ok(pb::NodeStatus::Down) if removed => Ok(NodeStatus::Removed),
        Ok(pb::NodeStatus::Down) => Ok(NodeStatus::Down),
        Ok(pb::NodeStatus::Unspecified) | Err(_) => {
            Err(super::invalid("status", format!("unknown value {status}")))
        }
    }
}

impl From<&Holder> for pb::Holder {
    fn from(holder: &Holder) -> Self {
        Self {
            region: holder.region.to_string(),
            node: holder.node.to_string(),
            incarnation: holder.incarnation.to_string(),
        }
    }
}

/// Reads a holder.
pub fn holder(field: &str, value: Option<pb::Holder>) -> Parsed<Holder> {
    let value = required(field, value)?;
    Ok(Holder {
        region: text("holder.region", &value.region)?,
        node: text("holder.node", &value.node)?,
        incarnation: text("holder.incarnation", &value.incarnation)?,
    })
}

/// Reads a holder that may be absent.
pub fn optional_holder(field: &str, value: Option<pb::Holder>) -> Parsed<Option<Holder>> {
    value.map(|h| holder(field, Some(h))).transpose()
}

impl From<&FencingToken> for pb::FencingToken {
    fn from(token: &FencingToken) -> Self {
        Self {
            cluster_id: token.cluster_id.to_string(),
            role: token.role.to_string(),
            epoch: token.epoch.as_u64(),
            holder: Some((&token.holder).into()),
        }
    }
}

/// Reads a fencing token that must be there.
pub fn token(value: Option<pb::FencingToken>) -> Parsed<FencingToken> {
    let value = required("token", value)?;
    Ok(FencingToken {
        cluster_id: text("token.cluster_id", &value.cluster_id)?,
        role: text("token.role", &value.role)?,
        epoch: Epoch::from_u64(value.epoch),
        holder: holder("token.holder", value.holder)?,
    })
}

impl From<&StoreBinding> for pb::StoreBinding {
    fn from(store: &StoreBinding) -> Self {
        let refusal = match &store.fencing_door {
            FencingDoor::Qualified => None,
            FencingDoor::Refused { reason } => Some(reason.clone()),
        };
        Self {
            endpoint: store.endpoint.clone(),
            bucket: store.bucket.clone(),
            fencing_qualified: refusal.is_none(),
            fencing_refusal: refusal.unwrap_or_default(),
        }
    }
}

/// Reads a store binding; endpoint and bucket must say something.
pub fn store(value: Option<pb::StoreBinding>) -> Parsed<StoreBinding> {
    let value = required("store", value)?;
    if value.endpoint.is_empty() || value.endpoint.len() > 500 {
        return Err(super::invalid(
            "store.endpoint",
            format!("{:?} must have 1 to 500 bytes", value.endpoint),
        ));
    }
    if value.bucket.is_empty() || value.bucket.len() > 200 {
        return Err(super::invalid(
            "store.bucket",
            format!("{:?} must have 1 to 200 bytes", value.bucket),
        ));
    }
    let fencing_door = if value.fencing_qualified {
        FencingDoor::Qualified
    } else {
        FencingDoor::Refused {
            reason: value.fencing_refusal,
        }
    };
    Ok(StoreBinding {
        endpoint: value.endpoint,
        bucket: value.bucket,
        fencing_door,
    })
}

impl From<&Endpoints> for pb::Endpoints {
    fn from(e: &Endpoints) -> Self {
        Self {
            api: e.api.clone(),
            raft: e.raft.clone(),
            agent: e.agent.clone(),
            inference: e.inference.clone(),
        }
    }
}

/// Reads endpoints; each at most 300 bytes.
pub fn endpoints(value: Option<pb::Endpoints>) -> Parsed<Endpoints> {
    let e = value.unwrap_or_default();
    for (field, text) in [
        ("api", &e.api),
        ("raft", &e.raft),
        ("agent", &e.agent),
        ("inference", &e.inference),
    ] {
        if text.len() > 300 {
            return Err(super::invalid(
                field,
                format!("endpoint of {} bytes, 300 at most", text.len()),
            ));
        }
    }
    Ok(Endpoints {
        api: e.api,
        raft: e.raft,
        agent: e.agent,
        inference: e.inference,
    })
}

impl From<&RegionRecord> for pb::Region {
    fn from(r: &RegionRecord) -> Self {
        Self {
            region: r.region.to_string(),
            health: health_to_pb(r.health),
            health_evidence: r.health_evidence.clone(),
            health_changed_at_millis: r.health_changed_at.0,
            store: r.store.as_ref().map(Into::into),
            modified_revision: r.modified.0,
            display_name: r.labels.display_name.clone(),
            provider: r.labels.provider.clone(),
            cost_tags: r.labels.cost_tags.clone(),
        }
    }
}

/// Reads a region.
pub fn region(r: pb::Region) -> Parsed<RegionRecord> {
    Ok(RegionRecord {
        region: text("region", &r.region)?,
        health: health_from_pb(r.health)?,
        health_evidence: r.health_evidence,
        health_changed_at: UnixMillis(r.health_changed_at_millis),
        store: r.store.map(|s| store(Some(s))).transpose()?,
        labels: RegionLabels {
            display_name: r.display_name,
            provider: r.provider,
            cost_tags: r.cost_tags,
        },
        modified: Revision(r.modified_revision),
    })
}

/// A zone on the wire: empty where there is none.
pub fn zone_to_pb(zone: Option<&ZoneName>) -> String {
    zone.map(ToString::to_string).unwrap_or_default()
}

/// Reads a zone; empty is none.
pub fn zone(value: &str) -> Parsed<Option<ZoneName>> {
    match value {
        "" => Ok(None),
        value => text("zone", value).map(Some),
    }
}

impl From<&NodeRecord> for pb::Node {
    fn from(n: &NodeRecord) -> Self {
        let (status, removed) = node_status_to_pb(n.status);
        let (kind, witness) = node_kind_to_pb(n.kind);
        Self {
            node: n.node.to_string(),
            region: n.region.to_string(),
            kind,
            witness,
            incarnation: n.incarnation.to_string(),
            endpoints: Some((&n.endpoints).into()),
            status,
            removed,
            zone: zone_to_pb(n.zone.as_ref()),
            changed_at_millis: n.changed_at.0,
            modified_revision: n.modified.0,
        }
    }
}

/// Reads a node.
pub fn node(n: pb::Node) -> Parsed<NodeRecord> {
    Ok(NodeRecord {
        node: text("node", &n.node)?,
        region: text("region", &n.region)?,
        zone: zone(&n.zone)?,
        kind: node_kind_from_pb(n.kind, n.witness)?,
        incarnation: text("incarnation", &n.incarnation)?,
        endpoints: endpoints(n.endpoints)?,
        status: node_status_from_pb(n.status, n.removed)?,
        changed_at: UnixMillis(n.changed_at_millis),
        modified: Revision(n.modified_revision),
    })
}
