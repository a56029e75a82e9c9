//! Snapshots on disk: one file each, whole or absent.
//!
//! Layout: magic, version, length of the meta record, meta ([`proto::raft_v1::SnapshotMeta`]), the encoded state, then
//! SHA-256 of everything before it. Written under a temporary name, synced, renamed, and the directory synced.
//! Invariant: a file with a final name was whole once; if its digest does not match now, the node does not start.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use prost::Message as _;
use proto::raft_v1 as pb;
use types::Digest;

use super::{
    convert::{snapshot_meta_in, snapshot_meta_out},
    files,
    types::{SnapshotMeta, term_of},
};

const MAGIC: &[u8; 8] = b"RGNTRAFT";
const VERSION: u32 = 1;
const DIGEST_BYTES: usize = 32;
const HEAD_BYTES: usize = 8 + 4 + 4;

/// A snapshot file, open. While its name is temporary the file goes away with the value.
#[derive(Debug)]
pub(crate) struct SnapshotFile {
    path: PathBuf,
    file: File,
    size: u64,
    temporary: bool,
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        if self.temporary {
            // What stays behind is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A snapshot that was read and whose digest matched.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: Bytes,
}

impl SnapshotFile {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Up to `len` bytes from `offset`; fewer at the end.
    pub(crate) fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let rest = self.size.saturating_sub(offset);
        let len = len.min(usize::try_from(rest).unwrap_or(usize::MAX));
        let mut chunk = vec![0; len];
        self.file.read_exact_at(&mut chunk, offset)?;
        Ok(chunk)
    }

    /// The digest that the file carries in its last bytes.
    pub(crate) fn digest(&self) -> io::Result<[u8; DIGEST_BYTES]> {
        let mut digest = [0; DIGEST_BYTES];
        let at = self.size.checked_sub(DIGEST_BYTES as u64);
        let at = at.ok_or_else(|| damaged("shorter than its digest"))?;
        self.file.read_exact_at(&mut digest, at)?;
        Ok(digest)
    }

    /// Reads everything and checks it.
    pub(crate) fn load(&self) -> io::Result<Loaded> {
        let size = usize::try_from(self.size).map_err(io::Error::other)?;
        let bytes = self.read_at(0, size)?;
        parse(&bytes)
    }
}

