//! The handle on an open log.
//!
//! Calls change what the log is in memory at once (an appended entry can be read), and queue what must be written; the writer
//! takes the queue as a whole. Order of calls is order on the disk.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::{
    Config, Entry, LogId, Observer,
    disk::{Disk, read_full},
    error::{AppendError, Corruption, Failure, OpenError, ReadError},
    index::{Place, Planned},
    pool::{Level, Pool, Room},
    record::{ENTRY_HEAD_BYTES, Head, Record, decode_entry},
    recover::{Opened, recover},
    replay::Replay,
    segment::{Kept, Segment, segment_name},
    threads,
    writer::Writer,
};

/// Called once, on the writer's thread, when a write is durable or the log has failed. Must be short.
pub type Done = Box<dyn FnOnce(Result<(), Failure>) + Send>;
/// Called once when there is room in the queue.
pub type Waiting = Box<dyn FnOnce() + Send>;

/// One write that waits.
pub(crate) struct Op {
    /// None only waits for those before it.
    pub(crate) record: Option<Record>,
    /// An entry's ordinal.
    pub(crate) ordinal: u64,
    pub(crate) done: Option<Done>,
}

impl Op {
    fn bytes(&self) -> usize {
        self.record.as_ref().map_or(0, Record::encoded_len)
    }
}

/// What the handle, the writer and the preparer share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) pool: Pool,
    pub(crate) config: Config,
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    replay: Replay,
    /// Segments with batches.
    files: BTreeMap<u64, Kept>,
    queue: VecDeque<Op>,
    /// Of the queue, and of what the writer has taken and not finished.
    queued_bytes: usize,
    queued: usize,
    waiting: Vec<Waiting>,
    failed: Option<Failure>,
    closing: bool,
    /// The writer sleeps, and must be woken.
    asleep: bool,
    /// It sleeps until then, and not for a while.
    rests: bool,
}

/// Why the writer woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Work,
    Rested,
    Closing,
}

