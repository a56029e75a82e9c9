//! Whether this node is fit to serve, and to take a role over. Pure.
//!
//! Absent on purpose: who is the fittest; the leader compares what agents have loaded. Invariant: one version that nobody can
//! serve, or that is only on its way, makes no node unfit: else one push would take all regions out of service at once, and
//! hold every failover.

use std::collections::BTreeSet;

use types::{ModelName, ModelVersion, VersionKey};

use crate::{
    desired::Desired,
    observed::{Copied, Observed},
};

/// Where a desired state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// There is none yet.
    Nobody,
    /// The catalog of the run before: no coordinator was heard yet.
    Catalog,
    /// The cluster's watch.
    Cluster,
}

/// Follows what this node should serve, and judges.
#[derive(Debug, Default)]
pub struct Readiness {
    /// It was fit when it was last judged.
    was_ready: bool,
    /// What it should have had loaded then.
    named: BTreeSet<VersionKey>,
    /// Named while it was fit, and not loaded since.
    newcomers: BTreeSet<VersionKey>,
}

impl Readiness {
    /// What a node must have loaded is what it was to serve when it came up; and what it lost of that. A version that was
    /// named since is on its way, and the one before it answers until the switch. The error names the first that is missing.
    ///
    /// What the catalog names is not what the cluster wants by now: whatever the cluster names first is no newcomer.
    pub fn judge(&mut self, told_by: ToldBy, desired: &Desired, observed: &Observed) -> Result<(), String> {
        match told_by {
            ToldBy::Nobody => return Err("the desired state was not read yet".to_owned()),
            ToldBy::Catalog => {
                *self = Self::default();
                return self.first_missing(desired, observed);
            }
            ToldBy::Cluster => {}
        }
        if self.was_ready {
            let new = desired.load.difference(&self.named).cloned();
            self.newcomers.extend(new);
        }
        self.newcomers
            .retain(|key| desired.load.contains(key) && !observed.is_loaded(key));
        self.named.clone_from(&desired.load);
        let found = self.first_missing(desired, observed);
        self.was_ready = found.is_ok();
        found
    }

    fn first_missing(&self, desired: &Desired, observed: &Observed) -> Result<(), String> {
        let is_required =
            |key: &VersionKey| !self.newcomers.contains(key) && !observed.unservable.contains(key);
        // What somebody asked for by hand is not required: a version that does not load makes nobody unfit who serves
        // without it.
        let mut required = desired
            .load
            .difference(&desired.asked)
            .filter(|key| is_required(key));
        if let Some(key) = required.find(|key| !observed.is_loaded(key)) {
            return Err(match observed.copied(key) {
                Copied::Present => format!("{key} is not loaded yet"),
                Copied::Absent | Copied::Unknown => format!("{key} is not on this node's disk yet"),
            });
        }
        let mut switches = desired.active.iter().filter(|(model, version)| {
            let key = key_of(model, **version);
            desired.load.contains(&key) && is_required(&key)
        });
        let wrong = switches.find(|(model, version)| observed.active.get(*model) != Some(*version));
        wrong.map_or(Ok(()), |(model, version)| {
            Err(format!("{model}@{version} is not switched in yet"))
        })
    }
}

fn key_of(model: &ModelName, version: ModelVersion) -> VersionKey {
    VersionKey {
        model: model.clone(),
        version,
    }
}