fn damaged(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

fn sha256(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    *Digest::of(bytes).as_bytes()
}

fn parse(bytes: &[u8]) -> io::Result<Loaded> {
    let body_len = bytes.len().checked_sub(DIGEST_BYTES);
    let (body, digest) = bytes.split_at(body_len.ok_or_else(|| damaged("shorter than its digest"))?);
    if sha256(body) != digest {
        return Err(damaged("the digest does not match"));
    }
    let (head, rest) = body
        .split_at_checked(HEAD_BYTES)
        .ok_or_else(|| damaged("no header"))?;
    if head[..8] != MAGIC[..] {
        return Err(damaged("not a snapshot"));
    }
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if word(8) != VERSION {
        return Err(damaged(format!("version {} where {VERSION} is known", word(8))));
    }
    let (meta, state) = rest
        .split_at_checked(word(12) as usize)
        .ok_or_else(|| damaged("the meta record is cut"))?;
    let meta = pb::SnapshotMeta::decode(meta).map_err(|e| damaged(e.to_string()))?;
    Ok(Loaded {
        meta: snapshot_meta_in(meta).map_err(|e| damaged(e.to_string()))?,
        state: Bytes::copy_from_slice(state),
    })
}

fn compose(meta: &SnapshotMeta, state: &[u8]) -> io::Result<Vec<u8>> {
    let meta = snapshot_meta_out(meta).encode_to_vec();
    let meta_len = u32::try_from(meta.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + meta.len() + state.len() + DIGEST_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&meta_len.to_be_bytes());
    bytes.extend_from_slice(&meta);
    bytes.extend_from_slice(state);
    let digest = sha256(&bytes);
    bytes.extend_from_slice(&digest);
    Ok(bytes)
}

/// The folder of snapshots; at most one with a final name once a call has ended.
#[derive(Debug)]
pub(crate) struct SnapshotDir {
    dir: PathBuf,
    temporaries: AtomicU64,
}

impl SnapshotDir {
    /// Creates or opens the folder and removes what a crash left half written.
    pub(crate) fn open(dir: &Path) -> io::Result<Arc<Self>> {
        fs::create_dir_all(dir)?;
        for path in entries(dir)? {
            if path.extension().is_some_and(|e| e == "tmp") {
                fs::remove_file(path)?;
            }
        }
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            temporaries: AtomicU64::new(0),
        }))
    }

    fn final_path(&self, meta: &SnapshotMeta) -> PathBuf {
        let (term, index) = meta
            .last_log_id
            .as_ref()
            .map_or((0, 0), |id| (term_of(id), id.index()));
        self.dir.join(format!("snapshot-{index:020}-{term:020}.snap"))
    }

    /// The newest snapshot, if any; the error names the file that cannot be opened.
    pub(crate) fn newest(&self) -> Result<Option<SnapshotFile>, (PathBuf, io::Error)> {
        let mut gone = None;
        loop {
            let all = entries(&self.dir).map_err(|e| (self.dir.clone(), e))?;
            let newest = all
                .into_iter()
                .filter(|p| p.extension().is_some_and(|e| e == "snap"))
                .max();
            let Some(path) = newest else { return Ok(None) };
            match open_final(&path) {
                Ok(file) => return Ok(Some(file)),
                // A newer one was named after the look, and this one removed: each look that fails so found another.
                Err(e) if e.kind() == io::ErrorKind::NotFound && gone.as_ref() != Some(&path) => {
                    gone = Some(path);
                }
                Err(e) => return Err((path, e)),
            }
        }
    }

    /// Writes a snapshot durably, and removes older ones.
    pub(crate) fn write(&self, meta: &SnapshotMeta, state: &[u8]) -> io::Result<SnapshotFile> {
        let mut incoming = self.receive()?;
        incoming.write(&compose(meta, state)?)?;
        self.adopt(meta, incoming.finish()?)
    }

    /// A new temporary file, to be filled from the wire.
    pub(crate) fn receive(&self) -> io::Result<Incoming> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("incoming-{number}.tmp"));
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)?;
        Ok(Incoming(SnapshotFile {
            path,
            file,
            size: 0,
            temporary: true,
        }))
    }

    /// Gives a synced file its final name here (if it has none yet) and removes older ones. A file of another folder
    /// is copied.
    pub(crate) fn adopt(&self, meta: &SnapshotMeta, mut file: SnapshotFile) -> io::Result<SnapshotFile> {
        if file.path.parent() != Some(&self.dir) {
            let size = usize::try_from(file.size).map_err(io::Error::other)?;
            let mut copy = self.receive()?;
            copy.write(&file.read_at(0, size)?)?;
            file = copy.finish()?;
        }
        if file.temporary {
            let path = self.final_path(meta);
            files::rename(&file.path, &path)?;
            file.temporary = false;
            file.path = path;
        }
        for other in entries(&self.dir)? {
            if other.extension().is_some_and(|e| e == "snap") && other < file.path {
                remove(&other)?;
            }
        }
        Ok(file)
    }
}

/// Removes an older snapshot; another one that was named at the same time may have done so already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect()
}

fn open_final(path: &Path) -> io::Result<SnapshotFile> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok(SnapshotFile {
        path: path.to_owned(),
        file,
        size,
        temporary: false,
    })
}

/// A snapshot that is being received or written.
#[derive(Debug)]
pub(crate) struct Incoming(SnapshotFile);

impl Incoming {
    /// Appends a chunk.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.0.file.write_all(chunk)?;
        self.0.size += chunk.len() as u64;
        Ok(())
    }

    /// Syncs the bytes.
    pub(crate) fn finish(self) -> io::Result<SnapshotFile> {
        files::sync(&self.0.file, &self.0.path)?;
        Ok(self.0)
    }
}
