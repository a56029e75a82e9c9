//! How a coordinator and a member look, in a table and in a document.

use std::{collections::BTreeSet, time::Duration};

use proto::v1::{GetStatusResponse, Member};
use serde_json::{Value, json};
use types::{ByteCount, role::RoleRecord, units::format_duration};

use super::{elections, levels, verdict::Asked};
use crate::output::{or_dash, size};

/// Over [`row`].
pub(super) const HEADINGS: [&str; 12] = [
    "REGION", "NODE", "STATE", "LEADER", "TERM", "LOG", "APPLIED", "QUORUM", "LEVEL", "SESSIONS", "MEMORY",
    "API",
];

/// One coordinator. Of one that does not answer, what the membership says of it.
pub(super) fn row(asked: &Asked, members: &[Member]) -> [String; 12] {
    match &asked.answer {
        Ok(status) => [
            status.region.clone(),
            status.node.clone(),
            state(status),
            or_dash(status.leader_node.as_str()),
            status.term.to_string(),
            status.last_log_index.to_string(),
            status.applied_index.to_string(),
            if status.has_quorum { "yes" } else { "no" }.to_owned(),
            level(status),
            status.sessions.to_string(),
            size(ByteCount(status.resident_bytes)),
            asked.endpoint.clone(),
        ],
        Err(refusal) => {
            let mut row = std::array::from_fn(|_| "-".to_owned());
            if let Some(member) = asked.member(members) {
                row[0].clone_from(&member.region);
                row[1].clone_from(&member.node);
            }
            row[2] = refusal.reason.to_string();
            row[11].clone_from(&asked.endpoint);
            row
        }
    }
}

/// What it does in Raft, and whether that is all that it does.
fn state(status: &GetStatusResponse) -> String {
    let mark = if status.witness { " (witness)" } else { "" };
    format!("{}{mark}", status.raft_state)
}

/// A witness has no state from which it could know the cluster's.
fn level(status: &GetStatusResponse) -> String {
    match status.witness {
        true => format!("- (knows {})", status.supported_level),
        false => levels::cell(status.feature_level, status.supported_level),
    }
}

/// As [`row`], with everything.
pub(super) fn document(asked: &Asked, members: &[Member]) -> Value {
    match &asked.answer {
        Ok(status) => json!({
            "endpoint": asked.endpoint,
            "reachable": true,
            "cluster_id": status.header.as_ref().map(|h| &h.cluster_id),
            "node": status.node,
            "region": status.region,
            "raft_state": status.raft_state,
            "witness": status.witness,
            "term": status.term,
            "leader_node": status.leader_node,
            "leader_api_endpoint": status.leader_api_endpoint,
            "leader_silent": status.leader_silent_millis.map(duration),
            "last_log_index": status.last_log_index,
            "applied_index": status.applied_index,
            "snapshot_index": status.snapshot_index,
            "has_quorum": status.has_quorum,
            "state_suspect": status.state_suspect,
            "state_agreed_revision": status.state_agreed_revision,
            "state_differs_at": status.state_differs_at,
            "version": status.version,
            // One that has no state does not know.
            "feature_level": (!status.witness).then_some(status.feature_level),
            "supported_level": status.supported_level,
            "election_timing": status.election_timing.as_ref().map(elections::timing_document),
            "sessions": status.sessions,
            "resident_bytes": status.resident_bytes,
        }),
        Err(refusal) => {
            let member = asked.member(members);
            json!({
                "endpoint": asked.endpoint,
                "reachable": false,
                "node": member.map(|m| &m.node),
                "region": member.map(|m| &m.region),
                "reason": refusal.reason,
                "message": refusal.message,
            })
        }
    }
}

/// What is wrong with states: who does not believe its own, and whom others found wrong.
pub(super) fn states(asked: &[Asked]) -> Vec<String> {
    let answers = || asked.iter().filter_map(|a| a.answer.as_ref().ok());
    let suspects = answers().filter_map(|s| Some((s, s.state_suspect.as_ref()?)));
    let suspects = suspects.map(|(s, why)| format!("{} serves nobody: {why}", s.node));
    let differing: BTreeSet<_> = answers().flat_map(|s| &s.state_differs_at).collect();
    let differing = differing.into_iter().map(|node| {
        format!("{node} has another state than the majority; it replaces it by itself, and its log says how that goes")
    });
    suspects.chain(differing).collect()
}

/// A role whose failovers are held.
pub(super) fn paused(role: &RoleRecord) -> Value {
    let mut paused = json!(role.mode);
    paused["role"] = json!(role.role);
    paused
}

/// The same for people.
pub(super) fn paused_line(role: &RoleRecord) -> String {
    format!(
        "{} is {}: no failover starts by itself; `regent primary resume {}` ends that",
        role.role, role.mode, role.role
    )
}

/// Where nobody could say; null in the document.
pub(super) const PAUSED_UNKNOWN: &str =
    "whether failovers of a role are paused is unknown: that takes a quorum";

/// A member, as the leader knows it. What nobody who answers knows is null.
pub(super) fn member(member: &Member) -> Value {
    json!({
        "node": member.node,
        "region": member.region,
        "raft_id": member.raft_id,
        "api_endpoint": member.api_endpoint,
        "raft_endpoint": member.raft_endpoint,
        "voter": member.voter,
        "witness": member.witness,
        "leader": member.leader,
        "matched_index": member.matched_index,
        "silent": member.silent_millis.map(duration),
        "lag": member.lag_millis.map(duration),
        "disk_id": member.disk_id,
    })
}

pub(super) fn duration(millis: u64) -> String {
    format_duration(Duration::from_millis(millis))
}
