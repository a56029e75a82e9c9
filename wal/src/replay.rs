//! What a log's records come to, one after the other.
//!
//! Invariant: the same records in the same order come to the same log, while it is written and when it is opened.

use bytes::Bytes;

use crate::{
    LogId,
    index::{Index, Place},
    record::{Head, Record},
};

/// A log as its records tell it.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) index: Index,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<LogId>,
    /// Whether entries may be missing before the first: they stood in segments that are gone.
    begins_later: bool,
}

impl Replay {
    pub(crate) fn new(cache_bytes: usize) -> Self {
        Self {
            index: Index::new(cache_bytes),
            vote: None,
            committed: None,
            begins_later: false,
        }
    }

    /// Takes over what the oldest segment says that the log held before it.
    pub(crate) fn begin(&mut self, head: &Head) {
        self.index.begin(head.last, head.purged);
        (self.vote, self.committed) = (head.vote.as_deref().map(Bytes::copy_from_slice), head.committed);
        self.begins_later = head.last.is_some();
    }

    /// Applies one record; the error says what was expected, and what came.
    pub(crate) fn apply(&mut self, record: &Record, place: Place) -> Result<(), (String, String)> {
        match record {
            Record::Entry(entry) => {
                if let Some(expected) = self.index.expected().filter(|i| *i != entry.id.index) {
                    return Err((
                        format!("entry {expected}"),
                        format!("entry {} is there", entry.id.index),
                    ));
                }
                // A slice would keep the bytes of its whole segment.
                let payload = Bytes::copy_from_slice(&entry.payload);
                let entry = crate::Entry {
                    payload,
                    ..entry.clone()
                };
                self.index.push_stored(&entry, place);
            }
            Record::Vote(vote) => self.vote = Some(Bytes::copy_from_slice(vote)),
            Record::Committed(id) => self.committed = Some(*id),
            Record::Purge(upto) => self.index.purge(*upto),
            Record::Truncate(after) => self.index.truncate(*after),
            Record::Head(_) => {
                let found = "a second beginning of a segment is there".to_owned();
                return Err(("a record of a batch".to_owned(), found));
            }
        }
        Ok(())
    }

    /// What a segment that begins here must say.
    pub(crate) fn head(&self, previous_end: u64) -> Head {
        Head {
            previous_end,
            last: self.index.last(),
            purged: self.index.purged(),
            committed: self.committed,
            vote: self.vote.clone(),
        }
    }

    /// Entries that are not purged and are not there, because their segment is gone: the first one's index.
    pub(crate) fn missing(&self) -> Option<u64> {
        let last = self.index.last()?;
        let from = match self.index.purged() {
            Some(purged) if purged.index >= last.index => return None,
            Some(purged) => purged.index + 1,
            None if !self.begins_later => return None,
            None => 0,
        };
        let there = self.index.first().unwrap_or(u64::MAX);
        (there > from).then_some(from)
    }
}
