//! `regent cluster status`: what each coordinator says of itself, also without a quorum.

use std::time::Duration;

use client::{Client, Context};
use futures::future::join_all;
use proto::v1::{GetStatusResponse, Member};
use serde_json::{Value, json};
use types::{ByteCount, reason::Refusal, units::format_duration};

use crate::{
    args::{ClusterCommand, Shared},
    context,
    error::{Failure, NOBODY_ANSWERS},
    exit::Exit,
    output::{conclude, or_dash, size, table},
};

/// Runs one.
pub(crate) async fn run(command: ClusterCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status => status(&shared).await,
    }
}

/// One coordinator's answer, or why there is none.
struct Asked {
    endpoint: String,
    answer: Result<GetStatusResponse, Refusal>,
}

async fn status(shared: &Shared) -> Result<(), Failure> {
    let context = context::load(shared)?;
    let asked = join_all(context.endpoints.iter().map(|e| ask(e, &context, shared))).await;
    let has_quorum = has_quorum(&asked);
    let members = members(&asked);
    let document = json!({
        "has_quorum": has_quorum,
        "coordinators": asked.iter().map(document).collect::<Vec<_>>(),
        "members": members.iter().map(member).collect::<Vec<_>>(),
    });
    let failure = (!has_quorum).then(|| without_quorum(&asked));
    conclude(shared.output, document, failure, || {
        let headings = [
            "REGION", "NODE", "STATE", "LEADER", "TERM", "LOG", "APPLIED", "QUORUM", "SESSIONS", "MEMORY",
            "API",
        ];
        table(headings, asked.iter().map(row))
    })
}

/// Whether a majority stands behind a leader. A follower only repeats what it heard of its leader; where that one was
/// asked too and does not answer, its word is not news.
fn has_quorum(asked: &[Asked]) -> bool {
    let is_silent = |leader: &str| asked.iter().any(|a| a.endpoint == leader && a.answer.is_err());
    let answers = asked.iter().filter_map(|a| a.answer.as_ref().ok());
    answers
        .filter(|status| status.has_quorum)
        .any(|status| !is_silent(&status.leader_api_endpoint))
}

/// Why there is no quorum: nobody listens, nobody answers, or those who answer are too few.
fn without_quorum(asked: &[Asked]) -> Failure {
    let answering = asked.iter().filter(|a| a.answer.is_ok()).count();
    if answering > 0 {
        let message = format!(
            "no coordinator has a quorum: {answering} of {} answer",
            asked.len()
        );
        return Failure::new(Exit::Unavailable, message).remedy(
            "start or reach the others: changes need a majority; reads do without one, with --stale",
        );
    }
    let each: Vec<&str> = asked
        .iter()
        .filter_map(|a| a.answer.as_ref().err())
        .map(|refusal| refusal.message.as_str())
        .collect();
    let message = format!("no coordinator answers: {}", each.join("; "));
    Failure::new(Exit::Unavailable, message).remedy(NOBODY_ANSWERS)
}

/// Asks this coordinator and no other.
async fn ask(endpoint: &str, context: &Context, shared: &Shared) -> Asked {
    let alone = Context {
        endpoints: vec![endpoint.to_owned()],
        ..context.clone()
    };
    let answer = match context::connect(&alone, shared) {
        Ok(client) => own_status(&client, shared).await,
        Err(failure) => Err(Refusal::new(types::Reason::Unreachable, failure.message)),
    };
    Asked {
        endpoint: endpoint.to_owned(),
        answer,
    }
}

/// A dead coordinator must not hold the table up for the whole time limit.
async fn own_status(client: &Client, shared: &Shared) -> Result<GetStatusResponse, Refusal> {
    let limit = shared.timeout.min(Duration::from_secs(2));
    client.with_deadline(limit).status().await
}

/// The membership as the leader knows it, else as anybody does.
fn members(asked: &[Asked]) -> Vec<Member> {
    let answers: Vec<&GetStatusResponse> = asked.iter().filter_map(|a| a.answer.as_ref().ok()).collect();
    let leader = answers.iter().find(|s| s.leader_node == s.node && s.has_quorum);
    let best = leader.or_else(|| answers.first());
    best.map(|s| s.members.clone()).unwrap_or_default()
}

fn row(asked: &Asked) -> [String; 11] {
    match &asked.answer {
        Ok(status) => [
            status.region.clone(),
            status.node.clone(),
            status.raft_state.clone(),
            or_dash(status.leader_node.as_str()),
            status.term.to_string(),
            status.last_log_index.to_string(),
            status.applied_index.to_string(),
            if status.has_quorum { "yes" } else { "no" }.to_owned(),
            status.sessions.to_string(),
            size(ByteCount(status.resident_bytes)),
            asked.endpoint.clone(),
        ],
        Err(refusal) => {
            let mut row = std::array::from_fn(|_| "-".to_owned());
            row[2] = refusal.reason.to_string();
            row[10].clone_from(&asked.endpoint);
            row
        }
    }
}

fn document(asked: &Asked) -> Value {
    match &asked.answer {
        Ok(status) => json!({
            "endpoint": asked.endpoint,
            "reachable": true,
            "node": status.node,
            "region": status.region,
            "raft_state": status.raft_state,
            "term": status.term,
            "leader_node": status.leader_node,
            "leader_api_endpoint": status.leader_api_endpoint,
            "last_log_index": status.last_log_index,
            "applied_index": status.applied_index,
            "snapshot_index": status.snapshot_index,
            "has_quorum": status.has_quorum,
            "version": status.version,
            "sessions": status.sessions,
            "resident_bytes": status.resident_bytes,
        }),
        Err(refusal) => json!({
            "endpoint": asked.endpoint,
            "reachable": false,
            "reason": refusal.reason,
            "message": refusal.message,
        }),
    }
}

fn member(member: &Member) -> Value {
    json!({
        "node": member.node,
        "region": member.region,
        "raft_id": member.raft_id,
        "api_endpoint": member.api_endpoint,
        "raft_endpoint": member.raft_endpoint,
        "voter": member.voter,
        "leader": member.leader,
        "matched_index": member.matched_index,
        "silent": format_duration(Duration::from_millis(member.silent_millis)),
    })
}
