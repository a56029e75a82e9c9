//! Experiments: which versions of a model its users are split over, and what was measured of each.
//!
//! Absent on purpose: who gets which version (`policy::experiment`); here is only decided what the record says.

use std::collections::{BTreeMap, BTreeSet};

use policy::experiment::lay_out;
use types::{
    ExperimentName, MetricName, Micros, ModelName, ModelVersion, VersionKey,
    experiment::{Arm, ExperimentRecord, ExperimentState, SLOTS, Share, Slots},
};

use super::{
    Outcome,
    change::Change,
    text::{VALUE_BYTES_MAX, at_most, note},
};
use crate::{features::Feature, rejection::Rejection, reply::Reply};

/// Experiments of a model that run at a time.
const RUNNING_MAX: u64 = 16;
/// Ended ones that are remembered of a model: of more the oldest is forgotten, and its name is free again.
const ENDED_KEPT: usize = 100;
/// Arms of an experiment; fewer than two would split nothing.
const ARMS_MAX: u64 = 10;
/// Names of values that an arm may have.
const METRICS_MAX: u64 = 32;

pub(super) fn create(
    change: &mut Change<'_>,
    model: &ModelName,
    name: &ExperimentName,
    description: &str,
    split: &[Share],
) -> Outcome {
    change.enabled(Feature::Experiments)?;
    change.model(model)?;
    if change.state.experiment(model, name).is_some() {
        let what = format!("experiment of {model}");
        return Err(Rejection::AlreadyExists {
            what,
            name: name.to_string(),
        });
    }
    at_most("bytes of the description", description.len(), VALUE_BYTES_MAX)?;
    let running = change.state.experiments_of(model).filter(|e| e.is_running());
    at_most("count of running experiments", running.count() + 1, RUNNING_MAX)?;
    check_split(change, model, split)?;
    let slots = slots(None, split)?;
    change.put_experiment(ExperimentRecord {
        model: model.clone(),
        name: name.clone(),
        description: description.to_owned(),
        state: ExperimentState::Running,
        arms: split.iter().map(new_arm).collect(),
        slots,
        reason: String::new(),
        created_at: change.now(),
        created_by: change.actor().clone(),
        ended_at: None,
        modified: change.revision(),
    });
    Ok(change.done())
}

/// Whoever changes who gets what must have seen who gets what now, so an etag is not left to choice; that it is the
/// present one was checked before any handler.
pub(super) fn set_split(
    change: &mut Change<'_>,
    model: &ModelName,
    name: &ExperimentName,
    split: &[Share],
) -> Outcome {
    let record = running(change, model, name, "split otherwise")?;
    if change.expected_etag().is_none() {
        return Err(Rejection::invalid(
            "etag",
            format!(
                "is missing: a split is changed by who has seen the present one, at {}",
                record.modified
            ),
        ));
    }
    check_once(split)?;
    let split = in_order(&record, split)?;
    check_split(change, model, &split)?;
    let slots = slots(Some(&record.slots), &split)?;
    let arms = resplit(&record.arms, &split);
    if arms == record.arms {
        return Ok(Reply::Done {
            modified: record.modified,
        });
    }
    change.put_experiment(ExperimentRecord {
        arms,
        slots,
        ..record
    });
    Ok(change.done())
}

pub(super) fn report(
    change: &mut Change<'_>,
    model: &ModelName,
    name: &ExperimentName,
    version: ModelVersion,
    metrics: &BTreeMap<MetricName, Micros>,
) -> Outcome {
    let mut record = running(change, model, name, "measured")?;
    let modified = record.modified;
    let Some(arm) = record.arms.iter_mut().find(|arm| arm.version == version) else {
        let problem = format!("{version} is no arm of experiment {name} of {model}");
        return Err(Rejection::invalid("version", problem));
    };
    if metrics.is_empty() {
        return Err(Rejection::invalid("metrics", "names no value"));
    }
    let before = arm.metrics.clone();
    arm.metrics
        .extend(metrics.iter().map(|(name, value)| (name.clone(), *value)));
    at_most("count of metrics of an arm", arm.metrics.len(), METRICS_MAX)?;
    if arm.metrics == before {
        return Ok(Reply::Done { modified });
    }
    change.put_experiment(record);
    Ok(change.done())
}

pub(super) fn end(
    change: &mut Change<'_>,
    model: &ModelName,
    name: &ExperimentName,
    reason: &str,
) -> Outcome {
    let record = running(change, model, name, "ended")?;
    change.put_experiment(ExperimentRecord {
        state: ExperimentState::Ended,
        reason: note(reason),
        ended_at: Some(change.now()),
        ..record
    });
    forget_oldest(change, model);
    Ok(change.done())
}

