//! What this node has and served, in sled, so that a restart can serve before any coordinator answers (I10).
//!
//! Absent on purpose: fencing floors, leases, and anything that cannot be rebuilt: sled's flush is no fsync. Files are
//! proven by their digest when they are used, never by this catalog. A catalog that cannot be opened is set aside and
//! built again from the watch.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use types::{VersionKey, model::VersionRecord, replica::ReplicaState};

/// The version of the rows that this code writes; others are dropped.
const VERSION: u32 = 1;

/// Tries for the lock, and the wait between two of them.
const LOCK_TRIES: u32 = 40;
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// The catalog; clones share it.
#[derive(Clone, Debug)]
pub struct Catalog {
    db: sled::Db,
    versions: sled::Tree,
}

/// One version as this node last knew it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogRow {
    /// Shape of the row; rows of other shapes are dropped.
    pub shape: u32,
    /// The immutable record.
    pub record: VersionRecord,
    /// All its files were in the local cache.
    pub cached: bool,
    /// What the registry said of the copy in this region.
    pub replica: Option<ReplicaState>,
    /// It was to be in memory.
    pub load: bool,
    /// It answered requests that name no version.
    pub active: bool,
}

impl CatalogRow {
    /// A row from what is known.
    pub fn new(record: VersionRecord) -> Self {
        Self {
            shape: VERSION,
            record,
            cached: false,
            replica: None,
            load: false,
            active: false,
        }
    }
}

impl Catalog {
    /// Opens the catalog; a broken one is moved aside.
    ///
    /// # Errors
    /// The directory cannot be written, or another process has the catalog open.
    pub fn open(path: &Path) -> io::Result<Self> {
        match Self::try_open(path) {
            Ok(catalog) => Ok(catalog),
            Err(sled::Error::Corruption { .. } | sled::Error::Unsupported(_)) => {
                let aside = path.with_extension("broken");
                tracing::warn!(path = %path.display(), aside = %aside.display(), "catalog is broken; building it again");
                remove_if_there(&aside)?;
                std::fs::rename(path, &aside)?;
                Self::try_open(path).map_err(io::Error::other)
            }
            Err(sled::Error::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn try_open(path: &Path) -> sled::Result<Self> {
        // A catalog holds thousands of small rows at most; the default cache of 1 GiB would be absurd.
        let config = sled::Config::new().path(path).cache_capacity(4 << 20);
        // The threads of a catalog that this process closed let go of its lock a moment later.
        let mut tries = 0;
        let db = loop {
            match config.open() {
                Err(sled::Error::Io(error)) if is_locked(&error) && tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::sleep(LOCK_WAIT);
                }
                other => break other?,
            }
        };
        let versions = db.open_tree("versions")?;
        Ok(Self { db, versions })
    }

    /// Replaces all rows; returns before anything is on disk.
    ///
    /// # Errors
    /// Those of sled; the caller may go on without a catalog.
    pub fn replace(&self, rows: &[CatalogRow]) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        let keep: std::collections::BTreeSet<Vec<u8>> = rows.iter().map(|row| key(&row.record.key)).collect();
        for stored in self.versions.iter().keys() {
            let stored = stored.map_err(io::Error::other)?;
            if !keep.contains(stored.as_ref()) {
                batch.remove(stored);
            }
        }
        for row in rows {
            batch.insert(key(&row.record.key), serde_json::to_vec(row)?);
        }
        self.versions.apply_batch(batch).map_err(io::Error::other)
    }

    /// All rows that can be read; others are dropped, since everything in here can be learnt again.
    pub fn rows(&self) -> Vec<CatalogRow> {
        let values = self.versions.iter().values().filter_map(Result::ok);
        let rows = values.filter_map(|bytes| serde_json::from_slice::<CatalogRow>(&bytes).ok());
        rows.filter(|row| row.shape == VERSION).collect()
    }

    /// Hands everything to the system, at shutdown.
    pub async fn flush(&self) {
        if let Err(error) = self.db.flush_async().await {
            tracing::warn!(%error, "catalog not flushed");
        }
    }
}

fn is_locked(error: &io::Error) -> bool {
    // sled puts the system's error into one of its own, and keeps only the text.
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

fn key(key: &VersionKey) -> Vec<u8> {
    key.to_string().into_bytes()
}

fn remove_if_there(path: &PathBuf) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
