//! `ClusterService`: how the coordinators stand, taking one in, settings that hold everywhere.

use std::{sync::Arc, time::Duration};

use policy::membership::Survival;
use proto::{
    convert::{primaries as conv, text},
    v1::{self as pb, cluster_service_server::ClusterService},
};
use state::{Command, ControlState, Feature, Rejection, RemovedCoordinator};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use types::{
    ClusterId, DiskId, NodeId, NodeIncarnation, Principal, Reason, RegionId, ZoneName,
    election::{ElectionSettings, ElectionTiming, TimingSetting},
    reason::Refusal,
    region::{Endpoints, NodeKind},
};

pub(crate) use super::snapshots::SavedStream;
use super::{Api, Manner, caller, header, status};
use crate::{
    authz::Caller,
    raft::{JoinRequest, Member, Peer, ProposeError, RaftNode, RemoveRequest},
};

type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Clone, Debug)]
pub struct Cluster(pub Arc<Api>);

/// A node that may be left out.
fn optional_node(field: &'static str, name: &str) -> Result<Option<NodeId>, Refusal> {
    match name {
        "" => Ok(None),
        name => text(field, name).map(Some),
    }
}

fn member(m: &Member) -> pb::Member {
    pb::Member {
        node: m.peer.node.to_string(),
        region: m.peer.region.to_string(),
        raft_id: m.raft_id,
        api_endpoint: m.peer.api_endpoint.clone(),
        raft_endpoint: m.peer.raft_endpoint.clone(),
        voter: m.voter,
        leader: m.leader,
        matched_index: m.matched.map(|revision| revision.0),
        silent_millis: m.silent_millis,
        lag_millis: m.lag.map(millis),
        disk_id: disk(m.peer.disk),
        witness: m.peer.witness,
    }
}

/// Empty where there is none.
fn disk(disk: Option<DiskId>) -> String {
    disk.map(|disk| disk.to_string()).unwrap_or_default()
}

fn removed(r: &RemovedCoordinator) -> pb::RemovedMember {
    pb::RemovedMember {
        node: r.node.to_string(),
        disk_id: disk(r.disk),
        removed_at_millis: r.at.0,
        removed_by: r.by.to_string(),
    }
}

/// Which clusters this one goes on from.
fn rebinds(state: &ControlState) -> Vec<pb::SignedRebind> {
    let kept = state.cluster().map(|c| c.rebinds.as_slice()).unwrap_or_default();
    kept.iter().map(Into::into).collect()
}

