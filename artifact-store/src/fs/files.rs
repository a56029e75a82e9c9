//! One object's file.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use types::{ByteCount, Digest};

use crate::{ETag, ObjectHead};

const MAGIC: &[u8; 8] = b"RGNTFS01";

/// Digest and magic.
const TAIL: usize = 40;

/// A file in `tmp/`, under its flock, removed when dropped.
#[derive(Debug)]
pub(super) struct TempFile {
    path: Option<PathBuf>,
    file: File,
}

impl TempFile {
    pub(super) fn new(path: PathBuf, file: File) -> Self {
        Self {
            path: Some(path),
            file,
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Appends the digest of the body and makes the file durable.
    pub(super) fn seal(&mut self, digest: &Digest) -> io::Result<()> {
        self.file.seek(SeekFrom::End(0))?;
        self.file.write_all(digest.as_bytes())?;
        self.file.write_all(MAGIC)?;
        self.file.sync_all()
    }

    pub(super) fn rename(mut self, target: &Path) -> io::Result<()> {
        if let Some(path) = &self.path {
            fs::rename(path, target)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            // Harmless: the next open sweeps it.
            tracing::debug!(path = %path.display(), %error, "temporary file not removed");
        }
    }
}

/// Opens an object's file at its first byte; `None` when there is none.
pub(super) fn open(path: &Path) -> io::Result<Option<(File, ObjectHead)>> {
    let mut file = match File::open(path) {
        Err(error) if absent(&error) => return Ok(None),
        other => other?,
    };
    let size = file
        .metadata()?
        .len()
        .checked_sub(TAIL as u64)
        .ok_or_else(|| damaged(path))?;
    let mut tail = [0; TAIL];
    file.seek(SeekFrom::Start(size))?;
    file.read_exact(&mut tail)?;
    file.rewind()?;
    let (digest, magic) = tail.split_at(32);
    if magic != MAGIC {
        return Err(damaged(path));
    }
    Ok(Some((
        file,
        ObjectHead {
            size: ByteCount(size),
            etag: ETag::new(&hex::encode(digest)),
        },
    )))
}

pub(super) fn read_head(path: &Path) -> io::Result<Option<ObjectHead>> {
    Ok(open(path)?.map(|(_, head)| head))
}

/// The bytes of a range; `None` when it ends behind the object.
pub(super) fn read_range(path: &Path, range: Range<u64>) -> io::Result<Option<Bytes>> {
    let (mut file, head) = open(path)?.ok_or(io::ErrorKind::NotFound)?;
    if range.start > range.end || range.end > head.size.0 {
        return Ok(None);
    }
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(range.start))?;
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes.into()))
}

/// A file where the key needs a directory cannot be: objects end in `@`. But a missing directory means no object.
fn absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn damaged(path: &Path) -> io::Error {
    let text = format!(
        "{} does not end as an object of this store does: remove it",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}
