//! What fits a disk: bytes that were filled and synced ahead, so that writing them needs no room, and segments that there is room for.
//!
//! Absent on purpose: looking at the disk, which [`crate::pool`] does.
//! Invariant: what is reckoned to fit does, however the writer puts it into batches; the writer never needs more than is
//! reckoned here.

use crate::{
    frame::{ALIGN, FRAMES_AT, HEADER_BYTES, aligned},
    record::{COMMITTED_BYTES, ENTRY_HEAD_BYTES},
};

/// What each record takes at most beside its payload.
const OVERHEAD: u64 = (HEADER_BYTES + COMMITTED_BYTES + ENTRY_HEAD_BYTES + ALIGN) as u64;

/// Entries that were let through and may not wait in the log yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passing {
    /// How many.
    pub entries: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
}

impl Passing {
    /// Room that they take at most, wherever segments end: no payload is longer than half a segment, so more than a third of each is
    /// used, of which the beginning is not.
    pub(crate) fn at_most(self) -> u64 {
        (self.entries as u64 * OVERHEAD + self.bytes as u64).saturating_mul(3)
    }
}

/// What can be written, as far as is known of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserve {
    /// Bytes left in the segment that is written.
    pub(crate) remaining: u64,
    /// Segments that are ready, and those that there is room for on the disk beside two more.
    pub(crate) segments: u64,
    /// Size of each.
    pub(crate) segment_bytes: u64,
    /// So much of it is for votes, and for what keeps the cluster together.
    pub(crate) kept: u64,
}

impl Reserve {
    /// All of it, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.saturating_mul(self.segment_bytes)
    }

    /// The same with the segment that is written, and without what is kept.
    pub(crate) fn left(&self) -> u64 {
        self.bytes()
            .saturating_add(self.remaining)
            .saturating_sub(self.kept)
    }

    /// Whether records of these lengths fit, in this order and behind what passes, without what is kept. `head`: length of a
    /// segment's first record.
    ///
    /// The queue is in order: what does not fit would hold up every vote behind it.
    pub(crate) fn takes(
        mut self,
        passing: Passing,
        records: impl IntoIterator<Item = usize>,
        head: usize,
    ) -> bool {
        self.pass(passing.at_most(), head)
            && records.into_iter().all(|bytes| self.take(bytes, head))
            && (self.segments > 0 || self.remaining >= self.kept)
    }

    /// Takes bytes out, wherever segments end.
    fn pass(&mut self, mut bytes: u64, head: usize) -> bool {
        while bytes > self.remaining {
            bytes -= self.remaining;
            if !self.next_segment(head) {
                return false;
            }
        }
        self.remaining -= bytes;
        true
    }

    /// One record, as a batch of its own. No batch goes over the end of a segment, so what is left there is lost.
    fn take(&mut self, bytes: usize, head: usize) -> bool {
        let needed = aligned(HEADER_BYTES + COMMITTED_BYTES + bytes) as u64;
        while needed > self.remaining {
            if !self.next_segment(head) {
                return false;
            }
        }
        self.remaining -= needed;
        true
    }

    fn next_segment(&mut self, head: usize) -> bool {
        let Some(segments) = self.segments.checked_sub(1) else {
            return false;
        };
        self.segments = segments;
        self.remaining = self.segment_bytes.saturating_sub(FRAMES_AT + head as u64);
        true
    }
}
