//! Bytes: everything comes back as it was, old bytes are read for ever, damaged ones are refused.

use std::{collections::BTreeSet, fs, path::PathBuf};

use proptest::prelude::*;

use super::{samples, world::World};
use crate::codec::{
    CodecError, FORMAT, decode_entry, decode_reply, decode_snapshot, encode_answer, encode_entry,
    encode_snapshot,
};

/// How many variants these values have, by their names.
fn variants(values: impl Iterator<Item = String>) -> usize {
    let name = |text: String| text.split([' ', '{']).next().unwrap_or_default().to_owned();
    values.map(name).collect::<BTreeSet<_>>().len()
}

fn outcomes() -> Vec<Result<crate::Reply, crate::Rejection>> {
    samples::replies()
        .into_iter()
        .map(Ok)
        .chain(samples::rejections().into_iter().map(Err))
        .collect()
}

#[test]
fn the_samples_have_one_of_everything() {
    assert_eq!(
        variants(samples::entries().iter().map(|e| format!("{:?}", e.command))),
        44
    );
    assert_eq!(variants(samples::replies().iter().map(|r| format!("{r:?}"))), 6);
    assert_eq!(
        variants(samples::rejections().iter().map(|r| format!("{r:?}"))),
        39
    );
}

#[test]
fn entries_and_answers_come_back_as_they_were() {
    for entry in samples::entries() {
        assert_eq!(decode_entry(&encode_entry(&entry)).unwrap(), entry);
    }
    for outcome in outcomes() {
        assert_eq!(decode_reply(&encode_answer(&outcome, FORMAT)).unwrap(), outcome);
    }
}

#[test]
fn a_snapshot_comes_back_as_it_was() {
    let mut world = World::standing();
    world.lines("SetRoleTiming timing=default\nSetRoleTiming timing=fast\nStartPlan kind=FAILOVER target=us/b1#1 epoch=g1.e2");
    let bytes = encode_snapshot(&world.state);
    assert_eq!(decode_snapshot(&bytes).unwrap(), world.state);
    assert_eq!(encode_snapshot(&decode_snapshot(&bytes).unwrap()), bytes);
}

#[test]
fn cut_bytes_are_refused_wherever_they_are_cut() {
    for entry in samples::entries() {
        let bytes = encode_entry(&entry);
        for end in 0..bytes.len() {
            assert!(
                decode_entry(&bytes[..end]).is_err(),
                "{:?} cut at {end}",
                entry.command
            );
        }
    }
    for outcome in outcomes() {
        let bytes = encode_answer(&outcome, FORMAT);
        for end in 0..bytes.len() {
            assert!(decode_reply(&bytes[..end]).is_err(), "{outcome:?} cut at {end}");
        }
    }
    let bytes = encode_snapshot(&World::standing().state);
    for end in 0..bytes.len() {
        assert!(decode_snapshot(&bytes[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn another_format_is_refused_by_name() {
    let entry = encode_entry(&samples::entries()[0]);
    let other = [&[8, 2], &entry[2..]].concat();
    let error = decode_entry(&other).unwrap_err();
    assert!(
        matches!(
            error,
            CodecError::Format {
                what: "entry",
                shown: 2
            }
        ),
        "{error}"
    );
    // Each of the number's four bytes counts.
    for (at, byte, expected) in [(11, 9, 9), (10, 1, 0x101), (9, 1, 0x1_0001), (8, 1, 0x100_0001)] {
        let mut snapshot = encode_snapshot(&World::standing().state);
        snapshot[at] = byte;
        let error = decode_snapshot(&snapshot).unwrap_err();
        let is_named = matches!(error, CodecError::Format { what: "snapshot", shown } if shown == expected);
        assert!(is_named, "{error}");
    }
    assert!(matches!(
        decode_snapshot(&[7; 100]).unwrap_err(),
        CodecError::NoSnapshot
    ));
}

#[test]
fn a_command_of_a_later_release_is_refused_by_field() {
    let entry = encode_entry(&samples::entries()[0]);
    let cut = entry.windows(2).position(|w| w == [0x82, 0x01]).unwrap();
    let later = [&entry[..cut], &[0xfa, 0x3f, 0x00]].concat();
    let error = decode_entry(&later).unwrap_err().to_string();
    assert!(error.contains("field command"), "{error}");
}

#[test]
fn an_impossible_snapshot_is_not_installed() {
    let mut world = World::standing();
    std::sync::Arc::make_mut(&mut world.state.join_order).pop();
    let error = decode_snapshot(&encode_snapshot(&world.state)).unwrap_err();
    assert!(error.to_string().contains("every_region_joined_once"), "{error}");
}

/// The bytes that release 1 wrote. They are decoded for ever; changing the files is a decision, not an update.
#[test]
fn the_bytes_of_release_1_are_still_read() {
    let entries: Vec<_> = samples::entries().iter().map(encode_entry).collect();
    let answers: Vec<_> = outcomes()
        .iter()
        .map(|outcome| encode_answer(outcome, FORMAT))
        .collect();
    let frozen = frozen("entries.hex", &entries);
    assert_eq!(
        frozen
            .iter()
            .map(|b| decode_entry(b).unwrap())
            .collect::<Vec<_>>(),
        samples::entries()
    );
    let frozen_answers = self::frozen("answers.hex", &answers);
    assert_eq!(
        frozen_answers
            .iter()
            .map(|b| decode_reply(b).unwrap())
            .collect::<Vec<_>>(),
        outcomes()
    );
    let state = World::standing().state;
    let snapshot = self::frozen("snapshot.hex", &[encode_snapshot(&state)]);
    assert_eq!(decode_snapshot(&snapshot[0]).unwrap(), state);
}

/// The frozen bytes; written once, where they are missing and `REGENT_UPDATE` is set.
pub(super) fn frozen(name: &str, now: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/compat/v1")
        .join(name);
    if !path.exists() && std::env::var_os("REGENT_UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, now.iter().map(|b| hex(b) + "\n").collect::<String>()).unwrap();
    }
    fs::read_to_string(&path).unwrap().lines().map(unhex).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
pub(super) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(which in 0usize..40, at: prop::sample::Index, bits in 1u8..) {
        let mut bytes = encode_entry(&samples::entries()[which]);
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let _ = decode_entry(&bytes);
        let _ = decode_reply(&bytes);
    }

    #[test]
    fn any_damage_to_a_snapshot_is_seen(at: prop::sample::Index, bits in 1u8..) {
        let mut bytes = self::frozen("snapshot.hex", &[encode_snapshot(&World::standing().state)]).remove(0);
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        prop_assert!(decode_snapshot(&bytes).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>) {
        let _ = (decode_entry(&bytes), decode_reply(&bytes), decode_snapshot(&bytes));
    }
}
