//! How bytes stand in a segment file. All numbers are little end first.
//!
//! A file begins with a prefix of one page: magic, format version, four zeros, segment number, the log's name, the file's
//! length, zeros, checksum. Frames follow at [`FRAMES_AT`], each at a multiple of 8: a header of 32 bytes (magic,
//! body length, sequence number, kind, record count, checksum of the body, checksum of the header), the body, and zeros up
//! to the next multiple of 8.
//! Every checksum (CRC32C) begins with the prefix's identity, and a frame's with its place as well: bytes of an earlier use of
//! the file, of another file or of another place are never taken for a frame.

use std::ops::Range;

/// Where the first frame stands: no write of a frame touches the prefix's page.
pub(crate) const FRAMES_AT: u64 = 4096;
/// The only format so far.
pub(crate) const VERSION: u32 = 1;
/// Length of the prefix that carries something.
pub(crate) const PREFIX_BYTES: usize = 64;
/// Length of a frame's header.
pub(crate) const HEADER_BYTES: usize = 32;
/// Frames stand at multiples of it.
pub(crate) const ALIGN: usize = 8;

const PREFIX_MAGIC: &[u8; 8] = b"RGNTWAL\n";
/// Begins every frame.
pub(crate) const FRAME_MAGIC: &[u8; 4] = b"RGfr";

/// What a prefix says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    pub(crate) segment: u64,
    pub(crate) log_id: [u8; 16],
    /// The file's length: one that was cut is no segment that ends early.
    pub(crate) bytes: u64,
}

/// Why a prefix cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPrefix {
    Damaged,
    Version(u32),
}

/// The first checksum of everything in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Prefix {
    pub(crate) fn encode(&self) -> [u8; PREFIX_BYTES] {
        let mut out = [0; PREFIX_BYTES];
        out[..8].copy_from_slice(PREFIX_MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.segment.to_le_bytes());
        out[24..40].copy_from_slice(&self.log_id);
        out[40..48].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadPrefix> {
        let bytes = bytes.get(..PREFIX_BYTES).ok_or(BadPrefix::Damaged)?;
        if bytes[..8] != PREFIX_MAGIC[..] || crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(BadPrefix::Damaged);
        }
        if u32_at(bytes, 8) != VERSION {
            return Err(BadPrefix::Version(u32_at(bytes, 8)));
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&bytes[24..40]);
        Ok(Self {
            segment: u64_at(bytes, 16),
            log_id,
            bytes: u64_at(bytes, 40),
        })
    }

    pub(crate) fn seed(&self) -> Seed {
        let crc = crc32c::crc32c(&self.log_id);
        Seed(crc32c::crc32c_append(crc, &self.segment.to_le_bytes()))
    }
}

impl Seed {
    /// The checksum of a record within a frame.
    pub(crate) fn record(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }

    /// The checksum of bytes whose place matters.
    fn placed(self, offset: u64, bytes: &[u8]) -> u32 {
        let crc = crc32c::crc32c_append(self.0, &offset.to_le_bytes());
        crc32c::crc32c_append(crc, bytes)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records that are written together.
    Batch,
    /// Says that the batch of its sequence number was durable. The next batch is written over it.
    Mark,
}

/// A frame whose checksums match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) records: u32,
    /// The body, within the segment.
    pub(crate) body: Range<usize>,
    /// Where the next frame stands.
    pub(crate) end: usize,
}

/// Rounds up to where a frame may stand.
pub(crate) fn aligned(offset: usize) -> usize {
    offset.next_multiple_of(ALIGN)
}

/// Fills in the header of the frame that is the whole of `bytes` (header room, then body), to stand at `offset`, and pads it.
pub(crate) fn seal(bytes: &mut Vec<u8>, kind: Kind, sequence: u64, records: u32, seed: Seed, offset: u64) {
    let body = &bytes[HEADER_BYTES..];
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let body_crc = seed.placed(offset, body);
    let kind: u16 = match kind {
        Kind::Batch => 1,
        Kind::Mark => 2,
    };
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(FRAME_MAGIC);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..18].copy_from_slice(&kind.to_le_bytes());
    header[20..24].copy_from_slice(&records.to_le_bytes());
    header[24..28].copy_from_slice(&body_crc.to_le_bytes());
    let crc = seed.placed(offset, &header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    bytes[..HEADER_BYTES].copy_from_slice(&header);
    bytes.resize(aligned(bytes.len()), 0);
}

/// The frame at `offset` of a segment's bytes, if one stands there whole.
pub(crate) fn parse(segment: &[u8], offset: usize, seed: Seed) -> Option<Frame> {
    let header = segment.get(offset..offset.checked_add(HEADER_BYTES)?)?;
    if !is_header(header, offset, seed) {
        return None;
    }
    let start = offset + HEADER_BYTES;
    let body = start..start.checked_add(u32_at(header, 4) as usize)?;
    if seed.placed(offset as u64, segment.get(body.clone())?) != u32_at(header, 24) {
        return None;
    }
    let kind = match u16::from_le_bytes([header[16], header[17]]) {
        1 => Kind::Batch,
        2 => Kind::Mark,
        _ => return None,
    };
    Some(Frame {
        kind,
        sequence: u64_at(header, 8),
        records: u32_at(header, 20),
        end: aligned(body.end),
        body,
    })
}

/// Whether a frame was begun here, whatever became of its body.
pub(crate) fn is_header(header: &[u8], offset: usize, seed: Seed) -> bool {
    header[..4] == FRAME_MAGIC[..] && seed.placed(offset as u64, &header[..28]) == u32_at(header, 28)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let (low, high) = (u32_at(bytes, at), u32_at(bytes, at + 4));
    u64::from(high) << 32 | u64::from(low)
}
