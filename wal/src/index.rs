//! Where each entry stands, and the newest payloads in memory.
//!
//! Invariants: entries are contiguous; what is cached is the end of the log; an entry whose bytes are not on the disk yet is
//! always cached.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{Entry, LogId};

/// What an entry costs in the cache besides its payload.
const CACHED_ENTRY_BYTES: usize = 64;
/// Set in the place of an entry that is still to be written; the rest is its ordinal.
const PENDING: u64 = 1 << 63;

/// A place on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    /// Where the entry's record begins.
    pub(crate) offset: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    term: u64,
    at: u64,
    payload_len: u32,
    kind: u8,
}

/// One entry to be read.
#[derive(Clone, Debug)]
pub(crate) enum Planned {
    Cached(Entry),
    Stored {
        id: LogId,
        payload_len: u32,
        place: Place,
    },
}

/// The entries of a log.
#[derive(Debug)]
pub(crate) struct Index {
    /// The index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Payloads of the last slots.
    cache: VecDeque<Bytes>,
    cached_bytes: usize,
    cache_bytes_max: usize,
    last: Option<LogId>,
    purged: Option<LogId>,
    ordinal: u64,
}

impl Index {
    pub(crate) fn new(cache_bytes_max: usize) -> Self {
        Self {
            first: 0,
            slots: VecDeque::new(),
            cache: VecDeque::new(),
            cached_bytes: 0,
            cache_bytes_max,
            last: None,
            purged: None,
            ordinal: 0,
        }
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        self.last
    }
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.purged
    }
    /// The first entry that is there.
    pub(crate) fn first(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    /// The index that the next entry must have; none where the log holds nothing and never did.
    pub(crate) fn expected(&self) -> Option<u64> {
        self.last.map(|last| last.index.saturating_add(1))
    }

    /// Begins at what a segment says that the log held before it.
    pub(crate) fn begin(&mut self, last: Option<LogId>, purged: Option<LogId>) {
        (self.last, self.purged) = (last, purged);
    }

    /// Appends an entry that is to be written, and says by which ordinal [`Self::settle`] knows it.
    pub(crate) fn push_pending(&mut self, entry: &Entry) -> u64 {
        self.ordinal += 1;
        self.push(entry, PENDING | self.ordinal);
        self.ordinal
    }

    /// Appends an entry that stands on the disk.
    pub(crate) fn push_stored(&mut self, entry: &Entry, place: Place) {
        self.push(entry, pack(place));
    }

    fn push(&mut self, entry: &Entry, at: u64) {
        if self.slots.is_empty() {
            self.first = entry.id.index;
        }
        self.slots.push_back(Slot {
            term: entry.id.term,
            at,
            payload_len: u32::try_from(entry.payload.len()).unwrap_or(u32::MAX),
            kind: entry.kind,
        });
        self.cached_bytes += entry.payload.len() + CACHED_ENTRY_BYTES;
        self.cache.push_back(entry.payload.clone());
        self.last = Some(entry.id);
        self.evict();
    }

    /// The entry of this ordinal is on the disk; nothing if it is void by now.
    pub(crate) fn settle(&mut self, index: u64, ordinal: u64, place: Place) {
        let slot = index
            .checked_sub(self.first)
            .and_then(|n| usize::try_from(n).ok());
        let slot = slot.and_then(|n| self.slots.get_mut(n));
        if let Some(slot) = slot.filter(|slot| slot.at == PENDING | ordinal) {
            slot.at = pack(place);
        }
    }

    /// Lets go of payloads above the bound, oldest first, as far as they are on the disk.
    pub(crate) fn evict(&mut self) {
        while self.cached_bytes > self.cache_bytes_max {
            let oldest = self.slots.get(self.slots.len() - self.cache.len());
            if oldest.is_none_or(|slot| slot.at & PENDING != 0) {
                return;
            }
            self.drop_oldest_cached();
        }
    }

    fn drop_oldest_cached(&mut self) {
        if let Some(payload) = self.cache.pop_front() {
            self.cached_bytes -= payload.len() + CACHED_ENTRY_BYTES;
        }
    }

    /// Voids the entries after `after`, never any that are purged.
    pub(crate) fn truncate(&mut self, after: Option<LogId>) {
        let after = match (after, self.purged) {
            (Some(after), Some(purged)) if after.index < purged.index => Some(purged),
            (None, purged) => purged,
            (after, _) => after,
        };
        if self.last.map(|l| l.index) <= after.map(|a| a.index) {
            return;
        }
        let keep = after.map_or(0, |a| (a.index + 1).saturating_sub(self.first));
        while self.slots.len() as u64 > keep {
            self.slots.pop_back();
            if let Some(payload) = self.cache.pop_back() {
                self.cached_bytes -= payload.len() + CACHED_ENTRY_BYTES;
            }
        }
        self.last = after;
    }

    /// Forgets entries up to `upto`, also ones that are not there.
    pub(crate) fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|p| p.index >= upto.index) {
            return;
        }
        self.purged = Some(upto);
        while self.first <= upto.index && !self.slots.is_empty() {
            if self.cache.len() == self.slots.len() {
                self.drop_oldest_cached();
            }
            self.slots.pop_front();
            self.first += 1;
        }
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
    }

    /// The entries of `from..to` that are there, from the first on, until their payloads pass `bytes_max`; at least one.
    pub(crate) fn plan(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Planned> {
        let from = from.max(self.first);
        let to = to.min(self.first + self.slots.len() as u64);
        let cached_from = self.slots.len() - self.cache.len();
        let (mut planned, mut bytes) = (Vec::new(), 0);
        for index in from..to {
            let Ok(n) = usize::try_from(index - self.first) else {
                break;
            };
            let Some(slot) = self.slots.get(n) else { break };
            bytes += slot.payload_len as usize;
            if bytes > bytes_max && !planned.is_empty() {
                break;
            }
            let id = LogId {
                term: slot.term,
                index,
            };
            let cached = n.checked_sub(cached_from).and_then(|n| self.cache.get(n));
            planned.push(match cached {
                Some(payload) => Planned::Cached(Entry {
                    id,
                    kind: slot.kind,
                    payload: payload.clone(),
                }),
                None => Planned::Stored {
                    id,
                    payload_len: slot.payload_len,
                    place: unpack(slot.at),
                },
            });
        }
        planned
    }

    /// Whether the entry stands where it was planned to be read.
    pub(crate) fn stands_at(&self, id: LogId, place: Place) -> bool {
        self.slot(id).is_some_and(|slot| slot.at == pack(place))
    }

    /// Whether the entry is there, or was forgotten: what is, is what every later leader has.
    pub(crate) fn has(&self, id: LogId) -> bool {
        self.purged.is_some_and(|purged| id.index <= purged.index) || self.slot(id).is_some()
    }

    fn slot(&self, id: LogId) -> Option<&Slot> {
        let n = usize::try_from(id.index.checked_sub(self.first)?).ok()?;
        self.slots.get(n).filter(|slot| slot.term == id.term)
    }

    /// Bytes of memory that the payloads take.
    pub(crate) fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }
}

fn pack(place: Place) -> u64 {
    place.segment << 32 | u64::from(place.offset)
}

fn unpack(at: u64) -> Place {
    Place {
        segment: at >> 32,
        offset: u32::try_from(at & u64::from(u32::MAX)).unwrap_or(u32::MAX),
    }
}
