//! openraft's types ↔ our own protobuf, for the wire and for the log on disk.
//!
//! Invariant: what goes out comes back equal; a message that lacks a needed field is refused, naming it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::{EntryPayload, impls::leader_id_std::LeaderId, raft as rpc, vote::RaftVote as _};
use policy::standing::{Ballot, Boot, LogPoint, Remembered, Stored};
use proto::raft_v1 as pb;
use types::DiskId;

use super::types::{
    EntryBytes, LogEntry, LogId, Membership, Peer, SnapshotMeta, StoredMembership, TypeConfig, Vote, log_id,
    term_of,
};

/// A message or record that says too little, or nonsense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed raft record: {0}")]
pub(crate) struct Malformed(pub(crate) String);

pub(crate) fn missing(field: &'static str) -> Malformed {
    Malformed(format!("{field} is missing"))
}

pub(crate) fn log_id_out(id: &LogId) -> pb::LogId {
    pb::LogId {
        term: term_of(id),
        index: id.index(),
    }
}

pub(crate) fn log_id_in(id: pb::LogId) -> LogId {
    log_id(id.term, id.index)
}

pub(crate) fn vote_out(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn vote_in(vote: Option<pb::Vote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or_else(|| missing("vote"))?;
    let leader = LeaderId {
        term: vote.term,
        voted_for: vote.node,
    };
    Ok(Vote::from_leader_id(leader, vote.committed))
}

/// A node's vote for itself, before anybody has granted it.
pub(crate) fn own_vote(term: u64, node: u64) -> Vote {
    let leader = LeaderId {
        term,
        voted_for: node,
    };
    Vote::from_leader_id(leader, false)
}

pub(crate) fn ballot_of(vote: &Vote) -> Ballot {
    Ballot {
        term: vote.leader_id.term,
        voted_for: vote.leader_id.voted_for,
        elected: vote.committed,
    }
}

pub(crate) fn ballot_out(ballot: Ballot) -> pb::Vote {
    pb::Vote {
        term: ballot.term,
        node: ballot.voted_for,
        committed: ballot.elected,
    }
}

pub(crate) fn ballot_in(vote: &pb::Vote) -> Ballot {
    Ballot {
        term: vote.term,
        voted_for: vote.node,
        elected: vote.committed,
    }
}

pub(crate) fn boot_out(boot: Boot) -> pb::Boot {
    pb::Boot {
        count: boot.count,
        run: boot.run,
    }
}

pub(crate) fn boot_in(boot: &pb::Boot) -> Boot {
    Boot {
        count: boot.count,
        run: boot.run,
    }
}

pub(crate) fn point_out(point: LogPoint) -> pb::LogId {
    pb::LogId {
        term: point.term,
        index: point.index,
    }
}

pub(crate) fn point_in(id: &pb::LogId) -> LogPoint {
    LogPoint {
        term: id.term,
        index: id.index,
    }
}

pub(crate) fn remembered_out(remembered: &Remembered) -> pb::Remembered {
    pb::Remembered {
        boot: remembered.boot.map(boot_out),
        vote: remembered.ballot.map(ballot_out),
        stored: remembered.stored.map(|stored| pb::StoredUnder {
            under: stored.under,
            upto: Some(point_out(stored.upto)),
        }),
    }
}

/// What is missing was not heard.
pub(crate) fn remembered_in(remembered: &pb::Remembered) -> Remembered {
    let stored = remembered.stored.as_ref();
    Remembered {
        boot: remembered.boot.as_ref().map(boot_in),
        ballot: remembered.vote.as_ref().map(ballot_in),
        stored: stored.and_then(|stored| {
            Some(Stored {
                under: stored.under,
                upto: point_in(stored.upto.as_ref()?),
            })
        }),
    }
}

/// Empty where there is none.
pub(crate) fn disk_out(disk: Option<DiskId>) -> Vec<u8> {
    disk.map_or_else(Vec::new, |disk| disk.to_bytes().to_vec())
}

pub(crate) fn peer_out(raft_id: u64, peer: &Peer) -> pb::Peer {
    pb::Peer {
        raft_id,
        node: peer.node.to_string(),
        region: peer.region.to_string(),
        raft_endpoint: peer.raft_endpoint.clone(),
        api_endpoint: peer.api_endpoint.clone(),
        disk: disk_out(peer.disk),
        witness: peer.witness,
    }
}

pub(crate) fn peer_in(peer: pb::Peer) -> Result<(u64, Peer), Malformed> {
    let malformed = |e: types::InvalidId| Malformed(e.to_string());
    let out = Peer {
        node: peer.node.parse().map_err(malformed)?,
        region: peer.region.parse().map_err(malformed)?,
        raft_endpoint: peer.raft_endpoint,
        api_endpoint: peer.api_endpoint,
        disk: match &peer.disk[..] {
            [] => None,
            disk => Some(DiskId::from_slice(disk).map_err(malformed)?),
        },
        witness: peer.witness,
    };
    Ok((peer.raft_id, out))
}

pub(crate) fn membership_out(membership: &Membership) -> pb::Membership {
    let set = |ids: &BTreeSet<u64>| pb::VoterSet {
        raft_ids: ids.iter().copied().collect(),
    };
    pb::Membership {
        voters: membership.get_joint_config().iter().map(set).collect(),
        peers: membership.nodes().map(|(id, peer)| peer_out(*id, peer)).collect(),
    }
}

pub(crate) fn membership_in(membership: pb::Membership) -> Result<Membership, Malformed> {
    let voters: Vec<BTreeSet<u64>> = membership
        .voters
        .into_iter()
        .map(|set| set.raft_ids.into_iter().collect())
        .collect();
    let peers = membership.peers.into_iter().map(peer_in);
    let peers = peers.collect::<Result<BTreeMap<_, _>, _>>()?;
    if voters.is_empty() {
        // Before the first entry; openraft's constructor would refuse it.
        return Ok(Membership::default());
    }
    Membership::new(voters, peers).map_err(|e| Malformed(e.to_string()))
}

pub(crate) fn stored_membership_out(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_out),
        membership: Some(membership_out(stored.membership())),
    }
}

