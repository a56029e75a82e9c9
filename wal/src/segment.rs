//! Names of files, and an open segment.

use std::sync::Arc;

use crate::{disk::DiskFile, frame::Seed};

/// A segment of the log.
const SEGMENT: &str = "seg";
/// A purged segment, to be used again.
const FREE: &str = "free";
/// One that is being prepared; a crash leaves nothing of it.
const NEW: &str = "new";

/// The log format before this one.
const FORMER: &str = "wal";

/// What a file in the log's directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(u64),
    Free(u64),
    New(u64),
    /// Of the log format before this one.
    Former,
    Other,
}

/// What a file's name says. Numbers begin at 1.
pub(crate) fn parse_name(name: &str) -> Name {
    let Some((number, extension)) = name.split_once('.') else {
        return Name::Other;
    };
    let digits = number.len() == 12 && number.bytes().all(|b| b.is_ascii_digit());
    match (number.parse(), extension) {
        (Ok(number), SEGMENT) if digits => Name::Segment(number),
        (Ok(number), FREE) if digits => Name::Free(number),
        (Ok(number), NEW) if digits => Name::New(number),
        (_, FORMER) => Name::Former,
        _ => Name::Other,
    }
}

pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:012}.{SEGMENT}")
}

pub(crate) fn free_name(number: u64) -> String {
    format!("{number:012}.{FREE}")
}

pub(crate) fn new_name(number: u64) -> String {
    format!("{number:012}.{NEW}")
}

/// An open segment.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) seed: Seed,
    /// Its length.
    pub(crate) bytes: u64,
}

/// A segment that holds batches, and the highest index that was ever written to it.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) segment: Segment,
    pub(crate) highest: Option<u64>,
}

impl Kept {
    pub(crate) fn note(&mut self, index: u64) {
        self.highest = Some(self.highest.map_or(index, |h| h.max(index)));
    }
}
