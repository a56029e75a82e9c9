//! What stands in a batch: one record after the other.
//!
//! Each begins with 8 bytes: type, a byte of its own (an entry's kind; whether an optional log id is there), two zeros, and
//! the length of its payload. A log id is term and index. An entry carries a checksum of its own, so that it can be read
//! without the rest of its batch.

use bytes::Bytes;

use crate::{
    LogId,
    frame::{Seed, u32_at, u64_at},
};

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const PURGE: u8 = 4;
const TRUNCATE: u8 = 5;
const HEAD: u8 = 6;

const START_BYTES: usize = 8;
const ID_BYTES: usize = 16;
/// Bytes of an entry's record before its payload: start, log id, checksum.
pub(crate) const ENTRY_HEAD_BYTES: usize = START_BYTES + ID_BYTES + 4;
/// Length of a committed record.
pub(crate) const COMMITTED_BYTES: usize = START_BYTES + ID_BYTES;

/// What the log holds at the beginning of a segment, so that those before it can go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Where the batches of the segment before end; 0 in a log's first segment.
    pub(crate) previous_end: u64,
    pub(crate) last: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    pub(crate) vote: Option<Bytes>,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Entry(crate::Entry),
    Vote(Bytes),
    Committed(LogId),
    /// Entries up to it, itself included, may be forgotten.
    Purge(LogId),
    /// Entries after it are void.
    Truncate(Option<LogId>),
    /// The first record of each segment.
    Head(Head),
}

impl Record {
    /// How many bytes it takes.
    pub(crate) fn encoded_len(&self) -> usize {
        match self {
            Self::Entry(entry) => ENTRY_HEAD_BYTES + entry.payload.len(),
            Self::Vote(vote) => START_BYTES + vote.len(),
            Self::Committed(_) | Self::Purge(_) | Self::Truncate(_) => START_BYTES + ID_BYTES,
            Self::Head(head) => START_BYTES + 8 + 3 * ID_BYTES + head.vote.as_ref().map_or(0, Bytes::len),
        }
    }

    /// Appends it to a body.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, seed: Seed) {
        match self {
            Self::Entry(entry) => encode_entry(entry, out, seed),
            Self::Vote(vote) => {
                start(out, VOTE, 0, vote.len());
                out.extend_from_slice(vote);
            }
            Self::Committed(id) => with_id(out, COMMITTED, Some(*id)),
            Self::Purge(id) => with_id(out, PURGE, Some(*id)),
            Self::Truncate(after) => with_id(out, TRUNCATE, *after),
            Self::Head(head) => encode_head(head, out),
        }
    }

    /// The record at the beginning of `bytes`, and its length; `None` where none of this format stands there.
    pub(crate) fn decode(bytes: &Bytes, seed: Seed) -> Option<(Self, usize)> {
        let (kind, own, length) = (*bytes.first()?, *bytes.get(1)?, length_at(bytes)?);
        let rest = START_BYTES;
        let tail = |from: usize| {
            let end = from.checked_add(length)?;
            (end <= bytes.len()).then(|| (bytes.slice(from..end), end))
        };
        let id = || Some((id_at(bytes, rest)?, rest + ID_BYTES));
        Some(match kind {
            ENTRY => return decode_entry(bytes, seed).map(|e| (Self::Entry(e), ENTRY_HEAD_BYTES + length)),
            VOTE => {
                let (vote, end) = tail(rest)?;
                (Self::Vote(vote), end)
            }
            COMMITTED => id().map(|(id, end)| (Self::Committed(id), end))?,
            PURGE => id().map(|(id, end)| (Self::Purge(id), end))?,
            TRUNCATE => id().map(|(id, end)| (Self::Truncate((own & 1 != 0).then_some(id)), end))?,
            HEAD => {
                let at = |n: usize| id_at(bytes, rest + 8 + n * ID_BYTES);
                let (vote, end) = tail(rest + 8 + 3 * ID_BYTES)?;
                let head = Head {
                    previous_end: u64_at(bytes.get(rest..rest + 8)?, 0),
                    last: at(0).filter(|_| own & 1 != 0),
                    purged: at(1).filter(|_| own & 2 != 0),
                    committed: at(2).filter(|_| own & 4 != 0),
                    vote: (own & 8 != 0).then_some(vote),
                };
                (Self::Head(head), end)
            }
            _ => return None,
        })
    }
}

/// Reads an entry's record that stands at the beginning of `bytes`, if its own checksum matches.
pub(crate) fn decode_entry(bytes: &Bytes, seed: Seed) -> Option<crate::Entry> {
    if *bytes.first()? != ENTRY {
        return None;
    }
    let end = ENTRY_HEAD_BYTES.checked_add(length_at(bytes)?)?;
    if end > bytes.len() {
        return None;
    }
    let crc_at = START_BYTES + ID_BYTES;
    let payload = bytes.slice(ENTRY_HEAD_BYTES..end);
    if entry_crc(&bytes[..crc_at], &payload, seed) != u32_at(bytes, crc_at) {
        return None;
    }
    Some(crate::Entry {
        id: id_at(bytes, START_BYTES)?,
        kind: bytes[1],
        payload,
    })
}

fn entry_crc(head: &[u8], payload: &[u8], seed: Seed) -> u32 {
    crc32c::crc32c_append(seed.record(head), payload)
}

fn encode_entry(entry: &crate::Entry, out: &mut Vec<u8>, seed: Seed) {
    let at = out.len();
    start(out, ENTRY, entry.kind, entry.payload.len());
    put_id(out, entry.id);
    let crc = entry_crc(&out[at..], &entry.payload, seed);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&entry.payload);
}

fn encode_head(head: &Head, out: &mut Vec<u8>) {
    let ids = [head.last, head.purged, head.committed];
    let there = |n: usize, is: bool| u8::from(is) << n;
    let flags = there(0, ids[0].is_some()) | there(1, ids[1].is_some()) | there(2, ids[2].is_some());
    let flags = flags | there(3, head.vote.is_some());
    let vote = head.vote.as_deref().unwrap_or_default();
    start(out, HEAD, flags, vote.len());
    out.extend_from_slice(&head.previous_end.to_le_bytes());
    for id in ids {
        put_id(out, id.unwrap_or_default());
    }
    out.extend_from_slice(vote);
}

fn start(out: &mut Vec<u8>, kind: u8, own: u8, length: usize) {
    out.extend_from_slice(&[kind, own, 0, 0]);
    // No payload is longer than a segment, whose size fits.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn with_id(out: &mut Vec<u8>, kind: u8, id: Option<LogId>) {
    start(out, kind, u8::from(id.is_some()), 0);
    put_id(out, id.unwrap_or_default());
}

fn put_id(out: &mut Vec<u8>, id: LogId) {
    out.extend_from_slice(&id.term.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
}

fn length_at(bytes: &[u8]) -> Option<usize> {
    bytes.get(..START_BYTES).map(|start| u32_at(start, 4) as usize)
}

fn id_at(bytes: &[u8], at: usize) -> Option<LogId> {
    let id = bytes.get(at..at.checked_add(ID_BYTES)?)?;
    Some(LogId {
        term: u64_at(id, 0),
        index: u64_at(id, 8),
    })
}
