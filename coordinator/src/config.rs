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
use types::{NodeId, RegionId, ZoneName, role::TimingPolicy};

use crate::{
    error::{BadSetting, ConfigError, ConfigFault},
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
    /// The availability zone of the region that it stands in. Unlike the region it may be another at the next start. Default: none.
    #[serde(default)]
    pub zone: Option<ZoneName>,
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
    /// It votes and stores the log, keeps no state, and serves neither clients nor agents: the third voter of two regions. A
    /// data directory is a witness's or not, for ever. Default: false.
    #[serde(default)]
    pub witness: bool,
    /// Set in exactly one config of a new cluster: it founds it. A data directory that has seen a cluster ignores it. With
    /// `join` it founds only once each of those has said that it knows of no cluster, so that a wiped founder founds no
    /// second one; alone it founds at once.
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

/// Heartbeats and elections of Raft, in milliseconds, and bounds on the log. How fast elections are is a setting of the whole
/// cluster, in its log (`regent cluster timing`); the keys here fix it in the config of the coordinator that founds a
/// cluster, and are what any other goes by until the log has said something.
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
    /// A snapshot is taken after this many entries at the latest. Default 250,000.
    #[serde(default)]
    pub snapshot_after: Option<u64>,
    /// A snapshot is taken earlier once the entries since the last one have this many bytes, and as many as that snapshot
    /// has. Default 67,108,864 (64 MiB).
    #[serde(default)]
    pub snapshot_log_bytes: Option<u64>,
    /// Entries kept behind a snapshot. Default 10,000.
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
    /// Reads and checks a file; the error names file, key and value.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|fault| ConfigError::Content {
            path: path.to_owned(),
            fault,
        })
    }

    /// Reads and checks a text.
    pub fn parse(text: &str) -> Result<Self, ConfigFault> {
        let config: Self = toml::from_str(text).map_err(|e| ConfigFault::Malformed(Box::new(e)))?;
        config.validate()?;
        Ok(config)
    }

    /// Founds a cluster at once: there is nobody to ask whether there is one.
    pub(crate) fn founds_unasked(&self) -> bool {
        self.bootstrap && self.join.is_empty()
    }

    /// With what this node founds a cluster once everybody in `join` knows of none.
    pub(crate) fn founds_if_nobody_did(&self) -> Result<Option<TimingPolicy>, BadSetting> {
        let asks = self.bootstrap && !self.join.is_empty();
        asks.then(|| self.timing()).transpose()
    }

    /// Checks the relations between the knobs.
    pub fn validate(&self) -> Result<(), BadSetting> {
        self.timing()?;
        self.check_witness()?;
        if let Some(endpoint) = self.join.iter().find(|e| !is_endpoint(e)) {
            let problem = format!("join holds {endpoint:?}");
            return Err(BadSetting::new(problem, "write each as https://host:port"));
        }
        self.check_listens()?;
        self.raft_timing().map(|_| ())
    }

    /// Which region it stands in is the operator's choice: one of its own outlives the loss of any other.
    fn check_witness(&self) -> Result<(), BadSetting> {
        if self.witness && self.bootstrap {
            return Err(BadSetting::new(
                "witness and bootstrap are both true, and a witness serves nobody who could found a cluster with it",
                "set bootstrap = true in the config of a coordinator that serves, and name that one in join here",
            ));
        }
        Ok(())
    }

    fn check_listens(&self) -> Result<(), BadSetting> {
        if let Some(address) = self.listen_metrics.filter(|a| !a.ip().is_loopback()) {
            return Err(BadSetting::new(
                format!("listen_metrics is {address}, and plain HTTP is served on a loopback address only"),
                format!("write 127.0.0.1:{}", address.port()),
            ));
        }
        if self.advertise_host.is_none() && is_any(self.listen_api.ip()) {
            return Err(BadSetting::new(
                format!("listen_api is {}, which nobody can call", self.listen_api),
                "set advertise_host to the name or address by which others reach this machine",
            ));
        }
        Ok(())
    }

    /// The timings that a new cluster is founded with.
    pub fn timing(&self) -> Result<TimingPolicy, BadSetting> {
        let name = self.timing.as_deref().unwrap_or("default");
        let unknown = || {
            BadSetting::new(
                format!("timing is {name:?}"),
                "write fast, default or conservative",
            )
        };
        TimingPolicy::named(name).ok_or_else(unknown)
    }

    /// The timings of Raft, checked.
    pub fn raft_timing(&self) -> Result<RaftTiming, BadSetting> {
        let millis = |value: Option<u64>, default| value.map_or(default, Duration::from_millis);
        let base = RaftTiming::default();
        let timing = RaftTiming {
            heartbeat: millis(self.raft.heartbeat_millis, base.heartbeat),
            election_min: millis(self.raft.election_min_millis, base.election_min),
            election_max: millis(self.raft.election_max_millis, base.election_max),
        };
        check_raft_timing(&timing)?;
        Ok(timing)
    }

    /// Whether any of those timings is named here: then a founder fixes them for its cluster.
    pub fn fixes_raft_timing(&self) -> bool {
        let named = [
            self.raft.heartbeat_millis,
            self.raft.election_min_millis,
            self.raft.election_max_millis,
        ];
        named.iter().any(Option::is_some)
    }

    /// Bounds on log and snapshots.
    pub fn raft_limits(&self) -> RaftLimits {
        let base = RaftLimits::default();
        RaftLimits {
            snapshot_after: self.raft.snapshot_after.unwrap_or(base.snapshot_after),
            snapshot_log_bytes: self.raft.snapshot_log_bytes.unwrap_or(base.snapshot_log_bytes),
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

/// Both values are named although only one may stand in the file: the other one is its default.
fn check_raft_timing(timing: &RaftTiming) -> Result<(), BadSetting> {
    let [heartbeat, min, max] =
        [timing.heartbeat, timing.election_min, timing.election_max].map(|d| d.as_millis());
    if !(10..=10_000).contains(&heartbeat) {
        let problem = format!("raft.heartbeat_millis is {heartbeat}");
        return Err(BadSetting::new(problem, "write a number from 10 to 10000"));
    }
    let least = heartbeat * 3;
    if min < least {
        return Err(BadSetting::new(
            format!(
                "raft.election_min_millis is {min}, and three raft.heartbeat_millis of {heartbeat} are {least}"
            ),
            format!("set raft.election_min_millis to {least} or more, or lower raft.heartbeat_millis"),
        ));
    }
    if max <= min {
        return Err(BadSetting::new(
            format!("raft.election_max_millis is {max}, and raft.election_min_millis is {min}"),
            format!("set raft.election_max_millis above {min}: with one draw for all, campaigns collide"),
        ));
    }
    Ok(())
}

fn is_any(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

fn is_endpoint(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    uri.is_some_and(|u| u.scheme_str() == Some("https") && u.port().is_some() && u.path() == "/")
}
