//! When a cluster is fit for use: every region is registered, has its store, and is HEALTHY; somebody holds the role.

use std::time::Duration;

use client::Client;
use tokio::time::{Instant, sleep};
use types::{
    RegionId, RoleName,
    reason::Refusal,
    region::{Health, NodeKind, NodeStatus},
};

use crate::error::Failure;

/// How often the registry is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long one question may take.
const CALL_LIMIT: Duration = Duration::from_secs(2);

/// Waits until nothing is missing; the error says what was missing last.
pub(crate) async fn wait_ready(
    client: &Client,
    regions: &[RegionId],
    limit: Duration,
) -> Result<(), Failure> {
    let client = client.with_deadline(CALL_LIMIT);
    let deadline = Instant::now() + limit;
    loop {
        let missing = match missing(&client, regions).await {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            Err(refusal) => refusal.message,
        };
        if Instant::now() >= deadline {
            let limit = types::units::format_duration(limit);
            return Err(Failure::other(format!(
                "the cluster is not ready after {limit}: {missing}"
            )));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// The first thing that is missing.
async fn missing(client: &Client, regions: &[RegionId]) -> Result<Option<String>, Refusal> {
    let status = client.status().await?;
    let voters = status.members.iter().filter(|m| m.voter).count();
    if voters < regions.len() {
        return Ok(Some(format!("{voters} of {} coordinators vote", regions.len())));
    }
    let records = client.list_regions().await?;
    let nodes = client.list_nodes(None).await?;
    for region in regions {
        let Some(record) = records.iter().find(|r| &r.region == region) else {
            return Ok(Some(format!("{region} is not registered")));
        };
        let agent_up = nodes
            .iter()
            .any(|n| &n.region == region && n.kind == NodeKind::Agent && n.status == NodeStatus::Up);
        if !agent_up {
            return Ok(Some(format!("{region} has no agent that is up")));
        }
        if record.store.is_none() {
            return Ok(Some(format!("{region} has no object store")));
        }
        if record.health != Health::Healthy {
            return Ok(Some(format!(
                "{region} is {}: {}",
                record.health, record.health_evidence
            )));
        }
    }
    let (role, _) = client.get_role(&RoleName::global()).await?;
    Ok(role
        .holder
        .is_none()
        .then(|| format!("nobody holds {} at {}", role.role, role.epoch)))
}