/// That no running experiment gives the version to users.
pub(super) fn check_unused(change: &Change<'_>, version: &VersionKey) -> Result<(), Rejection> {
    let mut running = change
        .state
        .experiments_of(&version.model)
        .filter(|e| e.is_running());
    match running.find(|e| e.arms.iter().any(|arm| arm.version == version.version)) {
        None => Ok(()),
        Some(experiment) => Err(Rejection::VersionInExperiment {
            version: version.clone(),
            experiment: experiment.name.clone(),
        }),
    }
}

fn running(
    change: &Change<'_>,
    model: &ModelName,
    name: &ExperimentName,
    to: &str,
) -> Result<ExperimentRecord, Rejection> {
    change.enabled(Feature::Experiments)?;
    let record = change.experiment(model, name)?;
    if record.is_running() {
        return Ok(record);
    }
    Err(Rejection::IllegalTransition {
        what: format!("experiment {name} of {model}"),
        from: record.state.to_string(),
        to: to.to_owned(),
    })
}

/// The split with the arms that there are first, in their order: it is what slots speak of.
fn in_order(record: &ExperimentRecord, split: &[Share]) -> Result<Vec<Share>, Rejection> {
    let of = |version| split.iter().find(|share| share.version == version).copied();
    let mut ordered = Vec::with_capacity(split.len());
    for arm in &record.arms {
        let share = of(arm.version).ok_or_else(|| {
            let problem = format!(
                "does not name version {}, which is an arm; give it 0 to empty it",
                arm.version
            );
            Rejection::invalid("split", problem)
        })?;
        ordered.push(share);
    }
    let is_arm = |share: &&Share| record.arms.iter().any(|arm| arm.version == share.version);
    ordered.extend(split.iter().filter(|share| !is_arm(share)));
    Ok(ordered)
}

fn check_once(split: &[Share]) -> Result<(), Rejection> {
    let mut seen = BTreeSet::new();
    match split.iter().find(|share| !seen.insert(share.version)) {
        None => Ok(()),
        Some(share) => {
            let problem = format!("version {} is there twice", share.version);
            Err(Rejection::invalid("split", problem))
        }
    }
}

fn check_split(change: &Change<'_>, model: &ModelName, split: &[Share]) -> Result<(), Rejection> {
    at_most("count of arms", split.len(), ARMS_MAX)?;
    if split.len() < 2 {
        return Err(Rejection::invalid("split", "must have two arms at least"));
    }
    check_once(split)?;
    for share in split {
        check_served(change, model, share.version)?;
    }
    let sum: u64 = split.iter().map(|share| u64::from(share.percent)).sum();
    if sum == SLOTS as u64 {
        return Ok(());
    }
    let problem = format!("the percents add up to {sum}, and must to {SLOTS}");
    Err(Rejection::invalid("split", problem))
}

fn check_served(change: &Change<'_>, model: &ModelName, version: ModelVersion) -> Result<(), Rejection> {
    let key = VersionKey {
        model: model.clone(),
        version,
    };
    let record = change.version(&key)?;
    if record.is_replicated() {
        return Ok(());
    }
    Err(Rejection::VersionState {
        version: key,
        state: record.state,
        needs: "READY or DEPRECATED".to_owned(),
    })
}

/// The slots of a split that was checked.
fn slots(before: Option<&Slots>, split: &[Share]) -> Result<Slots, Rejection> {
    let percents: Vec<u32> = split.iter().map(|share| share.percent).collect();
    lay_out(before, &percents).ok_or_else(|| Rejection::invalid("split", "cannot be laid out"))
}

fn new_arm(share: &Share) -> Arm {
    Arm {
        version: share.version,
        percent: share.percent,
        metrics: BTreeMap::new(),
    }
}

/// What was measured of an arm stays, whatever its share becomes.
fn resplit(arms: &[Arm], split: &[Share]) -> Vec<Arm> {
    let of = |share: &Share| {
        let known = arms.iter().find(|arm| arm.version == share.version).cloned();
        Arm {
            percent: share.percent,
            ..known.unwrap_or_else(|| new_arm(share))
        }
    };
    split.iter().map(of).collect()
}

fn forget_oldest(change: &mut Change<'_>, model: &ModelName) {
    let ended = change.state.experiments_of(model).filter(|e| !e.is_running());
    let mut ended: Vec<_> = ended.map(|e| (e.modified, e.name.clone())).collect();
    ended.sort_unstable();
    let surplus = ended.len().saturating_sub(ENDED_KEPT);
    for (_, name) in ended.into_iter().take(surplus) {
        change.delete_experiment(model, &name);
    }
}
