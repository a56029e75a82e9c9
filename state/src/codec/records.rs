//! Records and the values inside them.

use types::{
    AliasName, ExperimentName, FencingToken, Holder, ModelName, NodeId, NodeIncarnation, PlanId, Principal,
    Rebind, RegionId, Revision, RoleName, SignedRebind, VersionKey,
    election::{ElectionSettings, ElectionTiming, TimingSetting},
    experiment::{Arm, ExperimentRecord, ExperimentState, Share, Slots},
    history::{DeploymentRecord, HealthChange, HealthSubject, Standing},
    model::{AliasRecord, Artifact, Measured, ModelRecord, Placement, VersionRecord, VersionState},
    plan::{DoorClaim, PlanKind, PlanRecord, PlanState, StepKind, StepRecord, StepState},
    preferences::PreferencesRecord,
    region::{
        Endpoints, FencingDoor, Health, NodeKind, NodeRecord, NodeStatus, RegionLabels, RegionRecord,
        StoreBinding,
    },
    replica::{ReplicaKey, ReplicaRecord, ReplicaState},
    role::{FailoverMode, Reservation, RoleRecord, TimingPolicy},
    service::{ServiceHealth, ServiceKey, ServiceProtocol, ServiceRecord},
    time::ClockReading,
};

use super::wire::{Malformed, Wire, field, required, wire_enum, wire_kind, wire_oneof, wire_struct};
use crate::{
    r#gen as pb,
    hash::Record,
    state::{ClusterRecord, FormerTtl, RemovedCoordinator, RoleState, WasPublished},
};

wire_enum! {
    Health => pb::Health { Healthy, Unhealthy, Recovering }
    NodeKind => pb::NodeKind { Coordinator, Agent, Witness }
    NodeStatus => pb::NodeStatus { Up, Down, Removed }
    VersionState => pb::VersionState { PendingUpload, Verifying, Ready, Deprecated, Deleted }
    ExperimentState => pb::ExperimentState { Running, Ended }
    ServiceProtocol => pb::ServiceProtocol { Tcp, Udp, Http, Grpc }
    ServiceHealth => pb::ServiceHealth { Healthy, Unhealthy }
    Standing => pb::Standing { Healthy, Unhealthy, Recovering, Up, Down, Removed }
    ReplicaState => pb::ReplicaState { Pending, Copying, Verified, Failed }
    PlanKind => pb::PlanKind { Assign, Failover, Switchover }
    StepKind => pb::StepKind { Detect, VerifyTarget, Fence, Claim, WaitLease, Promote }
    StepState => pb::StepState { Waiting, Running, Done, Failed }
    PlanState => pb::PlanState { Running, Succeeded, Failed }
}

wire_struct! {
    Holder => pb::Holder { region, node, incarnation }
    ClockReading => pb::ClockReading { node, time }
    FencingToken => pb::FencingToken { cluster_id, role, epoch, holder }
    TimingPolicy => pb::TimingPolicy {
        name, heartbeat_interval, probe_interval, probe_failures, promotion_absence, lease_ttl, renew_interval,
        drain_margin,
    }
    StoreBinding => pb::StoreBinding { endpoint, bucket, fencing_door }
    RegionRecord => pb::Region { region, health, health_evidence, health_changed_at, store, modified, labels }
    Endpoints => pb::Endpoints { api, raft, agent, inference }
    NodeRecord => pb::Node { node, region, kind, incarnation, endpoints, status, changed_at, modified, zone }
    ModelRecord => pb::Model {
        name, description, tags, placement, next_version, created_at, created_by, modified,
    }
    VersionKey => pb::VersionKey { model, version }
    Artifact => pb::Artifact { path, size, digest, media_type }
    Measured => pb::Measured { value, at, by }
    VersionRecord => pb::Version {
        key, state, state_reason, source_region, artifacts, framework, metadata, created_at, created_by, modified,
        datasets, metrics,
    }
    AliasRecord => pb::Alias { model, alias, version, reason, moved_at, moved_by, modified }
    Share => pb::Share { version, percent }
    Arm => pb::Arm { version, percent, metrics }
    ExperimentRecord => pb::Experiment {
        model, name, description, state, arms, slots, reason, created_at, created_by, ended_at, modified,
    }
    PreferencesRecord => pb::Preferences { principal, values, changed_at, changed_by, modified }
    DeploymentRecord => pb::Deployment { model, revision, alias, from, to, reason, at, by }
    HealthChange => pb::HealthChange { subject, revision, from, to, evidence, at, by }
    ServiceKey => pb::ServiceKey { service, node, port }
    ServiceRecord => pb::Service {
        key, region, incarnation, address, protocol, labels, health, registered_at, registered_by, modified,
    }
    ReplicaKey => pb::ReplicaKey { version, region }
    ReplicaRecord => pb::Replica {
        key, state, source, bytes_done, attempts, error, started_at, completed_at, modified,
    }
    Reservation => pb::Reservation { plan, target, epoch }
    RoleRecord => pb::Role {
        role, epoch, holder, reservation, candidates, mode, timing, outstanding_ttl, changed_at, reason, modified,
    }
    StepRecord => pb::Step { kind, state, attempt, detail, started_at, finished_at }
    DoorClaim => pb::DoorClaim { door, claimed, error }
    PlanRecord => pb::Plan {
        plan, role, kind, trigger, from, from_epoch, target, target_epoch, steps, state, reason, doors, created_at,
        created_by, finished_at, modified,
    }
    ElectionTiming => pb::ElectionTiming { heartbeat, election_min, election_max }
    TimingSetting => pb::TimingSetting { timing, derived, reason }
    ClusterRecord => pb::Cluster {
        cluster_id, generation, timing, feature_level, created_at, modified, removed, elections, rebinds,
    }
    Rebind => pb::Rebind { cluster, supersedes, generation }
    SignedRebind => pb::SignedRebind { statement, signature }
    RemovedCoordinator => pb::RemovedCoordinator { node, disk, at, by }
    RoleState => pb::RoleState { record, highest_epoch, former_ttl }
    FormerTtl => pb::FormerTtl { ttl, since }
}

