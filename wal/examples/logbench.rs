//! The log beside its limit and beside `raft-log`, on one disk in one run: entries per second and latencies of 1, 64 and 256
//! appenders that each wait until their entry is durable.
//!
//! `cargo run --release -p wal --example logbench -- DIR [SECONDS] [ROUNDS]`. DIR must not be in memory. The limit is a file
//! that was filled with zeros before, written and synced by the thread that waits; it serves one appender.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for a terminal, which ends where something fails"
)]

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use raft_log::{RaftLog, api::raft_log_writer::RaftLogWriter as _};

const PAYLOAD: usize = 256;

/// Appends one entry and waits for it; who calls it has a number.
type Append = Box<dyn Fn() + Send + Sync>;
/// Makes a store in a directory.
type Open = fn(&Path) -> Append;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Peer;
impl raft_log::Types for Peer {
    type LogId = (u64, u64);
    type LogPayload = String;
    type Vote = (u64, u64);
    type UserData = String;
    type Callback = mpsc::SyncSender<io::Result<()>>;
    fn log_index(id: &Self::LogId) -> u64 {
        id.1
    }
    fn payload_size(payload: &Self::LogPayload) -> u64 {
        payload.len() as u64
    }
}

fn raw(dir: &Path) -> Append {
    let file = File::create(dir.join("raw")).unwrap();
    let bytes = 64 << 20;
    (0..bytes >> 20).for_each(|n| file.write_all_at(&vec![0; 1 << 20], n << 20).unwrap());
    file.sync_all().unwrap();
    let at = Mutex::new(0);
    Box::new(move || {
        let mut at = at.lock().unwrap();
        file.write_all_at(&[7; PAYLOAD], *at % (bytes - PAYLOAD as u64))
            .unwrap();
        *at += PAYLOAD as u64;
        file.sync_data().unwrap();
    })
}

fn ours(dir: &Path) -> Append {
    let disk = Arc::new(wal::disk::RealDisk::new(dir));
    let (log, _) = wal::Log::open(disk, wal::Config::new([1; 16]), Arc::new(()), || {}).unwrap();
    let next = Mutex::new(0);
    let payload = bytes::Bytes::from(vec![7; PAYLOAD]);
    Box::new(move || {
        let (done, durable) = mpsc::sync_channel(1);
        {
            let mut next = next.lock().unwrap();
            let id = wal::LogId {
                term: 1,
                index: *next,
            };
            let entry = wal::Entry {
                id,
                kind: 0,
                payload: payload.clone(),
            };
            log.append(vec![entry], Box::new(move |r| done.send(r).unwrap()))
                .unwrap();
            *next += 1;
            // As after a snapshot: what is old goes, and its segments are used again.
            if next.is_multiple_of(20_000) {
                log.purge(
                    wal::LogId {
                        term: 1,
                        index: *next - 10_000,
                    },
                    Box::new(drop),
                );
            }
        }
        durable.recv().unwrap().unwrap();
    })
}

fn peer(dir: &Path) -> Append {
    let mut config = raft_log::Config::new(dir.display());
    config.wal.flush_batch_wait = Some(Duration::ZERO);
    config.wal.chunk_max_size = Some(8 << 20);
    config.log_cache_capacity = Some(16 << 20);
    let log = Mutex::new((RaftLog::<Peer>::open(Arc::new(config)).unwrap(), 0));
    Box::new(move || {
        let (done, durable) = mpsc::sync_channel(1);
        {
            let (log, next) = &mut *log.lock().unwrap();
            log.append([((1, *next), "7".repeat(PAYLOAD))]).unwrap();
            log.flush(true, Some(done)).unwrap();
            *next += 1;
            if next.is_multiple_of(20_000) {
                log.purge((1, *next - 10_000)).unwrap();
            }
        }
        durable.recv().unwrap().unwrap();
    })
}

/// Entries per second, and the 50th and 99th of 100 latencies in microseconds.
fn measure(append: &Append, appenders: usize, time: Duration) -> (f64, f64, f64) {
    let began = Instant::now();
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..appenders {
            scope.spawn(|| {
                let mut own = Vec::new();
                while began.elapsed() < time {
                    let at = Instant::now();
                    append();
                    own.push(at.elapsed());
                }
                all.lock().unwrap().extend(own);
            });
        }
    });
    let mut all = all.into_inner().unwrap();
    all.sort_unstable();
    let micros = |percent: usize| all[(all.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    (
        all.len() as f64 / began.elapsed().as_secs_f64(),
        micros(50),
        micros(99),
    )
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("name a directory on a disk");
    let seconds: f64 = arguments.next().map_or(2.0, |n| n.parse().unwrap());
    let rounds: usize = arguments.next().map_or(3, |n| n.parse().unwrap());
    let fs = rustix::fs::statfs(&*dir).unwrap();
    assert!(
        fs.f_type != 0x0102_1994,
        "{dir} is in memory: nothing would be measured"
    );
    let stores: [(&str, Open); 3] = [("raw, zero-filled", raw), ("wal", ours), ("raft-log 0.4", peer)];
    println!(
        "{:>18} {:>9} {:>12} {:>9} {:>9}",
        "store", "appenders", "entries/s", "p50 us", "p99 us"
    );
    for appenders in [1, 64, 256] {
        for (name, open) in stores
            .iter()
            .filter(|s| appenders == 1 || s.0 != "raw, zero-filled")
        {
            let mut results = Vec::new();
            for _ in 0..rounds {
                let dir = tempfile::tempdir_in(&dir).unwrap();
                results.push(measure(
                    &open(dir.path()),
                    appenders,
                    Duration::from_secs_f64(seconds),
                ));
            }
            results.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (rate, p50, p99) = results[results.len() / 2];
            println!("{name:>18} {appenders:>9} {rate:>12.0} {p50:>9.0} {p99:>9.0}");
        }
    }
}
