//! The durable log of one Raft node: entries, vote, purge point and committed mark in one write-ahead log of segments.
//!
//! Payloads are opaque bytes. Appends are grouped: one `fdatasync` serves all that wait for it. Segments are zero-filled
//! before they are written, the next one ahead of time, and purged ones are used again.
//!
//! Absent on purpose: any runtime, Raft's rules, and what the bytes mean. A call never waits for the disk; who needs to know
//! hands in a callback, which runs once the write is durable.
//! Invariants: what was called durable is there after any crash, in order and without holes; what was not is there as a
//! prefix, or not at all. At most one batch is not synced, so an invalid batch with nothing valid behind it is a torn tail
//! and is cut; one with something valid behind it is damage, and the log does not open. A full disk loses nothing and ends
//! nothing: writes wait. A failed sync is never tried again.
//!
//! Reading order: [`disk`], `frame`, `record`, `scan`, `replay`, `recover`, then `index`, `shared`, `writer`, `pool`, `reserve`, `log`.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

#[cfg(any(test, debug_assertions, feature = "faulty"))]
pub mod chance;
pub mod disk;
mod error;
#[cfg(any(test, feature = "faulty"))]
pub mod faulty;
#[cfg(debug_assertions)]
pub mod forgetful;
mod frame;
mod index;
mod log;
mod pool;
mod priority;
mod record;
mod recover;
mod replay;
mod reserve;
mod scan;
mod segment;
mod shared;
#[cfg(test)]
mod tests;
mod threads;
mod writer;

use std::time::Duration;

use bytes::Bytes;

pub use crate::{
    error::{AppendError, Corruption, Failure, OpenError, ReadError},
    log::{Log, View},
    pool::Room,
    recover::{Cut, Opened},
    reserve::Passing,
    shared::{Done, Waiting},
};

/// Position in the log, with the term that wrote it. Ordered by term, then index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The Raft term.
    pub term: u64,
    /// The position.
    pub index: u64,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub id: LogId,
    /// What the payload is, for whoever wrote it; the log keeps it and does not look at it.
    pub kind: u8,
    /// Its bytes.
    pub payload: Bytes,
}

/// Sizes and bounds of a log.
#[derive(Clone, Debug)]
pub struct Config {
    /// Size of one segment file, in bytes. Default 4 MiB: an idle node holds two. Another size takes effect with new segments.
    pub segment_bytes: u64,
    /// Payloads kept in memory for followers and apply, in bytes. Default 16 MiB.
    pub cache_bytes: usize,
    /// Payloads that wait for the disk, in bytes, before [`Log::when_drained`] makes callers wait. Default 16 MiB.
    pub queue_bytes: usize,
    /// Names a new log; segments of another log are told by it. Random.
    pub log_id: [u8; 16],
    /// How long the log rests before it marks its last batch as durable. Default 100 ms.
    pub mark_after: Duration,
    /// How often a full disk is looked at again. Default 1 s.
    pub look_again: Duration,
}

impl Config {
    /// The defaults, for a log of this name.
    pub fn new(log_id: [u8; 16]) -> Self {
        Self {
            segment_bytes: 4 << 20,
            cache_bytes: 16 << 20,
            queue_bytes: 16 << 20,
            log_id,
            mark_after: Duration::from_millis(100),
            look_again: Duration::from_secs(1),
        }
    }

    /// The longest payload that fits a segment, whatever else stands in its first batch.
    pub fn payload_max(&self) -> usize {
        usize::try_from(self.segment_bytes / 2).unwrap_or(usize::MAX)
    }
}

/// Hears what the log's writer did; called on its thread, so it must be short.
pub trait Observer: Send + Sync + 'static {
    /// One batch of so many entries and bytes was synced; `took` is the time of the sync alone.
    fn synced(&self, took: Duration, entries: usize, bytes: usize);
}

/// Hears nothing.
impl Observer for () {
    fn synced(&self, _: Duration, _: usize, _: usize) {}
}
