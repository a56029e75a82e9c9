//! Which knobs a coordinator has, their units, defaults and reasons.
//!
//! Absent on purpose: reading anything but the file that is named; the process's environment decides nothing.
//! Invariant: a [`Config`] that [`Config::load`] returned holds together.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use types::{NodeId, RegionId, role::TimingPolicy};

use crate::{
    error::ConfigError,
    raft::{RaftLimits, RaftTiming},
};

/// Everything that a coordinator is told at its start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This machine; the certificate must name it too.
    pub node: NodeId,
    /// Its region; the certificate must name it too.
    pub region: RegionId,
    /// Holds log, snapshots and `listen.json`; made if it does not exist, locked while the process runs.
    pub data_dir: PathBuf,
    /// Where the API listens. Default `127.0.0.1:7460`; port 0 lets the system pick at the first start.
    #[serde(default = "defaults::listen_api")]
    pub listen_api: SocketAddr,
    /// Where other coordinators reach Raft. Default `127.0.0.1:7461`.
    #[serde(default = "defaults::listen_raft")]
    pub listen_raft: SocketAddr,
    /// Where metrics and health are served as plain HTTP, on a loopback address only. Default: nowhere.
    #[serde(default)]
    pub listen_metrics: Option<SocketAddr>,
    /// Host name or address that others use to reach this machine. Default: the address of `listen_api`.
    #[serde(default)]
    pub advertise_host: Option<String>,
    /// Certificate files; there is no mode without them.
    pub tls: TlsFiles,
    /// Set in exactly one config of a new cluster: it founds it. A data directory that has seen a cluster ignores it.
    #[serde(default)]
    pub bootstrap: bool,
    /// API endpoints (`https://host:port`) of coordinators to ask for being taken in.
    #[serde(default)]
    pub join: Vec<String>,
    /// `fast`, `default` or `conservative`: the timings that a new cluster is founded with. Default: `default`.
    #[serde(default)]
    pub timing: Option<String>,
    /// Heartbeats and elections of Raft.
    #[serde(default)]
    pub raft: RaftKnobs,
}

/// Where certificate, key and CA lie, as PEM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The CA that every process of the cluster trusts, and nothing else.
    pub ca_file: PathBuf,
    /// This process's certificate; its SAN URI is its identity.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Heartbeats and elections of Raft, in milliseconds. The defaults fit a loopback; across a WAN the heartbeat must be
/// at least twice the worst round trip, and the election at least three heartbeats.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaftKnobs {
    /// Interval of the leader's heartbeats. Default 50.
    #[serde(default)]
    pub heartbeat_millis: Option<u64>,
    /// Least time without a leader before a campaign. Default 250.
    #[serde(default)]
    pub election_min_millis: Option<u64>,
    /// Longest such time. Default 400.
    #[serde(default)]
    pub election_max_millis: Option<u64>,
    /// A snapshot is taken after this many entries. Default 5,000.
    #[serde(default)]
    pub snapshot_after: Option<u64>,
    /// Entries kept behind a snapshot. Default 1,000.
    #[serde(default)]
    pub logs_kept: Option<u64>,
}

mod defaults {
    use std::net::{Ipv4Addr, SocketAddr};

    pub(super) fn listen_api() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 7460).into()
    }
    pub(super) fn listen_raft() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 7461).into()
    }
}

impl Config {
    /// Reads and checks a file; the error names file, value and remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|problem| ConfigError::Invalid {
            path: path.to_owned(),
            problem,
        })
    }

    /// Reads and checks a text; the error is a sentence that names the value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        config.validate()?;
        Ok(config)
    }

    /// Checks the relations between the knobs.
    pub fn validate(&self) -> Result<(), String> {
        self.timing()?;
        if self.bootstrap && !self.join.is_empty() {
            return Err(
                "bootstrap and join exclude each other: exactly one coordinator founds a cluster".to_owned(),
            );
        }
        if let Some(endpoint) = self.join.iter().find(|e| !is_endpoint(e)) {
            return Err(format!("join: {endpoint:?} must be https://host:port"));
        }
        if self.listen_metrics.is_some_and(|a| !a.ip().is_loopback()) {
            return Err("listen_metrics is plain HTTP and must be a loopback address".to_owned());
        }
        if self.advertise_host.is_none() && is_any(self.listen_api.ip()) {
            return Err(format!(
                "advertise_host must say how others reach this machine: listen_api ({}) is every address",
                self.listen_api
            ));
        }
        self.raft_timing().map(|_| ())
    }

    /// The timings that a new cluster is founded with.
    pub fn timing(&self) -> Result<TimingPolicy, String> {
        let name = self.timing.as_deref().unwrap_or("default");
        TimingPolicy::named(name)
            .ok_or_else(|| format!("timing is {name:?}, and must be fast, default or conservative"))
    }

    /// The timings of Raft, checked.
    pub fn raft_timing(&self) -> Result<RaftTiming, String> {
        let millis = |value: Option<u64>, default| value.map_or(default, Duration::from_millis);
        let base = RaftTiming::default();
        let timing = RaftTiming {
            heartbeat: millis(self.raft.heartbeat_millis, base.heartbeat),
            election_min: millis(self.raft.election_min_millis, base.election_min),
            election_max: millis(self.raft.election_max_millis, base.election_max),
        };
        if timing.heartbeat < Duration::from_millis(10) || timing.heartbeat > Duration::from_secs(10) {
            return Err(format!(
                "raft.heartbeat_millis is {}, and must be between 10 and 10000",
                timing.heartbeat.as_millis()
            ));
        }
        if timing.election_min < timing.heartbeat * 3 {
            return Err("raft.election_min_millis must be at least three heartbeat_millis".to_owned());
        }
        if timing.election_max <= timing.election_min {
            return Err("raft.election_max_millis must exceed election_min_millis".to_owned());
        }
        Ok(timing)
    }

    /// Bounds on log and snapshots.
    pub fn raft_limits(&self) -> RaftLimits {
        let base = RaftLimits::default();
        RaftLimits {
            snapshot_after: self.raft.snapshot_after.unwrap_or(base.snapshot_after),
            logs_kept: self.raft.logs_kept.unwrap_or(base.logs_kept),
            ..base
        }
    }

    /// How others reach a port of this machine.
    pub fn endpoint(&self, port: u16) -> String {
        match (&self.advertise_host, self.listen_api.ip()) {
            (Some(host), _) => format!("https://{host}:{port}"),
            (None, IpAddr::V6(ip)) => format!("https://[{ip}]:{port}"),
            (None, IpAddr::V4(ip)) => format!("https://{ip}:{port}"),
        }
    }
}

fn is_any(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

fn is_endpoint(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    uri.is_some_and(|u| u.scheme_str() == Some("https") && u.port().is_some() && u.path() == "/")
}
