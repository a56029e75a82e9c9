//! `regent node list|get|remove`: the processes of the cluster, and what each agent says that it has in memory.

use std::time::Duration;

use client::{AgentClient, TlsFiles};
use futures::{StreamExt as _, stream};
use proto::v1::{GetAgentStatusResponse, ServedVersion};
use serde_json::{Value, json};
use types::{
    reason::Refusal,
    region::{Endpoints, NodeKind, NodeRecord, NodeStatus},
};

use super::{changer_at, history, reader, tell, tell_change};
use crate::{
    args::{NodeCommand, NodeGetArgs, NodeListArgs, NodeRemoveArgs, Shared},
    context,
    error::Failure,
    output::{ago, or_dash, table},
};

/// Agents that are asked at a time.
const CALLS: usize = 8;
/// How long one may take to answer: a table of many regions must not wait for one that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

const HEADINGS: [&str; 8] = [
    "REGION", "ZONE", "NODE", "KIND", "STATUS", "READY", "LOADED", "WHY",
];

/// Runs one.
pub(crate) async fn run(command: NodeCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        NodeCommand::List(args) => list(&args, &shared).await,
        NodeCommand::Get(args) => get(&args, &shared).await,
        NodeCommand::Remove(args) => remove(&args, &shared).await,
        NodeCommand::History(args) => history::of_nodes(&args, &shared).await,
    }
}

async fn remove(args: &NodeRemoveArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer_at(shared, &args.change, args.etag)?;
    let revision = client.remove_node(&args.node).await?;
    let document = json!({ "node": args.node, "removed": !args.change.validate_only });
    tell_change(&client, shared.output, document, || {
        format!("node {} is forgotten at {revision}", args.node)
    })
}

async fn get(args: &NodeGetArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let node = client.get_node(&args.node).await?;
    let tls = context::load(shared)?.tls;
    let row = Row::ask(node, &tls, PATIENCE.min(shared.timeout)).await;
    tell(&client, shared.output, json!({ "node": row.document() }), || {
        let table = table(HEADINGS, [row.cells()]);
        format!("{table}\n\n{}", described(&row.node))
    })
}

/// What has no place in a row.
fn described(node: &NodeRecord) -> String {
    let Endpoints {
        api,
        raft,
        agent,
        inference,
    } = &node.endpoints;
    let served = [
        ("api", api),
        ("raft", raft),
        ("agent", agent),
        ("inference", inference),
    ];
    let served = served.into_iter().filter(|(_, endpoint)| !endpoint.is_empty());
    let served = served.map(|(what, endpoint)| format!("{what} at {endpoint}"));
    let run = format!(
        "{} since {}, in run {}",
        node.status,
        ago(node.changed_at),
        node.incarnation
    );
    std::iter::once(run).chain(served).collect::<Vec<_>>().join("\n")
}

async fn list(args: &NodeListArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let nodes = client
        .list_nodes_in(args.region.as_ref(), args.zone.as_ref())
        .await?;
    let tls = context::load(shared)?.tls;
    let patience = PATIENCE.min(shared.timeout);
    let asked = stream::iter(nodes).map(|node| Row::ask(node, &tls, patience));
    let rows: Vec<Row> = asked.buffered(CALLS).collect().await;
    let documents: Vec<Value> = rows.iter().map(Row::document).collect();
    tell(&client, shared.output, json!({ "nodes": documents }), || {
        table(HEADINGS, rows.iter().map(Row::cells))
    })
}

/// A node, and what it answered where it is an agent.
struct Row {
    node: NodeRecord,
    answer: Option<Result<GetAgentStatusResponse, Refusal>>,
}

impl Row {
    async fn ask(node: NodeRecord, tls: &TlsFiles, patience: Duration) -> Self {
        let answer = match (node.kind, node.status) {
            (NodeKind::Agent, NodeStatus::Up) => Some(agent_status(&node, tls, patience).await),
            // Whoever is down would be waited for in vain.
            (NodeKind::Agent, NodeStatus::Down | NodeStatus::Removed)
            | (NodeKind::Coordinator | NodeKind::Witness, _) => None,
        };
        Self { node, answer }
    }

