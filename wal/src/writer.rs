//! The one place that writes batches: what waits is put into one, written, synced, and only then called durable.
//!
//! Absent on purpose: threads and waiting; `threads` drives it, and so do tests, one turn at a time.
//! Invariant: at most one batch is not synced at any time.

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    LogId, Observer,
    disk::{is_full, write_all},
    error::Failure,
    frame::{FRAMES_AT, HEADER_BYTES, Kind, aligned, seal},
    index::Place,
    record::{COMMITTED_BYTES, Head, Record},
    segment::{Kept, Segment, segment_name},
    shared::{Op, Shared},
};

/// Records of one batch, in bytes, unless a single one is larger.
const BATCH_BYTES: usize = 1 << 20;

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There may be more.
    Worked,
    /// Nothing waits.
    Idle,
    /// The segment is full, and the next one is not ready.
    NeedsSegment,
    /// The disk has no room for bytes that it promised room for: some file systems copy what is written over.
    NoRoom,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    observer: Arc<dyn Observer>,
    active: Option<Segment>,
    /// Where the next batch goes.
    tail: u64,
    /// Where the batches of the segment before ended, while this one has none.
    previous_end: u64,
    sequence: u64,
    /// What the synced batches come to, for the next segment's head.
    written: Head,
    /// What the mark behind the last batch says was committed, if there is one.
    marked: Option<Option<LogId>>,
    /// The last write found none. Everybody was told.
    no_room: bool,
    pending: VecDeque<Op>,
    /// What is committed once all of that is written.
    committed: Option<LogId>,
    buffer: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        observer: Arc<dyn Observer>,
        last: Option<Kept>,
        tail: u64,
        sequence: u64,
        written: Head,
    ) -> Self {
        let writer = Self {
            shared,
            observer,
            active: last.map(|kept| kept.segment),
            tail,
            previous_end: 0,
            sequence,
            written,
            marked: None,
            no_room: false,
            pending: VecDeque::new(),
            committed: None,
            buffer: Vec::new(),
        };
        writer.tell_remaining();
        writer
    }

    /// Writes and syncs one batch of what waits.
    pub(crate) fn turn(&mut self) -> Result<Turn, Failure> {
        if self.pending.is_empty() {
            (self.pending, self.committed) = self.shared.take_queue()?;
            self.shared.pool.check()?;
        }
        if self.pending.is_empty() {
            return Ok(Turn::Idle);
        }
        let Some(count) = self.fit() else {
            return self.next_segment();
        };
        if self.pending.iter().take(count).all(|op| op.record.is_none()) {
            self.complete(count, &[]);
            return Ok(Turn::Worked);
        }
        let (places, after) = self.compose(count);
        if !self.write("write a batch")? {
            return Ok(Turn::NoRoom);
        }
        self.sync(places.len())?;
        self.written = after;
        self.sequence += 1;
        self.tail += self.buffer.len() as u64;
        self.tell_remaining();
        self.complete(count, &places);
        Ok(Turn::Worked)
    }

    /// How many of the waiting records go into one batch of the segment; none where it is full.
    fn fit(&self) -> Option<usize> {
        let active = self.active.as_ref()?;
        let room = usize::try_from(active.bytes - self.tail).unwrap_or(usize::MAX);
        let mut bytes = HEADER_BYTES + COMMITTED_BYTES + self.head().map_or(0, |h| h.encoded_len());
        let mut count = 0;
        for op in &self.pending {
            bytes += op.record.as_ref().map_or(0, Record::encoded_len);
            if aligned(bytes) > room || (bytes > BATCH_BYTES && count > 0) {
                break;
            }
            count += 1;
        }
        (count > 0).then_some(count)
    }

    /// The first record of a segment, while none stands there.
    fn head(&self) -> Option<Record> {
        (self.tail == FRAMES_AT).then(|| {
            Record::Head(Head {
                previous_end: self.previous_end,
                ..self.written.clone()
            })
        })
    }

    fn next_segment(&mut self) -> Result<Turn, Failure> {
        let Some(next) = self.shared.pool.take()? else {
            return Ok(Turn::NeedsSegment);
        };
        self.previous_end = if self.active.is_some() { self.tail } else { 0 };
        self.active = Some(next);
        self.tail = FRAMES_AT;
        self.tell_remaining();
        Ok(Turn::Worked)
    }

    /// Puts the first records that wait into the buffer, as a batch. Says where each stands, and what the log is after it.
    fn compose(&mut self, count: usize) -> (Vec<Place>, Head) {
        let Some(active) = &self.active else {
            return (Vec::new(), self.written.clone());
        };
        let (seed, segment) = (active.seed, active.number);
        let head = self.head();
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        let mut records = 0;
        if let Some(head) = head {
            head.encode(&mut self.buffer, seed);
            records += 1;
        }
        let (mut places, mut after) = (Vec::with_capacity(count), self.written.clone());
        for op in self.pending.iter().take(count) {
            let offset = self.tail + self.buffer.len() as u64;
            let offset = u32::try_from(offset).unwrap_or(u32::MAX);
            places.push(Place { segment, offset });
            if let Some(record) = &op.record {
                record.encode(&mut self.buffer, seed);
                after.apply(record);
                records += 1;
            }
        }
        let all = count == self.pending.len();
        let committed = within(self.committed.filter(|_| all), after.last);
        if let Some(committed) = committed.filter(|c| after.committed != Some(*c)) {
            Record::Committed(committed).encode(&mut self.buffer, seed);
            after.committed = Some(committed);
            records += 1;
        }
        seal(
            &mut self.buffer,
            Kind::Batch,
            self.sequence + 1,
            records,
            seed,
            self.tail,
        );
        (places, after)
    }

    /// Writes the buffer where the next batch goes; nothing of it counts before the sync. False where the disk has no room for it, as
    /// whoever asks what the log takes hears from then on, until a write succeeds: a mark's write tells it as well as a batch's.
    fn write(&mut self, doing: &'static str) -> Result<bool, Failure> {
        self.marked = None;
        let Some(active) = &self.active else {
            return Ok(true);
        };
        let written = write_all(&*active.file, &self.buffer, self.tail);
        let no_room = written.as_ref().is_err_and(is_full);
        match written {
            Err(error) if !no_room => return Err(self.failure(doing, &error)),
            _ => {}
        }
        if no_room != self.no_room {
            self.no_room = no_room;
            self.shared.pool.set_no_writes(no_room);
        }
        Ok(!no_room)
    }

    /// A sync that failed is never tried again: the system may have dropped what it could not write.
    fn sync(&self, entries: usize) -> Result<(), Failure> {
        let Some(active) = &self.active else { return Ok(()) };
        let began = Instant::now();
        let synced = active.file.sync_data();
        synced.map_err(|error| self.failure("make a batch durable", &error))?;
        self.observer.synced(began.elapsed(), entries, self.buffer.len());
        Ok(())
    }

    /// Tells everybody whose write is durable now, in order.
    fn complete(&mut self, count: usize, places: &[Place]) {
        let done: Vec<Op> = self.pending.drain(..count).collect();
        let active = self.active.as_ref();
        let callbacks = self.shared.settle(done, places, active, &self.written);
        for callback in callbacks {
            callback(Ok(()));
        }
    }

    /// How long nothing should come before the last batch is marked, if it is not: a full disk is looked at once in a while.
    pub(crate) fn marks_after(&self) -> Option<Duration> {
        let config = &self.shared.config;
        let after = if self.no_room {
            config.look_again
        } else {
            config.mark_after
        };
        (!self.is_marked()).then_some(after)
    }

    /// Whether the last batch is marked as durable, with what is committed by now.
    pub(crate) fn is_marked(&self) -> bool {
        let current = within(self.shared.committed_at_rest(), self.written.last);
        self.active.is_none() || self.tail == FRAMES_AT || self.marked == Some(current)
    }

    /// Says behind the last batch that it was durable, so that later damage in it is not taken for a write cut short. The
    /// next batch is written over it. Where the disk has no room for it there is none yet.
    pub(crate) fn mark(&mut self) -> Result<(), Failure> {
        let committed = within(self.shared.committed_at_rest(), self.written.last);
        let Some(active) = self
            .active
            .as_ref()
            .filter(|_| !self.is_marked() && self.pending.is_empty())
        else {
            return Ok(());
        };
        let seed = active.seed;
        if self.tail + (HEADER_BYTES + COMMITTED_BYTES) as u64 > active.bytes {
            return Ok(());
        }
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        if let Some(committed) = committed {
            Record::Committed(committed).encode(&mut self.buffer, seed);
        }
        let records = u32::from(committed.is_some());
        seal(
            &mut self.buffer,
            Kind::Mark,
            self.sequence,
            records,
            seed,
            self.tail,
        );
        if self.write("write a mark")? {
            self.sync(0)?;
            self.marked = Some(committed);
        }
        Ok(())
    }

    /// Everybody who waits hears that the log has ended.
    pub(crate) fn abandon(&mut self, failure: &Failure) {
        let mut waiting = std::mem::take(&mut self.pending);
        waiting.extend(self.shared.fail(failure));
        for done in waiting.into_iter().filter_map(|op| op.done) {
            done(Err(failure.clone()));
        }
    }

    fn failure(&self, doing: &'static str, error: &io::Error) -> Failure {
        let name = self
            .active
            .as_ref()
            .map_or_else(String::new, |s| segment_name(s.number));
        Failure {
            path: self.shared.disk.path().join(name),
            offset: self.tail,
            doing,
            said: error.to_string(),
            kind: error.kind(),
        }
    }

    fn tell_remaining(&self) {
        let remaining = self.active.as_ref().map_or(0, |s| s.bytes - self.tail);
        self.shared.pool.set_remaining(remaining);
    }
}

/// What is committed, as far as the log goes: more would promise entries that are not there.
fn within(committed: Option<LogId>, last: Option<LogId>) -> Option<LogId> {
    committed.filter(|c| last.is_some_and(|last| c.index <= last.index))
}

impl Head {
    /// What the log holds after a record, as far as the next segment's head says it.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Entry(entry) => self.last = Some(entry.id),
            Record::Vote(vote) => self.vote = Some(vote.clone()),
            Record::Committed(id) => self.committed = Some(*id),
            Record::Purge(upto) => {
                let index = |id: Option<LogId>| id.map(|id| id.index);
                if index(self.purged) < Some(upto.index) {
                    self.purged = Some(*upto);
                    if index(self.last) <= Some(upto.index) {
                        self.last = Some(*upto);
                    }
                }
            }
            Record::Truncate(after) => {
                let index = |id: Option<LogId>| id.map(|id| id.index);
                let after = if index(*after) < index(self.purged) {
                    self.purged
                } else {
                    *after
                };
                if index(self.last) > index(after) {
                    self.last = after;
                }
            }
            Record::Head(_) => {}
        }
    }
}
