//! `regent replication status`.

use std::collections::BTreeMap;

use client::Client;
use serde_json::json;
use types::{
    ByteCount, VersionKey,
    reason::{Reason, Refusal},
    replica::{ReplicaRecord, ReplicaState},
};

use super::{reader, tell};
use crate::{
    args::{ReplicationArgs, ReplicationCommand, Shared},
    error::Failure,
    output::{ago, or_dash, size, table},
};

/// Runs one.
pub(crate) async fn run(command: ReplicationCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        ReplicationCommand::Status(args) => status(&args, &shared).await,
    }
}

async fn status(args: &ReplicationArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    known(&client, args).await?;
    let replicas = client
        .list_replicas(args.model.as_ref(), args.region.as_ref())
        .await?;
    let mut sizes = BTreeMap::new();
    for key in replicas.iter().map(|r| &r.key.version) {
        if !sizes.contains_key(key) {
            let version = client.get_version(key).await?;
            sizes.insert(key.clone(), version.total_size());
        }
    }
    let summary = summary(&replicas);
    let document = json!({ "replicas": replicas, "summary": summary });
    tell(&client, shared.output, document, || {
        let headings = [
            "VERSION", "REGION", "STATE", "BYTES", "SOURCE", "ATTEMPTS", "SINCE", "ERROR",
        ];
        table(headings, replicas.iter().map(|replica| row(replica, &sizes)))
    })
}

/// That the names that were asked for exist: an empty table would say that all is well.
async fn known(client: &Client, args: &ReplicationArgs) -> Result<(), Failure> {
    if let Some(model) = &args.model {
        client.get_model(model).await?;
    }
    let Some(wanted) = &args.region else { return Ok(()) };
    let regions = client.list_regions().await?;
    if regions.iter().any(|r| &r.region == wanted) {
        return Ok(());
    }
    let names: Vec<&str> = regions.iter().map(|r| r.region.as_str()).collect();
    let message = format!("no region {wanted}; there are {}", names.join(", "));
    Err(Refusal::new(Reason::RegionNotFound, message)
        .with("region", wanted)
        .into())
}

/// How many copies are in which state.
fn summary(replicas: &[ReplicaRecord]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for replica in replicas {
        *counts.entry(replica.state.to_string()).or_default() += 1;
    }
    counts
}

fn row(replica: &ReplicaRecord, sizes: &BTreeMap<VersionKey, ByteCount>) -> [String; 8] {
    let total = sizes.get(&replica.key.version).copied().unwrap_or_default();
    let since = replica.completed_at.or(replica.started_at);
    [
        replica.key.version.to_string(),
        replica.key.region.to_string(),
        replica.state.to_string(),
        bytes(replica, total),
        or_dash(
            replica
                .source
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        replica.attempts.to_string(),
        or_dash(since.map(ago).unwrap_or_default()),
        or_dash(replica.error.as_str()),
    ]
}

fn bytes(replica: &ReplicaRecord, total: ByteCount) -> String {
    match replica.state {
        ReplicaState::Verified => size(total),
        ReplicaState::Pending | ReplicaState::Copying | ReplicaState::Failed => {
            format!("{} of {}", size(replica.bytes_done), size(total))
        }
    }
}
