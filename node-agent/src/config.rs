//! What an operator says to one agent: a TOML file, checked before anything starts.
//!
//! Absent on purpose: cluster-wide timings; they come from the cluster. Invariant: [`AgentConfig::validate`] passed
//! means that every address, limit and relation between them can be used as it stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    num::NonZeroU16,
    path::{Path, PathBuf},
    time::Duration,
};

use client::TlsFiles;
use serde::{Deserialize, Serialize};
use types::{
    ByteCount, DatabaseName, NodeId, RegionId, RoleName, ServiceName, ZoneName, service::ServiceProtocol,
    units::duration_text,
};

/// Default port of inference HTTP.
pub const INFERENCE_PORT: u16 = 7462;
/// Default port of the agent's gRPC.
pub const AGENT_PORT: u16 = 7463;
/// Default port of metrics and health.
pub const METRICS_PORT: u16 = 7464;

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// This machine's name, unique in the cluster.
    pub node: NodeId,
    /// The region that it serves, for ever.
    pub region: RegionId,
    /// The availability zone of the region that it stands in. Unlike the region it may be another at the next start. Default: none.
    #[serde(default)]
    pub zone: Option<ZoneName>,
    /// Catalog, floors, cache and logs of this agent. One process owns it.
    pub data_dir: PathBuf,
    /// API endpoints of coordinators, `https://host:port`; the leader is found from any of them.
    pub coordinators: Vec<String>,
    /// gRPC with mTLS. Port 0 lets the system pick; the pick is kept in `listen.json`.
    #[serde(default = "default_agent_address")]
    pub listen_agent: SocketAddr,
    /// Inference HTTP, plain, so a loopback address only.
    #[serde(default = "default_inference_address")]
    pub listen_inference: SocketAddr,
    /// Metrics and health over plain HTTP, so a loopback address only.
    #[serde(default = "default_metrics_address")]
    pub listen_metrics: SocketAddr,
    /// Host under which others reach this agent; default: the address that it listens on.
    #[serde(default)]
    pub advertise_host: Option<String>,
    /// The identity of this process: a certificate with SAN URI `spiffe://regent.local/region/R/node/N`.
    pub tls: TlsFiles,
    /// The region's own object store.
    pub store: StoreConfig,
    /// Credentials for the stores of other regions; where a region is not named, the own store's are used.
    #[serde(default)]
    pub store_credentials: BTreeMap<RegionId, Credentials>,
    /// Databases beside this agent whose tables roles guard (L17). Every agent that may hold such a role, and every one that
    /// lives beside the database, should name it.
    #[serde(default)]
    pub postgres: Vec<PostgresSection>,
    /// Services that run beside this agent, for callers to find: registered under its run, and gone with it.
    #[serde(default)]
    pub services: Vec<ServiceSection>,
    /// Bounds.
    #[serde(default)]
    pub limits: LimitsConfig,
}

/// A service that runs beside the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSection {
    /// The service, as callers look it up.
    pub name: ServiceName,
    /// The port that it listens on.
    pub port: NonZeroU16,
    /// Host or IP address that callers connect to; default: the one under which others reach this agent.
    #[serde(default)]
    pub address: Option<String>,
    /// `TCP` (the default), `UDP`, `HTTP` or `GRPC`.
    #[serde(default)]
    pub protocol: ServiceProtocol,
    /// For those who choose among instances; 16 at most.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A PostgreSQL database that is a fencing door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSection {
    /// What its door is called, `postgres/<name>`; the same in every agent's config.
    pub name: DatabaseName,
    /// `postgres://host:port/database`, without user and password.
    pub url: String,
    /// File that holds the password of the fence's owner; none where the server asks for none.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// File with the CA of the server's certificate; needed for any but a loopback address or a socket.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The roles that guard tables of it.
    pub roles: BTreeSet<RoleName>,
    /// How long open transactions may hold the raise of an epoch up before their connections are ended. Default 1 s.
    #[serde(default = "default_patience", with = "duration_text")]
    pub patience: Duration,
}

