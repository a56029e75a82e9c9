//! Regions: how they come and go, what people say of them, their stores, their committed verdicts.

use std::sync::Arc;

use policy::placement;
use types::{
    RegionId,
    model::ModelRecord,
    region::{FencingDoor, Health, RegionLabels, RegionRecord, StoreBinding},
};

use super::{
    Outcome,
    change::Change,
    replicas::pending,
    text::{at_most, check_pairs, note},
    uses,
};
use crate::{command::Command, features::Feature, rejection::Rejection, reply::Reply};

/// Regions that a cluster may have; far above any real one, so that a loop in a script cannot fill the state.
const REGIONS_MAX: u64 = 256;

/// Bytes of what people call a region.
const NAME_BYTES_MAX: u64 = 200;
/// Bytes of a provider's name.
const PROVIDER_BYTES_MAX: u64 = 63;
/// Pairs by which costs are allocated, and bytes of a value; clouds take no more either.
const COST_TAGS_MAX: u64 = 50;
const COST_TAG_BYTES_MAX: u64 = 256;

/// The first node of a region makes it.
pub(super) fn register(change: &mut Change<'_>, region: &RegionId) -> Outcome {
    let evidence = "registered; no agent has reported ready yet";
    add(change, region, evidence, RegionLabels::default())
}

/// A person makes a region, before anything stands there.
pub(super) fn create(change: &mut Change<'_>, region: &RegionId, labels: &RegionLabels) -> Outcome {
    change.enabled(Feature::Regions)?;
    check_labels(labels)?;
    add(
        change,
        region,
        "created; no agent has reported ready yet",
        labels.clone(),
    )
}

/// A new region is not yet verified able to serve, so it begins RECOVERING.
fn add(change: &mut Change<'_>, region: &RegionId, evidence: &str, labels: RegionLabels) -> Outcome {
    if change.state.regions.contains_key(region) {
        let (what, name) = ("region".to_owned(), region.to_string());
        return Err(Rejection::AlreadyExists { what, name });
    }
    at_most("count of regions", change.state.regions.len() + 1, REGIONS_MAX)?;
    change.put_region(RegionRecord {
        region: region.clone(),
        health: Health::Recovering,
        health_evidence: evidence.to_owned(),
        health_changed_at: change.now(),
        store: None,
        labels,
        modified: change.revision(),
    });
    Arc::make_mut(&mut change.state.join_order).push(region.clone());
    want_copies(change, region);
    Ok(change.done())
}

/// Copies of what is served already belong into a new region too, where the placement says so.
fn want_copies(change: &mut Change<'_>, region: &RegionId) {
    let wanted = |model| {
        let model: Option<&ModelRecord> = change.state.models.get(model);
        model.is_some_and(|m| placement::wants(&m.placement, region))
    };
    let versions = change.state.versions.values().filter(|v| v.is_replicated());
    let versions: Vec<_> = versions
        .filter(|v| wanted(&v.key.model))
        .map(|v| v.key.clone())
        .collect();
    for version in versions {
        let replica = pending(change, &version, region);
        change.put_replica(replica);
    }
}

fn check_labels(labels: &RegionLabels) -> Result<(), Rejection> {
    at_most(
        "bytes of the display name",
        labels.display_name.len(),
        NAME_BYTES_MAX,
    )?;
    at_most("bytes of the provider", labels.provider.len(), PROVIDER_BYTES_MAX)?;
    at_most("count of cost tags", labels.cost_tags.len(), COST_TAGS_MAX)?;
    check_pairs("cost_tags", &labels.cost_tags)?;
    let mut tags = labels.cost_tags.iter();
    tags.try_for_each(|(key, value)| {
        at_most(
            &format!("bytes of cost tag {key}"),
            value.len(),
            COST_TAG_BYTES_MAX,
        )
    })
}

