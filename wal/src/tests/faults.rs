//! Disks that are full or fail: a full one makes writes wait and loses nothing, a failed one ends the log and says where.

use std::sync::{Arc, Mutex};

use super::{Still, entry, id, indexes, small};
use crate::{
    Failure, Passing,
    disk::Disk as _,
    faulty::{Fault, FaultyDisk},
    pool::Prepared,
    writer::Turn,
};

fn appended(still: &mut Still, from: u64, count: u64) {
    for index in from..from + count {
        still.append(vec![entry(1, index, [1; 1000])]);
    }
}

/// Room for so many segments of the small size, the log's own ones included.
fn segments(count: u64) -> Option<u64> {
    Some(count * small().segment_bytes)
}

#[test]
fn a_full_disk_is_said_early_and_loses_nothing_and_the_log_goes_on_once_there_is_room() {
    let disk = FaultyDisk::new();
    disk.set_capacity(segments(4));
    let mut still = Still::open(&disk).unwrap();
    assert_eq!(still.log.pool().turn(), Ok(Prepared::Worked));
    still.log.pool().turn().unwrap();
    assert!(!still.log.room().is_full);
    appended(&mut still, 0, 10);
    still.write_all();
    // The second segment is written, and the third is ready: below two more, proposals must be refused.
    appended(&mut still, 10, 10);
    still.write_all();
    while still.log.pool().turn() == Ok(Prepared::Worked) {}
    let room = still.log.room();
    assert_eq!((room.is_full, room.needed_bytes), (true, 32 << 10));
    assert!(room.free_bytes < room.needed_bytes, "{room:?}");
    assert!(still.log.view().left_bytes() > 0);
    // What comes all the same uses up the reserve, and then waits.
    appended(&mut still, 20, 40);
    assert!(!still.drain(crate::Log::pool));
    assert_eq!(still.writer.turn(), Ok(Turn::NeedsSegment));
    assert!(still.log.room().is_full);
    assert_eq!(still.log.view().left_bytes(), 0);
    let before = still.acknowledged();
    assert!(before > 30 && before < 60 && still.log.failure().is_none());
    assert_eq!(still.log.queued().0, 60 - before);
    disk.set_capacity(segments(12));
    still.write_all();
    assert_eq!(still.acknowledged(), 60);
    while still.log.pool().turn() == Ok(Prepared::Worked) {}
    assert!(!still.log.room().is_full);
    assert_eq!(
        indexes(&Still::open(&disk).unwrap().log),
        (0..60).collect::<Vec<_>>()
    );
}

#[test]
fn votes_are_written_on_a_full_disk_behind_all_that_its_reserve_was_said_to_take() {
    // Up to the longest payload that a segment of this size takes.
    for bytes in [10, 700, 1000, 3000, 5000, 8000] {
        let disk = FaultyDisk::new();
        disk.set_capacity(segments(4));
        let mut still = Still::open(&disk).unwrap();
        let mut next = 0;
        while still.log.view().takes(Passing::default(), &[bytes]) {
            still.append(vec![entry(1, next, vec![1; bytes])]);
            next += 1;
            assert!(next < 10_000, "{bytes}: it has an end");
            if !still.log.room().is_full {
                still.write_all();
                while still.log.pool().turn() == Ok(Prepared::Worked) {}
            } else {
                // Nothing more is to be had, and what comes now waits.
                disk.set_capacity(Some(disk.used()));
            }
        }
        assert!(still.log.queued().0 > 0, "{bytes}: the reserve takes some");
        assert!(
            still.drain(crate::Log::pool),
            "{bytes}: what was taken is written"
        );
        for term in 0..8 {
            let done = still.done();
            still.log.save_vote(vec![term; 40].into(), done);
            assert!(still.drain(crate::Log::pool), "{bytes}: vote {term} waits");
        }
        assert_eq!(still.acknowledged(), still.issued);
    }
}

