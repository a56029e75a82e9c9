//! `regent region list`.

use serde_json::json;
use types::region::{FencingDoor, NodeRecord, RegionRecord};

use super::{reader, tell};
use crate::{
    args::{ReadArgs, RegionCommand, Shared},
    error::Failure,
    output::{ago, or_dash, table},
};

/// Runs one.
pub(crate) async fn run(command: RegionCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        RegionCommand::List(read) => list(&read, &shared).await,
    }
}

async fn list(read: &ReadArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, read)?;
    let regions = client.list_regions().await?;
    let nodes = client.list_nodes(None).await?;
    let document = json!({ "regions": regions, "nodes": nodes });
    tell(&client, shared.output, document, || {
        let headings = ["REGION", "HEALTH", "SINCE", "STORE", "DOOR", "NODES", "WHY"];
        table(headings, regions.iter().map(|region| row(region, &nodes)))
    })
}

fn row(region: &RegionRecord, nodes: &[NodeRecord]) -> [String; 7] {
    let (store, door) = match &region.store {
        None => ("-".to_owned(), "-".to_owned()),
        Some(store) => (
            format!("{}/{}", store.endpoint, store.bucket),
            door(&store.fencing_door),
        ),
    };
    let own = nodes.iter().filter(|node| node.region == region.region);
    let nodes: Vec<String> = own.map(|node| format!("{} {}", node.node, node.status)).collect();
    [
        region.region.to_string(),
        region.health.to_string(),
        ago(region.health_changed_at),
        store,
        door,
        nodes.join(", "),
        or_dash(region.health_evidence.as_str()),
    ]
}

fn door(door: &FencingDoor) -> String {
    match door {
        FencingDoor::Qualified => "qualified".to_owned(),
        FencingDoor::Refused { reason } => format!("refused: {reason}"),
    }
}
