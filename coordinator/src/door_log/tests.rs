//! The door log over bounds, restarts and crashes.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;
use crate::raft::files::journal;

fn record() -> DoorRecord {
    DoorRecord {
        role: RoleName::global(),
        shown: Epoch::new(1, 2),
        shown_holder: Holder {
            region: "r".parse().unwrap(),
            node: "a".parse().unwrap(),
            incarnation: types::NodeIncarnation::from_u128(1),
        },
        current: Epoch::new(1, 3),
        holder: None,
        accepted: false,
        reason: Some(Reason::StaleEpoch),
    }
}

/// Room for three lines.
const SMALL: u64 = 700;

fn fresh() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(FILE_NAME);
    (dir, path)
}

/// A start, and the replay of these revisions.
fn replay(path: &Path, revisions: impl IntoIterator<Item = u64>) {
    let mut log = DoorLog::rotating_at(path, SMALL).unwrap();
    for revision in revisions {
        log.append(Revision(revision), record()).unwrap();
    }
    log.flush().unwrap();
}

fn revisions(path: &Path) -> Vec<u64> {
    read(path).unwrap().iter().map(|line| line.revision.0).collect()
}

/// Lines as they stand in both files.
fn lines_on_disk(path: &Path) -> usize {
    let files = [fs::read(path), fs::read(older(path))];
    let ends = files.iter().flatten().flatten().filter(|b| **b == b'\n');
    ends.count()
}

#[test]
fn a_log_is_put_aside_at_its_bound_and_replay_repeats_nothing_of_either_file() {
    let (_dir, path) = fresh();
    for upto in 1..=40_u64 {
        // As after a restart: the entries since the last snapshot are applied again.
        replay(&path, upto.saturating_sub(6).max(1)..=upto);
        let kept = revisions(&path);
        let first = kept[0];
        assert_eq!(kept, (first..=upto).collect::<Vec<_>>());
        assert!(kept.len() as u64 >= upto.min(3), "{kept:?}");
        assert_eq!(lines_on_disk(&path), kept.len());
        for file in [path.clone(), older(&path)].iter().filter(|f| f.exists()) {
            let size = fs::metadata(file).unwrap().len();
            assert!(size < SMALL * 2, "{} has {size} bytes", file.display());
        }
    }
    assert!(revisions(&path)[0] > 1, "what was put aside is replaced");
}

/// Replay fills the holes of the newer file alone, and a sync says nothing of a name.
#[test]
fn what_is_put_aside_is_synced_first_and_every_name_is_durable() {
    let (dir, path) = fresh();
    let dir = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    journal::take();
    let mut log = DoorLog::rotating_at(&path, 1).unwrap();
    log.append(Revision(1), record()).unwrap();
    assert_eq!(journal::take(), [format!("sync {dir}")]);
    log.append(Revision(2), record()).unwrap();
    let expected = [
        format!("sync {FILE_NAME}"),
        format!("sync {dir}"),
        format!("rename {FILE_NAME}"),
        format!("sync {dir}"),
        format!("rename {FILE_NAME}.tmp"),
        format!("sync {dir}"),
    ];
    assert_eq!(journal::take(), expected);
}

#[test]
fn a_crash_between_the_two_names_loses_and_repeats_nothing() {
    let (_dir, path) = fresh();
    replay(&path, 1..=5);
    fs::rename(&path, older(&path)).unwrap();
    assert_eq!(revisions(&path).last(), Some(&5), "read in between");
    replay(&path, 3..=7);
    let kept = revisions(&path);
    assert_eq!(kept, (kept[0]..=7).collect::<Vec<_>>());
    assert_eq!(lines_on_disk(&path), kept.len());
}

#[test]
fn what_stands_behind_a_hole_is_written_again() {
    let (_dir, path) = fresh();
    replay(&path, 1..=3);
    fs::rename(&path, older(&path)).unwrap();
    replay(&path, 4..=6);
    let before = read(&path).unwrap();
    let newer = fs::read(&path).unwrap();
    let second_line = newer.iter().position(|b| *b == b'\n').unwrap() + 1;
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 50], second_line as u64).unwrap();
    assert!(read(&path).is_err());
    replay(&path, 1..=6);
    assert_eq!(read(&path).unwrap(), before);
}

/// A start holds one line in memory, whatever stands there.
#[test]
fn zeros_without_an_end_are_cut() {
    let (_dir, path) = fresh();
    let line = usize::try_from(LINE_MAX).unwrap();
    for zeros in [10, line, line * 3 + 1] {
        fs::write(&path, vec![0; zeros]).unwrap();
        // Less may be a line that is being written.
        assert_eq!(read(&path).is_err(), zeros >= line, "{zeros}");
        replay(&path, 1..=2);
        assert_eq!(revisions(&path), [1, 2], "{zeros}");
        fs::remove_file(&path).unwrap();
    }
}

/// A reader had opened the file when it was put aside.
#[test]
fn a_file_that_is_read_under_both_names_counts_once() {
    let (_dir, path) = fresh();
    replay(&path, 1..=3);
    fs::copy(&path, older(&path)).unwrap();
    assert_eq!(revisions(&path), [1, 2, 3]);
    let below_a_file = read(path.join("x")).unwrap_err();
    assert_ne!(below_a_file.kind(), io::ErrorKind::NotFound, "{below_a_file}");
    let (_dir, nowhere) = fresh();
    assert_eq!(read(&nowhere).unwrap_err().kind(), io::ErrorKind::NotFound);
}

/// Only what was read and is no line is a hole: what a bad disk holds back is not cut.
#[test]
fn a_disk_that_fails_is_no_hole() {
    struct Bad;
    impl io::Read for Bad {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("a bad sector"))
        }
    }
    assert!(last_whole(Bad).is_err());
}

/// A snapshot may stand for the entries of what would be cut, and then nothing could write it again.
#[test]
fn lines_of_another_version_are_not_cut() {
    let (_dir, path) = fresh();
    replay(&path, [1]);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str(
        &text
            .replace("\"accepted\"", "\"weight\":1,\"accepted\"")
            .replace("\"revision\":1", "\"revision\":2"),
    );
    fs::write(&path, &text).unwrap();
    let refused = DoorLog::open(&path).unwrap_err().to_string();
    assert!(
        refused.contains("another version") && refused.contains("weight"),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}
