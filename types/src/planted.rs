//! Bugs that can be planted, to see that the tests that look for such bugs find them: `jepsen planted`.
//!
//! With the feature `planted` the environment variable `REGENT_PLANT` names the one bug that a process has, from its start on. Without
//! the feature nobody has any: the question is answered when the program is compiled, and the bugs are no part of it. The feature
//! does not compile without debug assertions, so that no package can have it.
//! Absent on purpose: what each bug does; that stands where it is asked for.

use std::{fmt, str::FromStr};

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!(
    "bugs are planted in builds for tests alone: build with debug assertions, or without the feature `planted`"
);

/// Names the bug of a process.
pub const VARIABLE: &str = "REGENT_PLANT";

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal,)*) => {
        /// A bug, each of which breaks one promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// As `REGENT_PLANT` names it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }
        }
    };
}

bugs! {
    /// A change is acknowledged before it is in any log.
    AckBeforeCommit = "ack-before-commit",
    /// An entry of the log counts as synced before it is.
    SkippedSyncs = "skipped-syncs",
    /// A linearizable read is answered from what the asked coordinator happens to have applied.
    StaleReads = "stale-reads",
    /// An etag that is named is not compared.
    IgnoredEtags = "ignored-etags",
    /// A request that was answered is carried out again when it is repeated.
    ForgottenRequests = "forgotten-requests",
    /// The answer to a change has what others made of the record since.
    LateAnswers = "late-answers",
    /// Now and then no watcher is told what a revision changed.
    DroppedEvents = "dropped-events",
    /// Leases are renewed without asking a quorum.
    LeasesWithoutQuorum = "leases-without-quorum",
    /// A holder takes its lease for one of an hour.
    EndlessLeases = "endless-leases",
    /// The next holder gets the epoch of the one before.
    ReusedEpochs = "reused-epochs",
    /// The registry takes writes under an epoch that is over.
    OpenRegistry = "open-registry",
    /// Agents take writes under an epoch that is over.
    OpenAgents = "open-agents",
    /// An agent that a quorum once confirmed a token to goes by that for ever.
    TrustingAgents = "trusting-agents",
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No bug has this name; the text says which there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no bug is called {0:?}; there are {names}", names = Bug::ALL.iter().map(|bug| bug.as_str()).collect::<Vec<_>>().join(", "))]
pub struct UnknownBug(String);

impl FromStr for Bug {
    type Err = UnknownBug;
    fn from_str(name: &str) -> Result<Self, UnknownBug> {
        let found = Self::ALL.iter().find(|bug| bug.as_str() == name);
        found.copied().ok_or_else(|| UnknownBug(name.to_owned()))
    }
}

/// The bug of this process.
///
/// # Errors
/// `REGENT_PLANT` names none that there is, or names one to a build that can have none.
pub fn planted() -> Result<Option<Bug>, String> {
    let Some(name) = std::env::var_os(VARIABLE) else {
        return Ok(None);
    };
    if !cfg!(feature = "planted") {
        return Err(format!(
            "{VARIABLE} is set, and this build can have no bugs planted: leave it out, or build with the feature `planted`"
        ));
    }
    let bug = name.to_string_lossy().parse::<Bug>();
    bug.map(Some).map_err(|unknown| format!("{VARIABLE}: {unknown}"))
}

/// Whether this process has this bug.
#[cfg(feature = "planted")]
pub fn has(bug: Bug) -> bool {
    static PLANTED: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    *PLANTED.get_or_init(|| planted().unwrap_or_default()) == Some(bug)
}

/// Whether this process has this bug: it has none.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn has(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_bug_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.as_str()).collect();
        assert!(names.len() == Bug::ALL.len() && names.len() >= 10);
        for bug in Bug::ALL {
            assert_eq!(bug.to_string().parse(), Ok(*bug));
        }
        let unknown = "none".parse::<Bug>().unwrap_err().to_string();
        assert!(
            unknown.contains("\"none\"") && unknown.contains("stale-reads"),
            "{unknown}"
        );
    }

    #[cfg(not(feature = "planted"))]
    #[test]
    fn a_build_without_the_feature_has_none() {
        assert!(Bug::ALL.iter().all(|bug| !has(*bug)));
    }
}
