//! What happened: which version took which one's place, and how regions and nodes have stood.

use serde_json::json;
use types::{
    ModelVersion,
    history::{DeploymentRecord, HealthChange, HealthSubject},
};

use super::{reader, tell};
use crate::{
    args::{ModelHistoryArgs, NodeHistoryArgs, ReadArgs, RegionHistoryArgs, Shared},
    error::Failure,
    output::{ago, or_dash, table},
};

/// `regent model history`.
pub(super) async fn of_models(args: &ModelHistoryArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let mut found = client.list_deployments(args.model.as_ref(), &args.filter).await?;
    found.sort_by_key(|d| std::cmp::Reverse(d.revision));
    tell(&client, shared.output, json!({ "deployments": found }), || {
        deployment_table(&found)
    })
}

/// `regent region history`.
pub(super) async fn of_regions(args: &RegionHistoryArgs, shared: &Shared) -> Result<(), Failure> {
    let subject = args.region.clone().map(HealthSubject::Region);
    changes(shared, &args.read, subject, &args.filter, |subject| {
        matches!(subject, HealthSubject::Region(_))
    })
    .await
}

/// `regent node history`.
pub(super) async fn of_nodes(args: &NodeHistoryArgs, shared: &Shared) -> Result<(), Failure> {
    let subject = args.node.clone().map(HealthSubject::Node);
    changes(shared, &args.read, subject, &args.filter, |subject| {
        matches!(subject, HealthSubject::Node(_))
    })
    .await
}

async fn changes(
    shared: &Shared,
    read: &ReadArgs,
    subject: Option<HealthSubject>,
    filter: &[String],
    is_wanted: fn(&HealthSubject) -> bool,
) -> Result<(), Failure> {
    let client = reader(shared, read)?;
    let mut found = client.list_health_changes(subject.as_ref(), filter).await?;
    found.retain(|c| is_wanted(&c.subject));
    found.sort_by_key(|c| std::cmp::Reverse(c.revision));
    tell(&client, shared.output, json!({ "changes": found }), || {
        change_table(&found)
    })
}

fn version(version: Option<ModelVersion>) -> String {
    or_dash(version.map(|v| v.to_string()).unwrap_or_default())
}

fn deployment_table(deployments: &[DeploymentRecord]) -> String {
    let headings = ["MODEL", "ALIAS", "FROM", "TO", "MOVED", "REVISION", "BY", "WHY"];
    table(
        headings,
        deployments.iter().map(|d| {
            [
                d.model.to_string(),
                d.alias.to_string(),
                version(d.from),
                version(d.to),
                ago(d.at),
                d.revision.0.to_string(),
                d.by.to_string(),
                or_dash(d.reason.as_str()),
            ]
        }),
    )
}

fn change_table(changes: &[HealthChange]) -> String {
    let headings = ["SUBJECT", "FROM", "TO", "CHANGED", "REVISION", "BY", "WHY"];
    table(
        headings,
        changes.iter().map(|c| {
            [
                c.subject.to_string(),
                or_dash(c.from.map(|from| from.to_string()).unwrap_or_default()),
                c.to.to_string(),
                ago(c.at),
                c.revision.0.to_string(),
                c.by.to_string(),
                or_dash(c.evidence.as_str()),
            ]
        }),
    )
}
