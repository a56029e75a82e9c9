//! Which copies a region must have before it counts as able to serve (I8).
//!
//! What is loaded in memory only orders those who may: a plan's `VERIFY_TARGET` asks the agent itself.
//! Invariant: adding a verified copy to a region never makes it less ready.

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

/// How many served versions that belong in a region an agent of it has not in memory, though another agent has. What nobody
/// has loaded makes nobody less fit than others.
pub fn lacking<'v>(
    served: impl IntoIterator<Item = &'v VersionKey>,
    own: &BTreeSet<VersionKey>,
    others: &BTreeSet<VersionKey>,
) -> usize {
    let lacks = |version: &&VersionKey| !own.contains(*version) && others.contains(*version);
    served.into_iter().filter(lacks).count()
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
