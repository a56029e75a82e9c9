//! The log with its own threads, on a real disk.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use super::{entry, id, indexes, small};
use crate::{
    Config, Log, Observer,
    disk::{Disk, RealDisk},
    faulty::FaultyDisk,
};

/// More than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(40);

fn quick() -> Config {
    Config {
        look_again: Duration::from_millis(1),
        mark_after: Duration::from_millis(1),
        ..small()
    }
}

/// Opens; the receiver hears when every file is closed.
fn open(disk: Arc<dyn Disk>, observer: Arc<dyn Observer>) -> (Log, mpsc::Receiver<()>) {
    open_with(quick(), disk, observer)
}

fn open_with(config: Config, disk: Arc<dyn Disk>, observer: Arc<dyn Observer>) -> (Log, mpsc::Receiver<()>) {
    let (closed, on_closed) = mpsc::channel();
    let (log, _) = Log::open(disk, config, observer, move || closed.send(()).unwrap()).unwrap();
    (log, on_closed)
}

#[derive(Default)]
struct Counts(Mutex<(usize, usize)>);

impl Observer for Counts {
    fn synced(&self, _: Duration, entries: usize, _: usize) {
        let mut counts = self.0.lock().unwrap();
        *counts = (counts.0 + 1, counts.1 + entries);
    }
}

#[test]
fn many_appenders_share_a_disk_and_find_all_of_it_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let counts = Arc::new(Counts::default());
    let (log, closed) = open(Arc::new(RealDisk::new(dir.path())), counts.clone());
    let next = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let (done, waits) = mpsc::channel();
                    {
                        let mut next = next.lock().unwrap();
                        let one = entry(1, *next, vec![next.to_le_bytes()[0]; 300]);
                        log.append(vec![one], Box::new(move |r| done.send(r).unwrap()))
                            .unwrap();
                        *next += 1;
                    }
                    waits.recv().unwrap().unwrap();
                }
            });
            scope.spawn(|| {
                let entries = log.read(0, u64::MAX, usize::MAX).unwrap();
                assert!(entries.iter().zip(0..).all(|(e, n)| e.id.index == n));
            });
        }
    });
    assert_eq!(log.queued(), (0, 0));
    drop(log);
    closed.recv().unwrap();
    let (syncs, writes) = *counts.0.lock().unwrap();
    assert_eq!(writes, 400);
    assert!(syncs >= 50, "one appender has one write at a time: {syncs}");
    let (log, closed) = open(Arc::new(RealDisk::new(dir.path())), Arc::new(()));
    assert_eq!(indexes(&log), (0..400).collect::<Vec<_>>());
    drop(log);
    closed.recv().unwrap();
}

#[test]
fn what_waits_is_written_before_the_log_closes() {
    let disk = FaultyDisk::new();
    let (log, closed) = open(Arc::new(disk.clone()), Arc::new(()));
    for index in 0..100 {
        log.append(vec![entry(1, index, [3; 700])], Box::new(|r| r.unwrap()))
            .unwrap();
    }
    drop(log);
    closed.recv().unwrap();
    let (log, _closed) = open(Arc::new(disk), Arc::new(()));
    assert_eq!(log.last(), Some(id(1, 99)));
}

#[test]
fn writes_on_a_full_disk_wait_for_room_and_a_log_that_closes_meanwhile_says_so() {
    let disk = FaultyDisk::new();
    disk.set_capacity(Some(4 * small().segment_bytes));
    let (log, closed) = open(Arc::new(disk.clone()), Arc::new(()));
    let (done, results) = mpsc::channel();
    let append = |from: u64| {
        for index in from..from + 80 {
            let done = done.clone();
            log.append(
                vec![entry(1, index, [3; 1000])],
                Box::new(move |r| done.send(r).unwrap()),
            )
            .unwrap();
        }
    };
    append(0);
    until(|| is_stuck(&log));
    assert!(log.queued().0 > 0);
    let (drained, is_drained) = mpsc::channel();
    log.when_drained(Box::new(move || drained.send(()).unwrap()));
    disk.set_capacity(None);
    for _ in 0..80 {
        results.recv().unwrap().unwrap();
    }
    is_drained.recv().unwrap();
    disk.set_capacity(Some(disk.used()));
    append(80);
    until(|| is_stuck(&log));
    drop(log);
    closed.recv().unwrap();
    let refused = results.try_iter().filter(Result::is_err).count();
    assert!(refused > 0);
}

/// Between two looks at a full disk.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Operations of some looks, and of what was under way before them.
const A_FEW: u64 = 20;

/// What became of a write.
type Written = Result<(), crate::Failure>;

/// A log that looks again once in a while, with so many entries and the next segment ready, and what hears of further ones.
fn with_entries(count: u64, disk: &FaultyDisk) -> (Log, mpsc::Sender<Written>, mpsc::Receiver<Written>) {
    let config = Config {
        look_again: LOOK_AGAIN,
        ..quick()
    };
    let (log, _) = Log::open(Arc::new(disk.clone()), config, Arc::new(()), || {}).unwrap();
    let (done, results) = mpsc::channel();
    append(&log, &done, 0, count);
    for _ in 0..count {
        results.recv_timeout(PATIENCE).unwrap().unwrap();
    }
    until(|| log.pool().is_ready());
    (log, done, results)
}

fn append(log: &Log, done: &mpsc::Sender<Written>, from: u64, to: u64) {
    for index in from..to {
        let done = done.clone();
        let one = vec![entry(1, index, [3; 1000])];
        log.append(one, Box::new(move |r| done.send(r).unwrap())).unwrap();
    }
}

fn until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

