//! What is remembered, and for how long.

use std::{os::unix::fs::OpenOptionsExt as _, sync::mpsc, time::Duration};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use tempfile::TempDir;

use super::*;

fn disk(n: u128) -> DiskId {
    DiskId::from_u128(n)
}

fn heard(boot: u64, term: u64, index: u64) -> Remembered {
    Remembered {
        boot: Some(Boot { count: boot, run: 7 }),
        ballot: Some(Ballot {
            term,
            voted_for: 1,
            elected: true,
        }),
        stored: Some(Stored {
            under: term,
            upto: LogPoint { term, index },
        }),
    }
}

#[test]
fn what_was_heard_stays_over_a_restart_and_never_becomes_less() {
    let dir = TempDir::new().unwrap();
    let memory = Memory::open(dir.path()).unwrap();
    assert_eq!(memory.of(disk(1)), Remembered::default());
    memory.learn(disk(1), heard(2, 5, 90));
    memory.learn(disk(1), heard(1, 4, 99));
    memory.learn(disk(2), heard(9, 9, 9));
    memory.save(&[disk(1), disk(2)].into()).unwrap();
    let again = Memory::open(dir.path()).unwrap();
    assert_eq!(again.of(disk(1)), heard(2, 5, 90));
    // One that is no member's is forgotten with the next save.
    again.save(&[disk(1)].into()).unwrap();
    assert_eq!(
        Memory::open(dir.path()).unwrap().of(disk(2)),
        Remembered::default()
    );
}

#[test]
fn nothing_is_written_without_news() {
    let dir = TempDir::new().unwrap();
    let memory = Memory::open(dir.path()).unwrap();
    memory.save(&[disk(1)].into()).unwrap();
    assert!(!dir.path().join("peers.json").exists());
    memory.learn(disk(1), heard(1, 1, 1));
    files::journal::take();
    memory.save(&[disk(1)].into()).unwrap();
    let done = ["sync peers.json.tmp", "rename peers.json.tmp"];
    assert_eq!(files::journal::take()[..2], done);
    memory.learn(disk(1), heard(1, 1, 1));
    memory.save(&[disk(1)].into()).unwrap();
    assert!(files::journal::take().is_empty());
}

/// Who forgot would let an older disk in.
#[test]
fn a_damaged_memory_is_not_taken_for_an_empty_one() {
    let dir = TempDir::new().unwrap();
    for bytes in ["", "{", r#"{"format":2,"peers":[]}"#] {
        fs::write(dir.path().join("peers.json"), bytes).unwrap();
        let refused = Memory::open(dir.path()).unwrap_err();
        assert!(matches!(refused, StartError::Forgot { .. }), "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("regent cluster replace NODE") && !text.contains("move the file away"),
            "{text}"
        );
    }
}

/// The node that stops would go by what is not on disk yet, and an older file would come after a newer one.
#[test]
fn one_that_saves_waits_for_a_save_that_hangs() {
    let dir = TempDir::new().unwrap();
    let memory = Memory::open(dir.path()).unwrap();
    memory.learn(disk(1), heard(1, 1, 1));
    // Takes for ever to open, because nobody reads from it.
    let (temp, moved) = (dir.path().join("peers.json.tmp"), dir.path().join("moved"));
    mkfifoat(CWD, &temp, Mode::RUSR | Mode::WUSR).unwrap();
    std::thread::scope(|threads| {
        let hanging = threads.spawn(|| memory.save(&[disk(1)].into()));
        while memory.known().changed {
            std::thread::yield_now();
        }
        let (ended, has_ended) = mpsc::channel();
        let memory = &memory;
        threads.spawn(move || ended.send(memory.save(&[disk(1)].into())));
        let early = has_ended.recv_timeout(Duration::from_millis(300));
        // What hangs fails once somebody has read from it; the second finds the name free.
        fs::rename(&temp, &moved).unwrap();
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut reader = fs::OpenOptions::new();
        drop(reader.read(true).custom_flags(flags).open(&moved).unwrap());
        let _ = hanging.join().unwrap();
        assert!(early.is_err(), "it did not wait: {early:?}");
        has_ended.recv().unwrap().unwrap();
    });
    assert_eq!(Memory::open(dir.path()).unwrap().of(disk(1)), heard(1, 1, 1));
}