/// Changes what people say of a region: what the command does not name stays.
pub(super) fn update(change: &mut Change<'_>, region: &RegionId, command: &Command) -> Outcome {
    change.enabled(Feature::Regions)?;
    let Command::UpdateRegion {
        display_name,
        provider,
        set_cost_tags,
        remove_cost_tags,
        ..
    } = command
    else {
        return Err(Rejection::invalid("command", "is no UpdateRegion"));
    };
    let record = change.region(region)?;
    let mut labels = record.labels.clone();
    labels.display_name = display_name.clone().unwrap_or(labels.display_name);
    labels.provider = provider.clone().unwrap_or(labels.provider);
    labels.cost_tags.retain(|key, _| !remove_cost_tags.contains(key));
    labels.cost_tags.extend(set_cost_tags.clone());
    check_labels(&labels)?;
    if labels == record.labels {
        return Ok(Reply::Done {
            modified: record.modified,
        });
    }
    change.put_region(RegionRecord { labels, ..record });
    Ok(change.done())
}

/// Takes a region away, and what was recorded of copies there. Nothing stands in it, so nobody reads or writes them.
pub(super) fn delete(change: &mut Change<'_>, region: &RegionId) -> Outcome {
    change.enabled(Feature::Regions)?;
    change.region(region)?;
    let uses = uses::of_region(change.state, region);
    if !uses.is_empty() {
        let (uses, count) = uses.told();
        return Err(Rejection::RegionInUse {
            region: region.clone(),
            uses,
            count,
        });
    }
    let copies = change.state.replicas.keys().filter(|key| key.region == *region);
    for key in copies.cloned().collect::<Vec<_>>() {
        change.delete_replica(&key);
    }
    Arc::make_mut(&mut change.state.join_order).retain(|joined| joined != region);
    change.delete_region(region);
    Ok(change.done())
}

pub(super) fn attach_store(change: &mut Change<'_>, region: &RegionId, store: &StoreBinding) -> Outcome {
    let record = change.region(region)?;
    check_store(store)?;
    if record.store.as_ref() == Some(store) {
        return Ok(Reply::Done {
            modified: record.modified,
        });
    }
    change.put_region(RegionRecord {
        store: Some(store.clone()),
        ..record
    });
    Ok(change.done())
}

fn check_store(store: &StoreBinding) -> Result<(), Rejection> {
    if store.endpoint.is_empty() || store.bucket.is_empty() {
        return Err(Rejection::invalid(
            "store",
            "endpoint and bucket must not be empty",
        ));
    }
    at_most("bytes of the store's endpoint", store.endpoint.len(), 512)?;
    at_most("bytes of the store's bucket", store.bucket.len(), 255)?;
    match &store.fencing_door {
        FencingDoor::Qualified => Ok(()),
        FencingDoor::Refused { reason } => at_most("bytes of the probe's reason", reason.len(), 4096),
    }
}

pub(super) fn set_health(
    change: &mut Change<'_>,
    region: &RegionId,
    from: Health,
    to: Health,
    evidence: &str,
) -> Outcome {
    let record = change.region(region)?;
    if record.health != from || !may_follow(from, to) {
        return Err(Rejection::IllegalTransition {
            what: format!("region {region}, said to be {from},"),
            from: record.health.to_string(),
            to: to.to_string(),
        });
    }
    change.put_region(RegionRecord {
        health: to,
        health_evidence: note(evidence),
        health_changed_at: change.now(),
        ..record
    });
    Ok(change.done())
}

/// A region that was given up comes back through RECOVERING, never at once.
fn may_follow(from: Health, to: Health) -> bool {
    match (from, to) {
        (Health::Healthy | Health::Recovering, Health::Unhealthy)
        | (Health::Healthy | Health::Unhealthy, Health::Recovering)
        | (Health::Recovering, Health::Healthy) => true,
        (Health::Unhealthy, Health::Healthy)
        | (Health::Healthy, Health::Healthy)
        | (Health::Unhealthy, Health::Unhealthy)
        | (Health::Recovering, Health::Recovering) => false,
    }
}
