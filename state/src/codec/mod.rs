//! Bytes of entries, answers and snapshots: protobuf of our own (`proto/log.proto`), with a format number.
//!
//! Absent on purpose: openraft's types; how a log is cut into files. Old formats stay readable for ever (`testdata/compat`).
//! Invariant: what one release wrote, each later one reads alike; anything else is an error that says where, never a panic.

mod commands;
mod outcomes;
mod records;
mod snapshot;
mod wire;

use prost::Message as _;
use types::{Digest, RequestId, UnixMillis};

pub use snapshot::{decode_snapshot, encode_snapshot};
use wire::{Malformed, Wire, field};

use crate::{command::Entry, r#gen as pb, invariants::Broken, rejection::Rejection, reply::Reply};

/// The format that this release writes, and the only one so far that it reads.
pub const FORMAT: u32 = 1;

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
    #[error("{what} has format {shown}; this release reads format {FORMAT}: start a release that knows it")]
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
    /// Readable, and impossible.
    #[error("snapshot breaks an invariant: {0}")]
    Broken(#[from] Broken),
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
    }
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
    })
}

/// The bytes of an answer.
pub fn encode_reply(outcome: &Result<Reply, Rejection>) -> Vec<u8> {
    outcome.to_pb().encode_to_vec()
}

/// Reads an answer.
pub fn decode_reply(bytes: &[u8]) -> Result<Result<Reply, Rejection>, CodecError> {
    let pb = pb::Outcome::decode(bytes)?;
    check_format("answer", pb.format)?;
    Ok(Wire::from_pb(pb)?)
}

fn check_format(what: &'static str, shown: u32) -> Result<(), CodecError> {
    if shown == FORMAT {
        Ok(())
    } else {
        Err(CodecError::Format { what, shown })
    }
}

/// SHA-256 over what must not change under a request id: who asks, and for what.
pub(crate) fn request_digest(entry: &Entry) -> Digest {
    let unnamed = pb::Entry {
        proposed_at: 0,
        request_id: Vec::new(),
        ..to_pb(entry)
    };
    Digest::of(&unnamed.encode_to_vec())
}
