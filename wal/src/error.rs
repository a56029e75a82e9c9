//! What can fail: opening, appending, reading, and the disk under all of it.

use std::{io, path::PathBuf};

/// Bytes that were durable once and are not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {offset}: {expected} was expected, {found}", path.display())]
pub struct Corruption {
    /// The file.
    pub path: PathBuf,
    /// The byte in it at which reading ended.
    pub offset: u64,
    /// What should stand there.
    pub expected: String,
    /// What stands there, and how it is known not to be a write that a crash cut short.
    pub found: String,
}

/// Why a log cannot be opened. Nothing was changed on the disk that a later attempt would trip over.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Damage.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// A later version wrote it.
    #[error("{} is of log format {found}, and this build knows format {known}", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What this build reads and writes.
        known: u32,
    },
    /// The directory holds something that is no log of this kind.
    #[error("{} is no part of a log of this format", path.display())]
    Foreign {
        /// The first such file.
        path: PathBuf,
    },
}

/// A disk that failed, for good: the log takes no more writes. Opening it again tells what is durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {offset}: cannot {doing}: {said}; the log takes no more writes, because what a failed disk kept is known only after it is opened again: check the disk, then start again", path.display())]
pub struct Failure {
    /// The file or directory.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What was tried.
    pub doing: &'static str,
    /// What the system said.
    pub said: String,
    /// Its kind.
    pub kind: io::ErrorKind,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        io::Error::new(failure.kind, failure)
    }
}

/// A call that makes no sense; nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It would leave a hole, or go back without a truncation.
    #[error("entry {found} was appended where {expected} follows")]
    Hole {
        /// The index that follows.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// No segment holds it.
    #[error("a payload of {bytes} bytes; {max} fit a segment of the log")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

impl From<AppendError> for io::Error {
    fn from(error: AppendError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Why entries cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("{} at byte {offset}: cannot read an entry: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Damage since the log was opened.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { ref source, .. } => io::Error::new(source.kind(), error),
            ReadError::Corrupt(_) => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}
