//! Models, versions, aliases and replication records.

use std::collections::BTreeSet;

use types::{
    ByteCount, DatasetName, MetricName, ModelVersion, Revision, UnixMillis, VersionKey,
    model::{
        AliasRecord, Artifact, ArtifactPath, Measured, ModelRecord, Placement, VersionRecord, VersionState,
    },
    replica::{ReplicaKey, ReplicaRecord, ReplicaState},
};

use super::{Parsed, enum_table, invalid, optional_time, text, time_from};
use crate::v1 as pb;

enum_table!(version_state_to_pb, version_state_from_pb, "state", VersionState, pb::VersionState, {
    VersionState::PendingUpload = pb::VersionState::PendingUpload,
    VersionState::Verifying = pb::VersionState::Verifying,
    VersionState::Ready = pb::VersionState::Ready,
    VersionState::Deprecated = pb::VersionState::Deprecated,
    VersionState::Deleted = pb::VersionState::Deleted,
});
enum_table!(replica_state_to_pb, replica_state_from_pb, "state", ReplicaState, pb::ReplicaState, {
    ReplicaState::Pending = pb::ReplicaState::ReplicaPending,
    ReplicaState::Copying = pb::ReplicaState::ReplicaCopying,
    ReplicaState::Verified = pb::ReplicaState::ReplicaVerified,
    ReplicaState::Failed = pb::ReplicaState::ReplicaFailed,
});

/// Reads model and version number, which is at least 1.
pub fn version_key(model: &str, version: u64) -> Parsed<VersionKey> {
    if version == 0 {
        return Err(invalid("version", "must be a whole number from 1"));
    }
    Ok(VersionKey {
        model: text("model", model)?,
        version: ModelVersion(version),
    })
}

impl From<&Placement> for pb::Placement {
    fn from(placement: &Placement) -> Self {
        match placement {
            Placement::Everywhere => Self::default(),
            Placement::Regions(regions) => Self {
                regions: regions.iter().map(ToString::to_string).collect(),
            },
        }
    }
}

/// Reads a placement; absent or empty means everywhere.
pub fn placement(value: Option<pb::Placement>) -> Parsed<Placement> {
    let regions = value.unwrap_or_default().regions;
    if regions.is_empty() {
        return Ok(Placement::Everywhere);
    }
    Ok(Placement::Regions(
        regions
            .iter()
            .map(|r| text("placement.regions", r))
            .collect::<Parsed<_>>()?,
    ))
}

impl From<&ModelRecord> for pb::Model {
    fn from(m: &ModelRecord) -> Self {
        Self {
            name: m.name.to_string(),
            description: m.description.clone(),
            tags: m.tags.clone(),
            placement: Some((&m.placement).into()),
            next_version: m.next_version.0,
            created_at_millis: m.created_at.0,
            created_by: m.created_by.to_string(),
            modified_revision: m.modified.0,
        }
    }
}

/// Reads a model.
pub fn model(m: pb::Model) -> Parsed<ModelRecord> {
    Ok(ModelRecord {
        name: text("name", &m.name)?,
        description: m.description,
        tags: m.tags,
        placement: placement(m.placement)?,
        next_version: ModelVersion(m.next_version),
        created_at: UnixMillis(m.created_at_millis),
        created_by: text("created_by", &m.created_by)?,
        modified: Revision(m.modified_revision),
    })
}

impl From<&Artifact> for pb::Artifact {
    fn from(a: &Artifact) -> Self {
        Self {
            path: a.path.to_string(),
            size_bytes: a.size.0,
            digest: a.digest.to_string(),
            media_type: a.media_type.clone(),
        }
    }
}

/// Reads an artifact.
pub fn artifact(a: pb::Artifact) -> Parsed<Artifact> {
    Ok(Artifact {
        path: ArtifactPath::new(a.path).map_err(|e| invalid("artifacts.path", e))?,
        size: ByteCount(a.size_bytes),
        digest: text("artifacts.digest", &a.digest)?,
        media_type: a.media_type,
    })
}

impl From<&Measured> for pb::Measured {
    fn from(m: &Measured) -> Self {
        Self {
            value: m.value.to_string(),
            at_millis: m.at.0,
            by: m.by.to_string(),
        }
    }
}

