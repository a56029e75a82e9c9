//! What fits the reserve of a disk that is full: bytes that were filled and synced ahead, so that writing them needs no room.
//!
//! Absent on purpose: looking at the disk, which [`crate::pool`] does.
//! Invariant: what is reckoned to fit does, however the writer puts it into batches; the writer never needs more than is
//! reckoned here.

use crate::{
    frame::{FRAMES_AT, HEADER_BYTES, aligned},
    record::COMMITTED_BYTES,
};

/// What can be written without more room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserve {
    /// Bytes left in the segment that is written.
    pub(crate) remaining: u64,
    /// Segments that are ready.
    pub(crate) ready: usize,
    /// Size of each.
    pub(crate) segment_bytes: u64,
    /// So much of it is for votes, and for what keeps the cluster together.
    pub(crate) kept: u64,
}

impl Reserve {
    /// Whether records of these lengths fit, in this order, without what is kept. `head`: length of a segment's first record.
    ///
    /// The queue is in order: what does not fit would hold up every vote behind it.
    pub(crate) fn takes(mut self, records: impl IntoIterator<Item = usize>, head: usize) -> bool {
        records.into_iter().all(|bytes| self.take(bytes, head))
            && (self.ready > 0 || self.remaining >= self.kept)
    }

    /// One record, as a batch of its own. No batch goes over the end of a segment, so what is left there is lost.
    fn take(&mut self, bytes: usize, head: usize) -> bool {
        let needed = aligned(HEADER_BYTES + COMMITTED_BYTES + bytes) as u64;
        while needed > self.remaining {
            let Some(ready) = self.ready.checked_sub(1) else {
                return false;
            };
            self.ready = ready;
            self.remaining = self.segment_bytes.saturating_sub(FRAMES_AT + head as u64);
        }
        self.remaining -= needed;
        true
    }
}
