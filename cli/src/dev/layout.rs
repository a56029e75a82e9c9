//! Where everything of a cluster on one machine stands below its directory. Every path of `dev` is made here.

use std::path::{Path, PathBuf};

use chaos::{Part, ProcessName};
use types::RegionId;

/// The directory of a cluster. Always an absolute path, because the processes get paths below it in their configs.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, which need not exist yet.
    pub(crate) fn new(root: &Path) -> std::io::Result<Self> {
        Ok(Self {
            root: std::path::absolute(root)?,
        })
    }
    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    /// Held locked while the cluster runs.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
    /// What the cluster is made of: regions, timing.
    pub(crate) fn spec(&self) -> PathBuf {
        self.root.join("cluster.toml")
    }
    /// How the command line reaches it.
    pub(crate) fn context(&self) -> PathBuf {
        self.root.join("context.toml")
    }
    /// Its processes by pid and start time, for whoever sends them signals.
    pub(crate) fn roster(&self) -> PathBuf {
        self.root.join("processes.json")
    }
    /// Certificates and keys.
    pub(crate) fn certs(&self) -> PathBuf {
        self.root.join("certs")
    }
    /// The public half of the key pair of the object stores.
    pub(crate) fn store_access_key(&self) -> PathBuf {
        self.root.join("credentials").join("access-key")
    }
    /// The secret half.
    pub(crate) fn store_secret_key(&self) -> PathBuf {
        self.root.join("credentials").join("secret-key")
    }
    /// Everything of one region.
    pub(crate) fn region(&self, region: &RegionId) -> PathBuf {
        self.root.join("regions").join(region.as_str())
    }
    /// Everything of one process.
    pub(crate) fn process(&self, name: &ProcessName) -> PathBuf {
        self.region(&name.region).join(match name.part {
            Part::Coordinator => "coordinator",
            Part::Agent => "agent",
            Part::Store => "s3",
        })
    }
    /// A process's config.
    pub(crate) fn config(&self, name: &ProcessName) -> PathBuf {
        self.process(name).join("config.toml")
    }
    /// A process's data directory.
    pub(crate) fn data(&self, name: &ProcessName) -> PathBuf {
        self.process(name).join("data")
    }
    /// Where the process says on which ports it listens; it keeps to them.
    pub(crate) fn listen(&self, name: &ProcessName) -> PathBuf {
        self.data(name).join("listen.json")
    }
    /// stdout and stderr of the process, appended to by each run.
    pub(crate) fn log(&self, name: &ProcessName) -> PathBuf {
        self.process(name).join("log")
    }
}
