//! `regent region …`.

use client::{
    Client,
    calls::{ChangeOptions, RegionChange},
};
use serde_json::json;
use types::region::{FencingDoor, NodeRecord, RegionLabels, RegionRecord};

use super::{changer, changer_at, history, reader, tell, tell_change};
use crate::{
    args::{
        ReadArgs, RegionCommand, RegionCreateArgs, RegionDeleteArgs, RegionGetArgs, RegionUpdateArgs, Shared,
    },
    error::Failure,
    output::{ago, or_dash, table},
};

/// Runs one.
pub(crate) async fn run(command: RegionCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        RegionCommand::List(read) => list(&read, &shared).await,
        RegionCommand::Get(args) => get(&args, &shared).await,
        RegionCommand::Create(args) => create(args, &shared).await,
        RegionCommand::Update(args) => update(args, &shared).await,
        RegionCommand::Delete(args) => delete(&args, &shared).await,
        RegionCommand::History(args) => history::of_regions(&args, &shared).await,
    }
}

async fn get(args: &RegionGetArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let region = client.get_region(&args.region).await?;
    let nodes = client.list_nodes(Some(&args.region)).await?;
    let document = json!({ "region": region, "nodes": nodes });
    tell(&client, shared.output, document, || {
        let listed = table(HEADINGS, [row(&region, &nodes)]);
        format!("{listed}\n\n{}", labelled(&region))
    })
}

async fn create(args: RegionCreateArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer(shared, &args.change, ChangeOptions::default())?;
    let labels = RegionLabels {
        display_name: args.display_name,
        provider: args.provider,
        cost_tags: args.cost_tags.into_iter().collect(),
    };
    let made = client.create_region(&args.region, &labels).await?;
    changed(&client, shared, &made)
}

async fn update(args: RegionUpdateArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer_at(shared, &args.change, args.etag)?;
    let change = RegionChange {
        display_name: args.display_name,
        provider: args.provider,
        set_cost_tags: args.cost_tags.into_iter().collect(),
        remove_cost_tags: args.without_cost_tags.into_iter().collect(),
    };
    let updated = client.update_region(&args.region, &change).await?;
    changed(&client, shared, &updated)
}

async fn delete(args: &RegionDeleteArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer_at(shared, &args.change, args.etag)?;
    let revision = client.delete_region(&args.region).await?;
    let document = json!({ "region": args.region, "deleted": !args.change.validate_only });
    tell_change(&client, shared.output, document, || {
        format!("region {} is gone at {revision}", args.region)
    })
}

fn changed(client: &Client, shared: &Shared, region: &RegionRecord) -> Result<(), Failure> {
    tell_change(client, shared.output, json!({ "region": region }), || {
        labelled(region)
    })
}

/// What people say of a region.
fn labelled(region: &RegionRecord) -> String {
    let RegionLabels {
        display_name,
        provider,
        cost_tags,
    } = &region.labels;
    let tags: Vec<_> = cost_tags
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let headings = ["REGION", "NAME", "PROVIDER", "COST TAGS", "ETAG"];
    table(
        headings,
        [[
            region.region.to_string(),
            or_dash(display_name.as_str()),
            or_dash(provider.as_str()),
            or_dash(tags.join(" ")),
            region.modified.0.to_string(),
        ]],
    )
}

const HEADINGS: [&str; 7] = ["REGION", "HEALTH", "SINCE", "STORE", "DOOR", "NODES", "WHY"];

async fn list(read: &ReadArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, read)?;
    let regions = client.list_regions().await?;
    let nodes = client.list_nodes(None).await?;
    let document = json!({ "regions": regions, "nodes": nodes });
    tell(&client, shared.output, document, || {
        table(HEADINGS, regions.iter().map(|region| row(region, &nodes)))
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