/// Reads a measured value.
fn measured((name, m): (String, pb::Measured)) -> Parsed<(MetricName, Measured)> {
    let field = format!("metrics.{name}");
    Ok((
        text("metrics", &name)?,
        Measured {
            value: text(&field, &m.value)?,
            at: UnixMillis(m.at_millis),
            by: text(&field, &m.by)?,
        },
    ))
}

/// Reads names of data sets, each once.
pub fn datasets(names: &[String]) -> Parsed<BTreeSet<DatasetName>> {
    let mut read = BTreeSet::new();
    for name in names {
        if !read.insert(text("datasets", name)?) {
            return Err(invalid("datasets", format!("{name} is there twice")));
        }
    }
    Ok(read)
}

impl From<&VersionRecord> for pb::ModelVersion {
    fn from(v: &VersionRecord) -> Self {
        Self {
            model: v.key.model.to_string(),
            version: v.key.version.0,
            state: version_state_to_pb(v.state),
            state_reason: v.state_reason.clone(),
            source_region: v.source_region.to_string(),
            artifacts: v.artifacts.iter().map(Into::into).collect(),
            framework: v.framework.clone(),
            metadata: v.metadata.clone(),
            datasets: v.datasets.iter().map(ToString::to_string).collect(),
            metrics: v
                .metrics
                .iter()
                .map(|(name, m)| (name.to_string(), m.into()))
                .collect(),
            created_at_millis: v.created_at.0,
            created_by: v.created_by.to_string(),
            modified_revision: v.modified.0,
        }
    }
}

/// Reads a version.
pub fn version(v: pb::ModelVersion) -> Parsed<VersionRecord> {
    Ok(VersionRecord {
        key: version_key(&v.model, v.version)?,
        state: version_state_from_pb(v.state)?,
        state_reason: v.state_reason,
        source_region: text("source_region", &v.source_region)?,
        artifacts: v.artifacts.into_iter().map(artifact).collect::<Parsed<_>>()?,
        framework: v.framework,
        metadata: v.metadata,
        datasets: datasets(&v.datasets)?,
        metrics: v.metrics.into_iter().map(measured).collect::<Parsed<_>>()?,
        created_at: UnixMillis(v.created_at_millis),
        created_by: text("created_by", &v.created_by)?,
        modified: Revision(v.modified_revision),
    })
}

impl From<&AliasRecord> for pb::Alias {
    fn from(a: &AliasRecord) -> Self {
        Self {
            model: a.model.to_string(),
            alias: a.alias.to_string(),
            version: a.version.0,
            reason: a.reason.clone(),
            moved_at_millis: a.moved_at.0,
            moved_by: a.moved_by.to_string(),
            modified_revision: a.modified.0,
        }
    }
}

/// Reads an alias.
pub fn alias(a: pb::Alias) -> Parsed<AliasRecord> {
    let key = version_key(&a.model, a.version)?;
    Ok(AliasRecord {
        model: key.model,
        alias: text("alias", &a.alias)?,
        version: key.version,
        reason: a.reason,
        moved_at: UnixMillis(a.moved_at_millis),
        moved_by: text("moved_by", &a.moved_by)?,
        modified: Revision(a.modified_revision),
    })
}

impl From<&ReplicaRecord> for pb::Replica {
    fn from(r: &ReplicaRecord) -> Self {
        Self {
            model: r.key.version.model.to_string(),
            version: r.key.version.version.0,
            region: r.key.region.to_string(),
            state: replica_state_to_pb(r.state),
            source_region: r.source.as_ref().map(ToString::to_string).unwrap_or_default(),
            bytes_done: r.bytes_done.0,
            attempts: r.attempts,
            error: r.error.clone(),
            started_at_millis: optional_time(r.started_at),
            completed_at_millis: optional_time(r.completed_at),
            modified_revision: r.modified.0,
        }
    }
}

/// Reads a replication record.
pub fn replica(r: pb::Replica) -> Parsed<ReplicaRecord> {
    let source = if r.source_region.is_empty() {
        None
    } else {
        Some(text("source_region", &r.source_region)?)
    };
    Ok(ReplicaRecord {
        key: ReplicaKey {
            version: version_key(&r.model, r.version)?,
            region: text("region", &r.region)?,
        },
        state: replica_state_from_pb(r.state)?,
        source,
        bytes_done: ByteCount(r.bytes_done),
        attempts: r.attempts,
        error: r.error,
        started_at: time_from(r.started_at_millis),
        completed_at: time_from(r.completed_at_millis),
        modified: Revision(r.modified_revision),
    })
}
