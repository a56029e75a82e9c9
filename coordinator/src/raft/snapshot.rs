//! Snapshots on disk: one file each, whole or absent.
//!
//! A file is the stream of [`state::codec::write_snapshot`], with the meta record ([`proto::raft_v1::SnapshotMeta`]) as its
//! label. Until a cluster is at feature level 2 it is of the older layout, which is read for ever: magic, version, length of
//! the meta record, meta, the encoded state in one piece, then SHA-256 of everything before it. The last 32 bytes of either
//! are the SHA-256 of the rest. Written under a temporary name, synced, renamed, and the directory synced.
//! Invariant: a file with a final name was whole once; if it is damaged now, the node does not start.

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prost::Message as _;
use proto::raft_v1 as pb;
use state::{
    ControlState, Feature,
    codec::{self, CodecError},
};
use types::{Digest, digest::DigestHasher};

use super::{
    convert::{snapshot_meta_in, snapshot_meta_out},
    files,
    types::{SnapshotMeta, term_of},
};

const MAGIC: &[u8; 8] = b"RGNTRAFT";
const VERSION: u32 = 1;
const DIGEST_BYTES: usize = 32;
const HEAD_BYTES: usize = 8 + 4 + 4;
/// Read and written at once; a frame is somewhat larger.
const BUFFER_BYTES: usize = 128 << 10;
/// Read at once where only the head is wanted.
const HEAD_BUFFER_BYTES: usize = 4 << 10;
/// Copied, or digested, at once.
const COPY_BYTES: usize = 1 << 20;

