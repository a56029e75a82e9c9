//! The door's log: whole lines on failing disks, and what is read of it at start.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use super::records::*;
use crate::door_log::{self, DoorLog, DoorRecord, DoorVerdict, Lines, Medium};

/// A disk with room for so many bytes, which may also refuse to cut.
#[derive(Default)]
struct Small {
    bytes: Vec<u8>,
    room: usize,
    cut_fails: bool,
}

impl Write for &mut Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.room - self.bytes.len());
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Medium for &mut Small {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        if self.cut_fails {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.bytes.truncate(usize::try_from(len).unwrap());
        Ok(())
    }
}

#[test]
fn a_line_that_a_full_disk_tore_is_taken_back() {
    let mut disk = Small {
        room: 12,
        ..Small::default()
    };
    let mut lines = Lines::new(&mut disk, 0);
    lines.append(b"first\n").unwrap();
    let full = lines.append(b"second\n").unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    // What is short enough still has room.
    lines.append(b"third\n").unwrap();
    assert_eq!(disk.bytes, b"first\nthird\n");
}

#[test]
fn nothing_follows_half_a_line_that_cannot_be_cut() {
    let mut disk = Small {
        room: 8,
        cut_fails: true,
        ..Small::default()
    };
    let mut lines = Lines::new(&mut disk, 0);
    lines.append(b"first\n").unwrap();
    lines.append(b"second\n").unwrap_err();
    let refused = lines.append(b"x\n").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(disk.bytes, b"first\nse");
}

#[test]
fn a_line_that_was_taken_back_is_followed_by_none_until_it_is_cut() {
    let mut disk = Small {
        room: 40,
        ..Small::default()
    };
    let mut lines = Lines::new(&mut disk, 0);
    lines.append(b"first\n").unwrap();
    lines.append(b"second\n").unwrap();
    lines.take_back(6);
    lines.append(b"third\n").unwrap();
    assert_eq!(disk.bytes, b"first\nthird\n");
    disk.cut_fails = true;
    let mut lines = Lines::new(&mut disk, 12);
    lines.take_back(6);
    lines.append(b"fourth\n").unwrap_err();
    assert_eq!(disk.bytes, b"first\nthird\n");
}

fn record() -> DoorRecord {
    DoorRecord {
        seq: 0,
        unix_micros: 7,
        method: "ServeVersion".to_owned(),
        role: types::RoleName::global(),
        shown: epoch(2),
        shown_holder: me(),
        floor_before: None,
        floor_holder: None,
        verdict: DoorVerdict::Accepted,
        reason: None,
    }
}

fn seqs(path: &Path) -> Vec<u64> {
    door_log::read(path).unwrap().iter().map(|r| r.seq).collect()
}

#[test]
fn a_start_reads_the_end_of_a_log_and_cuts_a_torn_line_of_any_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = door_log::path_in(dir.path());
    let mut log = DoorLog::open(&path).unwrap();
    for seq in 1..=200 {
        assert_eq!(log.append(record()).unwrap(), seq);
    }
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 40_000, "longer than what is read first");
    let mut torn = whole.clone();
    torn.extend_from_slice(&[0; 50_000]);
    // A start does not look at what is long past.
    torn[0] = b'#';
    fs::write(&path, &torn).unwrap();
    assert_eq!(DoorLog::open(&path).unwrap().append(record()).unwrap(), 201);
    assert_eq!(fs::read(&path).unwrap()[1..whole.len()], whole[1..]);
    for torn in [&b"{\"seq\":1"[..], b""] {
        fs::write(&path, torn).unwrap();
        assert_eq!(DoorLog::open(&path).unwrap().append(record()).unwrap(), 1);
        assert_eq!(seqs(&path), [1]);
    }
    fs::write(&path, b"no record\n").unwrap();
    let refused = DoorLog::open(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_long_log_is_put_aside_once_and_its_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = door_log::path_in(dir.path());
    let line = serde_json::to_vec(&record()).unwrap().len() as u64 + 1;
    let open = || DoorLog::rotating_at(&path, line * 2).unwrap();
    let mut log = open();
    for _ in 1..=5 {
        log.append(record()).unwrap();
    }
    assert_eq!(
        (seqs(&door_log::older(&path)), seqs(&path)),
        (vec![3, 4], vec![5])
    );
    let mut log = open();
    log.append(record()).unwrap();
    assert_eq!(log.append(record()).unwrap(), 7);
    assert_eq!(
        (seqs(&door_log::older(&path)), seqs(&path)),
        (vec![5, 6], vec![7])
    );
    // A kill between the two steps of a rotation leaves no newer file.
    fs::rename(&path, door_log::older(&path)).unwrap();
    assert_eq!(open().append(record()).unwrap(), 8);
}

#[test]
fn the_record_of_an_effect_is_there_before_it_and_goes_again_if_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = door_log::path_in(dir.path());
    let line = serde_json::to_vec(&record()).unwrap().len() as u64 + 1;
    // Each log holds two lines.
    let mut log = DoorLog::rotating_at(&path, line * 2).unwrap();
    let failing = || Err::<(), _>("no");
    for (last, next) in [(0, 1), (1, 2), (2, 3)] {
        assert_eq!(log.carry_out(record(), failing).unwrap(), Err("no"));
        assert!(seqs(&path).last().is_none_or(|seq| *seq == last));
        let seen = log.carry_out(record(), || Ok::<_, ()>(seqs(&path))).unwrap();
        assert_eq!(seen.unwrap().last(), Some(&next));
    }
    assert_eq!(
        (seqs(&door_log::older(&path)), seqs(&path)),
        (vec![1, 2], vec![3])
    );
    let mut full = DoorLog::read_only(&path).unwrap();
    let unheard = full.carry_out(record(), || -> Result<(), ()> {
        panic!("it is not written down")
    });
    unheard.unwrap_err();
}