/// Nothing is written meanwhile, as where a leader sends faster than the disk writes: what the disk has room for is taken, and not what
/// it has none for, however much room it still has when the last of it comes.
#[test]
fn what_is_let_through_while_there_is_ample_room_fits_it_and_leaves_room_for_votes() {
    for bytes in [10, 700, 3000, 5000, 6100, 8000] {
        for capacity in [5, 9, 17] {
            for passing in [0, 3] {
                check_ample(bytes, capacity, passing);
            }
        }
    }
}

/// The last ones, `passing` of them, are let through before any of them waits in the log.
fn check_ample(bytes: usize, capacity: u64, passing: usize) {
    let disk = FaultyDisk::new();
    disk.set_capacity(segments(capacity));
    let mut still = Still::open(&disk).unwrap();
    while still.log.pool().turn() == Ok(Prepared::Worked) {}
    let mut next = 0;
    let append = |still: &mut Still, next: &mut u64| {
        still.append(vec![entry(1, *next, vec![1; bytes])]);
        *next += 1;
    };
    while still
        .log
        .view()
        .takes(Passing::default(), &vec![bytes; passing + 1])
    {
        append(&mut still, &mut next);
        assert!(next < 10_000, "{bytes} {capacity}: it has an end");
    }
    let mut ahead = Passing::default();
    while still.log.view().takes(ahead, &[bytes]) {
        ahead.entries += 1;
        ahead.bytes += bytes;
    }
    (0..ahead.entries).for_each(|_| append(&mut still, &mut next));
    assert!(capacity < 9 || next > 0, "{bytes} {capacity}: it takes some");
    assert!(
        still.drain(crate::Log::pool),
        "{bytes} {capacity} {passing}: {next} were taken"
    );
    for term in 0..8 {
        let done = still.done();
        still.log.save_vote(vec![term; 40].into(), done);
        assert!(
            still.drain(crate::Log::pool),
            "{bytes} {capacity}: vote {term} waits"
        );
    }
    assert_eq!(still.acknowledged(), still.issued);
}

#[test]
fn a_purge_makes_room_on_a_full_disk() {
    let disk = FaultyDisk::new();
    disk.set_capacity(segments(4));
    let mut still = Still::open(&disk).unwrap();
    appended(&mut still, 0, 30);
    while still.drain(crate::Log::pool) && still.log.pool().turn() != Ok(Prepared::NoRoom) {
        let next = still.log.last().unwrap().index + 1;
        appended(&mut still, next, 1);
    }
    assert!(still.log.room().is_full);
    let last = still.log.last().unwrap().index;
    still.log.purge(id(1, last - 1), Box::new(|_| {}));
    still.drain(crate::Log::pool);
    while still.log.pool().turn() == Ok(Prepared::Worked) {}
    still.write_all();
    appended(&mut still, last + 1, 20);
    still.write_all();
    let log = Still::open(&disk).unwrap().log;
    assert_eq!(indexes(&log), (last..=last + 20).collect::<Vec<_>>());
}

/// On a file system that copies what is written over, promised room is none.
#[test]
fn a_write_that_finds_no_room_in_its_own_segment_waits() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    appended(&mut still, 0, 2);
    still.write_all();
    disk.set_full_for_writes(true);
    appended(&mut still, 2, 2);
    assert_eq!(still.writer.turn(), Ok(Turn::NoRoom));
    assert_eq!(still.acknowledged(), 2);
    assert!(still.log.room().is_full);
    disk.set_full_for_writes(false);
    still.write_all();
    assert_eq!(still.acknowledged(), 4);
    assert!(!still.log.room().is_full);
}

/// Nothing else is written by a log that rests, and what is let in by mistake stands before every vote.
#[test]
fn a_mark_that_finds_no_room_says_that_the_disk_is_full_until_one_is_written() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    appended(&mut still, 0, 2);
    still.write_all();
    disk.set_full_for_writes(true);
    still.writer.mark().unwrap();
    assert!(still.log.room().is_full);
    assert!(!still.log.view().takes(Passing::default(), &[1]));
    // Nothing of it is written, so it tells nothing.
    let done = still.done();
    still.log.flush(done);
    still.write_all();
    assert!(still.log.room().is_full);
    disk.set_full_for_writes(false);
    still.writer.mark().unwrap();
    assert!(still.writer.is_marked() && !still.log.room().is_full);
    assert!(still.log.view().takes(Passing::default(), &[1]));
}