fn survival(survival: &Survival) -> pb::RegionSurvival {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    match survival {
        Survival::AnyRegion => pb::RegionSurvival {
            survives: true,
            ..pb::RegionSurvival::default()
        },
        Survival::DiesWith { region, left, needed } => pb::RegionSurvival {
            survives: false,
            region: region.to_string(),
            left: count(*left),
            needed: count(*needed),
        },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes of this process in memory; 0 where the system does not say.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: Option<u64> = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// The timing of elections, as it travels.
fn election_timing(timing: &ElectionTiming) -> pb::ElectionTiming {
    pb::ElectionTiming {
        heartbeat_millis: millis(timing.heartbeat),
        election_min_millis: millis(timing.election_min),
        election_max_millis: millis(timing.election_max),
    }
}

fn election_timing_in(timing: pb::ElectionTiming) -> ElectionTiming {
    ElectionTiming {
        heartbeat: Duration::from_millis(timing.heartbeat_millis),
        election_min: Duration::from_millis(timing.election_min_millis),
        election_max: Duration::from_millis(timing.election_max_millis),
    }
}

fn election_setting(setting: &TimingSetting) -> pb::ElectionSetting {
    pb::ElectionSetting {
        timing: Some(election_timing(&setting.timing)),
        derived: setting.derived,
        reason: setting.reason.clone(),
    }
}

fn preferred(settings: &ElectionSettings) -> Vec<String> {
    settings.preferred.iter().map(ToString::to_string).collect()
}

fn round_trip((from, to, far): &(NodeId, NodeId, Duration)) -> pb::RoundTrip {
    pb::RoundTrip {
        from_node: from.to_string(),
        to_node: to.to_string(),
        micros: u64::try_from(far.as_micros()).unwrap_or(u64::MAX),
    }
}

fn settings(state: &ControlState, header: pb::ResponseHeader) -> Result<pb::Settings, Status> {
    let cluster = state.cluster().ok_or_else(|| {
        status(Refusal::new(
            Reason::ClusterState,
            "the cluster is not bootstrapped",
        ))
    })?;
    Ok(pb::Settings {
        header: Some(header),
        timing: Some((&cluster.timing).into()),
        generation: cluster.generation,
        feature_level: cluster.feature_level,
        election: cluster.elections.timing.as_ref().map(election_setting),
        preferred_regions: preferred(&cluster.elections),
        modified_revision: cluster.modified.0,
    })
}

impl Api {
    /// Names the cluster to a coordinator that is new to it.
    async fn welcome(&self, peer: &Peer, deadline: Instant) -> Result<ClusterId, Status> {
        let welcome = self.raft.welcome(peer, deadline).await;
        welcome.map_err(|e| status(e.to_refusal()))
    }

    /// Makes a coordinator a member, and enters it into the registry.
    async fn take_in(
        &self,
        caller: &Caller,
        request: JoinRequest,
        incarnation: NodeIncarnation,
        zone: Option<ZoneName>,
    ) -> Result<Vec<Member>, Status> {
        let peer = request.peer.clone();
        let members = self.raft.add_member(request, caller.deadline).await;
        let members = members.map_err(|e| status(e.to_refusal()))?;
        self.register_coordinator(caller, &peer, incarnation, zone)
            .await?;
        Ok(members)
    }

    /// Enters a coordinator's region and run into the registry, as far as they are not there yet.
    pub(crate) async fn register_coordinator(
        &self,
        caller: &Caller,
        peer: &Peer,
        incarnation: NodeIncarnation,
        zone: Option<ZoneName>,
    ) -> Result<(), Status> {
        let region = Command::RegisterRegion {
            region: peer.region.clone(),
        };
        let node = Command::RegisterNode {
            node: peer.node.clone(),
            region: peer.region.clone(),
            kind: if peer.witness {
                NodeKind::Witness
            } else {
                NodeKind::Coordinator
            },
            incarnation,
            endpoints: Endpoints {
                api: peer.api_endpoint.clone(),
                raft: peer.raft_endpoint.clone(),
                ..Endpoints::default()
            },
            zone: self.may_say(zone),
        };
        // Nobody is served where a witness stands, so it makes no region.
        let region = (!peer.witness).then_some(region);
        self.register(caller, &peer.region, &peer.node, region, node)
            .await
    }

    /// The zone of a node, as far as the cluster knows of zones: a build from before could not read the entry.
    pub(crate) fn may_say(&self, zone: Option<ZoneName>) -> Option<ZoneName> {
        zone.filter(|_| self.raft.read(|s| s.features().has(Feature::Zones)))
    }

    /// The zone that the registry has of a node.
    pub(crate) fn zone_of(&self, node: &NodeId) -> Option<ZoneName> {
        self.raft
            .read(|s| s.node(node).and_then(|known| known.zone.clone()))
    }

    /// Proposes a region, if there is to be one and it is new, and a run of a node, if it is not the one that the registry has.
    pub(crate) async fn register(
        &self,
        caller: &Caller,
        region: &RegionId,
        node: &NodeId,
        region_command: Option<Command>,
        node_command: Command,
    ) -> Result<(), Status> {
        if let Some(command) = region_command.filter(|_| self.raft.read(|s| s.region(region).is_none())) {
            self.propose_own(caller, command).await?;
        }
        if self.raft.read(|s| !has_run(s, node, &node_command)) {
            self.propose_own(caller, node_command).await?;
        }
        Ok(())
    }

    /// Proposes for a caller what follows from the call itself. Somebody else's equal success is one too.
    async fn propose_own(&self, caller: &Caller, command: Command) -> Result<(), Status> {
        let actor = caller.principal.clone();
        let request_id = self.raft.own_request_id(caller.deadline).await;
        let proposed = self
            .raft
            .propose(actor, request_id, command, caller.deadline)
            .await;
        match proposed.map_err(|e| self.refuse(&e))?.outcome {
            Ok(_) | Err(Rejection::AlreadyExists { .. }) => Ok(()),
            Err(rejection) => Err(status(rejection.to_refusal())),
        }
    }
}

/// Whether the registry has exactly this run, up, with these endpoints and this zone: then nothing is proposed.
fn has_run(state: &ControlState, node: &NodeId, command: &Command) -> bool {
    let Command::RegisterNode {
        incarnation,
        endpoints,
        kind,
        region,
        zone,
        ..
    } = command
    else {
        return false;
    };
    state.node(node).is_some_and(|known| {
        known.incarnation == *incarnation
            && &known.endpoints == endpoints
            && known.kind == *kind
            && &known.region == region
            && &known.zone == zone
            && known.status == types::region::NodeStatus::Up
    })
}

/// Who asks to be taken in, and the cluster of its disk.
fn join_request(principal: &Principal, r: &pb::JoinRequest) -> Result<(Peer, Option<ClusterId>), Status> {
    let node = text("node", &r.node).map_err(status)?;
    let region = text("region", &r.region).map_err(status)?;
    let claimed = Principal::Coordinator {
        region: RegionId::clone(&region),
        node: NodeId::clone(&node),
    };
    if &claimed != principal {
        let why = format!("{principal} asks to be taken in as {claimed}");
        return Err(status(
            Refusal::new(Reason::PermissionDenied, why).with("actor", principal),
        ));
    }
    let cluster_id = match r.cluster_id.as_str() {
        "" => None,
        id => Some(text("cluster_id", id).map_err(status)?),
    };
    let disk = match r.disk_id.as_str() {
        "" => None,
        id => Some(text("disk_id", id).map_err(status)?),
    };
    let peer = Peer {
        node,
        region,
        raft_endpoint: r.raft_endpoint.clone(),
        api_endpoint: r.api_endpoint.clone(),
        disk,
        witness: r.witness,
    };
    Ok((peer, cluster_id))
}

fn remove_request(caller: &Caller, r: &pb::RemoveMemberRequest) -> Result<RemoveRequest, Status> {
    let disk = match r.disk_id.as_str() {
        "" => None,
        id => Some(text("disk_id", id).map_err(status)?),
    };
    Ok(RemoveRequest {
        node: text("node", &r.node).map_err(status)?,
        disk,
        accept_region_loss: r.accept_region_loss,
        validate_only: r.validate_only,
        actor: caller.principal.clone(),
        request_id: proto::convert::request_id(&r.request_id).map_err(status)?,
    })
}

/// How a coordinator stands, by itself; needs no quorum. Of a witness all that it knows: it has no state.
pub(crate) fn standing(raft: &RaftNode, sessions: usize) -> pb::GetStatusResponse {
    let status = raft.status();
    let leader = status.leader.as_ref();
    let elections = raft.read(|s| s.cluster().map(|c| c.elections.clone()).unwrap_or_default());
    pb::GetStatusResponse {
        header: Some(header(raft, status.applied)),
        node: status.node.to_string(),
        region: raft.own_peer().region.to_string(),
        term: status.term,
        raft_state: status.role.as_str().to_owned(),
        leader_node: leader.map(|l| l.node.to_string()).unwrap_or_default(),
        leader_api_endpoint: leader.map(|l| l.api_endpoint.clone()).unwrap_or_default(),
        members: status.members.iter().map(member).collect(),
        last_log_index: status.last_log.0,
        applied_index: status.applied.0,
        snapshot_index: status.snapshot.0,
        has_quorum: status.has_quorum,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        resident_bytes: resident_bytes(),
        leader_silent_millis: status.leader_silent.map(millis),
        election_due_millis: status.election_due.map(millis),
        feature_level: raft.read(|s| s.features().level()),
        supported_level: raft.supported_level(),
        removed: raft.read(|s| s.removed_coordinators().iter().map(removed).collect()),
        region_survival: raft.region_survival().as_ref().map(survival),
        changing_membership: raft.is_changing_membership(),
        election_timing: Some(election_timing(&status.timing)),
        election_setting: elections.timing.as_ref().map(election_setting),
        round_trips: status.round_trips.iter().map(round_trip).collect(),
        preferred_regions: preferred(&elections),
        rebinds: raft.read(rebinds),
        generation: raft.read(|s| s.cluster().map_or(0, |c| c.generation)),
        state_suspect: status.suspicion,
        state_agreed_revision: status.compared.agreed.0,
        state_differs_at: status
            .compared
            .differing
            .iter()
            .map(ToString::to_string)
            .collect(),
        witness: raft.is_witness(),
    }
}

impl Cluster {
    /// Changes a setting and answers all of them.
    async fn set(&self, caller: &Caller, manner: Manner, command: Command) -> Answer<pb::Settings> {
        let done = self.0.propose(caller, manner, command).await?;
        let header = done.header.clone();
        Ok(Response::new(done.read(&self.0, |s| settings(s, header))?))
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    type SaveSnapshotStream = SavedStream;

    async fn save_snapshot(&self, request: Request<pb::SaveSnapshotRequest>) -> Answer<SavedStream> {
        let caller = caller(&request)?;
        let read = request.into_inner().read;
        self.0.save_snapshot(&caller, read).await.map(Response::new)
    }

    async fn get_status(&self, _request: Request<pb::GetStatusRequest>) -> Answer<pb::GetStatusResponse> {
        Ok(Response::new(standing(
            &self.0.raft,
            self.0.sessions.open_count(),
        )))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Answer<pb::JoinResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let (peer, cluster_id) = join_request(&caller.principal, &r)?;
        let incarnation = text("incarnation", &r.incarnation).map_err(status)?;
        let zone = proto::convert::regions::zone(&r.zone).map_err(status)?;
        let node = peer.node.clone();
        self.0.require_leader()?;
        let (cluster_id, members) = match cluster_id {
            None => (self.0.welcome(&peer, caller.deadline).await?, Vec::new()),
            Some(cluster_id) => {
                let request = JoinRequest {
                    peer,
                    cluster_id,
                    supported_level: r.supported_level,
                };
                let taken_in = self.0.take_in(&caller, request, incarnation, zone);
                (cluster_id, taken_in.await?)
            }
        };
        Ok(Response::new(pb::JoinResponse {
            header: Some(self.0.header(self.0.raft.status().applied)),
            members: members.iter().map(member).collect(),
            cluster_id: cluster_id.to_string(),
            zone: proto::convert::regions::zone_to_pb(self.0.zone_of(&node).as_ref()),
        }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<pb::TransferLeadershipRequest>,
    ) -> Answer<pb::TransferLeadershipResponse> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let to = optional_node("to_node", &r.to_node).map_err(status)?;
        let from = optional_node("from_node", &r.from_node).map_err(status)?;
        let raft = &self.0.raft;
        // Whoever says that it leads, and that there is nothing to do, has to be right.
        let confirmed = raft.confirm_leadership(caller.deadline).await;
        let header = pb::ResponseHeader {
            validated_only: r.validate_only,
            ..self.0.header(confirmed.map_err(|e| self.0.refuse(&e))?)
        };
        let own = &raft.own_peer().node;
        // Its own term, or it leads no more.
        let leadership = raft.leadership().borrow().clone();
        if !leadership.is_leader {
            let leader = leadership.leader;
            return Err(self.0.refuse(&ProposeError::NotLeader { leader }));
        }
        let term = leadership.term;
        let is_another = from.is_some_and(|from| from != *own) || (r.from_term > 0 && r.from_term != term);
        let leads_already = is_another || to.as_ref() == Some(own);
        let leader = if leads_already {
            own.clone()
        } else if r.validate_only {
            raft.next_leader(to.as_ref())
                .map_err(|e| self.0.refuse(&e))?
                .peer
                .node
        } else {
            let transferred = raft.transfer_leadership(to, caller.deadline).await;
            transferred.map_err(|e| self.0.refuse(&e))?.node
        };
        Ok(Response::new(pb::TransferLeadershipResponse {
            leader_node: leader.to_string(),
            from_node: own.to_string(),
            header: Some(header),
            from_term: term,
        }))
    }

    async fn remove_member(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Answer<pb::RemoveMemberResponse> {
        let caller = caller(&request)?;
        let request = remove_request(&caller, &request.into_inner())?;
        let validated_only = request.validate_only;
        self.0.require_leader()?;
        let removed = self.0.raft.remove_member(request, caller.deadline).await;
        let removal = removed.map_err(|e| status(e.to_refusal()))?;
        let header = pb::ResponseHeader {
            validated_only,
            ..self.0.header(self.0.raft.applied())
        };
        Ok(Response::new(pb::RemoveMemberResponse {
            header: Some(header),
            members: removal.members.iter().map(member).collect(),
            warnings: removal.warnings,
            steps: removal.steps.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn get_settings(&self, request: Request<pb::GetSettingsRequest>) -> Answer<pb::Settings> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let (header, found) = self
            .0
            .read(&caller, r.read, |s| settings(s, pb::ResponseHeader::default()))
            .await?;
        Ok(Response::new(pb::Settings {
            header: Some(header),
            ..found?
        }))
    }

    async fn set_timing(&self, request: Request<pb::SetTimingRequest>) -> Answer<pb::Settings> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let manner = manner.validate_only(r.validate_only);
        let command = Command::SetTiming {
            timing: conv::timing(r.timing).map_err(status)?,
        };
        self.set(&caller, manner, command).await
    }

    async fn set_election_timing(
        &self,
        request: Request<pb::SetElectionTimingRequest>,
    ) -> Answer<pb::Settings> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let manner = manner.validate_only(r.validate_only);
        let verb = if r.derived { "derived again" } else { "fixed" };
        let command = Command::SetElectionTiming {
            timing: r.timing.map(election_timing_in),
            derived: r.derived,
            reason: format!("{verb} by {}", caller.principal),
        };
        self.set(&caller, manner, command).await
    }

    async fn set_leader_preference(
        &self,
        request: Request<pb::SetLeaderPreferenceRequest>,
    ) -> Answer<pb::Settings> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let manner = manner.validate_only(r.validate_only);
        let regions = r.regions.iter().map(|name| text("regions", name).map_err(status));
        let command = Command::SetLeaderPreference {
            regions: regions.collect::<Result<_, _>>()?,
        };
        self.set(&caller, manner, command).await
    }

    async fn record_rebind(&self, request: Request<pb::RecordRebindRequest>) -> Answer<pb::Rebinds> {
        let caller = caller(&request)?;
        let r = request.into_inner();
        let manner = Manner::of(&r.request_id).etag(&r.etag)?;
        let manner = manner.validate_only(r.validate_only);
        let rebind = proto::convert::required("rebind", r.rebind).map_err(status)?;
        let command = Command::RecordRebind {
            rebind: proto::convert::rebinds::rebind(rebind).map_err(status)?,
        };
        let done = self.0.propose(&caller, manner, command).await?;
        let header = done.header.clone();
        let rebinds = done.read(&self.0, |s| Ok::<_, Status>(rebinds(s)))?;
        Ok(Response::new(pb::Rebinds {
            header: Some(header),
            rebinds,
        }))
    }
}
