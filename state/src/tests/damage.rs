//! What is still readable after damage, and what an old log means: apply is total, and means the same for ever.

use std::{fs, path::PathBuf};

use proptest::{prelude::*, sample::Index, test_runner::TestRunner};
use types::{Digest, Revision};

use super::{
    bytes::{hex, unhex},
    samples,
    world::World,
};
use crate::{
    ControlState, Entry,
    codec::{self, FORMAT, decode_entry, decode_snapshot, encode_answer, encode_entry, encode_snapshot},
};

/// Bytes of a snapshot before its body.
const HEADER: usize = 8 + 4 + 8 + 32;

/// A header that fits a damaged body, so that what stands behind the digest is tried.
fn with_header(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"RGNTSNAP".to_vec();
    bytes.extend(codec::FORMAT.to_be_bytes());
    bytes.extend((body.len() as u64).to_be_bytes());
    bytes.extend(Digest::of(body).as_bytes());
    bytes.extend(body);
    bytes
}

/// Where, which bit, and whether everything behind it is lost too.
fn damages() -> impl Strategy<Value = Vec<(Index, u8, bool)>> {
    prop::collection::vec((any::<Index>(), 0..8_u8, prop::bool::weighted(0.2)), 1..4)
}

fn damage(bytes: &mut Vec<u8>, damages: &[(Index, u8, bool)]) {
    for (at, bit, cut) in damages {
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if *cut {
            bytes.truncate(at + 1);
        }
    }
}

/// An entry that is nonsense but readable gets an answer, and breaks nothing.
#[test]
fn any_entry_that_can_be_read_can_be_applied() {
    let (entries, standing) = (samples::entries(), World::standing());
    let (mut read, mut runner) = (0, TestRunner::new(ProptestConfig::with_cases(4_000)));
    let result = runner.run(&(any::<Index>(), damages()), |(which, damages)| {
        let mut bytes = encode_entry(&entries[which.index(entries.len())]);
        damage(&mut bytes, &damages);
        if let Ok(entry) = decode_entry(&bytes) {
            let mut world = World::with(standing.state.clone());
            world.apply(&entry);
        }
        Ok(())
    });
    result.unwrap();
    for entry in &entries {
        let mut bytes = encode_entry(entry);
        // The last bit of the last field is a number's or a text's: nearly all of these are readable.
        *bytes.last_mut().unwrap() ^= 1;
        read += u32::from(decode_entry(&bytes).is_ok());
    }
    assert!(
        read > 10,
        "the damage is so heavy that nothing was applied: {read}"
    );
}

/// Behind the digest stand the field checks and the invariants; a state that passes them can be gone on with.
#[test]
fn a_damaged_body_is_refused_or_is_a_state_that_can_be_gone_on_with() {
    let mut world = World::standing();
    world.lines("StartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2");
    let (bytes, entries) = (encode_snapshot(&world.state), samples::entries());
    assert_eq!(with_header(&bytes[HEADER..]), bytes);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(600));
    let result = runner.run(&(any::<Index>(), damages()), |(which, damages)| {
        let mut body = bytes[HEADER..].to_vec();
        damage(&mut body, &damages);
        if let Ok(state) = decode_snapshot(&with_header(&body)) {
            // The revision may be damaged to the last one there is.
            let mut state: ControlState = state;
            let revision = Revision(state.revision().0.saturating_add(1));
            let _ = state.apply(revision, &entries[which.index(entries.len())]);
        }
        Ok(())
    });
    result.unwrap();
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/compat/v1")
}

fn frozen(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// A revision and an entry's bytes a line.
fn frozen_log(name: &str) -> Vec<(Revision, Entry)> {
    let line = |line: &str| {
        let (revision, bytes) = line.split_once(' ').unwrap();
        (
            Revision(revision.parse().unwrap()),
            decode_entry(&unhex(bytes)).unwrap(),
        )
    };
    frozen(name).lines().map(line).collect()
}

/// Two releases run beside each other during an upgrade: from the logs that release 1 wrote, each later one must come
/// to the answers and the state that release 1 came to. Where a rule changes, the feature level must say so.
#[test]
fn the_logs_of_release_1_lead_to_the_same_answers_and_states() {
    for story in ["life", "odds"] {
        let mut state = ControlState::new();
        let mut answers = String::new();
        for (revision, entry) in frozen_log(&format!("{story}.entries")) {
            let applied = state.apply(revision, &entry);
            answers += &hex(&encode_answer(&applied.outcome, FORMAT));
            answers.push('\n');
        }
        if std::env::var_os("REGENT_UPDATE_FROZEN").is_some() {
            // A decision, not an update: the commit that carries the files says why the rule may change.
            fs::write(folder().join(format!("{story}.answers")), &answers).unwrap();
            let snapshot = hex(&encode_snapshot(&state));
            fs::write(folder().join(format!("{story}.snapshot")), snapshot).unwrap();
        }
        assert_eq!(answers, frozen(&format!("{story}.answers")), "{story}");
        let snapshot = unhex(&frozen(&format!("{story}.snapshot")));
        assert!(
            decode_snapshot(&snapshot).unwrap() == state,
            "{story}: another state"
        );
    }
}
