//! What can fail while a fault is installed, proved or healed.

use std::{path::PathBuf, time::Duration};

use crate::{fault::ProcessName, process::ProcessRef};

/// A fault that could not be installed, proved or healed. It says nothing about the system under test.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// The target names a process that does not run.
    #[error("{name} does not run")]
    NotRunning {
        /// Which process.
        name: ProcessName,
    },
    /// The target names a region or a process that the cluster does not have.
    #[error("no process matches {target}; the cluster has {known}")]
    NoSuchTarget {
        /// The target as text.
        target: String,
        /// The processes that there are.
        known: String,
    },
    /// The kernel refused a signal, or the process ended before.
    #[error("could not send {signal} to {process}")]
    Signal {
        /// The signal's name.
        signal: &'static str,
        /// The run that it was for.
        process: ProcessRef,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// What should be seen in `/proc` was not seen in time.
    #[error("{process} was expected to be {expected} within {waited:?}, and is {seen}")]
    NotProved {
        /// The run.
        process: ProcessRef,
        /// What the fault should lead to.
        expected: &'static str,
        /// What was seen at last.
        seen: String,
        /// How long it was watched.
        waited: Duration,
    },
    /// A process could not be started again.
    #[error("could not start {name}: {why}")]
    Start {
        /// Which process.
        name: ProcessName,
        /// What its starter said.
        why: String,
    },
    /// The roster could not be read.
    #[error("could not read the list of processes {}: {why}", path.display())]
    Roster {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}
