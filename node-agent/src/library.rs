//! Model directories on this node: the files of a version, hard-linked from the cache under their own names.
//!
//! Invariant: a directory is there whole or not at all. Every file in it was verified when it was cached, and is again
//! before each load ([`Library::scrub`]): a disk may have changed it since.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use artifact_store::{
    cache::{LocalCache, digest_of},
    transfer,
};
use types::{Digest, VersionKey, model::VersionRecord};
use uuid::Uuid;

/// Where model directories are.
#[derive(Clone, Debug)]
pub struct Library {
    root: PathBuf,
    cache: LocalCache,
}

impl Library {
    /// Opens the directory and removes what a dead process left half assembled.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(root: &Path, cache: LocalCache) -> io::Result<Self> {
        let partial = root.join("partial");
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&partial)?,
        }
        Ok(Self {
            root: root.to_owned(),
            cache,
        })
    }

    /// Where a version's directory is, or would be.
    pub fn path_of(&self, key: &VersionKey) -> PathBuf {
        self.root.join(key.model.as_str()).join(key.version.to_string())
    }

    /// The version's directory, assembled if it is not there yet. All files must be cached. Blocks.
    ///
    /// # Errors
    /// A file that is not in the cache, or those of the file system.
    pub fn assemble(&self, record: &VersionRecord) -> io::Result<PathBuf> {
        let target = self.path_of(&record.key);
        if target.is_dir() {
            return Ok(target);
        }
        let partial = self.root.join("partial").join(Uuid::now_v7().to_string());
        for artifact in &record.artifacts {
            let cached = self.cache.find(&transfer::Artifact {
                digest: artifact.digest,
                size: artifact.size,
            });
            let cached = cached.ok_or_else(|| {
                let text = format!("{} ({}) is not in the cache", artifact.path, artifact.digest);
                io::Error::new(io::ErrorKind::NotFound, text)
            })?;
            let path = partial.join(artifact.path.as_str());
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::hard_link(&cached, &path)?;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::rename(&partial, &target) {
            // Somebody else assembled it meanwhile; a version is immutable, so theirs is as good.
            Err(_) if target.is_dir() => fs::remove_dir_all(&partial)?,
            other => other?,
        }
        Ok(target)
    }

    /// Re-reads every file of a version's directory. Where one is not what the registry names, the directory goes, and the
    /// damaged files with it, out of the cache too, so that they are fetched again. True: all whole. Blocks.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn scrub(&self, record: &VersionRecord) -> io::Result<bool> {
        let dir = self.path_of(&record.key);
        let mut whole = true;
        for artifact in &record.artifacts {
            whole &= is_whole(&dir.join(artifact.path.as_str()), &artifact.digest)?;
        }
        if !whole {
            self.remove(&record.key)?;
            for artifact in &record.artifacts {
                match self.cache.scrub(&artifact.digest) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(whole)
    }

    /// Removes a version for good: its directory, and these of its files from the cache.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn evict(&self, key: &VersionKey, digests: &[Digest]) -> io::Result<()> {
        self.remove(key)?;
        digests.iter().try_for_each(|digest| self.cache.remove(digest))
    }

    /// Removes a version's directory; the cached files stay.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, key: &VersionKey) -> io::Result<()> {
        match fs::remove_dir_all(self.path_of(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn is_whole(path: &Path, digest: &Digest) -> io::Result<bool> {
    match digest_of(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => Ok(found? == *digest),
    }
}
