//! Opening and closing, what a handle refuses, and what it reads.

use super::{Still, all, entry, id, indexes, small};
use crate::{AppendError, Config, OpenError, disk::Disk as _, faulty::FaultyDisk, pool::Prepared};

#[test]
fn an_append_that_leaves_a_hole_or_fits_nowhere_is_refused_and_changes_nothing() {
    let mut still = Still::open(&FaultyDisk::new()).unwrap();
    // The first entry of a log may have any index.
    still.append(vec![entry(1, 5, [1]), entry(1, 6, [1])]);
    let log = still.log.clone();
    let refused = |entries| log.append(entries, Box::new(|_| unreachable!())).unwrap_err();
    for index in [5, 6, 8] {
        let expected = AppendError::Hole {
            expected: 7,
            found: index,
        };
        assert_eq!(refused(vec![entry(1, index, [1])]), expected);
    }
    let second = AppendError::Hole {
        expected: 8,
        found: 9,
    };
    assert_eq!(refused(vec![entry(1, 7, [1]), entry(1, 9, [1])]), second);
    let max = small().payload_max();
    let large = AppendError::TooLarge { bytes: max + 1, max };
    assert_eq!(refused(vec![entry(1, 7, vec![0; max + 1])]), large);
    still.append(vec![entry(1, 7, vec![0; max])]);
    still.write_all();
    assert_eq!(indexes(&still.log), [5, 6, 7]);
}

#[test]
fn the_largest_payload_fits_behind_the_largest_beginning() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    still.log.save_vote(vec![7; 1000].into(), Box::new(|_| {}));
    for index in 0..5 {
        still.append(vec![entry(1, index, vec![3; small().payload_max()])]);
        still.log.set_committed(id(1, index));
        still.write_all();
    }
    let still = Still::open(&disk).unwrap();
    assert_eq!(indexes(&still.log), [0, 1, 2, 3, 4]);
    assert_eq!(still.log.vote(), Some(vec![7; 1000].into()));
    assert_eq!(still.log.committed(), Some(id(1, 4)));
}

#[test]
fn what_is_committed_is_written_with_the_next_batch_or_the_mark_and_never_above_the_log() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    still.append(vec![entry(1, 0, [1])]);
    still.write_all();
    let operations = disk.operations();
    still.log.set_committed(id(1, 0));
    still.write_all();
    assert_eq!(disk.operations(), operations, "no sync of its own");
    assert_eq!(Still::open(&disk.copy()).unwrap().log.committed(), None);
    assert!(!still.writer.is_marked());
    still.writer.mark().unwrap();
    assert!(still.writer.is_marked());
    assert_eq!(Still::open(&disk.copy()).unwrap().log.committed(), Some(id(1, 0)));
    // The next batch overwrites the mark.
    still.append(vec![entry(1, 1, [1])]);
    still.write_all();
    assert_eq!(Still::open(&disk.copy()).unwrap().log.committed(), Some(id(1, 0)));
    // A snapshot may commit what the log has not.
    still.log.set_committed(id(1, 9));
    still.append(vec![entry(1, 2, [1])]);
    still.write_all();
    still.writer.mark().unwrap();
    assert_eq!(Still::open(&disk).unwrap().log.committed(), Some(id(1, 0)));
}

#[test]
fn a_directory_of_the_former_format_is_named_and_left_alone() {
    let disk = FaultyDisk::new();
    let former = "r-00_000_000_000_000_000_000.wal";
    disk.put(former, b"raft-log");
    match Still::open(&disk).err().unwrap() {
        OpenError::Foreign { path } => assert_eq!(path, disk.path().join(former)),
        error => panic!("{error}"),
    }
    assert_eq!(disk.list().unwrap(), [former]);
}

#[test]
fn a_later_format_is_refused_by_its_number() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    still.append(vec![entry(1, 0, [1])]);
    still.write_all();
    let mut bytes = disk.read("000000000001.seg").unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    disk.put("000000000001.seg", &bytes);
    let error = Still::open(&disk).err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::OtherVersion {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn purged_segments_are_used_again_and_an_idle_log_holds_few() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    for index in 0..200 {
        still.append(vec![entry(1, index, [9; 1000])]);
        still.write_all();
        if index % 10 == 9 {
            still.log.purge(id(1, index - 2), Box::new(|_| {}));
            still.write_all();
            while still.log.pool().turn() != Ok(Prepared::Idle) {}
        }
    }
    let names = disk.list().unwrap();
    assert!(names.len() <= 6, "{names:?}");
    let opened = Still::open(&disk).unwrap();
    assert_eq!(indexes(&opened.log), [198, 199]);
    assert_eq!(opened.log.purged(), Some(id(1, 197)));
}

#[test]
fn a_range_is_read_from_memory_and_disk_up_to_a_bound_of_bytes() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    for index in 3..30 {
        still.append(vec![entry(2, index, [index.to_le_bytes()[0]; 200])]);
        still.write_all();
    }
    let read = |from, to, bytes| {
        let entries = still.log.read(from, to, bytes).unwrap();
        entries.iter().map(|e| e.id.index).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 6, usize::MAX), [3, 4, 5]);
    assert_eq!(read(28, 99, usize::MAX), [28, 29]);
    assert_eq!(read(4, 30, 650), [4, 5, 6]);
    assert_eq!(read(4, 30, 0), [4], "at least one");
    assert_eq!(read(9, 9, 100), [0; 0]);
    assert_eq!(read(30, 40, 100), [0; 0]);
    assert!(still.log.read_cached(3, 30, usize::MAX).is_none());
    assert_eq!(still.log.read_cached(28, 30, usize::MAX).unwrap().len(), 2);
    assert!(still.log.cached_bytes() <= small().cache_bytes);
    assert_eq!(all(&still.log)[4].payload, vec![7; 200]);
}

#[test]
fn another_segment_size_takes_effect_with_new_segments() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    for index in 0..20 {
        still.append(vec![entry(1, index, [9; 1000])]);
        still.write_all();
    }
    let config = Config {
        segment_bytes: 64 << 10,
        ..small()
    };
    let mut still = Still::open_with(&disk, config).unwrap();
    for index in 20..120 {
        still.append(vec![entry(1, index, [9; 1000])]);
        still.write_all();
    }
    assert_eq!(indexes(&Still::open(&disk).unwrap().log).len(), 120);
}

#[test]
fn entries_are_known_by_their_ids_from_the_first_on() {
    let mut still = Still::open(&FaultyDisk::new()).unwrap();
    still.append((0..4).map(|index| entry(1, index, [1])).collect());
    still.append(vec![entry(2, 4, [1])]);
    still.log.purge(id(1, 1), Box::new(|r| r.unwrap()));
    let view = still.log.view();
    let known = |ids: &[(u64, u64)]| view.known(ids.iter().map(|(term, index)| id(*term, *index)));
    assert_eq!(known(&[]), 0);
    assert_eq!(known(&[(1, 2), (1, 3), (2, 4)]), 3);
    assert_eq!(known(&[(1, 3), (2, 4), (2, 5)]), 2, "the last one is new");
    assert_eq!(
        known(&[(1, 3), (1, 4), (2, 5)]),
        1,
        "another leader's stands there"
    );
    assert_eq!(known(&[(2, 3), (2, 4)]), 0, "what stands behind another one goes");
    assert_eq!(known(&[(1, 0), (1, 1), (1, 2)]), 3, "what is forgotten was there");
    still.log.truncate_after(Some(id(1, 2)), Box::new(|r| r.unwrap()));
    assert_eq!(known(&[(1, 2), (1, 3)]), 1);
}
