//! What `regent dev` says when the cluster is up: where everything is, and what to type next.

use serde_json::{Value, json};
use types::RegionId;

use crate::{
    dev::{cluster::DevCluster, info::RegionProcesses},
    error::Failure,
    output::{or_dash, table},
};

/// The text for people.
pub(crate) fn banner(cluster: &DevCluster) -> Result<String, Failure> {
    let mut rows = Vec::new();
    for region in cluster.regions() {
        rows.push(row(region, &cluster.region(region)?));
    }
    let headings = [
        "REGION",
        "COORDINATOR (gRPC)",
        "AGENT (gRPC)",
        "INFERENCE (HTTP)",
        "OBJECT STORE (S3)",
    ];
    Ok(format!("{}\n\n{}", table(headings, rows), examples(cluster)?))
}

/// The same for programs: one document, printed when everything is up.
pub(crate) fn document(cluster: &DevCluster) -> Result<Value, Failure> {
    let mut regions = Vec::new();
    for region in cluster.regions() {
        let processes = cluster.region(region)?;
        regions.push(json!({
            "region": region,
            "coordinator": processes.coordinator.listen.api_url(),
            "agent": processes.agent.listen.agent_url(),
            "inference": processes.agent.listen.inference_url(),
            "store": processes.s3.listen.s3_url(),
        }));
    }
    let layout = cluster.layout();
    Ok(json!({ "regions": regions, "context": layout.context(), "directory": layout.root() }))
}

fn row(region: &RegionId, processes: &RegionProcesses) -> [String; 5] {
    let or_none = |url: Option<String>| or_dash(url.unwrap_or_default());
    [
        region.to_string(),
        or_none(processes.coordinator.listen.api_url()),
        or_none(processes.agent.listen.agent_url()),
        or_none(processes.agent.listen.inference_url()),
        or_none(processes.s3.listen.s3_url()),
    ]
}

fn examples(cluster: &DevCluster) -> Result<String, Failure> {
    let first = cluster.regions().first().map(|r| cluster.region(r)).transpose()?;
    let inference = first.and_then(|r| r.agent.listen.inference_url());
    let mut lines = vec![
        format!("regent() {{ {} \"$@\"; }}", cluster.exe().display()),
        format!("export REGENT_CONTEXT={}", cluster.layout().context().display()),
    ];
    lines.extend(tour(cluster.regions()));
    // Before the last one, which goes on until ctrl-c.
    lines.insert(lines.len() - 1, curl(&inference.unwrap_or_default()));
    Ok(format!(
        "The cluster is up. In another terminal:

  {}

This cluster is for this machine only: its stores and inference are plain HTTP on loopback addresses, its CA is its own.
Ctrl-c stops it; its data stays, and the next `regent dev` goes on with it.",
        lines.join("\n  ")
    ))
}

/// What to type first; README shows the same, by test.
pub(super) fn tour(regions: &[RegionId]) -> Vec<String> {
    let name = |region: Option<&RegionId>| region.map_or_else(|| "REGION".to_owned(), ToString::to_string);
    let (first, last) = (name(regions.first()), name(regions.last()));
    vec![
        "regent cluster status".to_owned(),
        "regent cluster members".to_owned(),
        "regent cluster timing get".to_owned(),
        "regent region list".to_owned(),
        "regent node list".to_owned(),
        "regent model push models/tinylm --name demo.tinylm --wait-copies all".to_owned(),
        "regent model list".to_owned(),
        "regent replication status".to_owned(),
        "regent infer demo.tinylm --prompt \"Once upon a time\"".to_owned(),
        "regent model push models/embedder --name demo.embedder --wait-copies all".to_owned(),
        format!("regent infer demo.embedder --text \"restart the server\" --region {first}"),
        "regent primary list".to_owned(),
        format!("regent switchover primaries/global --to {last} --wait"),
        "regent watch".to_owned(),
    ]
}

/// The same without this binary.
pub(super) fn curl(inference: &str) -> String {
    format!("curl {inference}/v2/models/demo.tinylm")
}
