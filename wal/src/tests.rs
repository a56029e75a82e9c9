//! The log against a model: crashes at every operation, damage, full and failing disks, and the bytes of its format.

mod crash;
mod damage;
mod faults;
#[cfg(debug_assertions)]
mod forgetful;
mod golden;
mod model;
mod open;
mod threads;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use crate::{
    Config, Done, Entry, Log, LogId, OpenError, Opened,
    disk::Disk,
    faulty::FaultyDisk,
    pool::{Pool, Prepared},
    writer::{Turn, Writer},
};

/// Three pages of batches a segment, so that short tests see many of them.
fn small() -> Config {
    Config {
        segment_bytes: 16 << 10,
        cache_bytes: 2 << 10,
        ..Config::new(*b"the log's name 1")
    }
}

/// A log that moves when it is told to.
struct Still {
    log: Log,
    writer: Writer,
    opened: Opened,
    acknowledged: Arc<AtomicUsize>,
    issued: usize,
}

impl Still {
    fn open(disk: &FaultyDisk) -> Result<Self, OpenError> {
        Self::open_with(disk, small())
    }

    fn open_with(disk: &FaultyDisk, config: Config) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(disk.clone()), config)
    }

    fn open_on(disk: Arc<dyn Disk>, config: Config) -> Result<Self, OpenError> {
        let (log, writer, opened) = Log::open_still(disk, config, Arc::new(()))?;
        Ok(Self {
            log,
            writer,
            opened,
            acknowledged: Arc::default(),
            issued: 0,
        })
    }

    /// A callback that notes that this operation, and so all before it, are durable.
    fn done(&mut self) -> Done {
        self.issued += 1;
        let (acknowledged, number) = (self.acknowledged.clone(), self.issued);
        Box::new(move |result| {
            if result.is_ok() {
                assert!(
                    acknowledged.swap(number, Ordering::SeqCst) < number,
                    "out of order"
                );
            }
        })
    }

    fn append(&mut self, entries: Vec<Entry>) {
        let done = self.done();
        self.log.append(entries, done).unwrap();
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Writes all that waits; false if the disk failed or is full.
    fn drain(&mut self, pool: impl Fn(&Log) -> &Pool) -> bool {
        loop {
            match self.writer.turn() {
                Ok(Turn::Worked) => {}
                Ok(Turn::Idle) => return true,
                Ok(Turn::NeedsSegment) => match pool(&self.log).turn() {
                    Ok(Prepared::Worked | Prepared::Idle) => {}
                    Ok(Prepared::NoRoom) | Err(_) => return false,
                },
                Ok(Turn::NoRoom) | Err(_) => return false,
            }
        }
    }

    fn write_all(&mut self) {
        assert!(self.drain(Log::pool), "the disk failed");
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

fn entry(term: u64, index: u64, payload: impl Into<Vec<u8>>) -> Entry {
    Entry {
        id: id(term, index),
        kind: 1,
        payload: Bytes::from(payload.into()),
    }
}

fn all(log: &Log) -> Vec<Entry> {
    log.read(0, u64::MAX, usize::MAX).unwrap()
}

fn indexes(log: &Log) -> Vec<u64> {
    all(log).iter().map(|e| e.id.index).collect()
}
