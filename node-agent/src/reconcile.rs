//! From what should be and what is to what to do next, in order. Pure.
//!
//! Roles and steps are not in here: their owners ([`crate::roles`], [`crate::steps`]) take them from the desired state
//! directly, because each has a lifetime of its own and not an end.
//! Invariants: no job is given out twice, nothing above the limits, and a version is never unloaded while it is the
//! active one of its model: the next one is switched in first, so that no request is dropped.

use types::{ModelName, ModelVersion, VersionKey};

use crate::{
    desired::Desired,
    observed::{Copied, Job, Memory, Observed},
};

/// How much may run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Verifications, copies, fetches and rechecks together.
    pub copies: usize,
    /// Loads.
    pub loads: usize,
}

/// Versions whose files are removed at a time; after a start every deleted one is looked at.
const EVICTIONS_MAX: usize = 4;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes a loaded version the active one of its model; done at once.
    Activate(ModelName, ModelVersion),
    /// Leaves a model without an active version; done at once.
    Deactivate(ModelName),
    /// Work that takes its time.
    Start(Job),
}

/// What closes the difference: switches first, then uploads that wait for their verdict, copies, files, loads, and
/// at last what is no longer wanted in memory and on disk.
pub fn reconcile(desired: &Desired, observed: &Observed, limits: Limits) -> Vec<Action> {
    let mut plan = Plan {
        observed,
        copies_left: limits.copies.saturating_sub(count(observed, is_copy)),
        loads_left: limits.loads.saturating_sub(count(observed, is_load)),
        actions: Vec::new(),
    };
    switch(desired, &mut plan);
    // Without the store each would fail at once, be written into the log twice, and wait ever longer for its next try.
    if desired.has_own_store {
        let verify = desired.verify.keys().map(|k| Job::Verify(k.clone()));
        let copy = desired.copy.keys().map(|k| Job::Copy(k.clone()));
        verify.chain(copy).for_each(|job| plan.start(job));
        let is_verified = |key: &&VersionKey| desired.cache.get(*key).is_some_and(|c| c.verified.is_some());
        let recheck = observed.doubted.iter().filter(is_verified);
        recheck.for_each(|key| plan.start(Job::Recheck(key.clone())));
    }
    for key in fetch_order(desired) {
        if observed.copied(key) != Copied::Present {
            plan.start(Job::Fetch(key.clone()));
        }
    }
    for key in &desired.load {
        if observed.copied(key) == Copied::Present && !observed.memory.contains_key(key) {
            plan.start(Job::Load(key.clone()));
        }
    }
    unload(desired, &mut plan);
    evict(desired, &mut plan);
    plan.actions
}

struct Plan<'a> {
    observed: &'a Observed,
    copies_left: usize,
    loads_left: usize,
    actions: Vec<Action>,
}

impl Plan<'_> {
    /// Runs, failed and waits for its next try, or would want the files that another job is bringing.
    fn is_waiting(&self, job: &Job) -> bool {
        let is_running = |job: &Job| {
            let started = || {
                self.actions
                    .iter()
                    .any(|a| matches!(a, Action::Start(j) if j == job))
            };
            self.observed.running.contains(job) || started()
        };
        let rival = match job {
            Job::Copy(key) => Some(Job::Fetch(key.clone())),
            Job::Fetch(key) => Some(Job::Copy(key.clone())),
            _ => None,
        };
        is_running(job)
            || self.observed.backing_off.contains(job)
            || rival.is_some_and(|job| is_running(&job))
    }

    fn start(&mut self, job: Job) {
        if self.is_waiting(&job) {
            return;
        }
        let left = match &job {
            Job::Verify(_) | Job::Copy(_) | Job::Fetch(_) | Job::Recheck(_) => &mut self.copies_left,
            Job::Load(_) => &mut self.loads_left,
            Job::Unload(_) | Job::Evict(_) => {
                self.actions.push(Action::Start(job));
                return;
            }
        };
        if *left > 0 {
            *left -= 1;
            self.actions.push(Action::Start(job));
        }
    }
}

fn switch(desired: &Desired, plan: &mut Plan<'_>) {
    for (model, version) in &desired.active {
        let key = key_of(model, *version);
        if plan.observed.active.get(model) != Some(version) && plan.observed.is_loaded(&key) {
            plan.actions.push(Action::Activate(model.clone(), *version));
        }
    }
    for (model, version) in &desired.stand_ins {
        if !plan.observed.active.contains_key(model) && plan.observed.is_loaded(&key_of(model, *version)) {
            plan.actions.push(Action::Activate(model.clone(), *version));
        }
    }
    for model in plan.observed.active.keys() {
        if !desired.active.contains_key(model) {
            plan.actions.push(Action::Deactivate(model.clone()));
        }
    }
}

/// Files of versions to be served come before those that are only kept.
fn fetch_order(desired: &Desired) -> impl Iterator<Item = &VersionKey> {
    let served = desired.cache.keys().filter(|k| desired.load.contains(*k));
    served.chain(desired.cache.keys().filter(|k| !desired.load.contains(*k)))
}

fn unload(desired: &Desired, plan: &mut Plan<'_>) {
    let is_active = |active: Option<&ModelVersion>, key: &VersionKey| active == Some(&key.version);
    for (key, memory) in &plan.observed.memory {
        let wanted = desired.active.get(&key.model);
        // Still the active one while its successor is on its way: it goes after the switch.
        let serves = is_active(plan.observed.active.get(&key.model), key) && wanted.is_some();
        let kept = desired.load.contains(key) || is_active(wanted, key) || serves;
        if *memory == Memory::Loaded && !kept {
            plan.start(Job::Unload(key.clone()));
        }
    }
}

/// Files of deleted versions, once nothing uses them or is about to bring more.
fn evict(desired: &Desired, plan: &mut Plan<'_>) {
    let is_busy = |key: &VersionKey| {
        let jobs = [Job::Copy, Job::Fetch, Job::Load, Job::Unload].map(|job| job(key.clone()));
        jobs.iter().any(|job| plan.observed.running.contains(job))
    };
    let due = desired.gone.keys().filter(|key| {
        plan.observed.copied(key) != Copied::Absent
            && !plan.observed.memory.contains_key(*key)
            && !is_busy(key)
            && !plan.is_waiting(&Job::Evict((*key).clone()))
    });
    let running = count(plan.observed, |job| matches!(job, Job::Evict(_)));
    let due: Vec<_> = due.take(EVICTIONS_MAX.saturating_sub(running)).cloned().collect();
    due.into_iter().for_each(|key| plan.start(Job::Evict(key)));
}

fn key_of(model: &ModelName, version: ModelVersion) -> VersionKey {
    VersionKey {
        model: model.clone(),
        version,
    }
}

fn is_copy(job: &Job) -> bool {
    matches!(
        job,
        Job::Verify(_) | Job::Copy(_) | Job::Fetch(_) | Job::Recheck(_)
    )
}

fn is_load(job: &Job) -> bool {
    matches!(job, Job::Load(_))
}

fn count(observed: &Observed, kind: fn(&Job) -> bool) -> usize {
    observed.running.iter().filter(|job| kind(job)).count()
}
