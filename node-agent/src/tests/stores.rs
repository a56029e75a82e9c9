//! Handles of stores, and what is told of a store that cannot be attached.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use artifact_store::{ArtifactStore, FsStore, keys};
use async_trait::async_trait;
use types::{RegionId, region::StoreBinding};

use super::records::*;
use crate::stores::{OpenStore, Stores};

/// Opens a directory, and counts.
struct Counting(std::path::PathBuf, AtomicUsize);

#[async_trait]
impl OpenStore for Counting {
    async fn open(&self, region: &RegionId, _: &StoreBinding) -> Result<Arc<dyn ArtifactStore>, String> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let store = FsStore::open(region.as_str(), &self.0, artifact_store::Deadlines::default()).await;
        Ok(Arc::new(Denying(store.map_err(|e| e.to_string())?)))
    }
}

/// Lets nobody delete.
#[derive(Debug)]
struct Denying(FsStore);

#[async_trait]
impl ArtifactStore for Denying {
    fn name(&self) -> &str {
        self.0.name()
    }
    async fn put_stream(
        &self,
        key: &artifact_store::ObjectKey,
        upload: artifact_store::Upload,
    ) -> Result<artifact_store::ETag, artifact_store::PutError> {
        self.0.put_stream(key, upload).await
    }
    async fn head(
        &self,
        key: &artifact_store::ObjectKey,
    ) -> Result<Option<artifact_store::ObjectHead>, artifact_store::StoreError> {
        self.0.head(key).await
    }
    async fn get(
        &self,
        key: &artifact_store::ObjectKey,
    ) -> Result<Option<artifact_store::Body>, artifact_store::StoreError> {
        self.0.get(key).await
    }
    async fn get_range(
        &self,
        key: &artifact_store::ObjectKey,
        range: std::ops::Range<u64>,
    ) -> Result<bytes::Bytes, artifact_store::StoreError> {
        self.0.get_range(key, range).await
    }
    async fn list(
        &self,
        prefix: &str,
        page: Option<artifact_store::PageToken>,
    ) -> Result<artifact_store::ListPage, artifact_store::StoreError> {
        self.0.list(prefix, page).await
    }
    async fn delete(&self, key: &artifact_store::ObjectKey) -> Result<(), artifact_store::StoreError> {
        let denied = artifact_store::ErrorKind::Denied;
        Err(artifact_store::StoreError::new(
            "west",
            "delete",
            key.as_str(),
            denied,
        ))
    }
}

#[tokio::test]
async fn a_handle_whose_credentials_were_denied_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let opener = Arc::new(Counting(dir.path().to_owned(), AtomicUsize::new(0)));
    let stores = Stores::new(Arc::clone(&opener) as _);
    let get = async || stores.get(&region("west"), &binding("west")).await.unwrap();
    let key = keys::probe("1");
    assert!(get().await.head(&key).await.unwrap().is_none());
    get().await.delete(&key).await.unwrap_err();
    assert_eq!(opener.1.load(Ordering::SeqCst), 1);
    get().await;
    get().await;
    assert_eq!(opener.1.load(Ordering::SeqCst), 2);
}
