//! Snapshots as a stream (format 2): written and read in frames, so that neither takes more memory than the state and a frame.
//!
//! Layout, numbers with their big end first:
//! - head: 8 bytes magic, format u32;
//! - frames: kind u8, length of the payload u32, payload, check. The check is the first 8 bytes of the SHA-256 of the whole
//!   stream up to and with the payload, so a frame that was changed, moved, left out or cut is found where it stands;
//! - the last frame has the state's integrity hash, and behind it all 32 bytes of that SHA-256, the last of the stream.
//!
//! The first frame is a label: bytes of the caller's, not read here. The payloads of the others are `log.proto`'s `Snapshot`
//! with some of its records each: put one behind the other they are the body of format 1.
//!
//! Absent on purpose: files; the caller hands in what is written to or read from.
//! Invariant: equal states and labels give equal bytes.

use std::io::{self, Read, Write};

use prost::Message as _;
use types::digest::DigestHasher;

use super::{
    CodecError,
    snapshot::{MAGIC, absorb, answered, begin, decode, finish, scalars, superseded},
    wire::Wire,
};
use crate::{r#gen as pb, hash::StateHash, state::ControlState};

/// The format of a stream of frames.
const FORMAT: u32 = 2;
/// Bytes of a frame's payload, and one record more.
const FRAME_BYTES: usize = 256 << 10;
/// A frame that says it is longer is damaged: no record is. Bounds what a reader sets aside for it.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Bytes of magic and format.
const HEAD_BYTES: usize = 8 + 4;
/// Bytes of a frame's check.
const CHECK_BYTES: usize = 8;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Label = 1,
    Part = 2,
    End = 3,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Label, Self::Part, Self::End]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Writes a snapshot, a frame at a time, and `label` with it. Errors are the sink's alone; what it took by then is no
/// snapshot. Takes memory for one frame. Give it a clone of the state: it may take as long as the sink likes.
pub fn write_snapshot(state: &ControlState, label: &[u8], sink: impl Write) -> io::Result<()> {
    write_snapshot_in_frames(state, label, sink, FRAME_BYTES)
}

/// As above, in frames of another size.
pub(crate) fn write_snapshot_in_frames(
    state: &ControlState,
    label: &[u8],
    sink: impl Write,
    frame_bytes: usize,
) -> io::Result<()> {
    let mut out = Writer::begin(sink, frame_bytes)?;
    out.frame(Kind::Label, label)?;
    out.frame(Kind::Part, &scalars(state).encode_to_vec())?;
    let part = pb::Snapshot::default;
    let regions = state.regions.values().map(Wire::to_pb);
    out.records(regions.map(|r| pb::Snapshot {
        regions: vec![r],
        ..part()
    }))?;
    let nodes = state.nodes.values().map(Wire::to_pb);
    out.records(nodes.map(|r| pb::Snapshot {
        nodes: vec![r],
        ..part()
    }))?;
    let runs = state.superseded.iter().map(superseded);
    out.records(runs.map(|r| pb::Snapshot {
        superseded: vec![r],
        ..part()
    }))?;
    let models = state.models.values().map(Wire::to_pb);
    out.records(models.map(|r| pb::Snapshot {
        models: vec![r],
        ..part()
    }))?;
    let published = state.published.keys().map(Wire::to_pb);
    out.records(published.map(|r| pb::Snapshot {
        published: vec![r],
        ..part()
    }))?;
    let versions = state.versions.values().map(Wire::to_pb);
    out.records(versions.map(|r| pb::Snapshot {
        versions: vec![r],
        ..part()
    }))?;
    let aliases = state.aliases.values().map(Wire::to_pb);
    out.records(aliases.map(|r| pb::Snapshot {
        aliases: vec![r],
        ..part()
    }))?;
    let replicas = state.replicas.values().map(Wire::to_pb);
    out.records(replicas.map(|r| pb::Snapshot {
        replicas: vec![r],
        ..part()
    }))?;
    let roles = state.roles.values().map(Wire::to_pb);
    out.records(roles.map(|r| pb::Snapshot {
        roles: vec![r],
        ..part()
    }))?;
    let plans = state.plans.values().map(Wire::to_pb);
    out.records(plans.map(|r| pb::Snapshot {
        plans: vec![r],
        ..part()
    }))?;
    let experiments = state.experiments.values().map(Wire::to_pb);
    out.records(experiments.map(|r| pb::Snapshot {
        experiments: vec![r],
        ..part()
    }))?;
    let services = state.services.values().map(Wire::to_pb);
    out.records(services.map(|r| pb::Snapshot {
        services: vec![r],
        ..part()
    }))?;
    let preferences = state.preferences.values().map(Wire::to_pb);
    out.records(preferences.map(|r| pb::Snapshot {
        preferences: vec![r],
        ..part()
    }))?;
    let deployments = state.deployments.values().map(Wire::to_pb);
    out.records(deployments.map(|r| pb::Snapshot {
        deployments: vec![r],
        ..part()
    }))?;
    let health_changes = state.health_changes.values().map(Wire::to_pb);
    out.records(health_changes.map(|r| pb::Snapshot {
        health_changes: vec![r],
        ..part()
    }))?;
    let requests = |one| pb::RequestTable {
        answered: vec![one],
        ..pb::RequestTable::default()
    };
    let answers = state.requests.answered.iter().map(answered);
    out.records(answers.map(|r| pb::Snapshot {
        requests: Some(requests(r)),
        ..part()
    }))?;
    out.end(state.state_hash())
}

