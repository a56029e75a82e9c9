//! Segments before and after their use: prepared ahead of the writer, and taken back once purged. Off the path of any append.
//!
//! A segment is filled with zeros and synced before it gets its name: what the writer writes to it needs no room and no change
//! of the file system's own records. That is the reserve: when the disk is full, the segment that is written and those that are ready
//! still take votes, blank entries and what a leader sends, while new proposals are refused by whoever asks for [`Room`].

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Config,
    disk::{Disk, DiskFile, is_full, write_all},
    error::Failure,
    frame::Prefix,
    reserve::Reserve,
    segment::{Segment, free_name, new_name, segment_name},
};

/// Purged files kept to be used again; more are removed.
const FREE_MAX: usize = 2;
/// Segments prepared ahead at most; more than one only once the writer had to wait for the next.
const AHEAD_MAX: usize = 4;
/// So much of the reserve is for votes, and for what keeps the cluster together.
const KEPT_BYTES: u64 = 512 << 10;
/// Zeros written at once.
const FILL_BYTES: usize = 256 << 10;

/// What the log knows of its disk, as of the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// There is no room for the next segments, or for bytes at all: whatever can be refused must be. The reserve takes the rest.
    pub is_full: bool,
    /// The log's directory.
    pub path: PathBuf,
    /// Bytes free on its disk for this user.
    pub free_bytes: u64,
    /// Bytes that must be free.
    pub needed_bytes: u64,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// There may be more.
    Worked,
    /// Nothing to do.
    Idle,
    /// The disk is full.
    NoRoom,
}

/// Segments that nobody writes.
pub(crate) struct Pool {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    log_id: [u8; 16],
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    ready: VecDeque<Segment>,
    free: Vec<u64>,
    retired: VecDeque<u64>,
    next: u64,
    ahead: usize,
    /// The last segment that was to be prepared found no room.
    no_room: bool,
    /// The last one that was to be taken back found none for its other name.
    no_names: bool,
    /// Bytes of a file that was filled already found none.
    no_writes: bool,
    free_bytes: u64,
    /// What is left of the segment that is written.
    remaining: u64,
    failed: Option<Failure>,
    closing: bool,
}

impl Inner {
    fn has_no_room(&self) -> bool {
        self.no_room || self.no_names
    }
}