/// How to reach the region's own store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `http(s)://host:port` of an S3 endpoint, or `file:///path` of a directory.
    pub endpoint: String,
    /// Bucket; a directory name below the path for `file:`.
    pub bucket: String,
    /// File that holds the access key; not for `file:`.
    #[serde(default)]
    pub access_key_file: Option<PathBuf>,
    /// File that holds the secret key; not for `file:`.
    #[serde(default)]
    pub secret_key_file: Option<PathBuf>,
}

/// Credentials of a store, by reference: secrets never stand in a config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// File that holds the access key.
    pub access_key_file: PathBuf,
    /// File that holds the secret key.
    pub secret_key_file: PathBuf,
}

/// Bounds on what one agent does at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Versions that are copied or verified at a time. Default 4.
    pub parallel_copies: usize,
    /// Models that are loaded at a time. Default 2.
    pub parallel_loads: usize,
    /// Requests that wait before one model. Default 64.
    pub inference_queue: usize,
    /// Largest body of an inference request. Default 8 MiB.
    /// The bodies of all requests in hand together hold at most eight times as many; who finds no room gets 429.
    pub body_max: ByteCountText,
    /// Deadline of an inference request that names none. Default 10 s.
    #[serde(with = "duration_text")]
    pub request_timeout: Duration,
    /// Longest deadline that a request may ask for. Default 60 s.
    #[serde(with = "duration_text")]
    pub request_timeout_max: Duration,
    /// Longest wait for requests in hand at shutdown and unload. Default 30 s.
    #[serde(with = "duration_text")]
    pub drain_timeout: Duration,
}

/// A byte count as people write it in a file (`8MiB`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteCountText(pub ByteCount);

impl Serialize for ByteCountText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}B", self.0.0))
    }
}
impl<'de> Deserialize<'de> for ByteCountText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            parallel_copies: 4,
            parallel_loads: 2,
            inference_queue: 64,
            body_max: ByteCountText(ByteCount(8 << 20)),
            request_timeout: Duration::from_secs(10),
            request_timeout_max: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Above this a claim would end before its raise.
const PATIENCE_MAX: Duration = Duration::from_millis(1200);

fn default_patience() -> Duration {
    Duration::from_secs(1)
}
fn default_agent_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], AGENT_PORT))
}
fn default_inference_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], INFERENCE_PORT))
}
fn default_metrics_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], METRICS_PORT))
}

/// A config that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Not TOML of this shape; the text names line and key.
    #[error("config {}: {error}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        error: Box<toml::de::Error>,
    },
    /// A value, or a relation between values, that cannot be used.
    #[error(transparent)]
    Invalid(BadConfig),
}

/// A value, or a relation between values, that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadConfig {
    /// The file, where it comes from one.
    pub path: Option<PathBuf>,
    /// The keys, what they hold, and what would be right.
    pub problem: String,
}

impl std::error::Error for BadConfig {}

impl std::fmt::Display for BadConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.path {
            Some(path) => write!(f, "config {}: {}", path.display(), self.problem),
            None => write!(f, "config: {}", self.problem),
        }
    }
}

impl AgentConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Each names the file, the key or the value, and what would be right.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        let config: Self = toml::from_str(&text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            error: Box::new(error),
        })?;
        config.validate().map_err(|problem| {
            ConfigError::Invalid(BadConfig {
                path: Some(path.to_owned()),
                problem,
            })
        })?;
        Ok(config)
    }

    /// Checks values and the relations between them; the error is a sentence.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn validate(&self) -> Result<(), String> {
        if self.coordinators.is_empty() {
            return Err("coordinators is empty; name at least one as https://host:port".to_owned());
        }
        if let Some(bad) = self.coordinators.iter().find(|e| !e.starts_with("https://")) {
            return Err(format!(
                "coordinators holds {bad:?}; each must be https://host:port"
            ));
        }
        for (name, address) in [
            ("listen_inference", self.listen_inference),
            ("listen_metrics", self.listen_metrics),
        ] {
            if !address.ip().is_loopback() {
                return Err(format!(
                    "{name} is {address}, and plain HTTP is served on a loopback address only, as 127.0.0.1:{}",
                    address.port()
                ));
            }
        }
        if self.listen_agent.ip().is_unspecified() && self.advertise_host.is_none() {
            return Err(format!(
                "listen_agent is {}, which nobody can call; set advertise_host",
                self.listen_agent
            ));
        }
        self.store.validate()?;
        validate_databases(&self.postgres)?;
        validate_services(&self.services)?;
        self.limits.validate()
    }

    /// Host under which others reach this agent.
    pub fn host(&self) -> String {
        let host = || match self.listen_agent {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        self.advertise_host.clone().unwrap_or_else(host)
    }
}