struct Writer<W> {
    sink: W,
    hasher: DigestHasher,
    /// The payload of the frame that is being filled.
    payload: Vec<u8>,
    frame_bytes: usize,
}

impl<W: Write> Writer<W> {
    fn begin(sink: W, frame_bytes: usize) -> io::Result<Self> {
        let mut writer = Self {
            sink,
            hasher: DigestHasher::new(),
            payload: Vec::with_capacity(frame_bytes + frame_bytes / 4),
            frame_bytes,
        };
        writer.write(MAGIC)?;
        writer.write(&FORMAT.to_be_bytes())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.sink.write_all(bytes)
    }

    fn open(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        self.write(&[kind as u8])?;
        self.write(&length.to_be_bytes())?;
        self.write(payload)
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        self.open(kind, payload)?;
        let check = self.hasher.clone().finish();
        self.write(&check.as_bytes()[..CHECK_BYTES])
    }

    fn records(&mut self, records: impl Iterator<Item = pb::Snapshot>) -> io::Result<()> {
        for record in records {
            // Encoding into a Vec cannot fail for want of room.
            record.encode(&mut self.payload).map_err(io::Error::other)?;
            if self.payload.len() >= self.frame_bytes {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let payload = std::mem::take(&mut self.payload);
        if !payload.is_empty() {
            self.frame(Kind::Part, &payload)?;
        }
        self.payload = payload;
        self.payload.clear();
        Ok(())
    }

    fn end(mut self, hash: StateHash) -> io::Result<()> {
        self.flush()?;
        let last = pb::Snapshot {
            state_hash: hash.as_bytes().to_vec(),
            ..pb::Snapshot::default()
        };
        self.open(Kind::End, &last.encode_to_vec())?;
        let digest = self.hasher.clone().finish();
        self.sink.write_all(digest.as_bytes())?;
        self.sink.flush()
    }
}

/// A snapshot that was read.
#[derive(Debug)]
pub struct ReadSnapshot {
    /// What its writer gave it on its way; empty where there is none (format 1).
    pub label: Vec<u8>,
    /// The state, whose integrity hash and invariants hold.
    pub state: ControlState,
}

/// Reads a snapshot of any format, to its end. A state that is damaged or impossible is an error, and never given out.
/// Takes memory for the state and one frame; a snapshot of format 1 is read whole.
pub fn read_snapshot(mut source: impl Read) -> Result<ReadSnapshot, CodecError> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    source.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    match format(&head)? {
        1 => {
            source.read_to_end(&mut head)?;
            let state = decode(&head)?;
            Ok(ReadSnapshot {
                label: Vec::new(),
                state,
            })
        }
        FORMAT => Reader::after(&head, source).read(),
        shown => Err(CodecError::Format {
            what: "snapshot",
            shown,
        }),
    }
}

/// Reads a snapshot of any format from memory, as [`read_snapshot`] does.
pub fn decode_snapshot(bytes: &[u8]) -> Result<ControlState, CodecError> {
    read_snapshot(bytes).map(|read| read.state)
}

/// The label of a snapshot in frames, for whoever keeps it as bytes: nothing behind it is looked at.
pub fn read_label(mut source: impl Read) -> Result<Vec<u8>, CodecError> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    source.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    match format(&head)? {
        FORMAT => Reader::after(&head, source).label(),
        shown => Err(CodecError::Format {
            what: "snapshot",
            shown,
        }),
    }
}

