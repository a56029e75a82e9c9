//! The handle on an open log.
//!
//! Calls change what the log is in memory at once (an appended entry can be read), and queue what must be written; the writer
//! takes the queue as a whole. Order of calls is order on the disk.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard},
};

use bytes::Bytes;

use crate::{
    Config, Entry, LogId, Observer,
    disk::{Disk, read_full},
    error::{AppendError, Corruption, Failure, OpenError, ReadError},
    index::{Place, Planned},
    pool::{Pool, Room},
    record::{ENTRY_HEAD_BYTES, Record, decode_entry},
    recover::{Opened, recover},
    reserve::Passing,
    segment::{Segment, segment_name},
    shared::{Done, Shared, State, Waiting},
    threads,
    writer::Writer,
};

/// An open log. Clones share it; it closes when the last one goes, or by [`View::close`].
#[derive(Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.release();
    }
}

/// Looks at a log, and may close it, without keeping it open.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("dir", &self.shared.disk.path())
            .finish()
    }
}

impl View {
    /// How much the log can still take.
    pub fn room(&self) -> Room {
        self.shared.pool.room()
    }
    /// The same in a word: [`Room::is_full`].
    pub fn is_full(&self) -> bool {
        self.shared.pool.is_full()
    }
    /// Whether entries with payloads of these lengths can be written now, behind all that passes and waits, and leave what is kept
    /// for votes. Writes are in order: one that waits for room on a full disk holds up every vote after it.
    pub fn takes(&self, passing: Passing, payloads: &[usize]) -> bool {
        self.shared.takes(passing, payloads)
    }
    /// How many of these entries the log has already, from the first one on: appending them again writes nothing.
    pub fn known(&self, entries: impl IntoIterator<Item = LogId>) -> usize {
        let state = self.shared.state();
        let known = entries.into_iter().take_while(|id| state.replay.index.has(*id));
        known.count()
    }
    /// Payloads that should wait for the disk at most, in bytes.
    pub fn queue_bytes(&self) -> usize {
        self.shared.config.queue_bytes
    }
    /// Bytes that can be written beside what is kept for votes, as far as the last look at the disk said. What waits is in them.
    pub fn left_bytes(&self) -> u64 {
        self.shared.pool.reserve().left()
    }
    /// Closes the log although others still have it, who may be waiting for its disk: what waits is written as far as there is room for
    /// it, and whoever waits for more hears that the log was closed, as does every later write. Until the last handle has gone what
    /// is there can be read.
    pub fn close(&self) {
        self.shared.close();
    }
    /// Writes that wait for the disk, and their bytes.
    pub fn queued(&self) -> (usize, usize) {
        let state = self.shared.state();
        (state.queued, state.queued_bytes)
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.handle.shared.disk.path())
            .field("last", &self.last())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in a directory, or makes one, and cuts a torn tail. Its two threads end after the last handle is gone and
    /// all that waited is written; `closed` is called then, with every file closed.
    ///
    /// Blocks while it reads what is there.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: Config,
        observer: Arc<dyn Observer>,
        closed: impl FnOnce() + Send + 'static,
    ) -> Result<(Self, Opened), OpenError> {
        let (log, writer, opened) = Self::open_still(disk, config, observer)?;
        let shared = log.handle.shared.clone();
        threads::start(shared, writer, closed).map_err(|source| OpenError::Io {
            path: log.handle.shared.disk.path().to_owned(),
            doing: "start its threads",
            source,
        })?;
        Ok((log, opened))
    }

    /// The same without threads: whoever calls drives writer and pool.
    pub(crate) fn open_still(
        disk: Arc<dyn Disk>,
        config: Config,
        observer: Arc<dyn Observer>,
    ) -> Result<(Self, Writer, Opened), OpenError> {
        let found = recover(&*disk, &config)?;
        let next = found.kept.last().map_or(0, |k| k.segment.number) + found.ready.len() as u64 + 1;
        let pool = Pool::new(disk.clone(), &config, found.log_id, found.ready, found.free, next);
        let written = found.replay.head(0);
        let opened = Opened {
            cut: found.cut,
            segments: found.kept.len(),
        };
        let last = found.kept.last().cloned();
        let files = found.kept.into_iter().map(|kept| (kept.segment.number, kept));
        let state = State::new(found.replay, files.collect());
        let shared = Arc::new(Shared::new(disk, pool, config, state));
        let writer = Writer::new(
            shared.clone(),
            observer,
            last,
            found.tail,
            found.sequence,
            written,
        );
        let handle = Arc::new(Handle { shared });
        Ok((Self { handle }, writer, opened))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.handle.shared.state()
    }

    #[cfg(test)]
    pub(crate) fn pool(&self) -> &Pool {
        &self.handle.shared.pool
    }

    /// Appends entries; they can be read when it returns, and are durable when `done` is called with `Ok`. An error says
    /// that none was appended, and `done` is not called.
    pub fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), AppendError> {
        let mut state = self.state();
        state.check(&entries, self.handle.shared.config.payload_max())?;
        if entries.is_empty() {
            self.handle.shared.push(state, None, done);
            return Ok(());
        }
        let last = entries.len() - 1;
        let mut done = Some(done);
        if let Some(failed) = state.failed.clone() {
            drop(state);
            if let Some(done) = done.take() {
                done(Err(failed));
            }
            return Ok(());
        }
        for (n, entry) in entries.into_iter().enumerate() {
            let ordinal = state.replay.index.push_pending(&entry);
            let done = if n == last { done.take() } else { None };
            state.enqueue(Some(Record::Entry(entry)), ordinal, done);
        }
        self.handle.shared.wake(state);
        Ok(())
    }

    /// Replaces the vote.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        let mut state = self.state();
        state.replay.vote = Some(vote.clone());
        self.handle.shared.push(state, Some(Record::Vote(vote)), done);
    }

    /// Voids the entries after `after`; all of them if that is none. Durable before any later append is.
    pub fn truncate_after(&self, after: Option<LogId>, done: Done) {
        let mut state = self.state();
        state.replay.index.truncate(after);
        self.handle
            .shared
            .push(state, Some(Record::Truncate(after)), done);
    }

    /// Forgets the entries up to `upto`. Segments go once that is durable.
    pub fn purge(&self, upto: LogId, done: Done) {
        let mut state = self.state();
        state.replay.index.purge(upto);
        self.handle.shared.push(state, Some(Record::Purge(upto)), done);
    }

    /// Remembers what is committed. It is written with the next batch, or when the log rests: after a crash an older one may
    /// be there, never one above the last entry.
    pub fn set_committed(&self, committed: LogId) {
        let mut state = self.state();
        state.replay.committed = Some(committed);
        // Nothing hurries; but a writer that rests until somebody wakes it would never write it.
        if state.rests {
            self.handle.shared.wake(state);
        }
    }

    /// Calls `done` once everything before it is durable.
    pub fn flush(&self, done: Done) {
        self.handle.shared.push(self.state(), None, done);
    }

    /// The last vote that was saved.
    pub fn vote(&self) -> Option<Bytes> {
        self.state().replay.vote.clone()
    }
    /// What is known to be committed.
    pub fn committed(&self) -> Option<LogId> {
        self.state().replay.committed
    }
    /// Up to where entries are forgotten.
    pub fn purged(&self) -> Option<LogId> {
        self.state().replay.index.purged()
    }
    /// The last entry, or the purge point if there is none behind it.
    pub fn last(&self) -> Option<LogId> {
        self.state().replay.index.last()
    }
    /// Writes that wait for the disk, and their bytes.
    pub fn queued(&self) -> (usize, usize) {
        self.view().queued()
    }
    /// A look at it that does not keep it open.
    pub fn view(&self) -> View {
        let shared = self.handle.shared.clone();
        View { shared }
    }
    /// Bytes of payloads in memory.
    pub fn cached_bytes(&self) -> usize {
        self.state().replay.index.cached_bytes()
    }
    /// How much the log can still take.
    pub fn room(&self) -> Room {
        self.handle.shared.pool.room()
    }
    /// Why the log takes no more writes, if it does not.
    pub fn failure(&self) -> Option<Failure> {
        self.state().failed.clone()
    }

    /// Calls `ready` once fewer bytes wait than the bound, which may be now. Whoever appends much asks first.
    pub fn when_drained(&self, ready: Waiting) {
        let mut state = self.state();
        if state.failed.is_none() && state.queued_bytes > self.handle.shared.config.queue_bytes {
            state.waiting.push(ready);
            return;
        }
        drop(state);
        ready();
    }

    /// The entries of `from..to` that are there, from the first on, until their payloads pass `bytes_max` (at least one), as
    /// far as all of them are in memory; `None` where [`Self::read`] must go to the disk.
    pub fn read_cached(&self, from: u64, to: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        let planned = self.state().replay.index.plan(from, to, bytes_max);
        let cached = planned.into_iter().map(|p| match p {
            Planned::Cached(entry) => Some(entry),
            Planned::Stored { .. } => None,
        });
        cached.collect()
    }

    /// The same, from the disk where that is needed. Blocks.
    pub fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry>, ReadError> {
        let (planned, files) = {
            let state = self.state();
            let planned = state.replay.index.plan(from, to, bytes_max);
            let needed = |segment: &u64| state.files.get(segment).map(|k| (*segment, k.segment.clone()));
            let segments: Vec<u64> = planned.iter().filter_map(Planned::segment).collect();
            let files: BTreeMap<u64, Segment> = segments.iter().filter_map(needed).collect();
            (planned, files)
        };
        let mut entries = Vec::with_capacity(planned.len());
        for planned in planned {
            match planned {
                Planned::Cached(entry) => entries.push(entry),
                Planned::Stored {
                    id,
                    payload_len,
                    place,
                } => {
                    match self.read_stored(files.get(&place.segment), id, payload_len, place)? {
                        Some(entry) => entries.push(entry),
                        // Purged or voided since; what comes after it may stand elsewhere by now.
                        None if entries.is_empty() => {}
                        None => break,
                    }
                }
            }
        }
        Ok(entries)
    }

    /// `None` where the entry has gone meanwhile.
    fn read_stored(
        &self,
        segment: Option<&Segment>,
        id: LogId,
        payload_len: u32,
        place: Place,
    ) -> Result<Option<Entry>, ReadError> {
        let path = self.handle.shared.disk.path().join(segment_name(place.segment));
        let offset = u64::from(place.offset);
        let Some(segment) = segment else { return Ok(None) };
        let mut bytes = vec![0; ENTRY_HEAD_BYTES + payload_len as usize];
        let read = read_full(&*segment.file, &mut bytes, offset);
        let entry = match read {
            Ok(_) => decode_entry(&Bytes::from(bytes), segment.seed).filter(|e| e.id == id),
            Err(source) => return Err(ReadError::Io { path, offset, source }),
        };
        match entry {
            Some(entry) => Ok(Some(entry)),
            None if !self.state().replay.index.stands_at(id, place) => Ok(None),
            None => Err(ReadError::Corrupt(Corruption {
                path,
                offset,
                expected: format!("entry {} of term {}", id.index, id.term),
                found: "other bytes are there since the log was opened".to_owned(),
            })),
        }
    }
}

impl Planned {
    fn segment(&self) -> Option<u64> {
        match self {
            Self::Cached(_) => None,
            Self::Stored { place, .. } => Some(place.segment),
        }
    }
}
