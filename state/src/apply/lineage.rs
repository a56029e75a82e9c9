//! Where a version comes from and how good it is: the data sets that it was trained from, and what was measured of it.
//!
//! Absent on purpose: what follows from either. Whoever retrains or promotes by them reads them.

use std::collections::{BTreeMap, BTreeSet};

use types::{
    DatasetName, MetricName, Micros, VersionKey,
    model::{Measured, VersionRecord, VersionState},
};

use super::{Outcome, change::Change, text::at_most};
use crate::{features::Feature, rejection::Rejection, reply::Reply};

/// Data sets that a version may name.
const DATASETS_MAX: u64 = 64;
/// Names of values that a version may have.
const METRICS_MAX: u64 = 64;

/// That a version may be announced with these. Builds that do not know of data sets must never meet one.
pub(super) fn check_datasets(change: &Change<'_>, datasets: &BTreeSet<DatasetName>) -> Result<(), Rejection> {
    if datasets.is_empty() {
        return Ok(());
    }
    change.enabled(Feature::Datasets)?;
    at_most("count of datasets", datasets.len(), DATASETS_MAX)
}

/// The same value again is no new measurement: who repeats a report writes no history.
pub(super) fn set_metrics(
    change: &mut Change<'_>,
    version: &VersionKey,
    set: &BTreeMap<MetricName, Micros>,
    remove: &BTreeSet<MetricName>,
) -> Outcome {
    change.enabled(Feature::VersionMetrics)?;
    let record = change.version(version)?;
    if record.state == VersionState::Deleted {
        return Err(Rejection::VersionState {
            version: version.clone(),
            state: record.state,
            needs: "any other than DELETED".to_owned(),
        });
    }
    if let Some(name) = set.keys().find(|name| remove.contains(*name)) {
        return Err(Rejection::invalid("remove", format!("{name} is also to be set")));
    }
    let mut metrics = record.metrics.clone();
    metrics.retain(|name, _| !remove.contains(name));
    for (name, value) in set {
        if metrics.get(name).is_none_or(|known| known.value != *value) {
            metrics.insert(name.clone(), measured(change, *value));
        }
    }
    at_most("count of metrics", metrics.len(), METRICS_MAX)?;
    if metrics == record.metrics {
        return Ok(Reply::Done {
            modified: record.modified,
        });
    }
    change.put_version(VersionRecord { metrics, ..record });
    Ok(change.done())
}

fn measured(change: &Change<'_>, value: Micros) -> Measured {
    Measured {
        value,
        at: change.now(),
        by: change.actor().clone(),
    }
}
