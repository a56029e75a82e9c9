//! Which copies a region must have before it counts as able to serve (I8).
//!
//! How loads came out only orders those who may, and keeps a holder that serves from handing over to who cannot: a plan's
//! `VERIFY_TARGET` asks the agent itself.
//! Invariants: adding a verified copy to a region never makes it less ready. What nobody has loaded, and what is only on its
//! way, makes no agent less fit than another.

use std::collections::BTreeSet;

use types::VersionKey;

/// What one served version (an alias points at it) looks like from one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedVersion {
    /// The placement wants a copy in this region.
    pub placed: bool,
    /// The region's own copy is verified.
    pub verified_here: bool,
    /// Another region that is not UNHEALTHY, and has a living agent, has a verified copy.
    pub verified_elsewhere: bool,
}

/// How loads came out at an agent, as it says with each heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    /// Versions in memory.
    pub loaded: BTreeSet<VersionKey>,
    /// Versions that it should have in memory and could not load; it goes on trying. What it has not tried is in neither.
    pub failed: BTreeSet<VersionKey>,
}

impl Loads {
    /// Of the served versions those that did not load here, though these others have them in memory, or another version of
    /// their model where nothing of it is loaded here.
    pub fn cannot_serve(
        &self,
        served: &BTreeSet<VersionKey>,
        by_others: &BTreeSet<VersionKey>,
    ) -> BTreeSet<VersionKey> {
        let failed = self.failed.difference(&self.loaded);
        let answered = |key: &VersionKey| has_any(by_others, key) && !has_any(&self.loaded, key);
        let is_missed =
            |key: &&VersionKey| served.contains(*key) && (by_others.contains(*key) || answered(key));
        failed.filter(is_missed).cloned().collect()
    }

    /// How many of the versions that did not load somewhere ([`Self::cannot_serve`]) this agent does not serve either:
    /// they did not load here, or do not belong here. One that others have loaded counts as served while it is on its way
    /// here; of one that nobody has loaded another version of its model stands in, and none is on its way.
    pub fn lacking(
        &self,
        contested: &BTreeSet<VersionKey>,
        by_others: &BTreeSet<VersionKey>,
        is_placed: impl Fn(&VersionKey) -> bool,
    ) -> usize {
        let is_coming = |key: &VersionKey| is_placed(key) && !self.failed.contains(key);
        let lacks = |key: &&VersionKey| {
            if by_others.contains(*key) {
                !self.loaded.contains(*key) && !is_coming(key)
            } else {
                !has_any(&self.loaded, key)
            }
        };
        contested.iter().filter(lacks).count()
    }
}

fn has_any(loaded: &BTreeSet<VersionKey>, key: &VersionKey) -> bool {
    loaded.iter().any(|other| other.model == key.model)
}

/// How many copies a region must have, and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Served versions that can be had and belong here.
    pub wanted: u64,
    /// Those of them that are verified here.
    pub verified: u64,
}

impl Coverage {
    /// Counts served versions. One that stands only in unreachable regions is not counted: no region could be waited
    /// for to get it, so it must not keep all of them from taking over.
    pub fn of(versions: impl IntoIterator<Item = ServedVersion>) -> Self {
        let mut coverage = Self::default();
        for version in versions {
            if version.placed && (version.verified_here || version.verified_elsewhere) {
                coverage.wanted += 1;
                coverage.verified += u64::from(version.verified_here);
            }
        }
        coverage
    }

    /// Whether nothing is missing.
    pub const fn is_complete(self) -> bool {
        self.verified >= self.wanted
    }
}
