//! Small files that survive a crash whole: written aside, flushed, renamed, and their directory flushed.
//!
//! Absent on purpose: formats. Invariant: a reader sees the old bytes or the new ones, never a mixture.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Replaces `path` by `bytes`, durably. Costs two flushes of the disk; blocks the thread.
///
/// # Errors
/// Those of the file system; the old file stays in that case.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("tmp");
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&aside, path)?;
    sync_parent(path)
}

/// Makes a rename or creation inside `path`'s directory durable.
///
/// # Errors
/// Those of the file system.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads a file that may not be there.
///
/// # Errors
/// Those of the file system, except that a missing file is `None`.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
