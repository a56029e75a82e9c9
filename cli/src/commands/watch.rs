//! `regent watch`: every committed change as it comes, a line for each resource that it touches. With `--output json` one
//! document a line for each revision, with all of its events: a reader never sees half of one (I7).

use std::time::Duration;

use client::watch::{Change, Event, StateWatch};
use proto::convert::watch::Resource;
use serde_json::{Value, json};
use types::{Revision, WatchFilter};

use crate::{
    args::{OutputFormat, Shared, WatchArgs},
    context,
    error::Failure,
    output::{self, Reader, line_to_reader},
};

/// Silence after which another coordinator is asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether anybody still reads.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until ctrl-c, until nobody reads any more, or until `--count` revisions were printed.
pub(crate) async fn run(args: WatchArgs, shared: Shared) -> Result<(), Failure> {
    let client = context::client(&shared)?;
    // Who answers nobody at all would wait for ever below; this fails with a reason.
    let (_, header) = client.timing().await?;
    let after = args.after.map_or(header.revision, Revision);
    let filter = WatchFilter {
        kinds: args.kinds.into_iter().collect(),
        model: args.model,
        region: args.region,
        role: args.role,
    };
    if shared.output == OutputFormat::Table && output::is_watched() {
        output::note(&format!("watching for what comes after {after}; ctrl-c ends it"));
    }
    let mut watch = StateWatch::resume(client, PATIENCE, header.cluster_id, after).filtered(filter);
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let change = tokio::select! {
            change = watch.next() => change,
            stopped = tokio::signal::ctrl_c() => {
                return stopped.map_err(|e| Failure::other(format!("could not listen for signals: {e}")));
            }
            () = reader_is_gone() => return Ok(()),
        };
        if let Some(text) = text(&change, shared.output)?
            && line_to_reader(&text)? == Reader::Gone
        {
            return Ok(());
        }
        left -= u64::from(matches!(change, Change::Events { .. }));
    }
    Ok(())
}

/// As under `| head`, also while nothing is committed that would be written.
async fn reader_is_gone() {
    while output::reader() == Reader::Reads {
        tokio::time::sleep(LOOK).await;
    }
}

/// What is printed of a change; nothing of one that only says how far the watch is.
fn text(change: &Change, format: OutputFormat) -> Result<Option<String>, Failure> {
    match (change, format) {
        (Change::Bookmark { .. }, _) => Ok(None),
        (_, OutputFormat::Table) => Ok(Some(lines(change))),
        (_, OutputFormat::Json) => document(change).map(|d| Some(d.to_string())),
    }
}

fn lines(change: &Change) -> String {
    match change {
        Change::Bookmark { .. } => String::new(),
        Change::Reset {
            revision, resources, ..
        } => format!(
            "{revision}  reset  {} resources; the history before is not kept",
            resources.len()
        ),
        Change::Events { revision, events } => {
            let each = events.iter().map(|event| {
                let (name, detail) = describe(&event.resource);
                // Of what is gone only the name is known.
                let detail = if event.deleted { "(deleted)" } else { &detail };
                format!("{revision}  {}  {name}  {detail}", event.kind)
            });
            each.collect::<Vec<_>>().join("\n")
        }
    }
}

/// One document for one revision.
fn document(change: &Change) -> Result<Value, Failure> {
    Ok(match change {
        Change::Bookmark { revision } => json!({ "revision": revision, "events": [] }),
        Change::Reset {
            revision, resources, ..
        } => json!({ "revision": revision, "reset": { "resources": resources.len() }, "events": [] }),
        Change::Events { revision, events } => {
            let events = events.iter().map(event).collect::<Result<Vec<_>, _>>()?;
            json!({ "revision": revision, "events": events })
        }
    })
}

/// Fields that name a resource which can be deleted: an alias, a replica, an experiment, a region, a node, a plan, a service. The
/// others of its record mean nothing then.
const KEYS: [&str; 8] = ["model", "alias", "name", "key", "region", "node", "plan", "role"];

fn event(event: &Event) -> Result<Value, Failure> {
    let (kind, record) = match &event.resource {
        Resource::Region(r) => ("region", serde_json::to_value(r)),
        Resource::Node(r) => ("node", serde_json::to_value(r)),
        Resource::Model(r) => ("model", serde_json::to_value(r)),
        Resource::Version(r) => ("version", serde_json::to_value(r)),
        Resource::Alias(r) => ("alias", serde_json::to_value(r)),
        Resource::Replica(r) => ("replica", serde_json::to_value(r)),
        Resource::Role(r) => ("role", serde_json::to_value(r)),
        Resource::Plan(r) => ("plan", serde_json::to_value(r)),
        Resource::Timing(r) => ("timing", serde_json::to_value(r)),
        Resource::Experiment(r) => ("experiment", serde_json::to_value(r)),
        Resource::Service(r) => ("service", serde_json::to_value(r)),
    };
    let mut record = record.map_err(|e| Failure::other(format!("could not write {kind} as JSON: {e}")))?;
    if let (true, Some(fields)) = (event.deleted, record.as_object_mut()) {
        fields.retain(|name, _| KEYS.contains(&name.as_str()));
    }
    Ok(json!({
        "kind": event.kind,
        "deleted": event.deleted,
        "resource": kind,
        "record": record,
    }))
}

/// The name of a resource, and what is worth a glance.
fn describe(resource: &Resource) -> (String, String) {
    match resource {
        Resource::Region(r) => (
            r.region.to_string(),
            format!("{} {}", r.health, r.health_evidence),
        ),
        Resource::Node(r) => (r.node.to_string(), format!("{} in {}", r.status, r.region)),
        Resource::Model(r) => (r.name.to_string(), r.description.clone()),
        Resource::Version(r) => (r.key.to_string(), format!("{} {}", r.state, r.state_reason)),
        Resource::Alias(r) => (format!("{} {}", r.model, r.alias), format!("-> {}", r.version)),
        Resource::Replica(r) => (r.key.to_string(), format!("{} {}", r.state, r.error)),
        Resource::Role(r) => (r.role.to_string(), {
            let holder = r
                .holder
                .as_ref()
                .map_or_else(|| "nobody".to_owned(), ToString::to_string);
            format!("{} held by {holder}: {}", r.epoch, r.reason)
        }),
        Resource::Plan(r) => (
            r.plan.to_string(),
            format!("{} {} to {}", r.kind, r.state, r.target),
        ),
        Resource::Timing(r) => ("timing".to_owned(), r.name.clone()),
        Resource::Service(r) => (
            r.key.to_string(),
            format!("{} at {} {}", r.health, r.address, r.protocol),
        ),
        Resource::Experiment(r) => (format!("{} {}", r.model, r.name), {
            let arms = r
                .arms
                .iter()
                .map(|arm| format!("{}={}%", arm.version, arm.percent));
            format!("{} {}", r.state, arms.collect::<Vec<_>>().join(" "))
        }),
    }
}
