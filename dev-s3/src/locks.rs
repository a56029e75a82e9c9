//! A mutex for every key, from a table of fixed size.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Keys share a mutex by hash, so that the table needs no clearing up. Two keys that share one only wait for each other.
const STRIPES: usize = 1024;

#[derive(Debug)]
pub(crate) struct Locks {
    stripes: Vec<Arc<Mutex<()>>>,
    hasher: RandomState,
}

impl Locks {
    pub(crate) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Arc::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Waits for the key. Nobody may hold one lock of a table and wait for another of the same table.
    pub(crate) async fn lock(&self, bucket: &str, key: &str) -> OwnedMutexGuard<()> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let hash = self.hasher.hash_one((bucket, key)) as usize;
        Arc::clone(&self.stripes[hash % STRIPES]).lock_owned().await
    }
}
