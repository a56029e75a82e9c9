//! Reading one segment: its prefix, and what of it is valid.

use std::io;

use bytes::Bytes;

use crate::{
    disk::{Disk, read_full},
    error::{Corruption, OpenError},
    frame::{ALIGN, BadPrefix, FRAME_MAGIC, FRAMES_AT, Frame, PREFIX_BYTES, Prefix, VERSION, parse},
    record::Record,
    segment::{Segment, segment_name},
};

/// A segment and all of its bytes.
pub(crate) struct Loaded {
    pub(crate) segment: Segment,
    pub(crate) bytes: Bytes,
    path: std::path::PathBuf,
}

/// Reads a segment and checks its prefix, which was durable before the file got its name.
pub(crate) fn load(
    disk: &dyn Disk,
    number: u64,
    log_id: Option<[u8; 16]>,
) -> Result<(Loaded, Prefix), OpenError> {
    let name = segment_name(number);
    let path = disk.path().join(&name);
    let io_error = |doing| {
        let path = path.clone();
        move |source: io::Error| OpenError::Io { path, doing, source }
    };
    let file = disk.open(&name).map_err(io_error("open it"))?;
    let length = file.len().map_err(io_error("read its length"))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let read = read_full(&*file, &mut bytes, 0).map_err(io_error("read it"))?;
    bytes.truncate(read);
    let damaged = |expected: &str, found: String| Corruption {
        path: path.clone(),
        offset: 0,
        expected: expected.to_owned(),
        found,
    };
    let prefix = Prefix::decode(&bytes).map_err(|bad| match bad {
        BadPrefix::Version(found) => OpenError::OtherVersion {
            path: path.clone(),
            found,
            known: VERSION,
        },
        BadPrefix::Damaged => {
            damaged("the beginning of a segment", "other bytes are there".to_owned()).into()
        }
    })?;
    if prefix.segment != number || log_id.is_some_and(|id| id != prefix.log_id) {
        let found = format!("segment {} of another log or place is there", prefix.segment);
        return Err(damaged(&format!("segment {number} of this log"), found).into());
    }
    if prefix.bytes != bytes.len() as u64 {
        let found = format!("it has {}", bytes.len());
        return Err(damaged(&format!("a file of {} bytes", prefix.bytes), found).into());
    }
    let segment = Segment {
        number,
        file,
        seed: prefix.seed(),
        bytes: prefix.bytes,
    };
    let bytes = Bytes::from(bytes);
    Ok((Loaded { segment, bytes, path }, prefix))
}

impl Loaded {
    /// The frame at `offset`.
    pub(crate) fn frame(&self, offset: usize) -> Option<Frame> {
        parse(&self.bytes, offset, self.segment.seed)
    }

    /// The first valid frame at or after `from` that is not older than `sequence`: proof that what stands before it was
    /// durable, because at most one batch is not.
    pub(crate) fn evidence(&self, from: usize, sequence: u64) -> Option<(usize, Frame)> {
        let places = (from..self.bytes.len()).step_by(ALIGN);
        places
            .filter(|at| self.bytes[*at] == FRAME_MAGIC[0])
            .filter_map(|at| Some((at, self.frame(at)?)))
            .find(|(_, frame)| frame.sequence >= sequence)
    }

    /// A batch's records, each with the offset at which it begins.
    pub(crate) fn records(&self, frame: &Frame) -> Result<Vec<(usize, Record)>, Corruption> {
        let mut records = Vec::new();
        let mut at = frame.body.start;
        while at < frame.body.end {
            let rest = self.bytes.slice(at..frame.body.end);
            let Some((record, length)) = Record::decode(&rest, self.segment.seed) else {
                return Err(self.corrupt(
                    at,
                    "a record of this format".to_owned(),
                    "none is there".to_owned(),
                ));
            };
            records.push((at, record));
            at += length;
        }
        if records.len() != frame.records as usize {
            let (expected, found) = (frame.records, records.len());
            let text = format!("{found} are there");
            return Err(self.corrupt(frame.body.start, format!("a batch of {expected} records"), text));
        }
        Ok(records)
    }

    /// Whether anything but zeros stands from `from` on.
    pub(crate) fn is_dirty(&self, from: usize) -> bool {
        self.bytes[from.min(self.bytes.len())..].iter().any(|b| *b != 0)
    }

    /// Whether anything was ever written behind the prefix.
    pub(crate) fn is_used(&self) -> bool {
        self.is_dirty(PREFIX_BYTES)
    }

    pub(crate) fn corrupt(&self, offset: usize, expected: String, found: String) -> Corruption {
        Corruption {
            path: self.path.clone(),
            offset: offset as u64,
            expected,
            found,
        }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }
}

/// Where the first frame of a segment stands.
pub(crate) const FIRST: usize = 4096;
const _: () = assert!(FIRST as u64 == FRAMES_AT, "one place, two types");
