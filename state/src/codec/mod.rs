//! Bytes of entries, answers and snapshots: protobuf of our own (`proto/log.proto`), with a format number.
//!
//! Absent on purpose: openraft's types; how a log is cut into files. Old formats stay readable for ever (`testdata/compat`).
//! Invariant: what one release wrote, each later one reads alike; anything else is an error that says where, never a panic.

mod commands;
mod outcomes;
mod records;
mod snapshot;
mod stream;
mod wire;

use prost::Message as _;
use types::{Digest, RequestId, UnixMillis, digest::DigestHasher};

pub use snapshot::encode_snapshot;
pub(crate) use snapshot::hash_of_scalars;
#[cfg(test)]
pub(crate) use snapshot::state_of_body;
#[cfg(test)]
pub(crate) use stream::write_snapshot_in_frames;
pub use stream::{ReadSnapshot, decode_snapshot, read_label, read_snapshot, write_snapshot};
use wire::{Malformed, Wire, field};

use crate::{
    command::{Entry, Expects},
    r#gen as pb,
    hash::StateHash,
    invariants::Broken,
    rejection::Rejection,
    reply::Reply,
};

/// The format of entries and answers, and the only one so far that this release reads; snapshots have formats of their own.
pub const FORMAT: u32 = 1;

/// The format of a refusal whose texts are no part of the integrity hash ([`crate::Feature::SettledRefusals`]). The bytes are
/// those of [`FORMAT`] but for this number, which stands first in them.
pub(crate) const REFUSAL_FORMAT: u32 = 2;

/// Bytes that this release cannot read. A replica that meets one stops; it never skips.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not protobuf, or cut.
    #[error("bytes are damaged or cut: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Protobuf with a value that no release writes, or that only a later one knows.
    #[error("field {field} {problem}")]
    Malformed {
        /// The way to the field.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// Written by another release.
    #[error("{what} has format {shown}, which this release does not know: start a release that knows it")]
    Format {
        /// What was read.
        what: &'static str,
        /// Its format.
        shown: u32,
    },
    /// No snapshot of Regent.
    #[error("no snapshot: the first 8 bytes at offset 0 are not RGNTSNAP")]
    NoSnapshot,
    /// Cut, or with something behind it.
    #[error("snapshot ends at offset {shown}, and must end at {needed}")]
    Length {
        /// Bytes that are there.
        shown: u64,
        /// Bytes that there must be.
        needed: u64,
    },
    /// Changed on its way.
    #[error("snapshot body from offset {offset} does not match its SHA-256")]
    Digest {
        /// Where the body begins.
        offset: u64,
    },
    /// A frame of a snapshot that was changed, moved or cut.
    #[error("the snapshot's frame at offset {offset} {problem}")]
    Frame {
        /// Where the frame begins.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// Every byte is as it was written, and the state is not the one that was written.
    #[error("the snapshot's state has the integrity hash {computed}, and it was written with another")]
    StateHash {
        /// That of what was read.
        computed: StateHash,
    },
    /// The snapshot could not be read; says nothing of what is in it.
    #[error("the snapshot cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Readable, and impossible.
    #[error("snapshot breaks an invariant: {0}")]
    Broken(#[from] Broken),
}

impl CodecError {
    /// Where in the snapshot the damage was met, as far as it has a place: the beginning of the frame or body that is not as it
    /// was written, or the end of what is cut.
    pub const fn offset(&self) -> Option<u64> {
        match self {
            Self::NoSnapshot => Some(0),
            Self::Length { shown, needed } => Some(if *shown < *needed { *shown } else { *needed }),
            Self::Digest { offset } | Self::Frame { offset, .. } => Some(*offset),
            Self::Protobuf(_)
            | Self::Malformed { .. }
            | Self::Format { .. }
            | Self::StateHash { .. }
            | Self::Io(_)
            | Self::Broken(_) => None,
        }
    }
}

impl From<Malformed> for CodecError {
    fn from(Malformed { field, problem }: Malformed) -> Self {
        Self::Malformed { field, problem }
    }
}

/// The bytes of an entry; durations are kept in whole milliseconds.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    to_pb(entry).encode_to_vec()
}

fn to_pb(entry: &Entry) -> pb::Entry {
    pb::Entry {
        format: FORMAT,
        proposed_at: entry.proposed_at.to_pb(),
        request_id: entry.request_id.to_pb(),
        actor: entry.actor.to_pb(),
        command: entry.command.to_pb(),
        expects: (!entry.expects.is_nothing()).then(|| entry.expects.to_pb()),
    }
}

/// An entry that was read, with the digest of its bytes: [`crate::ControlState::apply_read`] applies it without encoding it
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEntry {
    entry: Entry,
    digest: Digest,
}

impl ReadEntry {
    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// SHA-256 over what must not change under its request id.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }
}

/// Reads an entry, and digests it as it came.
pub fn read_entry(bytes: &[u8]) -> Result<ReadEntry, CodecError> {
    let entry = decode_entry(bytes)?;
    let digest = digest_of_bytes(bytes).unwrap_or_else(|| request_digest(&entry));
    Ok(ReadEntry { entry, digest })
}

/// Reads an entry.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    let pb = pb::Entry::decode(bytes)?;
    check_format("entry", pb.format)?;
    Ok(Entry {
        proposed_at: field::<UnixMillis, _>("proposed_at", pb.proposed_at)?,
        request_id: field::<RequestId, _>("request_id", pb.request_id)?,
        actor: field("actor", pb.actor)?,
        command: field("command", pb.command)?,
        expects: field::<Option<Expects>, _>("expects", pb.expects)?.unwrap_or_default(),
    })
}