/// A snapshot file, open. While its name is temporary the file goes away with the value.
#[derive(Debug)]
pub(crate) struct SnapshotFile {
    path: PathBuf,
    file: File,
    size: u64,
    temporary: bool,
    /// What was read of it already.
    read: Option<Box<Loaded>>,
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        if self.temporary {
            // What stays behind is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A snapshot that was read, and whose digests and invariants hold.
pub(crate) struct Loaded {
    pub(crate) meta: SnapshotMeta,
    pub(crate) state: ControlState,
}

impl fmt::Debug for Loaded {
    /// A state has too many records to be written into a line of a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

/// Reads a file from its beginning, whatever else reads it.
struct FromBeginning<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromBeginning<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl SnapshotFile {
    /// Opens a file that has its final name.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        open_final(path)
    }

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

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// The digest that the file carries in its last bytes.
    pub(crate) fn digest(&self) -> io::Result<[u8; DIGEST_BYTES]> {
        let mut digest = [0; DIGEST_BYTES];
        let at = self.size.checked_sub(DIGEST_BYTES as u64);
        let at = at.ok_or_else(|| damaged("shorter than its digest"))?;
        self.file.read_exact_at(&mut digest, at)?;
        Ok(digest)
    }

    /// What it covers, without what is in it.
    pub(crate) fn meta(&self) -> io::Result<SnapshotMeta> {
        if self.read_at(0, MAGIC.len())? == MAGIC {
            return self.older_meta();
        }
        let file = FromBeginning {
            file: &self.file,
            at: 0,
        };
        let label = codec::read_label(BufReader::with_capacity(HEAD_BUFFER_BYTES, file)).map_err(unread)?;
        parse_meta(&label)
    }

    fn older_meta(&self) -> io::Result<SnapshotMeta> {
        let head = self.read_at(0, HEAD_BYTES)?;
        let length = head.last_chunk::<4>().filter(|_| head.len() == HEAD_BYTES);
        let length = u32::from_be_bytes(*length.ok_or_else(|| damaged("no header"))?) as usize;
        let meta = self.read_at(HEAD_BYTES as u64, length)?;
        if meta.len() < length {
            return Err(damaged("the meta record is cut"));
        }
        parse_meta(&meta)
    }

    /// Whether its last bytes are the digest of all others: nothing of it was changed or lost. Takes memory for a piece.
    pub(crate) fn check_whole(&self) -> io::Result<()> {
        let digest = self.digest()?;
        let mut rest = self.size - DIGEST_BYTES as u64;
        let (mut hasher, mut at) = (DigestHasher::new(), 0);
        while rest > 0 {
            let len = usize::try_from(rest).map_or(COPY_BYTES, |rest| rest.min(COPY_BYTES));
            hasher.update(&self.read_at(at, len)?);
            at += len as u64;
            rest -= len as u64;
        }
        if hasher.finish().as_bytes() != &digest {
            return Err(damaged("the digest does not match"));
        }
        Ok(())
    }

    /// Reads it now, for whoever takes the file over: what is damaged is found here, and nobody reads it twice.
    pub(crate) fn read_ahead(mut self) -> io::Result<(SnapshotMeta, Self)> {
        let loaded = self.load()?;
        let meta = loaded.meta.clone();
        self.read = Some(Box::new(loaded));
        Ok((meta, self))
    }

    /// What is in it: read ahead, or read now as by [`Self::load`].
    pub(crate) fn take(&mut self) -> io::Result<Loaded> {
        match self.read.take() {
            Some(loaded) => Ok(*loaded),
            None => self.load(),
        }
    }

    /// Reads everything and checks it. Takes memory for the state and one frame; a file of the older layout is read whole.
    pub(crate) fn load(&self) -> io::Result<Loaded> {
        if self.read_at(0, MAGIC.len())? == MAGIC {
            let size = usize::try_from(self.size).map_err(io::Error::other)?;
            return parse(&self.read_at(0, size)?);
        }
        let file = FromBeginning {
            file: &self.file,
            at: 0,
        };
        let read = codec::read_snapshot(BufReader::with_capacity(BUFFER_BYTES, file)).map_err(unread)?;
        Ok(Loaded {
            meta: parse_meta(&read.label)?,
            state: read.state,
        })
    }
}

/// A disk that cannot be read is no damaged snapshot.
fn unread(error: CodecError) -> io::Error {
    match error {
        CodecError::Io(error) => error,
        damage => io::Error::new(io::ErrorKind::InvalidData, damage),
    }
}

fn parse_meta(bytes: &[u8]) -> io::Result<SnapshotMeta> {
    let meta = pb::SnapshotMeta::decode(bytes).map_err(|e| damaged(e.to_string()))?;
    snapshot_meta_in(meta).map_err(|e| damaged(e.to_string()))
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
    Ok(Loaded {
        meta: parse_meta(meta)?,
        state: codec::decode_snapshot(state).map_err(unread)?,
    })
}

fn compose(meta: &[u8], state: &[u8]) -> io::Result<Vec<u8>> {
    let meta_len = u32::try_from(meta.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + meta.len() + state.len() + DIGEST_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&meta_len.to_be_bytes());
    bytes.extend_from_slice(meta);
    bytes.extend_from_slice(state);
    let digest = sha256(&bytes);
    bytes.extend_from_slice(&digest);
    Ok(bytes)
}

/// The folder of snapshots; at most one with a final name once a call has ended.
#[derive(Debug)]
pub(crate) struct SnapshotDir {
    dir: PathBuf,
    /// Of those that have opened it: a file that another one still had when it ended goes away under a name of its own.
    run: u64,
    temporaries: AtomicU64,
}

impl SnapshotDir {
    /// Creates or opens the folder and removes what a crash left half written. `run` is another one each time that
    /// something may come in.
    pub(crate) fn open(dir: &Path, run: u64) -> io::Result<Arc<Self>> {
        fs::create_dir_all(dir)?;
        for path in entries(dir)? {
            if path.extension().is_some_and(|e| e == "tmp") {
                fs::remove_file(path)?;
            }
        }
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            run,
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

    /// Writes a snapshot durably, and removes older ones. Where that fails, or `go_on` says no, nothing is left of it.
    pub(crate) fn write(
        &self,
        meta: &SnapshotMeta,
        state: &ControlState,
        go_on: impl Fn() -> io::Result<()>,
    ) -> io::Result<SnapshotFile> {
        let label = snapshot_meta_out(meta).encode_to_vec();
        let mut file = self.temporary()?;
        let mut sink = Sink {
            file: &mut file,
            go_on,
        };
        if state.features().has(Feature::FramedSnapshots) {
            codec::write_snapshot(state, &label, BufWriter::with_capacity(BUFFER_BYTES, sink))?;
        } else {
            // Some coordinator of the cluster may know no other.
            let whole = compose(&label, &codec::encode_snapshot(state))?;
            sink.write_all(&whole)?;
        }
        files::sync(&file.file, &file.path)?;
        self.adopt(meta, file)
    }

    /// Writes a snapshot to be taken away, in frames whatever the cluster's level: who reads it chooses the build. It goes with
    /// the value, and is not synced.
    pub(crate) fn export(
        &self,
        meta: &SnapshotMeta,
        state: &ControlState,
        go_on: impl Fn() -> io::Result<()>,
    ) -> io::Result<SnapshotFile> {
        let label = snapshot_meta_out(meta).encode_to_vec();
        let mut file = self.temporary()?;
        let sink = Sink {
            file: &mut file,
            go_on,
        };
        codec::write_snapshot(state, &label, BufWriter::with_capacity(BUFFER_BYTES, sink))?;
        Ok(file)
    }

    /// A new temporary file, to be filled from the wire.
    pub(crate) fn receive(&self) -> io::Result<Incoming> {
        Ok(Incoming {
            file: self.temporary()?,
            hasher: DigestHasher::new(),
            last: Vec::new(),
        })
    }

    fn temporary(&self) -> io::Result<SnapshotFile> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("incoming-{}-{number}.tmp", self.run));
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)?;
        Ok(SnapshotFile {
            path,
            file,
            size: 0,
            temporary: true,
            read: None,
        })
    }