/// The disk is full, and nothing more is taken.
fn is_stuck(log: &Log) -> bool {
    log.view().is_full() && log.view().left_bytes() == 0
}

/// Whoever looks at a full disk goes on looking, and not all the time: so many looks take their time, on a busy machine more. Each
/// is two operations at most.
fn looks_once_in_a_while(disk: &FaultyDisk) {
    let (began, before) = (Instant::now(), disk.operations());
    until(|| disk.operations() - before >= A_FEW);
    let took = began.elapsed();
    assert!(took > 5 * LOOK_AGAIN, "{A_FEW} times in {took:?}");
}

#[test]
fn a_writer_whose_disk_copies_what_is_written_over_rests_until_there_is_room() {
    let disk = FaultyDisk::new();
    let (log, done, results) = with_entries(2, &disk);
    disk.set_full_for_writes(true);
    append(&log, &done, 2, 60);
    until(|| is_stuck(&log));
    looks_once_in_a_while(&disk);
    disk.set_full_for_writes(false);
    for _ in 2..60 {
        results.recv_timeout(PATIENCE).unwrap().unwrap();
    }
    until(|| !log.view().is_full());
    assert_eq!(*indexes(&log).last().unwrap(), 59);
}

/// What came then would be let in, and stand before every vote.
#[test]
fn an_idle_log_whose_disk_copies_what_is_written_over_says_that_it_is_full_before_anything_comes() {
    let disk = FaultyDisk::new();
    let (log, done, results) = with_entries(2, &disk);
    disk.set_full_for_writes(true);
    let before = disk.operations();
    // All that it has to write.
    log.set_committed(id(1, 1));
    until(|| {
        let tried = disk.operations() - before;
        assert!(tried < A_FEW, "{tried} times, and nobody was told");
        is_stuck(&log)
    });
    looks_once_in_a_while(&disk);
    disk.set_full_for_writes(false);
    until(|| !log.view().is_full());
    append(&log, &done, 2, 3);
    results.recv_timeout(PATIENCE).unwrap().unwrap();
}

/// Some file systems need room to give some back.
#[test]
fn a_segment_that_cannot_be_taken_back_is_tried_again_in_a_while_and_keeps_nobody_from_ending() {
    let disk = FaultyDisk::new();
    let (log, done, results) = with_entries(40, &disk);
    let purge = |upto: u64| {
        let (done, purged) = mpsc::channel();
        log.purge(id(1, upto), Box::new(move |r| done.send(r).unwrap()));
        purged.recv_timeout(PATIENCE).unwrap().unwrap();
    };
    disk.set_full_for_names(true);
    purge(20);
    until(|| log.view().is_full());
    looks_once_in_a_while(&disk);
    disk.set_full_for_names(false);
    until(|| !log.view().is_full());
    disk.set_full_for_names(true);
    purge(35);
    append(&log, &done, 40, 100);
    until(|| is_stuck(&log));
    log.view().close();
    let all = (40..100).map(|_| results.recv_timeout(PATIENCE).unwrap());
    assert!(all.filter(Result::is_err).count() > 0);
}

/// Whoever waits for the disk keeps the log open, and could not end.
#[test]
fn a_log_that_is_closed_wakes_whoever_waits_for_room_and_can_be_read_until_it_is_let_go() {
    // No room for the next segment, or for bytes that were filled.
    let fills: [fn(&FaultyDisk); 2] = [
        |disk| disk.set_capacity(Some(disk.used())),
        |disk| disk.set_full_for_writes(true),
    ];
    for fill in fills {
        check_closed_while_held(fill);
    }
}

fn check_closed_while_held(fill: fn(&FaultyDisk)) {
    let disk = FaultyDisk::new();
    let config = Config {
        queue_bytes: 1 << 10,
        ..quick()
    };
    let (log, closed) = open_with(config, Arc::new(disk.clone()), Arc::new(()));
    let (done, results) = mpsc::channel();
    let append = |from: u64, to: u64| {
        for index in from..to {
            let done = done.clone();
            let one = vec![entry(1, index, [3; 1000])];
            log.append(one, Box::new(move |r| done.send(r).unwrap())).unwrap();
        }
    };
    append(0, 20);
    for _ in 0..20 {
        results.recv().unwrap().unwrap();
    }
    fill(&disk);
    append(20, 100);
    let (drained, is_drained) = mpsc::channel();
    log.when_drained(Box::new(move || drained.send(()).unwrap()));
    let (saved, is_saved) = mpsc::channel();
    log.save_vote("v".into(), Box::new(move |r| saved.send(r).unwrap()));
    log.view().close();
    let refused = is_saved.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(refused.to_string().contains("the log was closed"), "{refused}");
    is_drained.recv_timeout(PATIENCE).unwrap();
    let (saved, is_saved) = mpsc::channel();
    log.save_vote("w".into(), Box::new(move |r| saved.send(r).unwrap()));
    assert_eq!(is_saved.recv_timeout(PATIENCE).unwrap().unwrap_err(), refused);
    let written = 20 + results.try_iter().filter(Result::is_ok).count();
    // The first ones are long out of memory. The writer has the time to let go of their files.
    for _ in 0..500 {
        assert_eq!(log.read(0, 20, usize::MAX).unwrap().len(), 20);
    }
    assert!(closed.try_recv().is_err(), "somebody has it");
    drop(log);
    closed.recv_timeout(PATIENCE).unwrap();
    disk.set_full_for_writes(false);
    disk.set_capacity(None);
    let (log, _closed) = open(Arc::new(disk), Arc::new(()));
    assert_eq!(indexes(&log), (0..written as u64).collect::<Vec<_>>());
    assert_eq!(log.vote(), None);
}