/// An open log. Clones share it; it closes when the last one goes.
#[derive(Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Looks at a log without keeping it open.
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
    /// The same in a word.
    pub fn level(&self) -> Level {
        self.shared.pool.level()
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
        let state = State {
            replay: found.replay,
            files: files.collect(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            queued: 0,
            waiting: Vec::new(),
            failed: None,
            closing: false,
            asleep: false,
            rests: false,
        };
        let shared = Arc::new(Shared {
            disk,
            pool,
            config,
            state: Mutex::new(state),
            work: Condvar::new(),
        });
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

impl State {
    fn check(&self, entries: &[Entry], payload_max: usize) -> Result<(), AppendError> {
        let mut expected = self.replay.index.expected();
        for entry in entries {
            if let Some(expected) = expected.filter(|i| *i != entry.id.index) {
                let found = entry.id.index;
                return Err(AppendError::Hole { expected, found });
            }
            if entry.payload.len() > payload_max {
                let (bytes, max) = (entry.payload.len(), payload_max);
                return Err(AppendError::TooLarge { bytes, max });
            }
            expected = Some(entry.id.index.saturating_add(1));
        }
        Ok(())
    }

    fn enqueue(&mut self, record: Option<Record>, ordinal: u64, done: Option<Done>) {
        let op = Op {
            record,
            ordinal,
            done,
        };
        self.queued_bytes += op.bytes();
        self.queued += 1;
        self.queue.push_back(op);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut state: MutexGuard<'_, State>, record: Option<Record>, done: Done) {
        if let Some(failed) = state.failed.clone() {
            drop(state);
            return done(Err(failed));
        }
        state.enqueue(record, 0, Some(done));
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.work.notify_one();
        }
    }

    /// Everything that waits, and what is committed once that is written; the writer takes it.
    ///
    /// The two belong together: what is committed may name an entry that still waits, while another of its index, void by
    /// now, stands on the disk.
    pub(crate) fn take_queue(&self) -> Result<(VecDeque<Op>, Option<LogId>), Failure> {
        let mut state = self.state();
        match &state.failed {
            Some(failed) => Err(failed.clone()),
            None => Ok((std::mem::take(&mut state.queue), state.replay.committed)),
        }
    }

    /// What is committed, if nothing waits for the writer, who has written all that it took.
    pub(crate) fn committed_at_rest(&self) -> Option<LogId> {
        let state = self.state();
        state.replay.committed.filter(|_| state.queue.is_empty())
    }

    /// Takes note that writes are durable; says whom to tell.
    pub(crate) fn settle(
        &self,
        done: Vec<Op>,
        places: &[Place],
        active: Option<&Segment>,
        written: &Head,
    ) -> Vec<Done> {
        let mut state = self.state();
        let (mut callbacks, mut purges) = (Vec::new(), false);
        if let (Some(active), false) = (active, places.is_empty()) {
            let kept = || Kept {
                segment: active.clone(),
                highest: None,
            };
            state.files.entry(active.number).or_insert_with(kept);
        }
        for (n, op) in done.into_iter().enumerate() {
            state.queued_bytes -= op.bytes();
            state.queued -= 1;
            if let (Some(Record::Entry(entry)), Some(place)) = (&op.record, places.get(n)) {
                state.replay.index.settle(entry.id.index, op.ordinal, *place);
                if let Some(kept) = state.files.get_mut(&place.segment) {
                    kept.note(entry.id.index);
                }
            }
            purges |= matches!(op.record, Some(Record::Purge(_)));
            callbacks.extend(op.done);
        }
        state.replay.index.evict();
        let gone = if purges {
            state.let_go(active, written)
        } else {
            Vec::new()
        };
        let ready = state.drained(self.config.queue_bytes);
        drop(state);
        self.pool.retire(gone);
        ready.into_iter().for_each(|ready| ready());
        callbacks
    }

    /// Ends all writing; says who waits for it.
    pub(crate) fn fail(&self, failure: &Failure) -> VecDeque<Op> {
        let mut state = self.state();
        state.failed.get_or_insert_with(|| failure.clone());
        (state.queued, state.queued_bytes) = (0, 0);
        let queue = std::mem::take(&mut state.queue);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.pool.fail(failure.clone());
        waiting.into_iter().for_each(|ready| ready());
        queue
    }

    /// Waits for something to write; where `rests` says so, no longer than that.
    pub(crate) fn wait_for_work(&self, rests: Option<std::time::Duration>) -> Wake {
        let mut state = self.state();
        if state.queue.is_empty() && !state.closing {
            (state.asleep, state.rests) = (true, rests.is_none());
            state = match rests {
                Some(rests) => {
                    let waited = self.work.wait_timeout(state, rests);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            (state.asleep, state.rests) = (false, false);
        }
        match () {
            () if !state.queue.is_empty() => Wake::Work,
            () if state.closing => Wake::Closing,
            () => Wake::Rested,
        }
    }

    fn close(&self) {
        self.state().closing = true;
        self.work.notify_all();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state().closing
    }

    /// Lets go of every file.
    pub(crate) fn forget_files(&self) {
        self.state().files.clear();
        self.pool.forget_files();
    }
}

impl State {
    /// Segments, oldest first, that hold nothing but what is purged.
    fn let_go(&mut self, active: Option<&Segment>, written: &Head) -> Vec<u64> {
        let purged = written.purged.map(|p| p.index);
        let mut gone = Vec::new();
        while let Some(oldest) = self.files.first_entry() {
            let written_on = active.is_some_and(|a| a.number == *oldest.key());
            if written_on || oldest.get().highest > purged {
                break;
            }
            gone.push(oldest.remove().segment.number);
        }
        gone
    }

    fn drained(&mut self, bound: usize) -> Vec<Waiting> {
        if self.queued_bytes > bound {
            return Vec::new();
        }
        std::mem::take(&mut self.waiting)
    }
}