pub(crate) fn stored_membership_in(stored: pb::StoredMembership) -> Result<StoredMembership, Malformed> {
    let membership = stored.membership.ok_or_else(|| missing("membership"))?;
    Ok(StoredMembership::new(
        stored.log_id.map(log_id_in),
        membership_in(membership)?,
    ))
}

pub(crate) fn snapshot_meta_out(meta: &SnapshotMeta) -> pb::SnapshotMeta {
    pb::SnapshotMeta {
        last_log_id: meta.last_log_id.as_ref().map(log_id_out),
        membership: Some(stored_membership_out(&meta.last_membership)),
    }
}

pub(crate) fn snapshot_meta_in(meta: pb::SnapshotMeta) -> Result<SnapshotMeta, Malformed> {
    let membership = meta.membership.ok_or_else(|| missing("membership"))?;
    Ok(SnapshotMeta {
        last_log_id: meta.last_log_id.map(log_id_in),
        last_membership: stored_membership_in(membership)?,
    })
}

pub(crate) fn payload_out(payload: &EntryPayload<EntryBytes, u64, Peer>) -> pb::Payload {
    use pb::payload::Kind;
    let kind = match payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(entry) => Some(Kind::Command(entry.0.to_vec())),
        EntryPayload::Membership(membership) => Some(Kind::Membership(membership_out(membership))),
    };
    pb::Payload { kind }
}

pub(crate) fn payload_in(payload: pb::Payload) -> Result<EntryPayload<EntryBytes, u64, Peer>, Malformed> {
    use pb::payload::Kind;
    Ok(match payload.kind {
        None => EntryPayload::Blank,
        Some(Kind::Command(bytes)) => EntryPayload::Normal(EntryBytes(Bytes::from(bytes))),
        Some(Kind::Membership(membership)) => EntryPayload::Membership(membership_in(membership)?),
    })
}

fn entry_out(entry: &LogEntry) -> pb::Entry {
    pb::Entry {
        log_id: Some(log_id_out(&entry.log_id)),
        payload: Some(payload_out(&entry.payload)),
    }
}

fn entry_in(entry: pb::Entry) -> Result<LogEntry, Malformed> {
    Ok(LogEntry {
        log_id: log_id_in(entry.log_id.ok_or_else(|| missing("log_id"))?),
        payload: payload_in(entry.payload.ok_or_else(|| missing("payload"))?)?,
    })
}

pub(crate) fn append_out(
    request: &rpc::AppendEntriesRequest<TypeConfig>,
    route: Option<pb::Route>,
) -> pb::AppendRequest {
    pb::AppendRequest {
        route,
        vote: Some(vote_out(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_out),
        entries: request.entries.iter().map(entry_out).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id_out),
    }
}

pub(crate) fn append_in(
    request: pb::AppendRequest,
) -> Result<rpc::AppendEntriesRequest<TypeConfig>, Malformed> {
    Ok(rpc::AppendEntriesRequest {
        vote: vote_in(request.vote)?,
        prev_log_id: request.prev_log_id.map(log_id_in),
        entries: request
            .entries
            .into_iter()
            .map(entry_in)
            .collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.map(log_id_in),
    })
}

pub(crate) fn stream_result_out(result: rpc::StreamAppendResult<TypeConfig>) -> pb::AppendResponse {
    use pb::append_response::Result as Out;
    let result = match result {
        Ok(upto) => Out::Stored(pb::Stored {
            upto: upto.as_ref().map(log_id_out),
        }),
        Err(rpc::StreamAppendError::Conflict(at)) => Out::Conflict(log_id_out(&at)),
        Err(rpc::StreamAppendError::HigherVote(vote)) => Out::HigherVote(vote_out(&vote)),
    };
    pb::AppendResponse { result: Some(result) }
}

pub(crate) fn stream_result_in(
    response: pb::AppendResponse,
) -> Result<rpc::StreamAppendResult<TypeConfig>, Malformed> {
    use pb::append_response::Result as In;
    Ok(match response.result.ok_or_else(|| missing("result"))? {
        In::Stored(stored) => Ok(stored.upto.map(log_id_in)),
        In::Conflict(at) => Err(rpc::StreamAppendError::Conflict(log_id_in(at))),
        In::HigherVote(vote) => Err(rpc::StreamAppendError::HigherVote(vote_in(Some(vote))?)),
    })
}

pub(crate) fn vote_request_out(request: &rpc::VoteRequest<TypeConfig>, route: pb::Route) -> pb::VoteRequest {
    pb::VoteRequest {
        route: Some(route),
        vote: Some(vote_out(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_in(request: pb::VoteRequest) -> Result<rpc::VoteRequest<TypeConfig>, Malformed> {
    let mut out = rpc::VoteRequest::new(vote_in(request.vote)?, request.last_log_id.map(log_id_in));
    out.leadership_transfer = request.leadership_transfer;
    Ok(out)
}

pub(crate) fn vote_response_out(response: &rpc::VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote_out(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(log_id_out),
    }
}

pub(crate) fn vote_response_in(
    response: pb::VoteResponse,
) -> Result<rpc::VoteResponse<TypeConfig>, Malformed> {
    let vote = vote_in(response.vote)?;
    Ok(rpc::VoteResponse::new(
        vote,
        response.last_log_id.map(log_id_in),
        response.granted,
    ))
}
