//! A store in memory, for tests. As strict as the real ones.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use types::{ByteCount, Digest};

use crate::{
    ArtifactStore, Body, Condition, ETag, ErrorKind, ListPage, ListedObject, ObjectHead, ObjectKey,
    PageToken, PutError, StoreError, Upload,
    store::PAGE_KEYS,
    upload::{Checker, check_condition},
};

/// Objects in a map.
#[derive(Debug)]
pub struct MemStore {
    name: String,
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemStore {
    /// An empty store.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            objects: Mutex::default(),
        }
    }

    fn find(&self, key: &ObjectKey) -> Option<Bytes> {
        self.objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key.as_str())
            .cloned()
    }

    fn commit(&self, key: &ObjectKey, body: Bytes, condition: Option<&Condition>) -> Result<ETag, PutError> {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let current = objects.get(key.as_str()).map(|bytes| etag(bytes));
        check_condition(&self.name, key, condition, current.as_ref())?;
        let new = etag(&body);
        objects.insert(key.as_str().to_owned(), body);
        Ok(new)
    }
}

fn etag(bytes: &[u8]) -> ETag {
    ETag::new(&Digest::of(bytes).hex())
}

fn head(bytes: &Bytes) -> ObjectHead {
    ObjectHead {
        size: ByteCount(bytes.len() as u64),
        etag: etag(bytes),
    }
}

#[async_trait]
impl ArtifactStore for MemStore {
    fn name(&self) -> &str {
        &self.name
    }

    async fn put_stream(&self, key: &ObjectKey, mut upload: Upload) -> Result<ETag, PutError> {
        let mut checker = Checker::new(&self.name, key, &upload);
        let mut body = Vec::new();
        while let Some(chunk) = upload.body.next().await {
            body.extend_from_slice(&checker.take(chunk)?);
        }
        checker.finish()?;
        self.commit(key, body.into(), upload.condition.as_ref())
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, StoreError> {
        Ok(self.find(key).map(|bytes| head(&bytes)))
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<Body>, StoreError> {
        let body = |bytes: Bytes| Body {
            head: head(&bytes),
            bytes: futures::stream::iter([Ok(bytes)]).boxed(),
        };
        Ok(self.find(key).map(body))
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        let error = |kind| StoreError::new(&self.name, "get", key, kind);
        let bytes = self.find(key).ok_or_else(|| error(ErrorKind::NotFound))?;
        let span = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok());
        match span {
            Some((start, end)) if start <= end && end <= bytes.len() => Ok(bytes.slice(start..end)),
            _ => Err(error(ErrorKind::OutOfRange)),
        }
    }

    async fn list(&self, prefix: &str, page: Option<PageToken>) -> Result<ListPage, StoreError> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let after = page.map(|token| token.0);
        let behind = objects
            .iter()
            .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
        let mut found = behind.filter(|(key, _)| key.starts_with(prefix));
        let listed = |(key, bytes): (&String, &Bytes)| {
            let ObjectHead { size, etag } = head(bytes);
            ListedObject {
                key: key.clone(),
                size,
                etag,
            }
        };
        let page: Vec<ListedObject> = found.by_ref().take(PAGE_KEYS).map(listed).collect();
        let next = found
            .next()
            .and_then(|_| page.last())
            .map(|last| PageToken(last.key.clone()));
        Ok(ListPage { objects: page, next })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.objects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key.as_str());
        Ok(())
    }
}
