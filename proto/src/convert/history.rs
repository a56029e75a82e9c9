//! Moves of aliases, and changes of health.

use types::{
    ModelVersion, Revision, UnixMillis,
    history::{DeploymentRecord, HealthChange, Standing},
};

use super::{Parsed, enum_table, text};
use crate::v1 as pb;

enum_table!(standing_to_pb, standing_from_pb, "to", Standing, pb::Standing, {
    Standing::Healthy = pb::Standing::Healthy,
    Standing::Unhealthy = pb::Standing::Unhealthy,
    Standing::Recovering = pb::Standing::Recovering,
    Standing::Up = pb::Standing::Up,
    Standing::Down = pb::Standing::Down,
    Standing::Removed = pb::Standing::Removed,
});

fn version_from(number: u64) -> Option<ModelVersion> {
    (number != 0).then_some(ModelVersion(number))
}

impl From<&DeploymentRecord> for pb::Deployment {
    fn from(d: &DeploymentRecord) -> Self {
        Self {
            model: d.model.to_string(),
            revision: d.revision.0,
            alias: d.alias.to_string(),
            from_version: d.from.map_or(0, |v| v.0),
            to_version: d.to.map_or(0, |v| v.0),
            reason: d.reason.clone(),
            at_millis: d.at.0,
            by: d.by.to_string(),
        }
    }
}

/// Reads a move of an alias.
pub fn deployment(d: pb::Deployment) -> Parsed<DeploymentRecord> {
    Ok(DeploymentRecord {
        model: text("model", &d.model)?,
        revision: Revision(d.revision),
        alias: text("alias", &d.alias)?,
        from: version_from(d.from_version),
        to: version_from(d.to_version),
        reason: d.reason,
        at: UnixMillis(d.at_millis),
        by: text("by", &d.by)?,
    })
}

impl From<&HealthChange> for pb::HealthChange {
    fn from(c: &HealthChange) -> Self {
        Self {
            subject: c.subject.to_string(),
            revision: c.revision.0,
            from: c.from.map_or(0, standing_to_pb),
            to: standing_to_pb(c.to),
            evidence: c.evidence.clone(),
            at_millis: c.at.0,
            by: c.by.to_string(),
        }
    }
}

/// Reads a change of health.
pub fn health_change(c: pb::HealthChange) -> Parsed<HealthChange> {
    let from = (c.from != 0).then(|| standing_from_pb(c.from)).transpose()?;
    Ok(HealthChange {
        subject: text("subject", &c.subject)?,
        revision: Revision(c.revision),
        from,
        to: standing_from_pb(c.to)?,
        evidence: c.evidence,
        at: UnixMillis(c.at_millis),
        by: text("by", &c.by)?,
    })
}
