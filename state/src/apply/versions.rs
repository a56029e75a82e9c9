//! Versions: announced, verified, ready, retired. Immutable from READY on (I3).

use std::collections::{BTreeMap, BTreeSet};

use types::{
    AliasName, ModelVersion, RegionId, VersionKey,
    model::{AliasRecord, Artifact, ModelRecord, VersionRecord, VersionState},
};

use super::{
    Outcome,
    change::Change,
    lineage, models,
    replicas::pending,
    text::{at_most, check_pairs, note},
};
use crate::{command::Command, rejection::Rejection, reply::Reply};

/// Files that a version may have.
const ARTIFACTS_MAX: u64 = 1_000;

pub(super) fn create(change: &mut Change<'_>, command: &Command) -> Outcome {
    let Command::CreateVersion {
        model,
        source_region,
        artifacts,
        framework,
        metadata,
        datasets,
    } = command
    else {
        return Err(Rejection::invalid("command", "is no CreateVersion"));
    };
    check_source(change, source_region)?;
    check_artifacts(artifacts)?;
    if framework.is_empty() {
        return Err(Rejection::invalid("framework", "must not be empty"));
    }
    at_most("bytes of the framework", framework.len(), 64)?;
    check_pairs("metadata", metadata)?;
    lineage::check_datasets(change, datasets)?;
    let known = change.state.models.get(model).cloned();
    let record = known.unwrap_or_else(|| models::new_model(change, model));
    let version = record.next_version;
    let next_version = version.0.checked_add(1).map(ModelVersion);
    let next_version = next_version.ok_or_else(|| Rejection::invalid("model", "all numbers are used up"))?;
    let key = VersionKey {
        model: model.clone(),
        version,
    };
    let new = VersionRecord {
        key: key.clone(),
        state: VersionState::PendingUpload,
        state_reason: String::new(),
        source_region: source_region.clone(),
        artifacts: artifacts.clone(),
        framework: framework.clone(),
        metadata: metadata.clone(),
        datasets: datasets.clone(),
        metrics: BTreeMap::new(),
        created_at: change.now(),
        created_by: change.actor().clone(),
        modified: change.revision(),
    };
    change.put_model(ModelRecord {
        next_version,
        ..record
    });
    change.put_version(new);
    Ok(Reply::Version {
        key,
        modified: change.revision(),
    })
}

/// The region that the bytes go to must have somewhere to put them.
fn check_source(change: &Change<'_>, region: &RegionId) -> Result<(), Rejection> {
    if change.region(region)?.store.is_some() {
        return Ok(());
    }
    Err(Rejection::IllegalTransition {
        what: format!("region {region}"),
        from: "without an object store".to_owned(),
        to: "the source of a version".to_owned(),
    })
}

fn check_artifacts(artifacts: &[Artifact]) -> Result<(), Rejection> {
    if artifacts.is_empty() {
        return Err(Rejection::invalid(
            "artifacts",
            "a version needs at least one file",
        ));
    }
    at_most("count of artifacts", artifacts.len(), ARTIFACTS_MAX)?;
    let mut paths = BTreeSet::new();
    let mut total = 0_u64;
    for artifact in artifacts {
        if !paths.insert(&artifact.path) {
            return Err(Rejection::invalid(
                "artifacts",
                format!("{} is there twice", artifact.path),
            ));
        }
        at_most("bytes of a media type", artifact.media_type.len(), 255)?;
        let sum = total.checked_add(artifact.size.0);
        total = sum.ok_or_else(|| Rejection::invalid("artifacts", "sizes add up to more than 2^64 bytes"))?;
    }
    Ok(())
}

/// That the version is in one of the states, and what it must be in otherwise.
fn check_state(record: &VersionRecord, allowed: &[VersionState]) -> Result<(), Rejection> {
    if allowed.contains(&record.state) {
        return Ok(());
    }
    let names: Vec<_> = allowed.iter().map(ToString::to_string).collect();
    let (version, state) = (record.key.clone(), record.state);
    Err(Rejection::VersionState {
        version,
        state,
        needs: names.join(" or "),
    })
}

pub(super) fn complete_upload(change: &mut Change<'_>, version: &VersionKey) -> Outcome {
    let record = change.version(version)?;
    check_state(&record, &[VersionState::PendingUpload])?;
    let replica = pending(change, version, &record.source_region);
    change.put_version(VersionRecord {
        state: VersionState::Verifying,
        ..record
    });
    change.put_replica(replica);
    Ok(change.done())
}

pub(super) fn abort(change: &mut Change<'_>, version: &VersionKey, reason: &str) -> Outcome {
    let record = change.version(version)?;
    check_state(&record, &[VersionState::PendingUpload, VersionState::Verifying])?;
    end(change, record, reason);
    Ok(change.done())
}

pub(super) fn deprecate(change: &mut Change<'_>, version: &VersionKey, reason: &str) -> Outcome {
    let record = change.version(version)?;
    check_state(&record, &[VersionState::Ready])?;
    let state_reason = note(reason);
    change.put_version(VersionRecord {
        state: VersionState::Deprecated,
        state_reason,
        ..record
    });
    Ok(change.done())
}

pub(super) fn delete(change: &mut Change<'_>, version: &VersionKey, reason: &str) -> Outcome {
    let record = change.version(version)?;
    check_state(&record, &[VersionState::Ready, VersionState::Deprecated])?;
    let mut aliases = change.state.aliases(&version.model);
    if let Some(alias) = aliases.find(|a| a.version == version.version) {
        let (version, alias) = (version.clone(), alias.alias.clone());
        return Err(Rejection::VersionInUse { version, alias });
    }
    drop(aliases);
    super::experiments::check_unused(change, version)?;
    end(change, record, reason);
    Ok(change.done())
}

/// DELETED, with the reason; its copies are wanted nowhere any more.
pub(super) fn end(change: &mut Change<'_>, record: VersionRecord, reason: &str) {
    let replicas: Vec<_> = change
        .state
        .replicas_of(&record.key)
        .map(|r| r.key.clone())
        .collect();
    for key in replicas {
        change.delete_replica(&key);
    }
    let state_reason = note(reason);
    change.put_version(VersionRecord {
        state: VersionState::Deleted,
        state_reason,
        ..record
    });
}

/// READY: the source region's bytes are verified. Copies are wanted in the other regions of the placement, and the
/// first version of a model that ever became ready is its `champion`. Later ones never are by themselves, also where all
/// before them were deleted: a person who took the alias away meant the model to be out of service.
pub(super) fn make_ready(change: &mut Change<'_>, record: VersionRecord) {
    let key = record.key.clone();
    let source = record.source_region.clone();
    let is_first = change.publish(&key.model);
    change.put_version(VersionRecord {
        state: VersionState::Ready,
        ..record
    });
    for region in change.placed_regions(&key.model) {
        if region != source {
            let replica = pending(change, &key, &region);
            change.put_replica(replica);
        }
    }
    if let Ok(alias) = AliasName::new("champion")
        && is_first
        && change.state.alias(&key.model, &alias).is_none()
    {
        let record = AliasRecord {
            model: key.model,
            alias,
            version: key.version,
            reason: "first version that became ready".to_owned(),
            moved_at: change.now(),
            moved_by: change.actor().clone(),
            modified: change.revision(),
        };
        change.put_alias(record);
    }
}
