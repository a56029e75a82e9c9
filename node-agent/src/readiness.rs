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
    /// What the cluster named when this was judged last.
    named: Option<BTreeSet<VersionKey>>,
    /// Named later than the cluster's first word, and not loaded since.
    newcomers: BTreeSet<VersionKey>,
    /// The models that this node answered for when it was last fit.
    served: Option<BTreeSet<ModelName>>,
}

impl Readiness {
    /// What a node must have loaded is what it was to serve when it came up; and what it lost of that. A version that was
    /// named since is on its way, and the one before it answers until the switch: also while the node comes up, or champions
    /// that move faster than versions load would keep it out for good. The error names the first that is missing.
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
        if let Some(named) = &self.named {
            let new = desired.load.difference(named).cloned();
            self.newcomers.extend(new);
        }
        self.newcomers
            .retain(|key| desired.load.contains(key) && !observed.is_loaded(key));
        self.named = Some(desired.load.clone());
        let found = self.first_missing(desired, observed);
        if found.is_ok() {
            self.served = Some(observed.served().cloned().collect());
        }
        found
    }

    /// A newcomer is waited for where nothing answers for its model and something did, or the node was not fit yet.
    fn is_required(&self, key: &VersionKey, observed: &Observed) -> bool {
        let is_excused = || {
            let was_unserved = (self.served.as_ref()).is_some_and(|served| !served.contains(&key.model));
            was_unserved || observed.served().any(|model| *model == key.model)
        };
        !(observed.unservable.contains(key) || self.newcomers.contains(key) && is_excused())
    }

    fn first_missing(&self, desired: &Desired, observed: &Observed) -> Result<(), String> {
        // What somebody asked for by hand is not required: a version that does not load makes nobody unfit who serves
        // without it.
        let mut required = desired
            .load
            .difference(&desired.asked)
            .filter(|key| self.is_required(key, observed));
        if let Some(key) = required.find(|key| !observed.is_loaded(key)) {
            return Err(match observed.copied(key) {
                Copied::Present => format!("{key} is not loaded yet"),
                Copied::Absent | Copied::Unknown => format!("{key} is not on this node's disk yet"),
            });
        }
        let mut switches = desired.active.iter().filter(|(model, version)| {
            let key = key_of(model, **version);
            desired.load.contains(&key) && self.is_required(&key, observed)
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