/// The bytes of an answer, in one of its formats.
pub(crate) fn encode_answer(outcome: &Result<Reply, Rejection>, format: u32) -> Vec<u8> {
    let outcome = outcome.to_pb();
    pb::Outcome { format, ..outcome }.encode_to_vec()
}

/// Reads an answer.
pub fn decode_reply(bytes: &[u8]) -> Result<Result<Reply, Rejection>, CodecError> {
    let pb = pb::Outcome::decode(bytes)?;
    if pb.format != REFUSAL_FORMAT {
        check_format("answer", pb.format)?;
    }
    Ok(Wire::from_pb(pb)?)
}

fn check_format(what: &'static str, shown: u32) -> Result<(), CodecError> {
    if shown == FORMAT {
        Ok(())
    } else {
        Err(CodecError::Format { what, shown })
    }
}

/// Fields of an entry that another try of the same request may have otherwise: `proposed_at` and `request_id`.
const NOT_DIGESTED: [u64; 2] = [2, 3];

/// The digest of an entry's bytes: of its fields as they came, but for those two. All that write entries write fields in
/// the order of their numbers and leave defaults out, so it is the same as [`request_digest`]; bytes of a later release,
/// whose fields are not all known here, have the same digest here and there. `None` if these are no fields.
fn digest_of_bytes(mut bytes: &[u8]) -> Option<Digest> {
    let mut hasher = DigestHasher::new();
    while !bytes.is_empty() {
        let (number, length) = field_of(bytes)?;
        let (field, rest) = bytes.split_at_checked(length)?;
        if !NOT_DIGESTED.contains(&number) {
            hasher.update(field);
        }
        bytes = rest;
    }
    Some(hasher.finish())
}

/// The number of the first field, and how many bytes it has, its key included.
fn field_of(bytes: &[u8]) -> Option<(u64, usize)> {
    let (key, key_bytes) = varint(bytes)?;
    let rest = bytes.get(key_bytes..)?;
    let value_bytes = match key & 7 {
        0 => varint(rest)?.1,
        1 => 8,
        2 => {
            let (length, length_bytes) = varint(rest)?;
            usize::try_from(length).ok()?.checked_add(length_bytes)?
        }
        5 => 4,
        _ => return None,
    };
    Some((key >> 3, key_bytes.checked_add(value_bytes)?))
}

/// A number of seven bits a byte, the lowest first, and how many bytes it has.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (n, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, n + 1));
        }
    }
    None
}

/// SHA-256 over what must not change under a request id: who asks, for what, and what they expect.
pub(crate) fn request_digest(entry: &Entry) -> Digest {
    let unnamed = pb::Entry {
        proposed_at: 0,
        request_id: Vec::new(),
        ..to_pb(entry)
    };
    Digest::of(&unnamed.encode_to_vec())
}
