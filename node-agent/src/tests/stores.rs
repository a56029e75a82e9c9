//! Handles of stores, and what is told of a store that cannot be attached.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use artifact_store::{ArtifactStore, FsStore, keys};
use async_trait::async_trait;
use types::{RegionId, UnixMillis, region::StoreBinding};

use super::records::*;
use crate::{
    attach::abort_left_behind,
    stores::{OpenStore, Stores},
};

/// Opens a directory, and counts; which uploads were to be aborted there.
struct Counting(
    std::path::PathBuf,
    AtomicUsize,
    Arc<Mutex<Vec<(String, UnixMillis)>>>,
);

#[async_trait]
impl OpenStore for Counting {
    async fn open(&self, region: &RegionId, _: &StoreBinding) -> Result<Arc<dyn ArtifactStore>, String> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let store = FsStore::open(region.as_str(), &self.0, artifact_store::Deadlines::default()).await;
        let store = store.map_err(|e| e.to_string())?;
        Ok(Arc::new(Denying(store, Arc::clone(&self.2))))
    }
}

/// Lets nobody delete, nor abort uploads.
#[derive(Debug)]
struct Denying(FsStore, Arc<Mutex<Vec<(String, UnixMillis)>>>);

fn denied(operation: &'static str, key: &str) -> artifact_store::StoreError {
    artifact_store::StoreError::new("west", operation, key, artifact_store::ErrorKind::Denied)
}

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
        Err(denied("delete", key.as_str()))
    }
    async fn abort_uploads(
        &self,
        prefix: &str,
        before: UnixMillis,
    ) -> Result<usize, artifact_store::StoreError> {
        self.1.lock().unwrap().push((prefix.to_owned(), before));
        Err(denied("list uploads of", prefix))
    }
}

fn counting(dir: &std::path::Path) -> Arc<Counting> {
    Arc::new(Counting(dir.to_owned(), AtomicUsize::new(0), Arc::default()))
}

#[tokio::test]
async fn a_handle_whose_credentials_were_denied_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let opener = counting(dir.path());
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

/// A key that may read and write need not be one that may list uploads.
#[tokio::test]
async fn uploads_of_artifacts_are_left_behind_after_a_week_and_who_may_not_abort_them_keeps_the_handle() {
    let dir = tempfile::tempdir().unwrap();
    let opener = counting(dir.path());
    let stores = Stores::new(Arc::clone(&opener) as _);
    let store = stores.get(&region("west"), &binding("west")).await.unwrap();
    abort_left_behind(&region("west"), store.as_ref(), UnixMillis(7 * 86_400_000 + 5)).await;
    let asked = opener.2.lock().unwrap().clone();
    assert_eq!(asked, [("regent/artifacts/".to_owned(), UnixMillis(5))]);
    stores.get(&region("west"), &binding("west")).await.unwrap();
    assert_eq!(opener.1.load(Ordering::SeqCst), 1);
}
