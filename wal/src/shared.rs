//! What the handle, the writer and the preparer share: what the log is in memory, and the queue of what must be written.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Config, Entry, LogId,
    disk::Disk,
    error::{AppendError, Failure},
    index::Place,
    pool::Pool,
    record::{ENTRY_HEAD_BYTES, Head, Record},
    replay::Replay,
    reserve::Passing,
    segment::{Kept, Segment},
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

pub(crate) struct State {
    pub(crate) replay: Replay,
    /// Segments with batches.
    pub(crate) files: BTreeMap<u64, Kept>,
    queue: VecDeque<Op>,
    /// Length of each record of the queue, and of what the writer has taken and not finished, in order.
    unwritten: VecDeque<usize>,
    /// Of the queue, and of what the writer has taken and not finished.
    pub(crate) queued_bytes: usize,
    pub(crate) queued: usize,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) failed: Option<Failure>,
    /// Nothing more is written than what waits and has room.
    closing: bool,
    /// The last handle has gone: nobody reads any more.
    released: bool,
    /// The writer sleeps, and must be woken.
    asleep: bool,
    /// It sleeps until then, and not for a while.
    pub(crate) rests: bool,
}

/// Why the writer woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Work,
    Rested,
    Closing,
}

impl State {
    /// As recovery found the log; nothing waits.
    pub(crate) fn new(replay: Replay, files: BTreeMap<u64, Kept>) -> Self {
        Self {
            replay,
            files,
            queue: VecDeque::new(),
            unwritten: VecDeque::new(),
            queued_bytes: 0,
            queued: 0,
            waiting: Vec::new(),
            failed: None,
            closing: false,
            released: false,
            asleep: false,
            rests: false,
        }
    }

    pub(crate) fn check(&self, entries: &[Entry], payload_max: usize) -> Result<(), AppendError> {
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

    pub(crate) fn enqueue(&mut self, record: Option<Record>, ordinal: u64, done: Option<Done>) {
        let op = Op {
            record,
            ordinal,
            done,
        };
        self.queued_bytes += op.bytes();
        self.queued += 1;
        self.unwritten.push_back(op.bytes());
        self.queue.push_back(op);
    }
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, pool: Pool, config: Config, state: State) -> Self {
        Self {
            disk,
            pool,
            config,
            state: Mutex::new(state),
            work: Condvar::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether entries with payloads of these lengths fit the disk behind everything that passes and waits.
    pub(crate) fn takes(&self, passing: Passing, payloads: &[usize]) -> bool {
        // Looked at under the lock: what the writer finishes in between would count as room, and wait no more.
        let state = self.state();
        let reserve = self.pool.reserve();
        let all = Passing {
            entries: passing.entries + state.queued + payloads.len(),
            bytes: passing.bytes + state.queued_bytes + payloads.iter().sum::<usize>(),
        };
        // Nearly always: nothing has to be reckoned one by one.
        if reserve.bytes() > all.at_most() {
            return true;
        }
        let head = Record::Head(state.replay.head(0)).encoded_len();
        let waiting = state.unwritten.iter().copied().filter(|bytes| *bytes > 0);
        let entries = payloads.iter().map(|payload| ENTRY_HEAD_BYTES + payload);
        reserve.takes(passing, waiting.chain(entries), head)
    }

    pub(crate) fn push(&self, mut state: MutexGuard<'_, State>, record: Option<Record>, done: Done) {
        if let Some(failed) = state.failed.clone() {
            drop(state);
            return done(Err(failed));
        }
        state.enqueue(record, 0, Some(done));
        self.wake(state);
    }

    pub(crate) fn wake(&self, mut state: MutexGuard<'_, State>) {
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
            state.unwritten.pop_front();
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
        state.unwritten.clear();
        let queue = std::mem::take(&mut state.queue);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.pool.fail(failure.clone());
        waiting.into_iter().for_each(|ready| ready());
        queue
    }

    /// Waits for something to write; where `rests` says so, no longer than that.
    pub(crate) fn wait_for_work(&self, rests: Option<Duration>) -> Wake {
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

    /// Ends writing: what waits is written as far as there is room for it.
    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.work.notify_all();
        self.pool.wake();
    }

    /// The last handle has gone.
    pub(crate) fn release(&self) {
        self.state().released = true;
        self.close();
    }

    /// Until then entries are read from the files.
    pub(crate) fn wait_until_released(&self) {
        let state = self.state();
        let released = self.work.wait_while(state, |state| !state.released);
        drop(released.unwrap_or_else(PoisonError::into_inner));
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
