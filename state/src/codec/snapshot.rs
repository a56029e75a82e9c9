//! Snapshots: the whole state, request table and bounds included.
//!
//! A protobuf cut at a field's border reads as a shorter, valid one, so the body stands behind a header with its length
//! and SHA-256. Layout: 8 bytes magic, format u32, length u64 (big end first), 32 bytes SHA-256, body.

use std::collections::BTreeMap;

use prost::Message as _;
use types::{Digest, ModelName, NodeId, NodeIncarnation};

use super::{
    CodecError, FORMAT,
    wire::{Malformed, Wire, field},
};
use crate::{
    r#gen as pb,
    requests::{Answered, REQUESTS_KEPT_MAX, RequestTable},
    state::ControlState,
};

const MAGIC: &[u8; 8] = b"RGNTSNAP";
const HEADER_BYTES: usize = 8 + 4 + 8 + 32;

/// The bytes of a snapshot. Equal states give equal bytes.
pub fn encode_snapshot(state: &ControlState) -> Vec<u8> {
    let body = state.to_pb().encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(Digest::of(&body).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads a snapshot and checks its invariants: a broken state is never installed.
pub fn decode_snapshot(bytes: &[u8]) -> Result<ControlState, CodecError> {
    let body = check_header(bytes)?;
    let pb = pb::Snapshot::decode(body)?;
    let state = ControlState::from_pb(pb).map_err(|e| e.inside("snapshot"))?;
    state.check_invariants()?;
    Ok(state)
}

fn check_header(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let (header, body) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(CodecError::Length {
            shown: bytes.len() as u64,
            needed: HEADER_BYTES as u64,
        })?;
    let (magic, rest) = header.split_at(8);
    if magic != MAGIC {
        return Err(CodecError::NoSnapshot);
    }
    let (format, rest) = rest.split_at(4);
    let format = format.iter().fold(0_u32, |n, b| (n << 8) | u32::from(*b));
    if format != FORMAT {
        return Err(CodecError::Format {
            what: "snapshot",
            shown: format,
        });
    }
    let (length, digest) = rest.split_at(8);
    let length = length.iter().fold(0_u64, |n, b| (n << 8) | u64::from(*b));
    if body.len() as u64 != length {
        let needed = length.saturating_add(HEADER_BYTES as u64);
        return Err(CodecError::Length {
            shown: bytes.len() as u64,
            needed,
        });
    }
    if Digest::of(body).as_bytes() != digest {
        return Err(CodecError::Digest {
            offset: HEADER_BYTES as u64,
        });
    }
    Ok(body)
}

fn values<K, T: Wire<P>, P>(map: &BTreeMap<K, T>) -> Vec<P> {
    map.values().map(Wire::to_pb).collect()
}

fn map<K: Ord, T: Wire<P>, P>(
    name: &str,
    pb: Vec<P>,
    key: impl Fn(&T) -> K,
) -> Result<BTreeMap<K, T>, Malformed> {
    let count = pb.len();
    let records: Vec<T> = field(name, pb)?;
    let map: BTreeMap<K, T> = records.into_iter().map(|r| (key(&r), r)).collect();
    if map.len() == count {
        Ok(map)
    } else {
        Err(Malformed::new("has a key twice").inside(name))
    }
}

impl Wire<pb::Snapshot> for ControlState {
    fn to_pb(&self) -> pb::Snapshot {
        pb::Snapshot {
            time: self.time.to_pb(),
            revision: self.revision.to_pb(),
            cluster: self.cluster.to_pb(),
            regions: values(&self.regions),
            join_order: self.join_order.to_pb(),
            nodes: values(&self.nodes),
            superseded: self.superseded.iter().map(superseded).collect(),
            models: values(&self.models),
            published: self.published.iter().map(Wire::to_pb).collect(),
            versions: values(&self.versions),
            aliases: values(&self.aliases),
            replicas: values(&self.replicas),
            roles: values(&self.roles),
            plans: values(&self.plans),
            requests: Some(self.requests.to_pb()),
            finished_plans_kept: self.finished_plans_kept,
        }
    }
    fn from_pb(pb: pb::Snapshot) -> Result<Self, Malformed> {
        Ok(Self {
            time: field("time", pb.time)?,
            revision: field("revision", pb.revision)?,
            cluster: field("cluster", pb.cluster)?,
            regions: map("regions", pb.regions, |r: &types::region::RegionRecord| {
                r.region.clone()
            })?,
            join_order: field("join_order", pb.join_order)?,
            nodes: map("nodes", pb.nodes, |r: &types::region::NodeRecord| r.node.clone())?,
            models: map("models", pb.models, |r: &types::model::ModelRecord| {
                r.name.clone()
            })?,
            versions: map("versions", pb.versions, |r: &types::model::VersionRecord| {
                r.key.clone()
            })?,
            aliases: map("aliases", pb.aliases, |r: &types::model::AliasRecord| {
                (r.model.clone(), r.alias.clone())
            })?,
            replicas: map("replicas", pb.replicas, |r: &types::replica::ReplicaRecord| {
                r.key.clone()
            })?,
            roles: map("roles", pb.roles, |r: &crate::state::RoleState| {
                r.record.role.clone()
            })?,
            plans: map("plans", pb.plans, |r: &types::plan::PlanRecord| r.plan)?,
            requests: field(
                "requests",
                pb.requests
                    .ok_or_else(|| Malformed::missing().inside("requests"))?,
            )?,
            finished_plans_kept: pb.finished_plans_kept,
            superseded: read_superseded(pb.superseded)?,
            published: field::<Vec<ModelName>, _>("published", pb.published)?
                .into_iter()
                .collect(),
        }
        .with_served_models_published())
    }
}

impl ControlState {
    /// Snapshots from before it was kept which models were published name none: those that are served were.
    fn with_served_models_published(mut self) -> Self {
        let served = self.versions.values().filter(|v| v.is_replicated());
        self.published.extend(served.map(|v| v.key.model.clone()));
        self
    }
}

fn superseded((node, runs): (&NodeId, &Vec<NodeIncarnation>)) -> pb::SupersededRuns {
    pb::SupersededRuns {
        node: node.to_pb(),
        runs: runs.to_pb(),
    }
}

fn read_superseded(pb: Vec<pb::SupersededRuns>) -> Result<BTreeMap<NodeId, Vec<NodeIncarnation>>, Malformed> {
    let read = |one: pb::SupersededRuns| Ok((field("node", one.node)?, field("runs", one.runs)?));
    let named = |e: Malformed| e.inside("superseded");
    pb.into_iter().map(read).collect::<Result<_, _>>().map_err(named)
}

impl Wire<pb::RequestTable> for RequestTable {
    fn to_pb(&self) -> pb::RequestTable {
        let answered = self.answered.iter().map(|(id, a)| pb::Answered {
            request_id: id.to_pb(),
            digest: a.digest.to_pb(),
            at: a.at.to_pb(),
            outcome: Some(a.outcome.to_pb()),
        });
        pb::RequestTable {
            kept_min: self.kept_min,
            kept_for: self.kept_for.to_pb(),
            kept_max: self.kept_max,
            floor: self.floor.to_pb(),
            answered: answered.collect(),
        }
    }
    fn from_pb(pb: pb::RequestTable) -> Result<Self, Malformed> {
        let mut table = Self {
            kept_min: pb.kept_min,
            kept_for: field("kept_for", pb.kept_for)?,
            kept_max: if pb.kept_max == 0 {
                REQUESTS_KEPT_MAX
            } else {
                pb.kept_max
            },
            floor: field("floor", pb.floor)?,
            answered: BTreeMap::new(),
        };
        for answered in pb.answered {
            let id = field("request_id", answered.request_id)?;
            let outcome = answered
                .outcome
                .ok_or_else(|| Malformed::missing().inside("outcome"))?;
            let answered = Answered {
                digest: field("digest", answered.digest)?,
                at: field("at", answered.at)?,
                outcome: field("outcome", outcome)?,
            };
            table.answered.insert(id, answered);
        }
        Ok(table)
    }
}
