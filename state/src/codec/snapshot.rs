//! Snapshots in one piece (format 1), and how a state is put together from the parts of either format.
//!
//! A protobuf cut at a field's border reads as a shorter, valid one, so the body stands behind a header with its length
//! and SHA-256. Layout: 8 bytes magic, format u32, length u64 (big end first), 32 bytes SHA-256, body. Nothing writes it any
//! more once the cluster is at feature level 2 ([`super::stream`]); it is read for ever.

use std::sync::Arc;

use prost::Message as _;
use types::{Digest, ModelName, NodeId, NodeIncarnation, RegionId, RequestId, UnixMillis};

use super::{
    CodecError,
    wire::{Malformed, Wire, field},
};
use crate::{
    r#gen as pb,
    hash::{self, Sum},
    requests::{Answered, Answers, Kept, REQUESTS_KEPT_MAX, RequestTable},
    state::{ClusterRecord, ControlState, WasPublished},
};

/// What every snapshot begins with, before its format.
pub(super) const MAGIC: &[u8; 8] = b"RGNTSNAP";
/// The format of a snapshot in one piece.
const FORMAT: u32 = 1;
/// The number of what is in no table, in the integrity hash.
const SCALARS: u8 = 0;
const HEADER_BYTES: usize = 8 + 4 + 8 + 32;

