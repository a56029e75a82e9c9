//! Snapshots that are taken away: a file of what is applied here, handed out in pieces, and removed afterwards.
//!
//! The file is written first and then handed out, so that a slow taker holds room on the disk, and neither memory nor a view of
//! the state. Absent on purpose: the wire, and how fresh the state must be; the caller has made sure of that.
//! Invariant: a file goes when its last piece is taken, its taker goes or stalls, or the node stops.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use state::StateHash;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use types::{
    Revision, UnixMillis,
    reason::{Reason, Refusal},
};

use super::{
    RaftNode,
    snapshot::SnapshotFile,
    state_machine::AppliedState,
    types::{LogId, term_of},
};

/// Snapshots that are taken away at once: each is as large on the disk as the node's own.
pub(super) const AT_ONCE: usize = 2;
/// Bytes of a piece.
const CHUNK_BYTES: usize = 512 << 10;
/// Pieces that wait for their taker.
const CHUNKS_AHEAD: usize = 2;
/// How long a taker may leave a piece; who stalls longer begins anew.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a saved snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Everything up to here is in it.
    pub revision: Revision,
    /// The term of its last entry.
    pub term: u64,
    /// Generation of the cluster's epochs.
    pub generation: u32,
    /// Which rules were on.
    pub feature_level: u32,
    /// State time.
    pub time: UnixMillis,
    /// Bytes of the file.
    pub size: u64,
    /// The file's last bytes: SHA-256 of everything before them.
    pub digest: [u8; 32],
    /// Of the state.
    pub state_hash: StateHash,
}

/// A message of a snapshot that is taken away.
#[derive(Clone, Debug)]
pub enum SavedPart {
    /// Comes first.
    Begins(Box<Saved>),
    /// The next bytes.
    Chunk(Bytes),
}

type Parts = mpsc::Sender<io::Result<SavedPart>>;

impl RaftNode {
    /// Has a snapshot of what is applied here written, and hands it out. The pieces end after the last one, or with an error;
    /// the head says how many bytes there must be.
    pub fn save_snapshot(&self) -> Result<mpsc::Receiver<io::Result<SavedPart>>, Refusal> {
        let permit = Arc::clone(self.exports()).try_acquire_owned();
        let permit: OwnedSemaphorePermit = permit.map_err(|_| {
            let text = format!("{AT_ONCE} snapshots of this coordinator are being saved already");
            Refusal::new(Reason::Overloaded, text).with("retry_after_ms", 1_000)
        })?;
        let (parts, taken) = mpsc::channel(CHUNKS_AHEAD);
        self.spawn(move |node| async move {
            let _permit = permit;
            node.hand_out(parts).await;
        });
        Ok(taken)
    }

    async fn hand_out(self, parts: Parts) {
        let store = self.store().clone();
        let written = blocking(move || {
            let (view, file) = store.export()?;
            Ok((saved(&view, &file)?, file))
        });
        let (head, file) = match written.await {
            Ok(written) => written,
            Err(error) => return drop(parts.send_timeout(Err(error), PATIENCE).await),
        };
        drop(self);
        let begins = Ok(SavedPart::Begins(Box::new(head)));
        if parts.send_timeout(begins, PATIENCE).await.is_ok() {
            hand_out_chunks(file, &parts).await;
        }
    }
}

/// Until the end of the file, a failed read, or a taker who is gone or stalls: whoever misses bytes sees that by their number.
async fn hand_out_chunks(file: SnapshotFile, parts: &Parts) {
    let file = Arc::new(file);
    let mut at = 0_u64;
    loop {
        let reader = Arc::clone(&file);
        let read = blocking(move || reader.read_at(at, CHUNK_BYTES)).await;
        let count = read.as_ref().map_or(0, Vec::len) as u64;
        if count == 0 && read.is_ok() {
            return;
        }
        at += count;
        let part = read.map(|bytes| SavedPart::Chunk(bytes.into()));
        let failed = part.is_err();
        if parts.send_timeout(part, PATIENCE).await.is_err() || failed {
            return;
        }
    }
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(f).await.map_err(io::Error::other)?
}

fn saved(view: &AppliedState, file: &SnapshotFile) -> io::Result<Saved> {
    let cluster = view.state.cluster();
    Ok(Saved {
        revision: view.revision(),
        term: view.last.as_ref().map_or(0, |id: &LogId| term_of(id)),
        generation: cluster.map_or(0, |c| c.generation),
        feature_level: view.state.features().level(),
        time: view.state.time(),
        size: file.size(),
        digest: file.digest()?,
        state_hash: view.state.state_hash(),
    })
}
