//! A store's handle that remembers whether its credentials were denied.
//!
//! Absent on purpose: opening it anew ([`crate::stores`]). Invariant: whatever the store says reaches the caller unchanged.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use artifact_store::{
    ArtifactStore, Body, Condition, ETag, ErrorKind, ListPage, ObjectHead, ObjectKey, PageToken, PutError,
    StoreError, Upload,
};
use async_trait::async_trait;
use bytes::Bytes;
use types::UnixMillis;

/// The handle and its memory.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Arc<dyn ArtifactStore>,
    denied: AtomicBool,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn ArtifactStore>) -> Self {
        Self {
            inner,
            denied: AtomicBool::new(false),
        }
    }

    /// Whether the store denied a call since it was opened.
    pub(crate) fn was_denied(&self) -> bool {
        self.denied.load(Ordering::Relaxed)
    }

    fn note(&self, error: &StoreError) {
        if error.kind == ErrorKind::Denied {
            self.denied.store(true, Ordering::Relaxed);
        }
    }

    fn seen<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        answer.inspect_err(|error| self.note(error))
    }

    fn put_seen<T>(&self, answer: Result<T, PutError>) -> Result<T, PutError> {
        answer.inspect_err(|error| {
            if let PutError::Failed(error) = error {
                self.note(error);
            }
        })
    }
}

#[async_trait]
impl ArtifactStore for Watched {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<ETag, PutError> {
        self.put_seen(self.inner.put(key, body).await)
    }

    async fn put_if(&self, key: &ObjectKey, body: Bytes, condition: Condition) -> Result<ETag, PutError> {
        self.put_seen(self.inner.put_if(key, body, condition).await)
    }

    async fn put_stream(&self, key: &ObjectKey, upload: Upload) -> Result<ETag, PutError> {
        self.put_seen(self.inner.put_stream(key, upload).await)
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, StoreError> {
        self.seen(self.inner.head(key).await)
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<Body>, StoreError> {
        self.seen(self.inner.get(key).await)
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.seen(self.inner.get_range(key, range).await)
    }

    async fn list(&self, prefix: &str, page: Option<PageToken>) -> Result<ListPage, StoreError> {
        self.seen(self.inner.list(prefix, page).await)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.seen(self.inner.delete(key).await)
    }

    /// Not everybody who may read and write may list uploads: to be denied that says nothing of the credentials.
    async fn abort_uploads(&self, prefix: &str, before: UnixMillis) -> Result<usize, StoreError> {
        self.inner.abort_uploads(prefix, before).await
    }
}