/// The bytes of a snapshot in one piece: format 1, for clusters some of whose coordinators know no other. Equal states give
/// equal bytes. Takes as much memory again as the state; [`super::write_snapshot`] does not.
pub fn encode_snapshot(state: &ControlState) -> Vec<u8> {
    let body = whole(state).encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(Digest::of(&body).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads a snapshot in one piece, header and all.
pub(super) fn decode(bytes: &[u8]) -> Result<ControlState, CodecError> {
    let mut whole = pb::Snapshot::decode(check_header(bytes)?)?;
    let mut state = begin(&mut whole).map_err(|e| e.inside("snapshot"))?;
    absorb(&mut state, whole).map_err(|e| e.inside("snapshot"))?;
    finish(state)
}

fn check_header(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let (header, body) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(CodecError::Length {
            shown: bytes.len() as u64,
            needed: HEADER_BYTES as u64,
        })?;
    // By magic and format it was brought here.
    let (_, rest) = header.split_at(8 + 4);
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

/// The state that a body says, possible or not.
#[cfg(test)]
pub(crate) fn state_of_body(body: &[u8]) -> Option<ControlState> {
    let mut whole = pb::Snapshot::decode(body).ok()?;
    let mut state = begin(&mut whole).ok()?;
    absorb(&mut state, whole).ok()?;
    Some(state)
}

/// What is in no table: the beginning of a state.
pub(super) fn scalars(state: &ControlState) -> pb::Snapshot {
    let requests = &state.requests;
    pb::Snapshot {
        time: state.time.to_pb(),
        revision: state.revision.to_pb(),
        cluster: state.cluster().map(Wire::to_pb),
        join_order: state.join_order.to_pb(),
        requests: Some(pb::RequestTable {
            kept_min: requests.kept_min,
            kept_for: requests.kept_for.to_pb(),
            kept_max: requests.kept_max,
            floor: requests.floor.to_pb(),
            answered: Vec::new(),
        }),
        finished_plans_kept: state.finished_plans_kept,
        ..pb::Snapshot::default()
    }
}

/// The share of the above in the integrity hash.
pub(crate) fn hash_of_scalars(state: &ControlState) -> Sum {
    hash::of_bytes(SCALARS, &scalars(state).encode_to_vec())
}

fn whole(state: &ControlState) -> pb::Snapshot {
    let mut whole = pb::Snapshot {
        regions: state.regions.values().map(Wire::to_pb).collect(),
        nodes: state.nodes.values().map(Wire::to_pb).collect(),
        superseded: state.superseded.iter().map(superseded).collect(),
        models: state.models.values().map(Wire::to_pb).collect(),
        published: state.published.keys().map(Wire::to_pb).collect(),
        versions: state.versions.values().map(Wire::to_pb).collect(),
        aliases: state.aliases.values().map(Wire::to_pb).collect(),
        replicas: state.replicas.values().map(Wire::to_pb).collect(),
        roles: state.roles.values().map(Wire::to_pb).collect(),
        plans: state.plans.values().map(Wire::to_pb).collect(),
        experiments: state.experiments.values().map(Wire::to_pb).collect(),
        services: state.services.values().map(Wire::to_pb).collect(),
        preferences: state.preferences.values().map(Wire::to_pb).collect(),
        deployments: state.deployments.values().map(Wire::to_pb).collect(),
        health_changes: state.health_changes.values().map(Wire::to_pb).collect(),
        ..scalars(state)
    };
    if let Some(requests) = &mut whole.requests {
        requests.answered = state.requests.answered.iter().map(answered).collect();
    }
    whole
}

/// A state without records, from the part that has the scalars; takes them out of it.
pub(super) fn begin(part: &mut pb::Snapshot) -> Result<ControlState, Malformed> {
    let requests = part.requests.as_mut();
    let requests = requests.ok_or_else(|| Malformed::missing().inside("requests"))?;
    let table = RequestTable {
        kept_min: requests.kept_min,
        kept_for: field("kept_for", requests.kept_for).map_err(|e| e.inside("requests"))?,
        kept_max: match requests.kept_max {
            0 => REQUESTS_KEPT_MAX,
            limit => limit,
        },
        floor: field("floor", requests.floor.take()).map_err(|e| e.inside("requests"))?,
        answered: Answers::default(),
    };
    let join_order: Vec<RegionId> = field("join_order", std::mem::take(&mut part.join_order))?;
    Ok(ControlState {
        time: field("time", part.time)?,
        revision: field("revision", part.revision)?,
        cluster: field::<Option<ClusterRecord>, _>("cluster", part.cluster.take())?.map(Arc::new),
        join_order: Arc::new(join_order),
        ..ControlState::with_limits(table, part.finished_plans_kept)
    })
}

/// Takes in the records of a part. The order of parts matters to nothing but the memory: what names a region or a model
/// shares the text of one that is there already.
pub(super) fn absorb(state: &mut ControlState, part: pb::Snapshot) -> Result<(), Malformed> {
    each("regions", part.regions, |r: types::region::RegionRecord| {
        state.regions.insert(r.region.clone(), r)
    })?;
    each("nodes", part.nodes, |r: types::region::NodeRecord| {
        state.nodes.insert(r.node.clone(), r)
    })?;
    each("superseded", part.superseded, |Superseded(node, runs)| {
        state.superseded.insert(node, runs)
    })?;
    each("models", part.models, |r: types::model::ModelRecord| {
        state.models.insert(r.name.clone(), r)
    })?;
    each("published", part.published, |model: ModelName| {
        state.published.insert(model, WasPublished)
    })?;
    each("versions", part.versions, |r| state.add_version(r))?;
    each("aliases", part.aliases, |r| state.add_alias(r))?;
    each("replicas", part.replicas, |r| state.add_replica(r))?;
    each("roles", part.roles, |r: crate::state::RoleState| {
        state.roles.insert(r.record.role.clone(), r)
    })?;
    each("plans", part.plans, |r| state.add_plan(r))?;
    each("experiments", part.experiments, |r| state.add_experiment(r))?;
    each("services", part.services, |r| state.add_service(r))?;
    each(
        "preferences",
        part.preferences,
        |r: types::preferences::PreferencesRecord| state.preferences.insert(r.principal.clone(), r),
    )?;
    each("deployments", part.deployments, |r| state.add_deployment(r))?;
    each("health_changes", part.health_changes, |r| {
        state.add_health_change(r)
    })?;
    let requests = part.requests.unwrap_or_default();
    each("answered", requests.answered, |a| {
        !state.requests.answered.insert(a)
    })
    .map_err(|e| e.inside("requests"))
}

/// Hands over each record of a list; `put` says whether there was one of its key.
fn each<T: Wire<P>, P>(name: &str, list: Vec<P>, mut put: impl FnMut(T) -> bool) -> Result<(), Malformed> {
    for (n, pb) in list.into_iter().enumerate() {
        let named = |e: Malformed| e.inside(&n.to_string()).inside(name);
        if put(T::from_pb(pb).map_err(named)?) {
            return Err(named(Malformed::new("has the key of one before it")));
        }
    }
    Ok(())
}

/// A state that was put together and is possible.
pub(super) fn finish(mut state: ControlState) -> Result<ControlState, CodecError> {
    // Snapshots from before it was kept which models were published name none: those that are served were.
    let served = state.versions.values().filter(|v| v.is_replicated());
    let unnamed = served.filter(|v| !state.published.contains_key(&v.key.model));
    let unnamed: Vec<ModelName> = unnamed.map(|v| v.key.model.clone()).collect();
    for model in unnamed {
        state.published.insert(model, WasPublished);
    }
    state.check_invariants()?;
    Ok(state)
}

/// Runs of a node that another one has followed.
struct Superseded(NodeId, Vec<NodeIncarnation>);

pub(super) fn superseded((node, runs): (&NodeId, &Vec<NodeIncarnation>)) -> pb::SupersededRuns {
    pb::SupersededRuns {
        node: node.to_pb(),
        runs: runs.to_pb(),
    }
}

impl Wire<pb::SupersededRuns> for Superseded {
    fn to_pb(&self) -> pb::SupersededRuns {
        superseded((&self.0, &self.1))
    }
    fn from_pb(pb: pb::SupersededRuns) -> Result<Self, Malformed> {
        Ok(Self(field("node", pb.node)?, field("runs", pb.runs)?))
    }
}

pub(super) fn answered(a: &Answered) -> pb::Answered {
    a.to_pb()
}

impl Wire<pb::Answered> for Answered {
    fn to_pb(&self) -> pb::Answered {
        pb::Answered {
            request_id: self.id.to_pb(),
            digest: self.digest.to_pb(),
            at: self.at.to_pb(),
            outcome: self.outcome.bytes().to_vec(),
        }
    }
    /// The outcome is read and encoded anew: what cannot be read is seen here, and equal answers have equal bytes.
    fn from_pb(pb: pb::Answered) -> Result<Self, Malformed> {
        let outcome = pb::Outcome::decode(pb.outcome.as_slice()).map_err(Malformed::new);
        let kept = outcome.and_then(|outcome| match outcome.format {
            super::FORMAT => Ok(Kept::of(&Wire::from_pb(outcome)?)),
            super::REFUSAL_FORMAT => Ok(Kept::settled(&Wire::from_pb(outcome)?)),
            unknown => Err(Malformed::new(format!("has format {unknown}"))),
        });
        Ok(Self {
            id: field::<RequestId, _>("request_id", pb.request_id)?,
            digest: field("digest", pb.digest)?,
            at: field::<UnixMillis, _>("at", pb.at)?,
            outcome: kept.map_err(|e| e.inside("outcome"))?,
        })
    }
}
