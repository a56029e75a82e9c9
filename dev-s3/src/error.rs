//! Why the endpoint cannot start or go on. What a client did wrong is answered as an S3 error instead.

use std::{io, net::SocketAddr, path::PathBuf};

/// Each names the value that was wrong and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is plain HTTP and must stay on this machine.
    #[error(
        "dev-s3 speaks plain HTTP and refuses to listen on {listen}: use a loopback address such as 127.0.0.1"
    )]
    NotLoopback {
        /// The address of the configuration.
        listen: SocketAddr,
    },
    /// Someone else listens there.
    #[error("port {} of {} is in use: stop the process that has it, or configure another port (0 picks a free one)", .listen.port(), .listen.ip())]
    PortInUse {
        /// The address of the configuration.
        listen: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {listen}: configure an address of this machine and a port above 1023")]
    Bind {
        /// The address of the configuration.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An unsigned endpoint would let any local process write.
    #[error("access key and secret key must not be empty: configure both")]
    EmptyCredentials,
    /// S3 would not take the name either.
    #[error("bucket name {name:?} is not valid: use 3 to 63 characters of a-z, 0-9, '-' and '.'")]
    BadBucketName {
        /// The name of the configuration.
        name: String,
    },
    /// Another process owns the directory.
    #[error("data directory {} is in use by another process: stop it, or configure another directory", .path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory cannot be read or written.
    #[error("cannot use {}: check that it exists, is readable and writable by this user, and that the disk is not full", .path.display())]
    Directory {
        /// The file or directory that failed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the directory is not what this program wrote.
    #[error("{} is damaged or was written by another version: move it away to go on without it", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What did not fit.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn directory(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Directory { path, source }
    }
    pub(crate) fn damaged(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Damaged { path, source }
    }
}