    /// Gives a synced file its final name here (if it has none yet) and removes older ones. A file of another folder
    /// is copied.
    pub(crate) fn adopt(&self, meta: &SnapshotMeta, mut file: SnapshotFile) -> io::Result<SnapshotFile> {
        if file.path.parent() != Some(&self.dir) {
            file = self.copy(&file)?;
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

impl SnapshotDir {
    fn copy(&self, other: &SnapshotFile) -> io::Result<SnapshotFile> {
        let mut copy = self.temporary()?;
        loop {
            let chunk = other.read_at(copy.size, COPY_BYTES)?;
            if chunk.is_empty() {
                files::sync(&copy.file, &copy.path)?;
                return Ok(copy);
            }
            copy.append(&chunk)?;
        }
    }
}

/// A file that is being written, for as long as it may be.
struct Sink<'a, F> {
    file: &'a mut SnapshotFile,
    go_on: F,
}

impl<F: Fn() -> io::Result<()>> Write for Sink<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.go_on)()?;
        self.file.append(bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
        read: None,
    })
}

/// A snapshot that is being received.
#[derive(Debug)]
pub(crate) struct Incoming {
    file: SnapshotFile,
    /// Of all bytes but the last.
    hasher: DigestHasher,
    /// Those that may be the digest.
    last: Vec<u8>,
}

impl Incoming {
    /// Appends a chunk.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.append(chunk)?;
        self.last.extend_from_slice(chunk);
        let no_digest = self.last.len().saturating_sub(DIGEST_BYTES);
        self.hasher.update(&self.last[..no_digest]);
        self.last.drain(..no_digest);
        Ok(())
    }

    /// Syncs the bytes.
    pub(crate) fn finish(self) -> io::Result<SnapshotFile> {
        files::sync(&self.file.file, &self.file.path)?;
        Ok(self.file)
    }

    /// Whether the last bytes are the digest of the others: nothing was changed or cut on its way.
    pub(crate) fn is_whole(&self) -> bool {
        self.last == self.hasher.clone().finish().as_bytes()
    }
}
