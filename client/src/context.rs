//! `context.toml`: which cluster the caller means, and as whom it speaks.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use types::{
    RegionId,
    reason::{Reason, Refusal},
};

use crate::channel::{ClientConfig, TlsFiles};

/// Keys of an object store, in files of mode 0600; never in the registry, never logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreCredentials {
    /// File with the access key id.
    pub access_key_file: std::path::PathBuf,
    /// File with the secret key.
    pub secret_key_file: std::path::PathBuf,
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// API endpoints of coordinators, `https://host:port`.
    pub endpoints: Vec<String>,
    /// The caller's identity.
    pub tls: TlsFiles,
    /// Keys for stores of regions that `stores` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreCredentials>,
    /// Keys by region, where they differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stores: BTreeMap<RegionId, StoreCredentials>,
}

impl Context {
    /// Reads the file. Relative paths in it count from its folder. Errors name the file and the key.
    pub fn load(path: &Path) -> Result<Self, Refusal> {
        let fail = |why: String| {
            let message = format!("cannot use context {}: {why}", path.display());
            Refusal::new(Reason::InvalidArgument, message).with("file", path.display())
        };
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        let mut context: Context = toml::from_str(&text).map_err(|e| fail(e.to_string()))?;
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        context.anchor(base);
        Ok(context)
    }

    fn anchor(&mut self, base: &Path) {
        let tls = &mut self.tls;
        for file in [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file] {
            *file = base.join(&file);
        }
        for keys in self.store.iter_mut().chain(self.stores.values_mut()) {
            keys.access_key_file = base.join(&keys.access_key_file);
            keys.secret_key_file = base.join(&keys.secret_key_file);
        }
    }

    /// The client configuration of this context.
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::new(self.endpoints.clone(), self.tls.clone())
    }

    /// The store keys for a region.
    pub fn store_credentials(&self, region: &RegionId) -> Option<&StoreCredentials> {
        self.stores.get(region).or(self.store.as_ref())
    }
}