impl Pool {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        config: &Config,
        log_id: [u8; 16],
        ready: Vec<Segment>,
        free: Vec<u64>,
        next: u64,
    ) -> Self {
        let free_bytes = disk.free_bytes().unwrap_or(u64::MAX);
        Self {
            disk,
            segment_bytes: config.segment_bytes,
            log_id,
            inner: Mutex::new(Inner {
                ready: ready.into(),
                free,
                retired: VecDeque::new(),
                next,
                ahead: 1,
                no_room: false,
                no_names: false,
                no_writes: false,
                free_bytes,
                remaining: 0,
                failed: None,
                closing: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next segment, if it is ready. The writer takes it.
    pub(crate) fn take(&self) -> Result<Option<Segment>, Failure> {
        let mut inner = self.inner();
        if let Some(failed) = &inner.failed {
            return Err(failed.clone());
        }
        let taken = inner.ready.pop_front();
        if taken.is_none() && !inner.has_no_room() {
            inner.ahead = (inner.ahead + 1).min(AHEAD_MAX);
        }
        self.changed.notify_all();
        Ok(taken)
    }

    /// These segments hold nothing that is needed, and that is durable.
    pub(crate) fn retire(&self, numbers: Vec<u64>) {
        if !numbers.is_empty() {
            self.inner().retired.extend(numbers);
            self.changed.notify_all();
        }
    }

    /// What the segment that is written has left.
    pub(crate) fn set_remaining(&self, bytes: u64) {
        self.inner().remaining = bytes;
    }

    fn needed_bytes(&self) -> u64 {
        self.segment_bytes * 2
    }

    fn kept_bytes(&self) -> u64 {
        KEPT_BYTES.min(self.segment_bytes / 4)
    }

    /// What can be written, as far as the last look at the disk said.
    pub(crate) fn reserve(&self) -> Reserve {
        let inner = self.inner();
        // Two are left: the look is up to a second old, and others write to the disk, too.
        let free = (inner.free_bytes / self.segment_bytes).saturating_sub(2);
        let free = if inner.has_no_room() { 0 } else { free };
        let (remaining, segments) = match inner.no_writes {
            true => (0, 0),
            false => (inner.remaining, free.saturating_add(inner.ready.len() as u64)),
        };
        Reserve {
            remaining,
            segments,
            segment_bytes: self.segment_bytes,
            kept: self.kept_bytes(),
        }
    }

    /// Whether whatever can be refused must be.
    pub(crate) fn is_full(&self) -> bool {
        let inner = self.inner();
        inner.no_writes || inner.has_no_room() || inner.free_bytes < self.needed_bytes()
    }

    pub(crate) fn room(&self) -> Room {
        Room {
            is_full: self.is_full(),
            path: self.disk.path().to_owned(),
            free_bytes: self.inner().free_bytes,
            needed_bytes: self.needed_bytes(),
        }
    }

    /// Whether the preparer has nothing to do.
    #[cfg(test)]
    pub(crate) fn is_ready(&self) -> bool {
        let inner = self.inner();
        inner.ready.len() >= inner.ahead && inner.retired.is_empty()
    }

    /// Closes what is ready; nobody takes it any more.
    pub(crate) fn forget_files(&self) {
        self.inner().ready.clear();
    }

    pub(crate) fn close(&self) {
        self.inner().closing = true;
        self.changed.notify_all();
    }

    /// Whoever waits looks again.
    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }

    /// Ends preparing for good.
    pub(crate) fn fail(&self, failure: Failure) {
        self.inner().failed.get_or_insert(failure);
        self.changed.notify_all();
    }

    /// Whether the last attempt to prepare a segment, or to take one back, found no room.
    pub(crate) fn has_no_room(&self) -> bool {
        self.inner().has_no_room()
    }

    /// An error once preparing has failed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.inner().failed.clone().map_or(Ok(()), Err)
    }

    /// The writer waits for a segment, at most so long.
    pub(crate) fn wait_for_segment(&self, at_most: Duration) {
        let inner = self.inner();
        if inner.ready.is_empty() && inner.failed.is_none() {
            drop(self.changed.wait_timeout(inner, at_most));
        }
    }

    /// The writer waits for room in a file that was filled already, whatever is ready.
    pub(crate) fn rest(&self, at_most: Duration) {
        drop(self.changed.wait_timeout(self.inner(), at_most));
    }

    /// Whether what was prepared is no room either, as on a file system that copies what is written over.
    pub(crate) fn set_no_writes(&self, no_writes: bool) {
        self.inner().no_writes = no_writes;
    }

    /// The preparer waits for work; false once the log has closed. A full disk is looked at again after `at_most`.
    pub(crate) fn wait_for_work(&self, at_most: Duration) -> bool {
        let mut inner = self.inner();
        let has_work = !inner.retired.is_empty() && !inner.no_names
            || inner.ready.len() < inner.ahead && !inner.has_no_room();
        if !has_work && !inner.closing {
            let waited = self.changed.wait_timeout(inner, at_most);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        !inner.closing
    }

    /// One piece of work: takes a purged segment back, or prepares one, or looks how full the disk is. A failure is for good.
    pub(crate) fn turn(&self) -> Result<Prepared, Failure> {
        self.check()?;
        self.work().inspect_err(|failure| self.fail(failure.clone()))
    }

    fn work(&self) -> Result<Prepared, Failure> {
        let retired = self.inner().retired.pop_front();
        if let Some(number) = retired {
            return self.take_back(number);
        }
        let wanted = {
            let mut inner = self.inner();
            (inner.ready.len() < inner.ahead).then(|| (inner.next, inner.free.pop()))
        };
        let Some((number, free)) = wanted else {
            self.look();
            return Ok(Prepared::Idle);
        };
        self.prepare(number, free)
    }

    fn look(&self) {
        if let Ok(bytes) = self.disk.free_bytes() {
            self.inner().free_bytes = bytes;
        }
    }

    fn failure(&self, name: &str, doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
        let path = self.disk.path().join(name);
        move |error| Failure {
            path,
            offset: 0,
            doing,
            said: error.to_string(),
            kind: error.kind(),
        }
    }

    /// Gives room back, if that needs none; what stays is removed or used again later.
    fn remove(&self, name: &str) -> Result<(), Failure> {
        match self.disk.remove(name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound && !is_full(&e) => {
                Err(self.failure(name, "remove it")(e))
            }
            _ => Ok(()),
        }
    }

    /// The name goes for good before the next segment's: a log has no holes in the middle.
    fn take_back(&self, number: u64) -> Result<Prepared, Failure> {
        let name = segment_name(number);
        let keep = self.inner().free.len() < FREE_MAX;
        let gone = if keep {
            self.disk.rename(&name, &free_name(number))
        } else {
            self.disk.remove(&name)
        };
        match gone {
            // Some file systems need room to give some back.
            Err(error) if is_full(&error) => {
                self.look();
                let mut inner = self.inner();
                inner.retired.push_front(number);
                inner.no_names = true;
                return Ok(Prepared::NoRoom);
            }
            gone => gone.map_err(self.failure(&name, "take it back"))?,
        }
        self.disk.sync_dir().map_err(self.failure("", "sync it"))?;
        self.look();
        let mut inner = self.inner();
        if keep {
            inner.free.push(number);
        }
        inner.no_names = false;
        Ok(Prepared::Worked)
    }

    fn prepare(&self, number: u64, free: Option<u64>) -> Result<Prepared, Failure> {
        let made = match free {
            Some(old) => self.reuse(number, old),
            None => self.make(number).map(Some),
        };
        let name = segment_name(number);
        match made {
            Ok(Some(segment)) => {
                let mut inner = self.inner();
                inner.ready.push_back(segment);
                inner.next += 1;
                inner.no_room = false;
                drop(inner);
                self.look();
                self.changed.notify_all();
                Ok(Prepared::Worked)
            }
            // The free file was none of this size.
            Ok(None) => Ok(Prepared::Worked),
            Err(error) if is_full(&error) => {
                // What became of a file whose sync found no room is not known.
                self.remove(&free.map_or_else(|| new_name(number), free_name))?;
                self.look();
                self.inner().no_room = true;
                Ok(Prepared::NoRoom)
            }
            Err(error) => Err(self.failure(&name, "prepare it")(error)),
        }
    }

    fn prefix(&self, number: u64) -> Prefix {
        Prefix {
            segment: number,
            log_id: self.log_id,
            bytes: self.segment_bytes,
        }
    }

    /// Gives a free file another number; what stands in it reads as nothing under that.
    fn reuse(&self, number: u64, old: u64) -> io::Result<Option<Segment>> {
        let name = free_name(old);
        let file = self.disk.open(&name)?;
        if file.len()? != self.segment_bytes {
            self.disk.remove(&name)?;
            return Ok(None);
        }
        write_all(&*file, &self.prefix(number).encode(), 0)?;
        file.sync_data()?;
        self.named(number, &name, file).map(Some)
    }

    fn make(&self, number: u64) -> io::Result<Segment> {
        let name = new_name(number);
        let file = self.disk.create(&name)?;
        file.preallocate(self.segment_bytes)?;
        let zeros = vec![0; FILL_BYTES];
        let mut at = 0;
        while at < self.segment_bytes {
            let rest = usize::try_from(self.segment_bytes - at).unwrap_or(FILL_BYTES);
            let piece = rest.min(FILL_BYTES);
            write_all(&*file, &zeros[..piece], at)?;
            at += piece as u64;
        }
        write_all(&*file, &self.prefix(number).encode(), 0)?;
        file.sync_data()?;
        self.named(number, &name, file)
    }

    fn named(&self, number: u64, name: &str, file: Arc<dyn DiskFile>) -> io::Result<Segment> {
        self.disk.rename(name, &segment_name(number))?;
        // A directory that cannot be synced is a failed disk, whatever the disk says of its room.
        self.disk.sync_dir().map_err(io::Error::other)?;
        Ok(Segment {
            number,
            file,
            seed: self.prefix(number).seed(),
            bytes: self.segment_bytes,
        })
    }
}
