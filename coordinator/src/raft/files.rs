//! Durable files: temp + fsync + rename + fsync of the directory.
//!
//! Invariant: a file gets its name here, and only after [`sync`]. The order is noted in tests, because no test sees what
//! a machine that lost its power would have lost.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// The name under which a file is written before it is renamed; what a crash leaves of it is ignored and overwritten.
pub(crate) fn temp_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Replaces `path` with `bytes`: after a crash there is the old content or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temp = temp_path(path);
    let mut file = File::create(&temp)?;
    file.write_all(bytes)?;
    sync(&file, &temp)?;
    rename(&temp, path)
}

/// Makes a file's bytes durable; `path` is where it is now.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    note("sync", path, file.sync_all())
}

/// Gives a synced file its name, durably.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    note("rename", from, fs::rename(from, to))?;
    sync_dir(to.parent().unwrap_or_else(|| Path::new(".")))
}

/// Makes names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    note("sync", dir, File::open(dir)?.sync_all())
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
