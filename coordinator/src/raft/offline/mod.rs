//! Snapshot files and data directories of coordinators that do not run: looked at, and founded anew from.
//!
//! Reading order: [`inspect`], `refound`, `survivor`. Absent on purpose: any call of a running cluster.
//! Invariant: nothing that is reported was read from bytes whose digests do not hold, and a directory comes into being whole.

mod inspect;
mod refound;
mod survivor;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
};

use state::{codec::CodecError, recovery::Unrecoverable};
use types::{NodeId, RegionId};

pub use self::{
    inspect::{Inspection, inspect},
    refound::{Founded, NewCluster, restore, restore_state},
    survivor::{Other, Standing, Survivor},
};
use super::error::StartError;

/// Why a file or a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// It could not be read or written; says nothing of what is in it.
    #[error("could not {doing} {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was once written, or never was a snapshot.
    #[error("{} is no whole snapshot: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage was met, as far as it has a place.
        offset: Option<u64>,
        /// What is wrong.
        problem: String,
    },
    /// Its rules are not known to this build.
    #[error("{}: {problem}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Both levels, and what to do.
        problem: String,
    },
    /// Something is where a new data directory should be.
    #[error("{} is not empty: it may be a coordinator's, and what it voted and acknowledged would be lost", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// What an earlier run left half done is in the way.
    #[error("{} is left of a run that was cut off", path.display())]
    LeftOver {
        /// The directory.
        path: PathBuf,
    },
    /// The state has a node of that name that is something else.
    #[error("node {node} is {found} in the state, and cannot be a coordinator of region {region}")]
    OtherNode {
        /// The name.
        node: NodeId,
        /// Where it should be.
        region: RegionId,
        /// What it is.
        found: String,
    },
    /// No cluster can go on from this state in that way.
    #[error(transparent)]
    Unrecoverable(#[from] Unrecoverable),
    /// What doors follow by was not signed; nothing was written.
    #[error("{0}")]
    Unsigned(String),
    /// The directory cannot be opened as a coordinator's.
    #[error(transparent)]
    Directory(#[from] StartError),
}

/// For `map_err`.
fn file(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> OfflineError {
    let path = path.to_owned();
    move |source| OfflineError::File { path, doing, source }
}

/// What a snapshot that could not be read says about itself.
fn unread(path: &Path, error: io::Error) -> OfflineError {
    let damage = error.get_ref().and_then(|e| e.downcast_ref::<CodecError>());
    let offset = damage.and_then(CodecError::offset);
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => OfflineError::Damaged {
            path: path.to_owned(),
            offset,
            problem: error.to_string(),
        },
        _ => file(path, "read")(error),
    }
}
