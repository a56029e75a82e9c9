//! Small files that survive a crash whole: written aside, flushed, renamed, and their directory flushed.
//!
//! Absent on purpose: formats. Invariant: a reader sees the old bytes or the new ones, never a mixture. The order is noted in
//! tests, because no test sees what a machine that lost its power would have lost.

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
    note("sync", &aside, file.sync_all())?;
    drop(file);
    note("rename", &aside, fs::rename(&aside, path))?;
    sync_parent(path)
}

/// Makes a rename or creation inside `path`'s directory durable.
///
/// # Errors
/// Those of the file system.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => note("sync", parent, File::open(parent)?.sync_all()),
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

/// Writes down what was done, in tests; passes on what came of it.
#[cfg_attr(not(test), expect(unused_variables, reason = "only tests read the journal"))]
fn note(what: &'static str, path: &Path, done: io::Result<()>) -> io::Result<()> {
    #[cfg(test)]
    journal::add(what, path);
    done
}

/// What this thread did to files, in order.
#[cfg(test)]
pub(crate) mod journal {
    use std::{cell::RefCell, path::Path};

    thread_local! {
        static DONE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn add(what: &str, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        DONE.with_borrow_mut(|done| done.push(format!("{what} {name}")));
    }

    /// Takes what was written down so far: what was done and to which file or folder.
    pub(crate) fn take() -> Vec<String> {
        DONE.take()
    }
}
