//! The log with its own threads, on a real disk.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use super::{entry, id, indexes, small};
use crate::{Config, Level, Log, Observer, disk::RealDisk, faulty::FaultyDisk};

/// Opens; the receiver hears when every file is closed.
fn open(disk: Arc<dyn crate::disk::Disk>, observer: Arc<dyn Observer>) -> (Log, mpsc::Receiver<()>) {
    let (closed, on_closed) = mpsc::channel();
    let config = Config {
        look_again: Duration::from_millis(1),
        mark_after: Duration::from_millis(1),
        ..small()
    };
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
    while log.room().level != Level::Critical {
        std::thread::yield_now();
    }
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
    while log.room().level != Level::Critical {
        std::thread::yield_now();
    }
    drop(log);
    closed.recv().unwrap();
    let refused = results.try_iter().filter(Result::is_err).count();
    assert!(refused > 0);
}
