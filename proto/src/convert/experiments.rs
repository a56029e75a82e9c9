//! Experiments.

use std::collections::BTreeMap;

use types::{
    MetricName, Micros, ModelVersion, Revision, UnixMillis,
    experiment::{Arm, ExperimentRecord, ExperimentState, Share, Slots},
};

use super::{Parsed, enum_table, invalid, optional_time, text, time_from};
use crate::v1 as pb;

enum_table!(state_to_pb, state_from_pb, "state", ExperimentState, pb::ExperimentState, {
    ExperimentState::Running = pb::ExperimentState::ExperimentRunning,
    ExperimentState::Ended = pb::ExperimentState::ExperimentEnded,
});

/// The version of an arm, which is at least 1.
pub fn arm_version(field: &str, version: u64) -> Parsed<ModelVersion> {
    match version {
        0 => Err(invalid(field, "must be a whole number from 1")),
        number => Ok(ModelVersion(number)),
    }
}

impl From<&Share> for pb::Share {
    fn from(share: &Share) -> Self {
        Self {
            version: share.version.0,
            percent: share.percent,
        }
    }
}

/// Reads a split; whether it adds up is the registry's to say.
pub fn split(shares: Vec<pb::Share>) -> Parsed<Vec<Share>> {
    let read = |share: pb::Share| {
        Ok(Share {
            version: arm_version("split.version", share.version)?,
            percent: share.percent,
        })
    };
    shares.into_iter().map(read).collect()
}

/// Measured values on the wire.
pub fn metrics_to_pb(metrics: &BTreeMap<MetricName, Micros>) -> BTreeMap<String, String> {
    let pair = |(name, value): (&MetricName, &Micros)| (name.to_string(), value.to_string());
    metrics.iter().map(pair).collect()
}

/// Reads measured values.
pub fn metrics(metrics: BTreeMap<String, String>) -> Parsed<BTreeMap<MetricName, Micros>> {
    let read = |(name, value): (String, String)| {
        let metric: MetricName = text("metrics", &name)?;
        Ok((metric, text(&format!("metrics.{name}"), &value)?))
    };
    metrics.into_iter().map(read).collect()
}

impl From<&ExperimentRecord> for pb::Experiment {
    fn from(e: &ExperimentRecord) -> Self {
        let arm = |arm: &Arm| pb::ExperimentArm {
            version: arm.version.0,
            percent: arm.percent,
            metrics: metrics_to_pb(&arm.metrics),
        };
        Self {
            model: e.model.to_string(),
            name: e.name.to_string(),
            description: e.description.clone(),
            state: state_to_pb(e.state),
            arms: e.arms.iter().map(arm).collect(),
            slots: e.slots.owners().to_vec(),
            reason: e.reason.clone(),
            created_at_millis: e.created_at.0,
            created_by: e.created_by.to_string(),
            ended_at_millis: optional_time(e.ended_at),
            modified_revision: e.modified.0,
        }
    }
}

/// Reads an experiment.
pub fn experiment(e: pb::Experiment) -> Parsed<ExperimentRecord> {
    let arm = |arm: pb::ExperimentArm| {
        Ok(Arm {
            version: arm_version("arms.version", arm.version)?,
            percent: arm.percent,
            metrics: metrics(arm.metrics)?,
        })
    };
    Ok(ExperimentRecord {
        model: text("model", &e.model)?,
        name: text("name", &e.name)?,
        description: e.description,
        state: state_from_pb(e.state)?,
        arms: e.arms.into_iter().map(arm).collect::<Parsed<_>>()?,
        slots: Slots::try_from(e.slots).map_err(|why| invalid("slots", why))?,
        reason: e.reason,
        created_at: UnixMillis(e.created_at_millis),
        created_by: text("created_by", &e.created_by)?,
        ended_at: time_from(e.ended_at_millis),
        modified: Revision(e.modified_revision),
    })
}
