//! The artifacts that a node keeps on its own disk, as plain files named by their digest.
//!
//! A file is there whole and verified, or it is not there. What is still arriving lies in `partial/` and is taken up
//! again after a crash.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use types::{ByteCount, Digest, DigestHasher};

use crate::Artifact;

/// A directory of artifacts.
#[derive(Clone, Debug)]
pub struct LocalCache {
    root: Arc<Path>,
}

impl LocalCache {
    /// Opens the directory, making it where it is missing.
    pub fn open(root: &Path) -> io::Result<Self> {
        for part in ["sha256", "partial"] {
            fs::create_dir_all(root.join(part))?;
        }
        sync_dir(root)?;
        Ok(Self { root: root.into() })
    }

    /// Where an artifact's file is, or would be.
    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("sha256").join(&hex[..2]).join(hex)
    }

    /// The file of an artifact that was verified when it was stored; its size is checked, its bytes are not read.
    pub fn find(&self, artifact: &Artifact) -> Option<PathBuf> {
        let path = self.path_of(&artifact.digest);
        let size = fs::metadata(&path).ok()?.len();
        (ByteCount(size) == artifact.size).then_some(path)
    }

    /// Reads an artifact's file whole and says whether it still is what its name says; a damaged one is removed.
    pub fn scrub(&self, digest: &Digest) -> io::Result<bool> {
        let path = self.path_of(digest);
        if digest_of(&path)? == *digest {
            return Ok(true);
        }
        fs::remove_file(&path)?;
        Ok(false)
    }

    /// Removes an artifact, and what was arriving of it unless a task is at it; removing none succeeds.
    pub fn remove(&self, digest: &Digest) -> io::Result<()> {
        // Whoever holds the beginning of it is about to publish, and is asked to remove it again.
        if self.partial(digest).exists()
            && let Some(partial) = self.resume(digest)?
        {
            partial.discard()?;
        }
        match fs::remove_file(self.path_of(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(digest.hex())
    }

    /// Takes up an artifact where the last attempt ended. `None`: another task or process is at it.
    pub(crate) fn resume(&self, digest: &Digest) -> io::Result<Option<Partial>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.partial(digest))?;
        self.take_up(digest, file)
    }

    /// Locks the beginning of an artifact that was opened before.
    pub(crate) fn take_up(&self, digest: &Digest, mut file: File) -> io::Result<Option<Partial>> {
        let path = self.partial(digest);
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            return if error == rustix::io::Errno::WOULDBLOCK {
                Ok(None)
            } else {
                Err(error.into())
            };
        }
        // The holder of the lock before us may have published or discarded this very file.
        if !is_at(&file, &path)? {
            return Ok(None);
        }
        let mut hasher = DigestHasher::new();
        let size = hash_file(&mut file, &mut hasher)?;
        Ok(Some(Partial {
            cache: self.clone(),
            digest: *digest,
            path,
            file,
            hasher,
            size,
        }))
    }
}

/// The beginning of an artifact, under a lock.
#[derive(Debug)]
pub(crate) struct Partial {
    cache: LocalCache,
    digest: Digest,
    path: PathBuf,
    file: File,
    hasher: DigestHasher,
    size: u64,
}

impl Partial {
    /// How many bytes are there.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds the bytes that follow.
    pub(crate) fn append(&mut self, bytes: &Bytes) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// The digest of what is there.
    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Forgets it all: the next attempt begins anew.
    pub(crate) fn discard(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    /// Gives the whole, verified file its name.
    pub(crate) fn publish(self) -> io::Result<PathBuf> {
        let target = self.cache.path_of(&self.digest);
        self.file.sync_all()?;
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
            fs::rename(&self.path, &target)?;
            sync_dir(parent)?;
            sync_dir(&self.cache.root.join("sha256"))?;
        }
        Ok(target)
    }
}

/// What a file holds now, read whole. Blocks.
///
/// # Errors
/// Those of the file system.
pub fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut hasher = DigestHasher::new();
    hash_file(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finish())
}

/// Hashes from the start; the file is at its end afterwards.
fn hash_file(file: &mut File, hasher: &mut DigestHasher) -> io::Result<u64> {
    file.rewind()?;
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(size);
        }
        hasher.update(&buffer[..n]);
        size += n as u64;
    }
}

/// Whether `path` still names the open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let opened = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((opened.dev(), opened.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
