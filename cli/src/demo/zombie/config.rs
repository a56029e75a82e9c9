//! What a zombie writer is told: where the doors are, and as whom it speaks. Written by the story.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use client::{TlsFiles, context::StoreCredentials};
use serde::{Deserialize, Serialize};
use types::{RegionId, RoleName, VersionKey};

use crate::error::Failure;

/// The config of one zombie writer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ZombieConfig {
    /// Its region.
    pub(crate) region: RegionId,
    /// The role that it writes under.
    pub(crate) role: RoleName,
    /// The version that it asks agents to serve; its model is the one whose tag it sets.
    pub(crate) version: VersionKey,
    /// APIs of the coordinators.
    pub(crate) coordinators: Vec<String>,
    /// For how long it asks for a token, in milliseconds; as long as the lease if absent. A switchover waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    pub(crate) stores: BTreeMap<RegionId, StoreAddress>,
}

/// Where a store is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreAddress {
    /// `http://host:port`.
    pub(crate) endpoint: String,
    /// The bucket.
    pub(crate) bucket: String,
}

impl ZombieConfig {
    /// Reads a config; unknown keys are refused.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, e))?;
        toml::from_str(&text).map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
    }

    /// Writes it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self).map_err(Failure::other)?;
        std::fs::write(path, text).map_err(|e| Failure::file("write", path, e))
    }
}
