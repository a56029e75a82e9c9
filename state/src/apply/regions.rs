//! Regions: joining, their stores, their committed verdicts.

use std::sync::Arc;

use policy::placement;
use types::{
    RegionId,
    model::ModelRecord,
    region::{FencingDoor, Health, RegionRecord, StoreBinding},
};

use super::{
    Outcome,
    change::Change,
    replicas::pending,
    text::{at_most, note},
};
use crate::rejection::Rejection;

/// Regions that a cluster may have; far above any real one, so that a loop in a script cannot fill the state.
const REGIONS_MAX: u64 = 256;

/// A new region is not yet verified able to serve, so it begins RECOVERING.
pub(super) fn register(change: &mut Change<'_>, region: &RegionId) -> Outcome {
    if change.state.regions.contains_key(region) {
        let (what, name) = ("region".to_owned(), region.to_string());
        return Err(Rejection::AlreadyExists { what, name });
    }
    at_most("count of regions", change.state.regions.len() + 1, REGIONS_MAX)?;
    change.put_region(RegionRecord {
        region: region.clone(),
        health: Health::Recovering,
        health_evidence: "registered; no agent has reported ready yet".to_owned(),
        health_changed_at: change.now(),
        store: None,
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

pub(super) fn attach_store(change: &mut Change<'_>, region: &RegionId, store: &StoreBinding) -> Outcome {
    let record = change.region(region)?;
    check_store(store)?;
    if record.store.as_ref() == Some(store) {
        return Ok(crate::Reply::Done {
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
