//! What can fail in a coordinator that is no refusal of a request.

use std::{net::SocketAddr, path::PathBuf};

use crate::raft::StartError;

/// A config file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("config {}: {source}; name a file that this user can read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It says something that cannot be.
    #[error("config {}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to write instead.
        problem: String,
    },
}

/// Why a coordinator ended, other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting that cannot be.
    #[error("config: {0}")]
    Config(String),
    /// A certificate, key or CA file cannot be used.
    #[error("tls file {}: {problem}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
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
    Join(types::reason::Refusal),
}
