//! Records as the registry would send them.

use std::{collections::BTreeMap, time::Duration};

use proto::convert::watch::Resource;
use types::{
    ByteCount, ClusterId, Digest, Epoch, FencingToken, Holder, ModelVersion, NodeIncarnation, PlanId,
    Principal, RegionId, Revision, RoleName, UnixMillis, VersionKey,
    model::{AliasRecord, Artifact, ArtifactPath, VersionRecord, VersionState},
    plan::{PlanKind, PlanRecord, PlanState, StepKind, StepRecord, StepState},
    region::{Endpoints, FencingDoor, Health, NodeKind, NodeRecord, NodeStatus, RegionRecord, StoreBinding},
    replica::{ReplicaKey, ReplicaRecord, ReplicaState},
    role::{FailoverMode, Reservation, RoleRecord, TimingPolicy},
};

use crate::view::View;

pub(crate) const CLUSTER: ClusterId = ClusterId::from_u128(7);

pub(crate) fn region(text: &str) -> RegionId {
    text.parse().unwrap()
}

pub(crate) fn key(text: &str) -> VersionKey {
    text.parse().unwrap()
}

/// Run `run` of node `NODE` in region `REGION`.
pub(crate) fn holder(region_and_node: &str, run: u128) -> Holder {
    let (region, node) = region_and_node.split_once('/').unwrap();
    Holder {
        region: region.parse().unwrap(),
        node: node.parse().unwrap(),
        incarnation: NodeIncarnation::from_u128(run),
    }
}

pub(crate) fn me() -> Holder {
    holder("west/a1", 1)
}

pub(crate) fn agent_of(holder: &Holder) -> Principal {
    Principal::Agent {
        region: holder.region.clone(),
        node: holder.node.clone(),
    }
}

pub(crate) fn epoch(counter: u32) -> Epoch {
    Epoch::new(1, counter)
}

pub(crate) fn token(counter: u32, holder: &Holder) -> FencingToken {
    FencingToken {
        cluster_id: CLUSTER,
        role: RoleName::global(),
        epoch: epoch(counter),
        holder: holder.clone(),
    }
}

pub(crate) fn binding(region: &str) -> StoreBinding {
    StoreBinding {
        endpoint: format!("mem://{region}"),
        bucket: "models".to_owned(),
        fencing_door: FencingDoor::Qualified,
    }
}

pub(crate) fn region_record(name: &str) -> RegionRecord {
    RegionRecord {
        region: region(name),
        health: Health::Healthy,
        health_evidence: String::new(),
        health_changed_at: UnixMillis(0),
        store: Some(binding(name)),
        labels: types::region::RegionLabels::default(),
        modified: Revision(1),
    }
}

pub(crate) fn node(region_and_node: &str, status: NodeStatus) -> NodeRecord {
    let holder = holder(region_and_node, 1);
    NodeRecord {
        node: holder.node,
        region: holder.region,
        zone: None,
        kind: NodeKind::Agent,
        incarnation: holder.incarnation,
        endpoints: Endpoints {
            inference: format!("http://{region_and_node}"),
            ..Endpoints::default()
        },
        status,
        changed_at: UnixMillis(0),
        modified: Revision(1),
    }
}

/// A version whose files are these bytes, uploaded to `west`.
pub(crate) fn version(name: &str, state: VersionState, files: &[(&str, &[u8])]) -> VersionRecord {
    let artifact = |(path, bytes): &(&str, &[u8])| Artifact {
        path: ArtifactPath::new(*path).unwrap(),
        size: ByteCount(bytes.len() as u64),
        digest: Digest::of(bytes),
        media_type: String::new(),
    };
    VersionRecord {
        key: key(name),
        state,
        state_reason: String::new(),
        source_region: region("west"),
        artifacts: files.iter().map(artifact).collect(),
        framework: "digits-cnn".to_owned(),
        metadata: BTreeMap::new(),
        datasets: Default::default(),
        metrics: Default::default(),
        created_at: UnixMillis(0),
        created_by: "spiffe://regent.local/user/admin".parse().unwrap(),
        modified: Revision(1),
    }
}

pub(crate) fn replica(name: &str, place: &str, state: ReplicaState) -> ReplicaRecord {
    ReplicaRecord {
        key: ReplicaKey {
            version: key(name),
            region: region(place),
        },
        state,
        source: None,
        bytes_done: ByteCount(0),
        attempts: 0,
        error: String::new(),
        started_at: None,
        completed_at: None,
        modified: Revision(1),
    }
}

pub(crate) fn alias(name: &str, alias: &str) -> AliasRecord {
    let key = key(name);
    AliasRecord {
        model: key.model,
        alias: alias.parse().unwrap(),
        version: key.version,
        reason: String::new(),
        moved_at: UnixMillis(0),
        moved_by: "spiffe://regent.local/user/admin".parse().unwrap(),
        modified: Revision(1),
    }
}

pub(crate) fn role(counter: u32, holder: Option<Holder>, reservation: Option<Reservation>) -> RoleRecord {
    RoleRecord {
        role: RoleName::global(),
        epoch: epoch(counter),
        holder,
        reservation,
        candidates: vec![region("west"), region("east")],
        mode: FailoverMode::Automatic,
        timing: TimingPolicy::fast(),
        outstanding_ttl: Duration::from_secs(2),
        changed_at: UnixMillis(0),
        reason: String::new(),
        modified: Revision(1),
    }
}

/// A running failover to `target`, whose steps before `running` are done and which is at its second attempt of it.
pub(crate) fn plan(target: &Holder, running: StepKind) -> PlanRecord {
    let step = |kind: StepKind| StepRecord {
        kind,
        state: match kind.cmp(&running) {
            std::cmp::Ordering::Less => StepState::Done,
            std::cmp::Ordering::Equal => StepState::Running,
            std::cmp::Ordering::Greater => StepState::Waiting,
        },
        attempt: 2,
        detail: String::new(),
        started_at: None,
        finished_at: None,
    };
    PlanRecord {
        plan: PlanId(9),
        role: RoleName::global(),
        kind: PlanKind::Failover,
        trigger: String::new(),
        from: None,
        from_epoch: epoch(1),
        target: target.clone(),
        target_epoch: Some(epoch(3)),
        steps: StepKind::of(PlanKind::Failover)
            .iter()
            .map(|k| step(*k))
            .collect(),
        state: PlanState::Running,
        reason: String::new(),
        doors: Vec::new(),
        created_at: UnixMillis(0),
        created_by: "spiffe://regent.local/user/admin".parse().unwrap(),
        finished_at: None,
        modified: Revision(1),
    }
}

pub(crate) fn reserved(counter: u32, target: &Holder) -> Reservation {
    Reservation {
        plan: PlanId(9),
        target: target.clone(),
        epoch: epoch(counter),
    }
}

/// A view of these records, with the regions `west` (own), `east` and `north`.
pub(crate) fn view(records: Vec<Resource>) -> View {
    let mut view = View {
        cluster_id: Some(CLUSTER),
        revision: Revision(5),
        ..View::default()
    };
    for name in ["west", "east", "north"] {
        view.upsert(Resource::Region(region_record(name)));
    }
    records.into_iter().for_each(|r| view.upsert(r));
    view
}

pub(crate) fn v(number: u64) -> ModelVersion {
    ModelVersion(number)
}
