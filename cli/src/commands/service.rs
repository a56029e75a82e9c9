//! `regent service …`: where somebody answers, and who says so.

use client::calls::Offer;
use serde_json::json;
use types::service::{ServiceKey, ServiceRecord};

use super::{changer_at, reader, tell, tell_change};
use crate::{
    args::{
        ServiceCommand, ServiceDeregisterArgs, ServiceGetArgs, ServiceListArgs, ServiceRegisterArgs, Shared,
    },
    error::Failure,
    output::{ago, or_dash, table},
};

/// Runs one.
pub(crate) async fn run(command: ServiceCommand, shared: Shared) -> Result<(), Failure> {
    match command {
        ServiceCommand::List(args) => list(&args, &shared).await,
        ServiceCommand::Get(args) => get(&args, &shared).await,
        ServiceCommand::Register(args) => register(&args, &shared).await,
        ServiceCommand::Deregister(args) => deregister(&args, &shared).await,
    }
}

async fn list(args: &ServiceListArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let found = client.list_services(args.service.as_ref(), &args.filter).await?;
    tell(&client, shared.output, json!({ "instances": found }), || {
        service_table(&found)
    })
}

async fn get(args: &ServiceGetArgs, shared: &Shared) -> Result<(), Failure> {
    let client = reader(shared, &args.read)?;
    let found = client.get_service(&args.key).await?;
    tell(&client, shared.output, json!({ "instance": found }), || {
        service_table(std::slice::from_ref(&found))
    })
}

async fn register(args: &ServiceRegisterArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer_at(shared, &args.change, args.etag)?;
    let key = ServiceKey {
        service: args.service.clone(),
        node: args.node.clone(),
        port: args.port,
    };
    let offer = Offer {
        address: args.address.clone(),
        protocol: args.protocol,
        labels: args.labels.iter().cloned().collect(),
    };
    let made = client.register_service(&key, None, &offer).await?;
    tell_change(&client, shared.output, json!({ "instance": made }), || {
        service_table(std::slice::from_ref(&made))
    })
}

async fn deregister(args: &ServiceDeregisterArgs, shared: &Shared) -> Result<(), Failure> {
    let client = changer_at(shared, &args.change, args.etag)?;
    let revision = client.deregister_service(&args.key, None).await?;
    let document = json!({ "deregistered": args.key });
    tell_change(&client, shared.output, document, || {
        match args.change.validate_only {
            true => format!("service {} would be deregistered", args.key),
            false => format!("service {} is deregistered, as of revision {revision}", args.key),
        }
    })
}

fn service_table(instances: &[ServiceRecord]) -> String {
    let headings = [
        "SERVICE",
        "REGION",
        "NODE",
        "HEALTH",
        "PROTOCOL",
        "ADDRESS",
        "PORT",
        "LABELS",
        "REGISTERED",
        "ETAG",
    ];
    table(
        headings,
        instances.iter().map(|s| {
            let labels = s.labels.iter().map(|(key, value)| format!("{key}={value}"));
            [
                s.key.service.to_string(),
                s.region.to_string(),
                s.key.node.to_string(),
                s.health.to_string(),
                s.protocol.to_string(),
                s.address.clone(),
                s.key.port.to_string(),
                or_dash(labels.collect::<Vec<_>>().join(" ")),
                ago(s.registered_at),
                s.modified.0.to_string(),
            ]
        }),
    )
}
