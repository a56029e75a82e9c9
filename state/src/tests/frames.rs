//! Snapshots as a stream: what was written comes back, and whatever happened to it is found where it happened.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    path::PathBuf,
};

use super::{
    bytes::{hex, unhex},
    world::World,
};
use crate::{
    ControlState,
    codec::{
        CodecError, decode_snapshot, encode_snapshot, read_label, read_snapshot, write_snapshot,
        write_snapshot_in_frames,
    },
};

const LABEL: &[u8] = b"of whoever wrote it";
/// Small, so that a small state has many frames.
const FRAME: usize = 300;

fn written(state: &ControlState) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_snapshot_in_frames(state, LABEL, &mut bytes, FRAME).unwrap();
    bytes
}

/// Where each frame begins, and where the last ends.
pub(super) fn frames(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut found) = (12, Vec::new());
    while at < bytes.len() {
        found.push(at);
        let length = u32::from_be_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
        at += 1 + 4 + length + if bytes[at] == 3 { 32 } else { 8 };
    }
    found.push(at);
    assert_eq!(at, bytes.len());
    found
}

/// Whoever keeps a snapshot as bytes needs to know how far it reaches, and reads nothing else.
#[test]
fn a_label_is_read_without_what_is_behind_it() {
    let bytes = written(&World::standing().state);
    let behind = frames(&bytes)[1];
    assert_eq!(read_label(&bytes[..behind]).unwrap(), LABEL);
    for (end, flipped) in [
        (behind - 1, None),
        (behind, Some(20)),
        (behind, Some(behind - 1)),
        (5, None),
    ] {
        let mut cut = bytes[..end].to_vec();
        flipped.into_iter().for_each(|at: usize| cut[at] ^= 1);
        assert!(read_label(cut.as_slice()).is_err(), "{end} {flipped:?}");
    }
    let older = encode_snapshot(&ControlState::new());
    assert!(matches!(
        read_label(older.as_slice()),
        Err(CodecError::Format { shown: 1, .. })
    ));
}

#[test]
fn a_stream_comes_back_as_it_was_in_frames_of_any_size() {
    let state = World::standing().state;
    for frame in [1, FRAME, 1 << 20] {
        let mut bytes = Vec::new();
        write_snapshot_in_frames(&state, LABEL, &mut bytes, frame).unwrap();
        let read = read_snapshot(bytes.as_slice()).unwrap();
        assert_eq!((read.label.as_slice(), &read.state), (LABEL, &state), "{frame}");
        assert_eq!(read.state.state_hash(), state.state_hash());
        let mut again = Vec::new();
        write_snapshot_in_frames(&read.state, LABEL, &mut again, frame).unwrap();
        assert!(again == bytes, "{frame}: equal states give equal bytes");
    }
    let empty = ControlState::new();
    assert_eq!(decode_snapshot(&written(&empty)).unwrap(), empty);
    // Either format says the same.
    assert_eq!(
        decode_snapshot(&encode_snapshot(&state)).unwrap(),
        decode_snapshot(&written(&state)).unwrap()
    );
}

/// Where the reader says that a damaged stream is damaged.
fn damaged_at(bytes: &[u8]) -> u64 {
    match read_snapshot(bytes).unwrap_err() {
        CodecError::Frame { offset, .. } => offset,
        CodecError::NoSnapshot | CodecError::Format { .. } => 0,
        CodecError::Length { shown, .. } => shown,
        other @ (CodecError::Protobuf(_)
        | CodecError::Malformed { .. }
        | CodecError::Digest { .. }
        | CodecError::StateHash { .. }
        | CodecError::Io(_)
        | CodecError::Broken(_)) => panic!("{other}"),
    }
}

/// What people are told: where the damage begins, where it has a place.
#[test]
fn damage_says_where_it_was_met() {
    let length = |shown, needed| CodecError::Length { shown, needed }.offset();
    assert_eq!(
        (length(7, 9), length(9, 7), length(8, 8)),
        (Some(7), Some(7), Some(8))
    );
    let problem = || "is cut".to_owned();
    let frame = CodecError::Frame {
        offset: 5,
        problem: problem(),
    };
    let malformed = CodecError::Malformed {
        field: "nodes".to_owned(),
        problem: problem(),
    };
    let told = [
        CodecError::NoSnapshot,
        CodecError::Digest { offset: 52 },
        frame,
        malformed,
    ];
    assert_eq!(told.map(|e| e.offset()), [Some(0), Some(52), Some(5), None]);
}

