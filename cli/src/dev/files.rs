//! Files of a cluster's directory: written whole or not at all, secrets for the owner's eyes only.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use crate::error::Failure;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everyone.
    Public,
    /// The owner: mode 0600.
    Secret,
}

/// Makes a directory and those above it.
pub(crate) fn make_dir(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|e| Failure::file("create the directory", path, e))
}

/// Replaces a file durably: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn write(path: &Path, content: &[u8], access: Access) -> Result<(), Failure> {
    write_durably(path, content, access).map_err(|e| Failure::file("write", path, e))
}

fn write_durably(path: &Path, content: &[u8], access: Access) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(dir)?;
    let temporary = path.with_extension("tmp");
    let mode = match access {
        Access::Public => 0o644,
        Access::Secret => 0o600,
    };
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)?;
    // The mode above counts only where the file was made just now.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|e| Failure::file("read", path, e))
}

/// The last lines of a log, without reading all of it.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    const TAIL_BYTES: u64 = 16 * 1024;
    let read = || {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
