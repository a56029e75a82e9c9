//! The hidden `regent zombie-writer`: a process that goes on writing with the last token that its region's agent gave it, blind to
//! the lease, through every door. No client here speaks S3; that one does.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use client::{TlsFiles, context::StoreCredentials};
use serde::Serialize;
use tokio::process::Command;
use types::{RegionId, RoleName, VersionKey};

/// What it reads.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Config {
    /// Its region.
    pub(crate) region: RegionId,
    /// The role that it writes under.
    pub(crate) role: RoleName,
    /// The version that it asks agents to serve; its model is the one whose tag it sets.
    pub(crate) version: VersionKey,
    /// APIs of the coordinators.
    pub(crate) coordinators: Vec<String>,
    /// For how long it asks for a token, in milliseconds; as long as the lease if absent. A switchover waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_millis: Option<u64>,
    /// The file that it appends to, one line for each write.
    pub(crate) log: PathBuf,
    /// While this file exists, it leaves the pointer in its own region's store alone.
    pub(crate) hold: PathBuf,
    /// The identity of its region's agent.
    pub(crate) tls: TlsFiles,
    /// The keys of the stores.
    pub(crate) keys: StoreCredentials,
    /// gRPC of each region's agent.
    pub(crate) agents: BTreeMap<RegionId, String>,
    /// Each region's object store.
    pub(crate) stores: BTreeMap<RegionId, Store>,
}

/// Where a store is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Store {
    /// `http://host:port`.
    pub(crate) endpoint: String,
    /// The bucket.
    pub(crate) bucket: String,
}

impl Config {
    /// Writes the config to `dir`, and says how the process is started.
    pub(crate) fn command(&self, regent: &Path, dir: &Path) -> anyhow::Result<Command> {
        let path = dir.join("config.toml");
        std::fs::write(&path, toml::to_string(self)?)?;
        let output = File::create(dir.join("output"))?;
        let mut command = Command::new(regent);
        command.arg("zombie-writer").arg("--config").arg(&path);
        command.args(["--die-with", &std::process::id().to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }
}
