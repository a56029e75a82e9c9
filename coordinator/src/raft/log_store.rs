//! The durable log and vote: openraft's storage on crate `wal`.
//!
//! Absent on purpose: batching and files, which `wal` does; and rules.
//! Invariant: an append's completion is reported after its sync, and a vote is on disk when `save_vote` returns.
//! Nothing is acknowledged before the first vote is saved, and `node.json` remembers that one was.
//! A full disk is no error here: writes wait. Whoever could still refuse asks [`wal::View`] first (`propose`, `service`).

use std::{
    fmt, io,
    ops::{Bound, RangeBounds},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use openraft::{
    EntryPayload, OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use prost::Message as _;
use proto::raft_v1 as pb;
use tokio::sync::oneshot;
use tracing::warn;
use types::planted::{self, Bug};
use uuid::Uuid;

use super::{
    convert::{membership_in, membership_out, vote_in, vote_out},
    identity::Identity,
    types::{EntryBytes, LogEntry, LogId, TypeConfig, Vote, log_id, term_of},
};
use crate::metrics;

/// A blank entry, a command, a membership: what an entry's payload is, on disk.
const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;
/// Entries sent to a follower at once, in bytes.
const SEND_BYTES: usize = 8 << 20;
/// Entries handed to apply at once, in bytes.
const APPLY_BYTES: usize = 4 << 20;

/// Kept in memory of the log at a witness, and waiting for its disk, in bytes: it has small memory, and nobody reads there.
const WITNESS_BYTES: (usize, usize) = (2 << 20, 4 << 20);

/// The log of one node. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: wal::Log,
    identity: Arc<Identity>,
}

/// Puts what the log's writer did among the metrics.
struct Measured;

impl wal::Observer for Measured {
    fn synced(&self, took: Duration, _entries: usize, bytes: usize) {
        metrics::observe_log_sync(took.as_secs_f64(), bytes);
    }
}

impl LogStore {
    /// Opens or creates the log, and cuts a torn tail. The receiver ends when the last clone is gone and the files are closed.
    pub(crate) fn open(
        disk: Arc<dyn wal::disk::Disk>,
        identity: Arc<Identity>,
    ) -> Result<(Self, oneshot::Receiver<()>), wal::OpenError> {
        let name = identity
            .disk_id()
            .map_or_else(|| Uuid::now_v7().into_bytes(), |id| id.to_bytes());
        let held = identity.hold().map_err(|source| wal::OpenError::Io {
            path: identity.dir().to_owned(),
            doing: "write in it",
            source,
        })?;
        let (closed, on_closed) = oneshot::channel();
        let mut config = wal::Config::new(name);
        if identity.is_witness() {
            (config.cache_bytes, config.queue_bytes) = WITNESS_BYTES;
        }
        // The last that the log's threads do: a disk that hangs may write yet.
        let on_close = move || {
            drop(held);
            drop::<oneshot::Sender<()>>(closed);
        };
        let (log, opened) = wal::Log::open(disk, config, Arc::new(Measured), on_close)?;
        if let Some(cut) = opened.cut {
            let path = cut.path.display();
            warn!(%path, offset = cut.offset, "the log ended in a write that a crash cut short; nobody was told that it was durable");
        }
        Ok((Self { log, identity }, on_closed))
    }

    /// Whether nothing was ever written: no vote, no entry, no purge point.
    pub(crate) fn is_pristine(&self) -> bool {
        self.log.vote().is_none() && self.log.last().is_none() && self.log.purged().is_none()
    }

    /// How full its disk is, for whoever must not keep the log open.
    pub(crate) fn view(&self) -> wal::View {
        self.log.view()
    }

    /// From memory, or from the disk on a thread that may block.
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<wal::Entry>> {
        if let Some(entries) = self.log.read_cached(from, to, bytes_max) {
            return Ok(entries);
        }
        let log = self.log.clone();
        let read = tokio::task::spawn_blocking(move || log.read(from, to, bytes_max)).await;
        Ok(read.map_err(io::Error::other)??)
    }

    /// Waits while more is queued for the disk than should be in memory.
    async fn drained(&self) {
        let (ready, is_ready) = oneshot::channel();
        self.log.when_drained(Box::new(move || _ = ready.send(())));
        // A log that ended wakes everybody, and says so at the next write.
        let _ = is_ready.await;
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

/// An entry's id as the log has it.
pub(crate) fn id_out(id: &LogId) -> wal::LogId {
    wal::LogId {
        term: term_of(id),
        index: id.index(),
    }
}

fn id_in(id: wal::LogId) -> LogId {
    log_id(id.term, id.index)
}

/// How many bytes the log's disk takes of an entry's payload.
pub(crate) fn payload_len(entry: &LogEntry) -> usize {
    match &entry.payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(command) => command.0.len(),
        EntryPayload::Membership(membership) => membership_out(membership).encoded_len(),
    }
}

fn entry_out(entry: LogEntry) -> wal::Entry {
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(command) => (COMMAND, command.0),
        EntryPayload::Membership(membership) => {
            (MEMBERSHIP, membership_out(&membership).encode_to_vec().into())
        }
    };
    wal::Entry {
        id: id_out(&entry.log_id),
        kind,
        payload,
    }
}

fn invalid_data(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn entry_in(entry: wal::Entry) -> io::Result<LogEntry> {
    let payload = match entry.kind {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(EntryBytes(entry.payload)),
        MEMBERSHIP => {
            let membership = pb::Membership::decode(entry.payload).map_err(invalid_data)?;
            EntryPayload::Membership(membership_in(membership).map_err(invalid_data)?)
        }
        other => {
            let index = entry.id.index;
            return Err(invalid_data(format!(
                "entry {index} is of kind {other}, which this build does not know; run the version that wrote it"
            )));
        }
    };
    Ok(LogEntry {
        log_id: id_in(entry.id),
        payload,
    })
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<LogEntry>>
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let entries = self.read(from, to, usize::MAX).await?;
        entries.into_iter().map(entry_in).collect()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        let entries = self.read(start, end, SEND_BYTES).await?;
        entries.into_iter().map(entry_in).collect()
    }

    /// A piece at a time: what is behind may be long.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<LogEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let store = self.clone();
        stream::try_unfold((from, Vec::new().into_iter()), move |(mut next, mut ready)| {
            let store = store.clone();
            async move {
                if ready.as_slice().is_empty() && next < to {
                    ready = store.read(next, to, APPLY_BYTES).await?.into_iter();
                }
                let Some(entry) = ready.next() else {
                    return Ok(None);
                };
                next = entry.id.index + 1;
                Ok(Some((entry_in(entry)?, (next, ready))))
            }
        })
        .boxed()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let Some(vote) = self.log.vote() else {
            return Ok(None);
        };
        let vote = pb::Vote::decode(vote).map_err(invalid_data)?;
        vote_in(Some(vote)).map(Some).map_err(invalid_data)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        Ok(LogState {
            last_purged_log_id: self.log.purged().map(id_in),
            last_log_id: self.log.last().map(id_in),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (sender, saved) = oneshot::channel();
        let vote = vote_out(vote).encode_to_vec().into();
        self.log
            .save_vote(vote, Box::new(move |result| drop(sender.send(result))));
        saved.await.map_err(io::Error::other)??;
        self.identity.begin_log()
    }

    /// Without a sync: after a crash the mark may be older, and the entries behind it are applied once Raft says so.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.log.set_committed(id_out(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log.committed().map(id_in))
    }

    /// Entries can be read when it returns. Waits where the disk is far behind: a leader that cannot write must not lead.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().map(entry_out).collect();
        self.drained().await;
        if planted::has(Bug::SkippedSyncs) {
            callback.io_completed(Ok(()));
            return Ok(self.log.append(entries, Box::new(drop))?);
        }
        let done =
            move |result: Result<(), wal::Failure>| callback.io_completed(result.map_err(io::Error::from));
        Ok(self.log.append(entries, Box::new(done))?)
    }

    /// Durable before any later append is, which is all that Raft needs.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let after = last_log_id.as_ref().map(id_out);
        if self.log.last().map(|l| l.index) > after.map(|a| a.index) {
            self.log.truncate_after(after, Box::new(drop));
        }
        Ok(())
    }

    /// Segments go once the purge point is durable; a crash before that brings their entries back, and Raft purges again.
    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.log.purge(id_out(&upto), Box::new(drop));
        Ok(())
    }
}
