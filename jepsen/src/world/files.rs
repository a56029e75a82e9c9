//! The files of a world: configs, certificates and keys. Every path of it is made here.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use chaos::{Part, ProcessName};
use client::{TlsFiles, context::StoreCredentials};
use rand::Rng as _;
use serde::Serialize;
use types::{NodeId, Principal, RegionId};

use super::{Net, Plan, certs};

/// The bucket of every store.
pub(crate) const BUCKET: &str = "models";

/// Where plain HTTP is served, and everything behind relays.
const LOOPBACK: &str = "127.0.0.1:0";

/// What is known of the processes that have listened once.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// APIs of coordinators.
    pub(super) apis: Vec<String>,
    /// Endpoints of stores.
    pub(super) stores: BTreeMap<RegionId, String>,
    /// gRPC of agents.
    pub(super) agents: BTreeMap<RegionId, String>,
}

/// The files below one directory.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    regions: Vec<RegionId>,
    hosts: Vec<Ipv4Addr>,
    /// Processes listen where they are known, not behind relays.
    at_home: bool,
    /// The coordinators find out by themselves how fast elections can be.
    derives: bool,
}

#[derive(Serialize)]
struct Coordinator<'a> {
    node: &'a NodeId,
    region: &'a RegionId,
    data_dir: &'a Path,
    listen_api: &'a str,
    listen_raft: &'a str,
    advertise_host: String,
    bootstrap: bool,
    join: &'a [String],
    timing: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raft: Option<Raft>,
    tls: TlsFiles,
}

/// As `regent dev` fixes it: on one machine round trips measure how busy it is.
#[derive(Serialize)]
struct Raft {
    heartbeat_millis: u32,
    election_min_millis: u32,
    election_max_millis: u32,
}

#[derive(Serialize)]
struct Agent<'a> {
    node: &'a NodeId,
    region: &'a RegionId,
    data_dir: &'a Path,
    coordinators: &'a [String],
    listen_agent: &'a str,
    listen_inference: &'a str,
    listen_metrics: &'a str,
    advertise_host: String,
    store: Store<'a>,
    tls: TlsFiles,
}

#[derive(Serialize)]
struct Store<'a> {
    endpoint: &'a str,
    bucket: &'a str,
    #[serde(flatten)]
    keys: StoreCredentials,
}

#[derive(Serialize)]
struct StoreServer<'a> {
    data_dir: &'a Path,
    listen: &'a str,
    buckets: [&'a str; 1],
    #[serde(flatten)]
    keys: StoreCredentials,
}

impl Files {
    /// Makes certificates and keys for processes that are known by these hosts, one per region.
    pub(super) fn write(plan: &Plan, hosts: &[Ipv4Addr]) -> anyhow::Result<Self> {
        let files = Self {
            root: std::path::absolute(&plan.dir)?,
            regions: plan.regions.clone(),
            hosts: hosts.to_vec(),
            at_home: !matches!(plan.net, Net::Relays(_)),
            derives: matches!(plan.net, Net::Relays(_)),
        };
        let ca = certs::Ca::new(&files.certs())?;
        let name = NodeId::new("admin")?;
        ca.issue("admin", &Principal::User { name }, Ipv4Addr::LOCALHOST)?;
        for (region, host) in files.regions.iter().zip(hosts) {
            let (region, node) = (region.clone(), node(region, Part::Coordinator)?);
            ca.issue(
                node.as_str(),
                &Principal::Coordinator {
                    region: region.clone(),
                    node: node.clone(),
                },
                *host,
            )?;
            let node = self::node(&region, Part::Agent)?;
            ca.issue(
                node.as_str(),
                &Principal::Agent {
                    region,
                    node: node.clone(),
                },
                *host,
            )?;
        }
        let keys = files.keys();
        certs::write_secret(&keys.access_key_file, &random_text(20))?;
        certs::write_secret(&keys.secret_key_file, &random_text(40))?;
        Ok(files)
    }

    /// Writes a process's config, with what is known of others at its first start.
    pub(super) fn write_config(&self, name: &ProcessName, known: &Known) -> anyhow::Result<()> {
        let data_dir = self.data(name);
        fs::create_dir_all(&data_dir)?;
        let text = match name.part {
            Part::Coordinator => self.coordinator(name, &data_dir, &known.apis)?,
            Part::Agent => self.agent_config(name, &data_dir, known)?,
            Part::Store => toml::to_string(&StoreServer {
                data_dir: &data_dir,
                listen: LOOPBACK,
                buckets: [BUCKET],
                keys: self.keys(),
            })?,
        };
        Ok(fs::write(self.config(name), text)?)
    }

