//! A file on its way to its name: `FILE.part` until everything in it is durable and was looked at.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use types::digest::DigestHasher;

use crate::error::Failure;

/// Removed with the value, unless it got its name.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: File,
    hasher: DigestHasher,
    size: u64,
    named: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.named {
            // What stays behind is overwritten by the next one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Part {
    /// Beside the file that it will be, for its owner alone.
    pub(super) fn create(file: &Path) -> Result<Self, Failure> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = file.with_file_name(name);
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o600);
        let opened = options
            .open(&path)
            .map_err(|e| Failure::file("write", &path, e))?;
        Ok(Self {
            path,
            file: opened,
            hasher: DigestHasher::new(),
            size: 0,
            named: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes so far.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes);
        written.map_err(|e| Failure::file("write", &self.path, e))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Makes the bytes durable; their SHA-256 as hex digits.
    pub(super) fn sync(&self) -> Result<String, Failure> {
        let synced = self.file.sync_all();
        synced.map_err(|e| Failure::file("write", &self.path, e))?;
        Ok(self.hasher.clone().finish().hex())
    }

    /// The digest that a snapshot carries in its last bytes, if it is that of everything before them on the disk.
    #[cfg(not(feature = "server"))]
    pub(super) fn digest(&self) -> Result<String, Failure> {
        let bytes = fs::read(&self.path).map_err(|e| Failure::file("read", &self.path, e))?;
        let (body, digest) = bytes.split_at(bytes.len().saturating_sub(32));
        let computed = types::Digest::of(body);
        Ok(if computed.as_bytes() == digest {
            computed.hex()
        } else {
            String::new()
        })
    }

    /// Gives it its name, durably.
    pub(super) fn name(mut self, file: &Path) -> Result<(), Failure> {
        let folder = file.parent().filter(|dir| !dir.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let named: io::Result<()> = fs::rename(&self.path, file).and_then(|()| {
            self.named = true;
            File::open(folder)?.sync_all()
        });
        named.map_err(|e| Failure::file("write", file, e))
    }
}