fn validate_databases(sections: &[PostgresSection]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for section in sections {
        let name = &section.name;
        if !names.insert(name) {
            return Err(format!(
                "postgres {name} stands there twice; give each database a name of its own"
            ));
        }
        if section.roles.is_empty() {
            return Err(format!(
                "postgres {name} has no roles; name those that guard its tables"
            ));
        }
        if section.patience > PATIENCE_MAX {
            return Err(format!(
                "postgres {name} has a patience of {:?}, and a raise has to be over in time: write {PATIENCE_MAX:?} at most",
                section.patience
            ));
        }
    }
    Ok(())
}

/// Services that a node may host; the registry refuses more.
const SERVICES_MAX: usize = 64;

fn validate_services(sections: &[ServiceSection]) -> Result<(), String> {
    if sections.len() > SERVICES_MAX {
        return Err(format!(
            "{} services; a node may host {SERVICES_MAX}",
            sections.len()
        ));
    }
    let mut instances = BTreeSet::new();
    let twice = sections.iter().find(|s| !instances.insert((&s.name, s.port)));
    match twice {
        None => Ok(()),
        Some(s) => Err(format!(
            "service {} stands there twice with port {}; give each instance a port of its own",
            s.name, s.port
        )),
    }
}

impl StoreConfig {
    fn validate(&self) -> Result<(), String> {
        let s3 = self.endpoint.starts_with("http://") || self.endpoint.starts_with("https://");
        if !s3 && !self.endpoint.starts_with("file:///") {
            return Err(format!(
                "store.endpoint is {:?}; write http(s)://host:port or file:///path",
                self.endpoint
            ));
        }
        if self.bucket.is_empty() {
            return Err("store.bucket is empty; name the bucket".to_owned());
        }
        if s3 && (self.access_key_file.is_none() || self.secret_key_file.is_none()) {
            return Err(format!(
                "store.endpoint is {:?}, so store.access_key_file and store.secret_key_file must be set",
                self.endpoint
            ));
        }
        Ok(())
    }

    /// The own store's credentials; none for `file:`.
    pub fn credentials(&self) -> Option<Credentials> {
        Some(Credentials {
            access_key_file: self.access_key_file.clone()?,
            secret_key_file: self.secret_key_file.clone()?,
        })
    }
}

impl LimitsConfig {
    fn validate(&self) -> Result<(), String> {
        let counts = [
            ("limits.parallel_copies", self.parallel_copies, 64),
            ("limits.parallel_loads", self.parallel_loads, 64),
            ("limits.inference_queue", self.inference_queue, 100_000),
        ];
        if let Some((name, value, max)) = counts.iter().find(|(_, v, max)| *v == 0 || v > max) {
            return Err(format!("{name} is {value}, and must be between 1 and {max}"));
        }
        if self.request_timeout > self.request_timeout_max || self.request_timeout.is_zero() {
            return Err(format!(
                "limits.request_timeout is {:?}, and must be above zero and at most limits.request_timeout_max, which is {:?}",
                self.request_timeout, self.request_timeout_max
            ));
        }
        if self.body_max.0.0 < 1024 {
            return Err(format!(
                "limits.body_max is {}, and must be at least 1 KiB",
                self.body_max.0
            ));
        }
        Ok(())
    }
}
