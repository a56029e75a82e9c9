//! How the log's records look on disk: fixed numbers for log ids, protobuf for the rest.

use std::{
    cmp::Ordering,
    fmt,
    io::{self, Read as _},
};

use bytes::Bytes;
use openraft::storage::IOFlushed;
use prost::Message;
use proto::raft_v1 as pb;
use raft_log::{
    Callback, Types,
    codeq::{Codec, Decode, Encode},
};
use tokio::sync::oneshot;

use super::types::{LogId, TypeConfig, log_id, term_of};

fn put<T: Codec>(value: &T, writer: &mut impl io::Write) -> io::Result<usize> {
    Encode::encode(value, writer)
}

fn take<T: Codec>(reader: &mut impl io::Read) -> io::Result<T> {
    <T as Decode>::decode(reader)
}

/// A log id as it stands on disk: term, then index, big end first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DiskLogId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

impl Encode for DiskLogId {
    fn encode<W: io::Write>(&self, mut writer: W) -> io::Result<usize> {
        Ok(put(&self.term, &mut writer)? + put(&self.index, &mut writer)?)
    }
}
impl Decode for DiskLogId {
    fn decode<R: io::Read>(mut reader: R) -> io::Result<Self> {
        Ok(Self {
            term: take(&mut reader)?,
            index: take(&mut reader)?,
        })
    }
}
impl From<&LogId> for DiskLogId {
    fn from(id: &LogId) -> Self {
        Self {
            term: term_of(id),
            index: id.index(),
        }
    }
}
impl From<DiskLogId> for LogId {
    fn from(id: DiskLogId) -> Self {
        log_id(id.term, id.index)
    }
}

/// Bytes of one protobuf message: a payload or a vote.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DiskBytes(pub(crate) Bytes);

impl fmt::Debug for DiskBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
impl Encode for DiskBytes {
    fn encode<W: io::Write>(&self, mut writer: W) -> io::Result<usize> {
        let len = u32::try_from(self.0.len()).map_err(|_| io::Error::other("a record above 4 GiB"))?;
        let head = put(&len, &mut writer)?;
        writer.write_all(&self.0)?;
        Ok(head + self.0.len())
    }
}
impl Decode for DiskBytes {
    fn decode<R: io::Read>(mut reader: R) -> io::Result<Self> {
        let len: u32 = take(&mut reader)?;
        let mut bytes = Vec::new();
        let read = (&mut reader).take(u64::from(len)).read_to_end(&mut bytes)?;
        if read != len as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self(bytes.into()))
    }
}

/// A vote on disk, as one protobuf message. Ordered only so that `raft-log` sees no reversal in what Raft, which
/// alone decides about votes, lets happen: by term, then by whether it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskVote(pub(crate) pb::Vote);

impl PartialOrd for DiskVote {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let key = |v: &Self| (v.0.term, v.0.committed);
        Some(key(self).cmp(&key(other)))
    }
}
impl Encode for DiskVote {
    fn encode<W: io::Write>(&self, writer: W) -> io::Result<usize> {
        Encode::encode(&DiskBytes(self.0.encode_to_vec().into()), writer)
    }
}
impl Decode for DiskVote {
    fn decode<R: io::Read>(reader: R) -> io::Result<Self> {
        let bytes = <DiskBytes as Decode>::decode(reader)?;
        <pb::Vote as Message>::decode(bytes.0)
            .map(Self)
            .map_err(invalid_data)
    }
}

pub(crate) fn invalid_data(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Who hears of a finished sync.
pub(crate) enum Synced {
    Append(IOFlushed<TypeConfig>),
    Waiter(oneshot::Sender<io::Result<()>>),
}

impl Callback for Synced {
    fn send(self, result: io::Result<()>) {
        match self {
            Self::Append(flushed) => flushed.io_completed(result),
            // The waiter may be gone with its caller; the write stands either way.
            Self::Waiter(waiter) => drop(waiter.send(result)),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskTypes;

impl Types for DiskTypes {
    type LogId = DiskLogId;
    type LogPayload = DiskBytes;
    type Vote = DiskVote;
    type Callback = Synced;
    type UserData = ();

    fn log_index(log_id: &DiskLogId) -> u64 {
        log_id.index
    }
    fn payload_size(payload: &DiskBytes) -> u64 {
        payload.0.len() as u64
    }
}