wire_oneof!(FailoverMode => pb::failover_mode::Kind {
    Automatic => pb::ModeAutomatic {},
    Manual => pb::ModeManual {},
    Paused => pb::ModePaused { until },
});
wire_oneof!(FencingDoor => pb::fencing_door::Kind {
    Qualified => pb::DoorQualified {},
    Refused => pb::DoorUnfit { reason },
});
wire_kind!(FailoverMode => pb::FailoverMode, FencingDoor => pb::FencingDoor);

/// Nothing is set where nothing is said: so regions give the bytes that they gave before there were labels.
impl Wire<Option<pb::RegionLabels>> for RegionLabels {
    fn to_pb(&self) -> Option<pb::RegionLabels> {
        (*self != Self::default()).then(|| pb::RegionLabels {
            display_name: self.display_name.clone(),
            provider: self.provider.clone(),
            cost_tags: self.cost_tags.clone(),
        })
    }
    fn from_pb(pb: Option<pb::RegionLabels>) -> Result<Self, Malformed> {
        let pb = pb.unwrap_or_default();
        Ok(Self {
            display_name: pb.display_name,
            provider: pb.provider,
            cost_tags: pb.cost_tags,
        })
    }
}

/// Nothing is set where nothing was written: so equal states give the bytes that they gave before there were settings.
impl Wire<Option<pb::ElectionSettings>> for ElectionSettings {
    fn to_pb(&self) -> Option<pb::ElectionSettings> {
        (*self != Self::default()).then(|| pb::ElectionSettings {
            timing: self.timing.to_pb(),
            preferred: self.preferred.to_pb(),
        })
    }
    fn from_pb(pb: Option<pb::ElectionSettings>) -> Result<Self, Malformed> {
        let pb = pb.unwrap_or_default();
        Ok(Self {
            timing: field("timing", pb.timing)?,
            preferred: field("preferred", pb.preferred)?,
        })
    }
}

impl Wire<Vec<u8>> for Slots {
    fn to_pb(&self) -> Vec<u8> {
        self.owners().to_vec()
    }
    fn from_pb(pb: Vec<u8>) -> Result<Self, Malformed> {
        Self::try_from(pb).map_err(Malformed::new)
    }
}

impl Wire<pb::Placement> for Placement {
    fn to_pb(&self) -> pb::Placement {
        match self {
            Self::Everywhere => pb::Placement {
                everywhere: true,
                regions: Vec::new(),
            },
            Self::Regions(regions) => pb::Placement {
                everywhere: false,
                regions: regions.to_pb(),
            },
        }
    }
    fn from_pb(pb: pb::Placement) -> Result<Self, Malformed> {
        if pb.everywhere {
            Ok(Self::Everywhere)
        } else {
            field("regions", pb.regions).map(Self::Regions)
        }
    }
}
required!(Placement => pb::Placement);

/// The canonical bytes of a record that says its key itself: `Domain, by Key => pb::Message, number`.
macro_rules! hashed {
    ($($domain:path, by $key:ty => $pb:path, $table:literal);* $(;)?) => {$(
        impl Record<$key> for $domain {
            const TABLE: u8 = $table;
            fn canonical(&self, _: &$key, out: &mut Vec<u8>) {
                let pb: $pb = self.to_pb();
                append(&pb, out);
            }
        }
    )*};
}
hashed! {
    RegionRecord, by RegionId => pb::Region, 4;
    NodeRecord, by NodeId => pb::Node, 6;
    ModelRecord, by ModelName => pb::Model, 7;
    VersionRecord, by VersionKey => pb::Version, 8;
    AliasRecord, by (ModelName, AliasName) => pb::Alias, 9;
    ReplicaRecord, by ReplicaKey => pb::Replica, 10;
    RoleState, by RoleName => pb::RoleState, 11;
    PlanRecord, by PlanId => pb::Plan, 12;
    ExperimentRecord, by (ModelName, ExperimentName) => pb::Experiment, 70;
    ServiceRecord, by ServiceKey => pb::Service, 75;
    PreferencesRecord, by Principal => pb::Preferences, 77;
    DeploymentRecord, by (ModelName, Revision) => pb::Deployment, 78;
    HealthChange, by (HealthSubject, Revision) => pb::HealthChange, 79;
}

impl Record<NodeId> for Vec<NodeIncarnation> {
    const TABLE: u8 = 15;
    fn canonical(&self, node: &NodeId, out: &mut Vec<u8>) {
        append(&super::snapshot::superseded((node, self)), out);
    }
}

impl Record<ModelName> for WasPublished {
    const TABLE: u8 = 16;
    fn canonical(&self, model: &ModelName, out: &mut Vec<u8>) {
        out.extend_from_slice(model.as_str().as_bytes());
    }
}

fn append(message: &impl prost::Message, out: &mut Vec<u8>) {
    message
        .encode(out)
        .expect("a Vec has room for what is encoded into it");
}
