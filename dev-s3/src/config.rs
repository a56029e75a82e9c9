//! Which knobs the endpoint has.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use crate::Error;

/// How to serve one directory.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; a loopback address, because the endpoint speaks plain HTTP. Port 0 lets the system pick.
    pub listen: SocketAddr,
    /// The directory that holds everything; made when it is missing, and locked while the endpoint runs.
    pub data_dir: PathBuf,
    /// The one key pair that requests must be signed with (Signature Version 4).
    pub credentials: Credentials,
    /// Buckets that exist after the start, whether they did before or not.
    pub buckets: Vec<String>,
    /// How long requests under way may take to end after shutdown was asked for. Default 5 s.
    pub drain_max: Duration,
}

/// A static key pair.
#[derive(Clone)]
pub struct Credentials {
    /// The public half; the access log names it.
    pub access_key: String,
    /// The secret half; never printed.
    pub secret_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// An endpoint on a port that the system picks, with no bucket yet.
    pub fn new(data_dir: impl Into<PathBuf>, credentials: Credentials) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: data_dir.into(),
            credentials,
            buckets: Vec::new(),
            drain_max: Duration::from_secs(5),
        }
    }

    /// Refuses what cannot be served; the error names the value and the remedy. Touches neither disk nor network.
    pub fn validate(&self) -> Result<(), Error> {
        if !self.listen.ip().is_loopback() {
            return Err(Error::NotLoopback { listen: self.listen });
        }
        if self.credentials.access_key.is_empty() || self.credentials.secret_key.is_empty() {
            return Err(Error::EmptyCredentials);
        }
        let bad = self
            .buckets
            .iter()
            .find(|name| !s3s::path::check_bucket_name(name));
        bad.map_or(Ok(()), |name| Err(Error::BadBucketName { name: name.clone() }))
    }
}