fn format(head: &[u8]) -> Result<u32, CodecError> {
    if !head.starts_with(&MAGIC[..head.len().min(MAGIC.len())]) {
        return Err(CodecError::NoSnapshot);
    }
    match head.last_chunk::<4>() {
        Some(format) if head.len() == HEAD_BYTES => Ok(u32::from_be_bytes(*format)),
        _ => Err(CodecError::Length {
            shown: head.len() as u64,
            needed: HEAD_BYTES as u64,
        }),
    }
}

struct Reader<R> {
    source: R,
    hasher: DigestHasher,
    offset: u64,
}

impl<R: Read> Reader<R> {
    fn after(head: &[u8], source: R) -> Self {
        let mut hasher = DigestHasher::new();
        hasher.update(head);
        Self {
            source,
            hasher,
            offset: head.len() as u64,
        }
    }

    fn read(mut self) -> Result<ReadSnapshot, CodecError> {
        let label = self.label()?;
        let (at, kind, payload) = self.frame()?;
        check(at, kind == Kind::Part, "has no records, and must have the first")?;
        let mut part = decode_part(at, &payload)?;
        let mut state = begin(&mut part).map_err(|e| e.inside("snapshot"))?;
        let hash = loop {
            absorb(&mut state, part).map_err(|e| e.inside("snapshot"))?;
            let (at, kind, payload) = self.frame()?;
            check(at, kind != Kind::Label, "is a label, and not the first")?;
            part = decode_part(at, &payload)?;
            if kind == Kind::End {
                break part.state_hash;
            }
        };
        self.ends()?;
        let state = finish(state)?;
        let computed = state.state_hash();
        if hash != computed.as_bytes() {
            return Err(CodecError::StateHash { computed });
        }
        Ok(ReadSnapshot { label, state })
    }

    fn label(&mut self) -> Result<Vec<u8>, CodecError> {
        let (at, kind, label) = self.frame()?;
        check(at, kind == Kind::Label, "is no label, and must be the first")?;
        Ok(label)
    }

    /// The next frame, and where it begins.
    fn frame(&mut self) -> Result<(u64, Kind, Vec<u8>), CodecError> {
        let at = self.offset;
        let head = self.bytes(at, 1 + 4)?;
        let (kind, length) = match head.as_slice() {
            [kind, a, b, c, d] => (Kind::of(*kind), u32::from_be_bytes([*a, *b, *c, *d]) as usize),
            _ => (None, 0),
        };
        let Some(kind) = kind else {
            return Err(damaged(at, "is of no kind that there is"));
        };
        check(at, length <= FRAME_BYTES_MAX, "says that it is longer than any")?;
        let payload = self.bytes(at, length)?;
        let expected = self.hasher.clone().finish();
        let shown = match kind {
            Kind::Label | Kind::Part => self.bytes(at, CHECK_BYTES)?,
            Kind::End => self.bytes(at, expected.as_bytes().len())?,
        };
        let whole = expected.as_bytes().starts_with(&shown);
        check(at, whole, "does not match its check, or another was before it")?;
        Ok((at, kind, payload))
    }

    /// Exactly so many bytes of the frame that begins at `at`.
    fn bytes(&mut self, at: u64, count: usize) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::new();
        self.source.by_ref().take(count as u64).read_to_end(&mut bytes)?;
        self.offset += bytes.len() as u64;
        if bytes.len() < count {
            let problem = format!("is cut: the snapshot ends at offset {}", self.offset);
            return Err(CodecError::Frame { offset: at, problem });
        }
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    fn ends(&mut self) -> Result<(), CodecError> {
        let mut behind = Vec::new();
        self.source.by_ref().take(1).read_to_end(&mut behind)?;
        if behind.is_empty() {
            return Ok(());
        }
        Err(CodecError::Length {
            shown: self.offset + 1,
            needed: self.offset,
        })
    }
}

fn decode_part(offset: u64, payload: &[u8]) -> Result<pb::Snapshot, CodecError> {
    let part = pb::Snapshot::decode(payload);
    part.map_err(|e| damaged(offset, &e.to_string()))
}

fn check(offset: u64, holds: bool, problem: &str) -> Result<(), CodecError> {
    if holds {
        Ok(())
    } else {
        Err(damaged(offset, problem))
    }
}

fn damaged(offset: u64, problem: &str) -> CodecError {
    CodecError::Frame {
        offset,
        problem: problem.to_owned(),
    }
}
