//! What can fail in a coordinator that is no refusal of a request.

use std::{net::SocketAddr, path::PathBuf};

use types::reason::{Reason, Refusal};

use crate::raft::{JoinError, StartError};

/// A setting, or two that do not go together. Its text names keys and values as they were found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct BadSetting {
    /// Which keys with which values, and why they cannot be.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl BadSetting {
    pub(crate) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// A config's text that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    /// Not TOML of this shape; the text names line and key.
    #[error(transparent)]
    Malformed(Box<toml::de::Error>),
    /// It says something that cannot be.
    #[error(transparent)]
    Invalid(#[from] BadSetting),
}

/// A config file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("config {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It cannot be used as it is.
    #[error("config {}: {fault}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: ConfigFault,
    },
}

/// Why a coordinator ended, other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting that cannot be.
    #[error("config: {0}")]
    Config(#[from] BadSetting),
    /// The descriptions that reflection serves, which are part of this binary.
    #[error("the built-in descriptors are damaged: {0}")]
    Descriptors(String),
    /// A certificate, key or CA file cannot be used.
    #[error("{key} is {}: {}", path.display(), fault.problem)]
    Tls {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: BadSetting,
    },
    /// A port cannot be had.
    #[error("{purpose} cannot listen on {address}: {source}{remedy}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What for.
        purpose: &'static str,
        /// What the system said.
        source: std::io::Error,
        /// What to do about it; begins with its own separator.
        remedy: String,
    },
    /// The file that remembers ports cannot be read or written.
    #[error("{}: {problem}", path.display())]
    ListenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Raft did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Raft stopped by itself.
    #[error("raft stopped: {0}")]
    Raft(String),
    /// The other members turned this coordinator away: its disk is older than they remember, or it was taken out.
    #[error("the cluster turned this coordinator away: {0}")]
    TurnedAway(Refusal),
    /// The log, or a snapshot that came, is of rules that this build does not know. Nothing of it was applied.
    #[error("this build cannot follow its cluster: {0}")]
    TooOld(String),
    /// One of the loops beside the servers failed; what it did for watchers, leases or failovers is not done any more.
    #[error("{name} failed: {problem}")]
    Loop {
        /// Which one.
        name: &'static str,
        /// What it died of.
        problem: String,
    },
    /// A server stopped by itself.
    #[error("{purpose} server: {source}")]
    Serve {
        /// Which one.
        purpose: &'static str,
        /// What it said.
        source: tonic::transport::Error,
    },
    /// The cluster refused to take this coordinator in, and asking again cannot help.
    #[error("the cluster does not take this coordinator in: {0}")]
    Join(Refusal),
}

impl RunError {
    /// Whether its disk is not the one that the cluster counts on: starting it again cannot help.
    pub fn is_lost_disk(&self) -> bool {
        match self {
            Self::Join(refusal) => refusal.operand(JoinError::LOST_DISK).is_some(),
            Self::TurnedAway(_) | Self::Start(StartError::TurnedAway { .. }) => true,
            _ => false,
        }
    }

    /// Whether its build does not know the rules that the cluster's log is at: only a newer one can go on.
    pub fn is_too_old(&self) -> bool {
        match self {
            Self::Join(refusal) => refusal.reason == Reason::FeatureLevel,
            Self::TooOld(_) | Self::Start(StartError::TooOld { .. }) => true,
            _ => false,
        }
    }

    /// What helps, where the text does not say so already; may be empty.
    pub fn remedy(&self) -> &str {
        match self {
            Self::Config(setting) | Self::Tls { fault: setting, .. } => &setting.remedy,
            Self::Descriptors(_)
            | Self::Listen { .. }
            | Self::ListenFile { .. }
            | Self::Start(_)
            | Self::Raft(_)
            | Self::TurnedAway(_)
            | Self::TooOld(_)
            | Self::Serve { .. }
            | Self::Loop { .. }
            | Self::Join(_) => "",
        }
    }
}