    fn coordinator(&self, name: &ProcessName, data_dir: &Path, join: &[String]) -> anyhow::Result<String> {
        let raft = Raft {
            heartbeat_millis: 50,
            election_min_millis: 250,
            election_max_millis: 400,
        };
        let (node, listen) = (node(&name.region, name.part)?, self.listen(&name.region)?);
        Ok(toml::to_string(&Coordinator {
            node: &node,
            region: &name.region,
            data_dir,
            listen_api: &listen,
            listen_raft: &listen,
            advertise_host: self.host_of(&name.region)?.to_string(),
            bootstrap: self.regions.first() == Some(&name.region),
            join,
            timing: "fast",
            raft: (!self.derives).then_some(raft),
            tls: self.named(node.as_str()),
        })?)
    }

    fn agent_config(&self, name: &ProcessName, data_dir: &Path, known: &Known) -> anyhow::Result<String> {
        let endpoint = known
            .stores
            .get(&name.region)
            .context("its store was not started")?;
        let (node, listen) = (node(&name.region, name.part)?, self.listen(&name.region)?);
        // The nearest first, as the config asks for.
        let mut coordinators = known.apis.clone();
        let own = self.regions.iter().position(|r| *r == name.region);
        coordinators.rotate_left(own.unwrap_or_default().min(known.apis.len()));
        Ok(toml::to_string(&Agent {
            node: &node,
            region: &name.region,
            data_dir,
            coordinators: &coordinators,
            listen_agent: &listen,
            listen_inference: LOOPBACK,
            listen_metrics: LOOPBACK,
            advertise_host: self.host_of(&name.region)?.to_string(),
            store: Store {
                endpoint,
                bucket: BUCKET,
                keys: self.keys(),
            },
            tls: self.named(node.as_str()),
        })?)
    }

    /// By which the processes of a region are known.
    pub(super) fn host(&self, region: usize) -> Ipv4Addr {
        self.hosts.get(region).copied().unwrap_or(Ipv4Addr::LOCALHOST)
    }

    /// Where a region's processes listen: the system picks the port at the first start.
    fn listen(&self, region: &RegionId) -> anyhow::Result<String> {
        if self.at_home {
            Ok(format!("{}:0", self.host_of(region)?))
        } else {
            Ok(LOOPBACK.to_owned())
        }
    }

    fn host_of(&self, region: &RegionId) -> anyhow::Result<Ipv4Addr> {
        let at = self.regions.iter().position(|r| r == region);
        Ok(self.host(at.context("no such region")?))
    }

    fn certs(&self) -> PathBuf {
        self.root.join("certs")
    }

    fn named(&self, name: &str) -> TlsFiles {
        certs::files(&self.certs(), name)
    }

    /// Of the user `admin`.
    pub(super) fn admin(&self) -> TlsFiles {
        self.named("admin")
    }

    /// Of a region's agent.
    pub(super) fn agent(&self, region: &RegionId) -> TlsFiles {
        self.named(&format!("{region}-a1"))
    }

    /// The one key pair of all stores.
    pub(super) fn keys(&self) -> StoreCredentials {
        StoreCredentials {
            access_key_file: self.certs().join("access-key"),
            secret_key_file: self.certs().join("secret-key"),
        }
    }

    fn process(&self, name: &ProcessName) -> PathBuf {
        let region = self.root.join("regions").join(name.region.as_str());
        region.join(name.part.as_str())
    }

    /// Its config.
    pub(super) fn config(&self, name: &ProcessName) -> PathBuf {
        self.process(name).join("config.toml")
    }

    /// Its data directory.
    pub(super) fn data(&self, name: &ProcessName) -> PathBuf {
        self.process(name).join("data")
    }

    /// What it says, appended to by each run.
    pub(super) fn log(&self, name: &ProcessName) -> PathBuf {
        self.process(name).join("log")
    }
}

fn node(region: &RegionId, part: Part) -> anyhow::Result<NodeId> {
    Ok(NodeId::new(match part {
        Part::Coordinator => format!("{region}-c1"),
        Part::Agent | Part::Store => format!("{region}-a1"),
    })?)
}

fn random_text(length: usize) -> String {
    let letters = rand::rng().sample_iter(rand::distr::Alphanumeric);
    letters.take(length).map(char::from).collect()
}