#[test]
fn a_changed_bit_is_found_in_the_frame_that_it_is_in() {
    let bytes = written(&World::standing().state);
    let starts = frames(&bytes);
    assert!(starts.len() > 10, "{starts:?}");
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let frame = starts.iter().rev().find(|start| **start <= at).copied();
        assert_eq!(damaged_at(&bad), frame.unwrap_or(0) as u64, "byte {at}");
    }
}

#[test]
fn a_cut_is_found_in_the_frame_that_is_cut_and_what_is_behind_the_end_too() {
    let bytes = written(&World::standing().state);
    let starts = frames(&bytes);
    for end in 0..bytes.len() {
        let frame = starts.iter().rev().find(|start| **start <= end);
        // Of the head, only its length is known.
        let expected = frame.copied().unwrap_or(end);
        assert_eq!(damaged_at(&bytes[..end]), expected as u64, "cut at {end}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(damaged_at(&longer), longer.len() as u64);
}

#[test]
fn frames_that_were_moved_left_out_or_repeated_are_found() {
    let bytes = written(&World::standing().state);
    let starts = frames(&bytes);
    let frame = |n: usize| &bytes[starts[n]..starts[n + 1]];
    let count = starts.len() - 1;
    // The label and the frame with the scalars come first, the end last.
    for n in 0..count - 1 {
        let with = |parts: &[&[u8]]| [&bytes[..starts[n]], &parts.concat(), &bytes[starts[n + 2]..]].concat();
        let swapped = with(&[frame(n + 1), frame(n)]);
        assert_eq!(damaged_at(&swapped), starts[n] as u64, "{n} behind the next");
        assert_eq!(
            damaged_at(&with(&[frame(n + 1)])),
            starts[n] as u64,
            "without {n}"
        );
        let twice = with(&[frame(n), frame(n), frame(n + 1)]);
        assert_eq!(damaged_at(&twice), starts[n + 1] as u64, "{n} twice");
    }
}

/// Bytes that are all as they were written, of a state that another build would have come to.
#[test]
fn a_state_that_does_not_have_the_hash_it_was_written_with_is_refused() {
    let mut state = World::standing().state;
    let honest = state.state_hash();
    state.regions.forge_sum();
    assert_ne!(state.state_hash(), honest);
    let mut bytes = Vec::new();
    write_snapshot(&state, LABEL, &mut bytes).unwrap();
    let error = read_snapshot(bytes.as_slice()).unwrap_err();
    assert!(
        matches!(error, CodecError::StateHash { computed } if computed == honest),
        "{error}"
    );
}

#[test]
fn an_impossible_state_is_not_read_from_a_stream_either() {
    let mut state = World::standing().state;
    state.join_order = std::sync::Arc::default();
    let error = decode_snapshot(&written(&state)).unwrap_err();
    assert!(error.to_string().contains("every_region_joined_once"), "{error}");
}

/// A disk with room for so many bytes.
struct Disk(usize);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = bytes.len().min(self.0);
        self.0 -= written;
        if written == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_is_full() {
    let state = World::standing().state;
    let size = written(&state).len();
    for room in 0..size {
        let error = write_snapshot_in_frames(&state, LABEL, Disk(room), FRAME).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room}");
    }
    write_snapshot_in_frames(&state, LABEL, Disk(size), FRAME).unwrap();
}

/// The bytes that format 2 began with. They are read for ever.
#[test]
fn the_first_streams_are_still_read() {
    let state = World::standing().state;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/compat/v2/snapshot.hex");
    if !path.exists() && std::env::var_os("REGENT_UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, hex(&written(&state)) + "\n").unwrap();
    }
    let frozen = unhex(fs::read_to_string(&path).unwrap().trim());
    let read = read_snapshot(frozen.as_slice()).unwrap();
    assert_eq!((read.label.as_slice(), read.state), (LABEL, state));
    // Every table has a frame of its own records in there.
    assert!(frames(&frozen).len() > 10);
    assert_eq!(
        frames(&frozen).into_iter().collect::<BTreeSet<_>>().len(),
        frames(&frozen).len()
    );
}
