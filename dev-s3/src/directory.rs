//! The layout of the data directory, and how files become durable in it.
//!
//! ```text
//! lock                          flock of the one process that owns the directory
//! access.jsonl                  the access log
//! buckets/NAME/HEX              one file per object; HEX is the SHA-256 of its key, so `a` and `a/b` coexist
//! uploads/ID/upload.json NNNNN  multipart uploads that are not complete, and their parts
//! tmp/                          bytes that are still arriving; swept at start
//! ```

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::Error;

/// Where the endpoint over `data_dir` writes its access log.
pub fn access_log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("access.jsonl")
}

/// The file that holds an object (body first, then its metadata). For fault tests; the endpoint must not run.
pub fn object_path(data_dir: &Path, bucket: &str, key: &str) -> PathBuf {
    data_dir.join("buckets").join(bucket).join(object_file_name(key))
}

/// A flat, fixed-length name: keys may hold any character, `/` and `..` among them.
pub(crate) fn object_file_name(key: &str) -> String {
    types::Digest::of(key.as_bytes()).hex()
}

/// The owned data directory; the lock ends with it.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes and locks the directory, and sweeps what was still arriving when the last process ended.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(Error::directory(root))?;
        let lock = lock(root)?;
        let directory = Self {
            root: root.to_owned(),
            _lock: lock,
        };
        for path in [directory.buckets(), directory.uploads()] {
            fs::create_dir_all(&path).map_err(Error::directory(&path))?;
        }
        directory.sweep()?;
        sync_dir(root).map_err(Error::directory(root))?;
        Ok(directory)
    }

    fn sweep(&self) -> Result<(), Error> {
        let tmp = self.tmp();
        match fs::remove_dir_all(&tmp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::directory(&tmp)(e)),
            _ => fs::create_dir(&tmp).map_err(Error::directory(&tmp)),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn buckets(&self) -> PathBuf {
        self.root.join("buckets")
    }
    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }
    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// A new file that nobody sees and that goes away unless it is published.
    pub(crate) fn temp_file(&self) -> io::Result<(TempFile, File)> {
        let path = self.tmp().join(Uuid::now_v7().simple().to_string());
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok((TempFile { path: Some(path) }, file))
    }
}

fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join("lock");
    let open = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = open.map_err(Error::directory(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(e) if e == rustix::io::Errno::WOULDBLOCK => Err(Error::Locked {
            path: root.to_owned(),
        }),
        Err(e) => Err(Error::directory(path)(e.into())),
    }
}

/// A file in `tmp/`, removed when dropped.
#[derive(Debug)]
pub(crate) struct TempFile {
    path: Option<PathBuf>,
}

impl TempFile {
    /// Gives a synced file its final name, durably. What stood there before is replaced in one step.
    pub(crate) fn publish(mut self, target: &Path) -> io::Result<()> {
        let Some(path) = self.path.as_deref() else {
            return Ok(());
        };
        fs::rename(path, target)?;
        self.path = None;
        target.parent().map_or(Ok(()), sync_dir)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            // Harmless: the next start sweeps it.
            tracing::debug!(path = %path.display(), %error, "temporary file not removed");
        }
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
