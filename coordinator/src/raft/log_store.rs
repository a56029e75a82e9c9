//! The durable log and vote, on `raft-log`: one write-ahead log for entries, vote, purge point and committed mark.
//!
//! Absent on purpose: batching; Raft merges queued appends before they come here. Group commit by waiting would only
//! delay them.
//! Invariant: an append's completion is reported after its fdatasync, and a vote is on disk when `save_vote` returns.
//! Nothing is acknowledged before the first vote is saved, and `node.json` remembers that one was.
//! A tail that was never acknowledged is cut when the log is opened where the file ends inside a record, or holds nothing
//! but zeros from inside the last record on. Pages of one write that reached the disk out of order (zeros, then other
//! bytes) cannot be told from damage behind acknowledged entries: such a log is not opened, and loses nothing.

use std::{
    fmt, io,
    ops::{Bound, RangeBounds},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use prost::Message as _;
use proto::raft_v1 as pb;
use raft_log::{Config, RaftLog, api::raft_log_writer::RaftLogWriter as _};
use tokio::sync::oneshot;

use super::{
    convert::{payload_in, payload_out, vote_in, vote_out},
    disk::{DiskBytes, DiskLogId, DiskTypes, DiskVote, Synced, invalid_data},
    identity::Identity,
    types::{LogEntry, LogId, TypeConfig, Vote},
};

/// Payloads kept in memory for followers and apply. Entries of the chunk being written stay too, whatever this says.
const CACHE_BYTES: usize = 16 << 20;
/// Entries kept in memory at most.
const CACHE_ITEMS: usize = 20_000;
/// A chunk's size; whole chunks are deleted when all of their entries are purged.
const CHUNK_BYTES: usize = 8 << 20;
/// Reads while the log is replayed at start.
const READ_BUFFER_BYTES: usize = 1 << 20;

/// The log of one node. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

/// Fields are dropped in this order: who waits on `closed` wakes once the files are closed and unlocked.
struct Shared {
    log: Mutex<RaftLog<DiskTypes>>,
    identity: Arc<Identity>,
    #[expect(dead_code, reason = "dropping it is the signal")]
    closed: oneshot::Sender<()>,
}

impl LogStore {
    /// Opens or creates the log in `dir`, which must exist, and cuts a torn tail as far as the above says. The receiver ends when the last clone
    /// is gone and the files are closed.
    pub(crate) fn open(dir: &Path, identity: Arc<Identity>) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let mut config = Config::new(dir.display());
        config.wal.flush_batch_wait = Some(Duration::ZERO);
        config.wal.chunk_max_size = Some(CHUNK_BYTES);
        config.wal.read_buffer_size = Some(READ_BUFFER_BYTES);
        config.log_cache_capacity = Some(CACHE_BYTES);
        config.log_cache_max_items = Some(CACHE_ITEMS);
        let log = RaftLog::open(Arc::new(config))?;
        let (closed, on_closed) = oneshot::channel();
        let log = Mutex::new(log);
        let shared = Arc::new(Shared {
            log,
            identity,
            closed,
        });
        Ok((Self { shared }, on_closed))
    }

    /// Whether nothing was ever written: no vote, no entry, no purge point.
    pub(crate) fn is_pristine(&self) -> bool {
        self.with(|log| {
            let state = log.log_state();
            state.vote().is_none() && state.last().is_none() && state.purged().is_none()
        })
    }

    /// Short and without `.await`: appends go to a buffer, the sync runs on the log's own thread.
    fn with<T>(&self, f: impl FnOnce(&mut RaftLog<DiskTypes>) -> T) -> T {
        let mut log = self.shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut log)
    }

    async fn synced(&self, write: impl FnOnce(&mut RaftLog<DiskTypes>) -> io::Result<()>) -> io::Result<()> {
        let (sender, done) = oneshot::channel();
        self.with(|log| {
            write(log)?;
            log.flush(true, Some(Synced::Waiter(sender)))
        })?;
        done.await
            .map_err(|_| io::Error::other("the log's writer thread ended"))?
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&i) => i,
        Bound::Excluded(&i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&i) => i.saturating_add(1),
        Bound::Excluded(&i) => i,
        Bound::Unbounded => u64::MAX,
    };
    (from, to.max(from))
}

fn decode_entry(record: io::Result<(DiskLogId, DiskBytes)>) -> io::Result<LogEntry> {
    let (id, bytes) = record?;
    let payload = pb::Payload::decode(bytes.0).map_err(invalid_data)?;
    Ok(LogEntry {
        log_id: id.into(),
        payload: payload_in(payload).map_err(invalid_data)?,
    })
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<LogEntry>>
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        self.with(|log| log.read(from, to).map(decode_entry).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let vote = self.with(|log| log.log_state().vote().cloned());
        vote.map(|v| vote_in(Some(v.0)).map_err(invalid_data)).transpose()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(self.with(|log| {
            let state = log.log_state();
            LogState {
                last_purged_log_id: state.purged().copied().map(LogId::from),
                last_log_id: state.last().copied().map(LogId::from),
            }
        }))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let record = DiskVote(vote_out(vote));
        self.synced(|log| log.save_vote(record).map(drop)).await?;
        self.shared.identity.begin_log()
    }

    /// Without a sync: after a crash the mark may be older, and the entries behind it are applied once Raft says so.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed else { return Ok(()) };
        let record = DiskLogId::from(&committed);
        self.with(|log| {
            // A snapshot may commit what the log has not; the mark then waits for the purge that follows.
            let covered = log.log_state().last().is_some_and(|last| *last >= record);
            let newer = log.log_state().committed().is_none_or(|old| *old <= record);
            if covered && newer {
                log.commit(record)?;
                log.flush(false, None)?;
            }
            Ok(())
        })
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.with(|log| log.log_state().committed().copied().map(LogId::from)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(|e| {
            (
                DiskLogId::from(&e.log_id),
                DiskBytes(payload_out(&e.payload).encode_to_vec().into()),
            )
        });
        self.with(|log| {
            log.append(records)?;
            log.flush(true, Some(Synced::Append(callback)))
        })
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let index = last_log_id.map_or(0, |id| id.index().saturating_add(1));
        let nothing_behind = self.with(|log| log.log_state().last().is_none_or(|last| last.index < index));
        if nothing_behind {
            return Ok(());
        }
        self.synced(|log| log.truncate(index).map(drop)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.synced(|log| log.purge(DiskLogId::from(&upto)).map(drop))
            .await
    }
}
