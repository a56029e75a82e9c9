//! The object stores of the regions, opened when first needed and kept.
//!
//! Absent on purpose: what is read or written there. Invariants: a changed binding never serves from the old store; one
//! that denied a call is opened anew for the next, because its credentials may have been changed.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use artifact_store::{ArtifactStore, Deadlines, FsStore};
use async_trait::async_trait;
use types::{RegionId, region::StoreBinding};

use crate::{
    config::{AgentConfig, Credentials},
    watched::Watched,
};

/// Opens a region's store.
#[async_trait]
pub trait OpenStore: Send + Sync {
    /// A handle to the store; need not connect. The error is a sentence for people.
    async fn open(&self, region: &RegionId, binding: &StoreBinding)
    -> Result<Arc<dyn ArtifactStore>, String>;
}

/// The handles; clones share them.
#[derive(Clone)]
pub struct Stores {
    opener: Arc<dyn OpenStore>,
    open: Arc<Mutex<BTreeMap<RegionId, Open>>>,
}

/// A handle and the binding that it was opened for.
type Open = (StoreBinding, Arc<Watched>);

impl Stores {
    /// No store is opened yet.
    pub fn new(opener: Arc<dyn OpenStore>) -> Self {
        Self {
            opener,
            open: Arc::default(),
        }
    }

    /// The store of a region.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the binding or the credentials.
    pub async fn get(
        &self,
        region: &RegionId,
        binding: &StoreBinding,
    ) -> Result<Arc<dyn ArtifactStore>, String> {
        if let Some(store) = self.find(region, binding) {
            return Ok(store);
        }
        let store = Arc::new(Watched::new(self.opener.open(region, binding).await?));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(region.clone(), (binding.clone(), Arc::clone(&store)));
        Ok(store)
    }

    fn find(&self, region: &RegionId, binding: &StoreBinding) -> Option<Arc<dyn ArtifactStore>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (bound, store) = open.get(region)?;
        let same = bound.endpoint == binding.endpoint && bound.bucket == binding.bucket;
        (same && !store.was_denied()).then(|| Arc::clone(store) as _)
    }
}

/// Stores by the agent's own config: its credentials, and those for other regions.
#[derive(Clone, Debug)]
pub struct ConfiguredStores {
    own: Option<Credentials>,
    others: BTreeMap<RegionId, Credentials>,
}

impl ConfiguredStores {
    /// Takes what the config says.
    pub fn new(config: &AgentConfig) -> Self {
        Self {
            own: config.store.credentials(),
            others: config.store_credentials.clone(),
        }
    }
}

#[async_trait]
impl OpenStore for ConfiguredStores {
    async fn open(
        &self,
        region: &RegionId,
        binding: &StoreBinding,
    ) -> Result<Arc<dyn ArtifactStore>, String> {
        if let Some(path) = binding.endpoint.strip_prefix("file://") {
            let root = Path::new(path).join(&binding.bucket);
            let store = FsStore::open(region.as_str(), &root, Deadlines::default()).await;
            return Ok(Arc::new(store.map_err(|e| e.to_string())?));
        }
        let (section, found) = match self.others.get(region) {
            Some(others) => (format!("store_credentials.{region}"), Some(others)),
            None => ("store".to_owned(), self.own.as_ref()),
        };
        let credentials = found.ok_or_else(|| {
            format!(
                "no credentials for the store of {region}; add [store_credentials.{region}] to the config"
            )
        })?;
        open_s3(region, binding, &section, credentials)
    }
}

#[cfg(feature = "s3")]
fn open_s3(
    region: &RegionId,
    binding: &StoreBinding,
    section: &str,
    credentials: &Credentials,
) -> Result<Arc<dyn ArtifactStore>, String> {
    let secret = |key: &str, path: &Path| secret(&format!("{section}.{key}"), path);
    let config = artifact_store::S3Config {
        name: region.to_string(),
        endpoint: binding.endpoint.clone(),
        region: region.to_string(),
        bucket: binding.bucket.clone(),
        access_key: secret("access_key_file", &credentials.access_key_file)?,
        secret_key: secret("secret_key_file", &credentials.secret_key_file)?,
        deadlines: Deadlines::default(),
    };
    Ok(Arc::new(artifact_store::S3Store::new(&config)))
}

#[cfg(feature = "s3")]
fn secret(key: &str, path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let path = path.display();
        format!("{key} is {path}: {e}; name a file that is there and that this user can read")
    })?;
    Ok(text.trim().to_owned())
}

#[cfg(not(feature = "s3"))]
fn open_s3(
    region: &RegionId,
    binding: &StoreBinding,
    section: &str,
    credentials: &Credentials,
) -> Result<Arc<dyn ArtifactStore>, String> {
    let _ = (section, credentials);
    Err(format!(
        "the store of {region} is {}, and this build speaks file: only; build with the feature s3",
        binding.endpoint
    ))
}