#[test]
fn no_room_at_any_operation_ends_nothing() {
    for at in 0..150 {
        for count in 1..4 {
            let disk = FaultyDisk::new();
            let mut still = Still::open(&disk).unwrap();
            // A sync that finds no room has failed; which operations are syncs is in their order.
            (at..at + count).for_each(|n| disk.fail_at(n, Fault::Enospc));
            let mut failed = false;
            for round in 0..4 {
                appended(&mut still, round * 12, 12);
                for _ in 0..40 {
                    match still.writer.turn() {
                        Ok(Turn::NeedsSegment | Turn::NoRoom) => drop(still.log.pool().turn()),
                        Ok(_) => {}
                        Err(failure) => {
                            assert!(
                                ["durable", "prepare", "take"]
                                    .iter()
                                    .any(|d| failure.doing.contains(d)),
                                "{failure}"
                            );
                            failed = true;
                        }
                    }
                }
            }
            assert!(
                failed || still.acknowledged() == 48,
                "operation {at}, {count} times"
            );
            let there = indexes(&Still::open(&disk.copy()).unwrap().log).len();
            assert!(there >= still.acknowledged(), "operation {at}");
        }
    }
}

#[test]
fn a_failed_sync_is_never_tried_again_and_names_file_offset_and_the_way_back() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    appended(&mut still, 0, 1);
    still.write_all();
    let sync = disk.operations() + 1;
    disk.fail_at(sync, Fault::Eio);
    let heard: Arc<Mutex<Vec<Failure>>> = Arc::default();
    for index in 1..3 {
        let heard = heard.clone();
        let done = move |result: Result<(), Failure>| heard.lock().unwrap().push(result.unwrap_err());
        still
            .log
            .append(vec![entry(1, index, [2; 10])], Box::new(done))
            .unwrap();
    }
    let failure = still.writer.turn().unwrap_err();
    still.writer.abandon(&failure);
    let text = failure.to_string();
    assert!(text.starts_with("/disk/000000000001.seg at byte "), "{text}");
    assert!(
        text.contains("make a batch durable") && text.contains("start again"),
        "{text}"
    );
    assert_eq!(*heard.lock().unwrap(), [failure.clone(), failure.clone()]);
    // Nothing is written any more, and nobody hears that it was.
    let operations = disk.operations();
    let again = heard.clone();
    let done = move |result: Result<(), Failure>| again.lock().unwrap().push(result.unwrap_err());
    still
        .log
        .append(vec![entry(1, 3, [2; 10])], Box::new(done))
        .unwrap();
    assert_eq!(heard.lock().unwrap().len(), 3);
    assert!(still.writer.turn().is_err());
    assert_eq!(disk.operations(), operations);
    assert_eq!(still.log.failure(), Some(failure));
}

#[test]
fn a_device_that_fails_a_write_ends_the_log() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    appended(&mut still, 0, 1);
    still.write_all();
    disk.fail_at(disk.operations(), Fault::Eio);
    appended(&mut still, 1, 1);
    let failure = still.writer.turn().unwrap_err();
    assert_eq!(failure.doing, "write a batch");
    assert!(
        failure.offset > 4096 && failure.said.contains("os error 5"),
        "{failure}"
    );
    assert_eq!(indexes(&Still::open(&disk).unwrap().log), [0]);
}

/// One flush serves all that wait for it.
#[test]
fn what_waits_is_written_together_and_synced_once() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    appended(&mut still, 0, 1);
    still.write_all();
    let before = disk.operations();
    for index in 1..60 {
        still.append(vec![entry(1, index, [1; 20])]);
    }
    assert_eq!(still.acknowledged(), 1);
    assert_eq!(indexes(&still.log).len(), 60, "readable before it is durable");
    assert_eq!(still.writer.turn(), Ok(Turn::Worked));
    assert_eq!((still.acknowledged(), disk.operations() - before), (60, 2));
    assert!(disk.list().unwrap().len() < 3);
}
