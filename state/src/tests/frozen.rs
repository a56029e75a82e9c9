//! What each feature level wrote, kept in `testdata/compat/levelN`: its log, its answers, its snapshot and its hash.
//!
//! The files are made once, from the script of the level, and read for ever. Where the codec, the hash or a rule has come to mean
//! something else by them, the tests here fail; so they do where a record or a field has come that no frozen snapshot has.

use std::{fs, path::PathBuf, time::Duration};

use types::Revision;

use super::{
    bytes::{hex, unhex},
    coverage::Coverage,
    frames::frames,
    scripts::commands,
    world::World,
};
use crate::{
    ControlState,
    codec::{self, FORMAT, encode_answer, encode_entry, read_snapshot, write_snapshot_in_frames},
    features::SUPPORTED,
    requests::RequestTable,
};

/// The levels whose bytes are kept, each with the script of the state that has one of everything. Whoever raises [`SUPPORTED`]
/// adds a line, with a script that sets what the new level brings, and has the files written by `REGENT_UPDATE=1`.
const LEVELS: [(u32, &str); 1] = [(12, include_str!("../../testdata/scripts/level12.txt"))];

const LABEL: &[u8] = b"one of everything";
/// Small, so that most tables have frames of their own.
const FRAME: usize = 1_000;

/// The state that these lives begin with: it forgets soon, so that there is a floor under the request ids.
pub(super) fn forgetful() -> ControlState {
    ControlState::with_limits(RequestTable::with_limits(90, Duration::from_secs(3)), 5)
}

fn folder(level: u32) -> PathBuf {
    let compat = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/compat");
    compat.join(format!("level{level}"))
}

fn frozen(level: u32, name: &str) -> String {
    let path = folder(level).join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}; REGENT_UPDATE=1 writes it", path.display()))
}

/// Writes the files of a level from its script, where there are none.
fn freeze(level: u32, script: &str) {
    if folder(level).exists() || std::env::var_os("REGENT_UPDATE").is_none() {
        return;
    }
    let mut world = World::with(forgetful());
    let (mut entries, mut answers) = (String::new(), String::new());
    for line in commands(script) {
        if let Some(applied) = world.line(line) {
            let (revision, entry) = (world.state.revision(), world.last.as_ref().unwrap());
            entries += &format!("{} {}\n", revision.0, hex(&encode_entry(entry)));
            answers += &(hex(&encode_answer(&applied.outcome, FORMAT)) + "\n");
        }
    }
    fs::create_dir_all(folder(level)).unwrap();
    let state = &world.state;
    for (name, text) in [
        ("life.entries", entries),
        ("life.answers", answers),
        ("life.snapshot", hex(&written(state)) + "\n"),
        ("life.hash", format!("{}\n", state.state_hash())),
    ] {
        fs::write(folder(level).join(name), text).unwrap();
    }
}

fn written(state: &ControlState) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_snapshot_in_frames(state, LABEL, &mut bytes, FRAME).unwrap();
    bytes
}

/// A revision and an entry's bytes a line.
fn entries(level: u32) -> Vec<(Revision, Vec<u8>)> {
    let text = frozen(level, "life.entries");
    let line = |line: &str| {
        let (revision, bytes) = line.split_once(' ').unwrap();
        (Revision(revision.parse().unwrap()), unhex(bytes))
    };
    text.lines().map(line).collect()
}

fn lines(level: u32, name: &str) -> Vec<Vec<u8>> {
    frozen(level, name).lines().map(unhex).collect()
}

#[test]
fn what_a_level_wrote_means_the_same_for_ever() {
    for (level, script) in LEVELS {
        freeze(level, script);
        let mut state = forgetful();
        let answers = lines(level, "life.answers");
        for ((revision, bytes), answer) in entries(level).iter().zip(&answers) {
            let entry = codec::read_entry(bytes).unwrap();
            assert_eq!(&encode_entry(entry.entry()), bytes, "{:?}", entry.entry());
            let outcome = state.apply_read(*revision, &entry).outcome;
            assert_eq!(
                &encode_answer(&outcome, FORMAT),
                answer,
                "{:?}: {outcome:?}",
                entry.entry()
            );
        }
        let bytes = lines(level, "life.snapshot").remove(0);
        let read = read_snapshot(bytes.as_slice()).unwrap();
        assert_eq!(read.label, LABEL);
        let (dumped, expected) = (crate::dump::dump(&read.state), crate::dump::dump(&state));
        assert_eq!(
            dumped, expected,
            "level {level}: the log says one thing, and the snapshot another"
        );
        assert_eq!(read.state, state, "level {level}");
        assert!(
            written(&state) == bytes,
            "level {level}: the state has other bytes"
        );
        assert_eq!(state.features().level(), level);
        let hash = frozen(level, "life.hash");
        assert_eq!(state.state_hash().to_string(), hash.trim(), "level {level}");
        assert_eq!(
            state.hash_from_scratch().to_string(),
            hash.trim(),
            "level {level}"
        );
    }
}

/// The body of a stream of frames: `Snapshot`, in as many pieces as there are frames behind the label.
fn body(bytes: &[u8]) -> Vec<u8> {
    let starts = frames(bytes);
    let payload = |at: &usize| {
        let length = u32::from_be_bytes(bytes[at + 1..at + 5].try_into().unwrap()) as usize;
        &bytes[at + 5..at + 5 + length]
    };
    let parts: Vec<_> = starts[1..starts.len() - 1].iter().map(payload).collect();
    parts.concat()
}

/// What no state of the newest level can have, and why.
const NEVER_IN_A_SNAPSHOT: [(&str, &str); 0] = [];

#[test]
fn the_newest_levels_snapshot_has_every_record_every_field_and_every_value_of_an_enum() {
    let newest = LEVELS.last().unwrap().0;
    assert_eq!(newest, SUPPORTED, "freeze what the new level writes: see LEVELS");
    let mut coverage = Coverage::new();
    coverage.take("Snapshot", &body(&lines(newest, "life.snapshot").remove(0)));
    let exempt = NEVER_IN_A_SNAPSHOT.map(|(what, _)| what.to_owned());
    assert_eq!(
        coverage.missing("Snapshot"),
        exempt,
        "neither in the frozen snapshot nor exempt"
    );
}

/// One of every command and every answer stands in the samples, which release 1 began, and the newest level's life has what these
/// leave out. Which plan or version a refusal tells of matters little, so what the snapshot has counts too.
#[test]
fn every_field_of_an_entry_and_of_an_answer_is_frozen() {
    let mut coverage = Coverage::new();
    let samples = |name| super::bytes::frozen(name, &[]);
    let life = entries(SUPPORTED).into_iter().map(|(_, bytes)| bytes);
    for bytes in samples("entries.hex").into_iter().chain(life) {
        coverage.take("Entry", &bytes);
    }
    for bytes in [samples("answers.hex"), lines(SUPPORTED, "life.answers")].concat() {
        coverage.take("Outcome", &bytes);
    }
    coverage.take("Snapshot", &body(&lines(SUPPORTED, "life.snapshot").remove(0)));
    for root in ["Entry", "Outcome"] {
        assert_eq!(coverage.missing(root), [""; 0], "{root}");
    }
}
