//! Names and locks of the directory.
//!
//! ```text
//! objects/PART/PART/NAME@   one file per object; `@` ends no directory name, so `a` and `a/b` coexist
//! locks/NNNN                lock files, shared by keys through a hash that every process computes alike
//! tmp/UUID                  bytes that are still arriving, under the flock of their writer
//! ```

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use types::Digest;
use uuid::Uuid;

use super::files::{TempFile, read_head};
use crate::{ListPage, ListedObject, ObjectHead, ObjectKey, PageToken, store::PAGE_KEYS};

/// Lock files: enough that two hot keys seldom share one.
pub(super) const STRIPES: usize = 256;

/// The lock file of a key. Stable across processes and releases: all writers must agree on it.
pub(super) fn stripe(key: &ObjectKey) -> usize {
    usize::from(Digest::of(key.as_str().as_bytes()).as_bytes()[0])
}

#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        for part in ["objects", "locks", "tmp"] {
            fs::create_dir_all(root.join(part))?;
        }
        sync_dir(root)?;
        let layout = Self {
            root: root.to_owned(),
        };
        layout.sweep()?;
        Ok(layout)
    }

    /// Removes temp files whose writer is gone: a living one holds its flock.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join("tmp"))? {
            let path = entry?.path();
            let Ok(file) = File::open(&path) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    pub(super) fn temp_file(&self) -> io::Result<TempFile> {
        let path = self.root.join("tmp").join(Uuid::now_v7().simple().to_string());
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(TempFile::new(path, file))
    }

    /// Waits for the lock file; the lock ends with the returned file.
    pub(super) fn lock(&self, stripe: usize) -> io::Result<File> {
        let path = self.root.join("locks").join(format!("{stripe:04}"));
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    pub(super) fn object_path(&self, key: &ObjectKey) -> PathBuf {
        let mut path = self.objects();
        path.extend(key.as_str().split('/').map(encode));
        path.as_mut_os_string().push("@");
        path
    }

    /// Gives a sealed file its name, with every directory on the way durable.
    pub(super) fn publish(&self, temp: TempFile, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.create_dirs(parent)?;
        temp.rename(path)?;
        sync_dir(parent)
    }

    pub(super) fn remove(&self, key: &ObjectKey) -> io::Result<()> {
        let path = self.object_path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            // Directories stay: removing them would race with a writer who is about to use them.
            Ok(()) => path.parent().map_or(Ok(()), sync_dir),
        }
    }

    fn create_dirs(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        self.create_dirs(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => sync_dir(parent),
        }
    }

    /// A page in key order. Walks the tree: a directory of a development machine is small.
    pub(super) fn list(&self, prefix: &str, page: Option<&PageToken>) -> io::Result<ListPage> {
        let mut keys = Vec::new();
        walk(&self.objects(), "", &mut keys)?;
        keys.retain(|(key, _)| key.starts_with(prefix) && page.is_none_or(|after| *key > after.0));
        keys.sort();
        let more = keys.len() > PAGE_KEYS;
        keys.truncate(PAGE_KEYS);
        let mut objects = Vec::new();
        for (key, path) in keys {
            // Removed since the walk: then it is not listed.
            if let Some(ObjectHead { size, etag }) = read_head(&path)? {
                objects.push(ListedObject { key, size, etag });
            }
        }
        let next = objects
            .last()
            .filter(|_| more)
            .map(|last| PageToken(last.key.clone()));
        Ok(ListPage { objects, next })
    }

    fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }
}

fn walk(dir: &Path, above: &str, keys: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if path.is_dir() {
            let above = format!("{above}{}/", decode(name));
            walk(&path, &above, keys)?;
        } else if let Some(name) = name.strip_suffix('@') {
            keys.push((format!("{above}{}", decode(name)), path));
        }
    }
    Ok(())
}

/// Letters, digits and `-_.` stay; the rest becomes `%XX`, `@` among it.
fn encode(part: &str) -> String {
    part.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn decode(part: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = part.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail
            .get(..2)
            .filter(|_| byte == b'%')
            .and_then(|hex| hex::decode(hex).ok());
        bytes.push(code.as_ref().map_or(byte, |code| code[0]));
        rest = &tail[code.map_or(0, |_| 2)..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
