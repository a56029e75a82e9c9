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
    let first = cluster.regions().first().map(|r| cluster.region(r)).transpose()?;
    let inference = first
        .and_then(|r| r.agent.listen.inference_url())
        .unwrap_or_default();
    let second = cluster.regions().get(1).map_or("REGION", RegionId::as_str);
    let context = cluster.layout().context();
    Ok(format!(
        "{}\n\n{}",
        table(headings, rows),
        examples(&context.display().to_string(), &inference, second)
    ))
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

fn examples(context: &str, inference: &str, region: &str) -> String {
    format!(
        "The cluster is up. In another terminal:

  export REGENT_CONTEXT={context}
  regent region list
  regent model push models/digits --name demo.digits --wait-copies all
  regent primary get
  regent switchover primaries/global --to {region} --wait
  curl {inference}/v2/health/ready
  curl {inference}/v2/models/demo.digits

This cluster is for this machine only: its stores and inference are plain HTTP on loopback addresses, its CA is its own.
Ctrl-c stops it; its data stays, and the next `regent dev` goes on with it."
    )
}