    fn document(&self) -> Value {
        let agent = self.answer.as_ref().map(|answer| match answer {
            Ok(status) => json!({
                "ready": status.ready,
                "not_ready_reason": status.not_ready_reason,
                "stays_behind": status.stays_behind,
                "session_with": status.session_with,
                "served": status.served.iter().map(served).collect::<Vec<_>>(),
            }),
            Err(refusal) => json!({ "error": refusal.message }),
        });
        let mut document = json!(self.node);
        document["agent"] = json!(agent);
        document
    }

    fn cells(&self) -> [String; 8] {
        let (ready, loaded, why) = match &self.answer {
            None => Default::default(),
            Some(Err(refusal)) => ("?".to_owned(), String::new(), refusal.message.clone()),
            Some(Ok(status)) => (
                if status.ready { "yes" } else { "no" }.to_owned(),
                loaded(&status.served),
                why(status),
            ),
        };
        [
            self.node.region.to_string(),
            or_dash(zone(&self.node)),
            self.node.node.to_string(),
            kind(self.node.kind).to_owned(),
            self.node.status.to_string(),
            or_dash(ready),
            or_dash(loaded),
            or_dash(why),
        ]
    }
}

/// Empty where the node's config says none.
fn zone(node: &NodeRecord) -> String {
    node.zone.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// As in the documents.
const fn kind(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Coordinator => "COORDINATOR",
        NodeKind::Agent => "AGENT",
        NodeKind::Witness => "WITNESS",
    }
}

/// What an agent says of itself.
pub(crate) async fn agent_status(
    node: &NodeRecord,
    tls: &TlsFiles,
    patience: Duration,
) -> Result<GetAgentStatusResponse, Refusal> {
    AgentClient::new(&node.endpoints.agent, tls, patience)?
        .status()
        .await
}

fn served(version: &ServedVersion) -> Value {
    json!({
        "model": version.model,
        "version": version.version,
        "loaded": version.loaded,
        "error": version.error,
        "defective": version.defective,
    })
}

/// How many of what the agent is to serve it has in memory.
fn loaded(served: &[ServedVersion]) -> String {
    let loaded = served.iter().filter(|version| version.loaded).count();
    format!("{loaded} of {}", served.len())
}

/// Why it is not ready, and each version that it has not.
fn why(status: &GetAgentStatusResponse) -> String {
    let missing = status.served.iter().filter(|version| !version.loaded);
    let missing = missing.map(|v| {
        let is_other = |other: &&ServedVersion| other.loaded && other.model == v.model;
        let others = match status.served.iter().find(is_other) {
            Some(other) => format!("{}@{} is loaded", other.model, other.version),
            None => format!("no version of {} is loaded here", v.model),
        };
        match v.error.as_str() {
            "" => format!("{}@{} is on its way, and {others}", v.model, v.version),
            error => format!("{}@{} does not load, and {others}: {error}", v.model, v.version),
        }
    });
    let unready = Some(status.not_ready_reason.clone()).filter(|why| !why.is_empty());
    let stays = Some(status.stays_behind.clone()).filter(|why| !why.is_empty());
    stays
        .into_iter()
        .chain(unready)
        .chain(missing)
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_lacks_is_named_with_its_reason() {
        let version = |version, loaded, error: &str| ServedVersion {
            model: "m".to_owned(),
            version,
            loaded,
            error: error.to_owned(),
            defective: false,
        };
        let check = |not_ready: &str, served: &[ServedVersion], expected: (&str, &str)| {
            let status = GetAgentStatusResponse {
                not_ready_reason: not_ready.to_owned(),
                served: served.to_vec(),
                ..GetAgentStatusResponse::default()
            };
            assert_eq!((loaded(&status.served).as_str(), why(&status).as_str()), expected);
        };
        check("", &[], ("0 of 0", ""));
        check("", &[version(1, true, "")], ("1 of 1", ""));
        let behind = GetAgentStatusResponse {
            stays_behind: "it is not signed".to_owned(),
            ..GetAgentStatusResponse::default()
        };
        assert_eq!(why(&behind), "it is not signed");
        let mixed = [
            version(1, true, ""),
            version(2, false, "no such kind"),
            version(3, false, ""),
        ];
        check(
            "",
            &mixed,
            (
                "1 of 3",
                "m@2 does not load, and m@1 is loaded: no such kind; m@3 is on its way, and m@1 is loaded",
            ),
        );
        let absent = [version(1, false, "")];
        check(
            "m@1 is not loaded yet",
            &absent,
            (
                "0 of 1",
                "m@1 is not loaded yet; m@1 is on its way, and no version of m is loaded here",
            ),
        );
    }
}
