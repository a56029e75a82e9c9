//! The probe must find the stores that it is there for.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    ArtifactStore, Body, Condition, ETag, Fault, FaultyStore, ListPage, MemStore, ObjectHead, ObjectKey,
    Operation, PageToken, PutError, StoreError, Upload,
    probe::{Unfit, probe_fencing},
};

/// How a store is broken.
#[derive(Debug, PartialEq)]
enum Bug {
    IgnoresConditions,
    ChecksThenWrites,
}

#[derive(Debug)]
struct Broken {
    inner: MemStore,
    bug: Bug,
    turns: Mutex<()>,
}

#[async_trait]
impl ArtifactStore for Broken {
    fn name(&self) -> &str {
        "broken"
    }
    async fn put_stream(&self, key: &ObjectKey, mut upload: Upload) -> Result<ETag, PutError> {
        let condition = upload.condition.take();
        if self.bug == Bug::ChecksThenWrites {
            let current = self.inner.head(key).await?.map(|head| head.etag);
            let holds = match condition {
                None => true,
                Some(Condition::Absent) => current.is_none(),
                Some(Condition::Matches(etag)) => current == Some(etag),
            };
            if !holds {
                return Err(PutError::PreconditionFailed {
                    store: self.name().into(),
                    key: key.to_string(),
                });
            }
            // Between check and write every other writer gets its turn.
            tokio::task::yield_now().await;
        }
        drop(self.turns.lock());
        self.inner.put_stream(key, upload).await
    }
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, StoreError> {
        self.inner.head(key).await
    }
    async fn get(&self, key: &ObjectKey) -> Result<Option<Body>, StoreError> {
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner.get_range(key, range).await
    }
    async fn list(&self, prefix: &str, page: Option<PageToken>) -> Result<ListPage, StoreError> {
        self.inner.list(prefix, page).await
    }
    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

async fn check(bug: Bug, expected: &str) {
    let store = Broken {
        inner: MemStore::new("broken"),
        bug,
        turns: Mutex::default(),
    };
    let unfit = probe_fencing(&store).await.unwrap_err();
    assert!(unfit.to_string().contains(expected), "{unfit}");
    assert_eq!(
        store.inner.list("", None).await.unwrap().objects,
        [],
        "the probe cleans up"
    );
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_no_door() {
    check(Bug::IgnoresConditions, "50 of 50 racing writes").await;
}

#[tokio::test]
async fn a_store_that_checks_and_then_writes_is_no_door() {
    check(Bug::ChecksThenWrites, "it may hold artifacts").await;
}

#[tokio::test]
async fn a_store_that_does_not_answer_proves_nothing() {
    for fault in [Fault::Fail, Fault::UnknownAfterWrite] {
        let store = FaultyStore::new(Arc::new(MemStore::new("mem")));
        store.plan(Operation::Put, fault);
        assert!(matches!(
            probe_fencing(&store).await,
            Err(Unfit::Inconclusive { .. })
        ));
    }
}
