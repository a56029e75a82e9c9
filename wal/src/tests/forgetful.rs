//! The disk that forgets on SIGKILL: what a second process would find in its files.

use std::{fs, path::Path, sync::Arc};

use super::{Still, all, entry, small};
use crate::{
    disk::{Disk, DiskFile, RealDisk, read_full, write_all},
    forgetful::{AtRisk, ForgetfulDisk, Kept},
};

fn disk(dir: &Path, keeps: Kept, seed: u64) -> ForgetfulDisk {
    fs::create_dir_all(dir.join("log")).unwrap();
    ForgetfulDisk::new(dir.join("log"), &dir.join("unsynced"), keeps, seed).unwrap()
}

fn at_risk(dir: &Path) -> AtRisk {
    AtRisk::read(&dir.join("unsynced")).unwrap()
}

fn read(file: &dyn DiskFile, length: usize) -> Vec<u8> {
    let mut bytes = vec![9; length];
    let read = read_full(file, &mut bytes, 0).unwrap();
    bytes.truncate(read);
    bytes
}

#[test]
fn what_is_not_synced_is_read_and_is_in_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(dir.path(), Kept::None, 1);
    let file = disk.create("a").unwrap();
    write_all(&*file, &[1; 1000], 100).unwrap();
    write_all(&*file, &[2; 500], 0).unwrap();
    write_all(&*file, &[3; 10], 95).unwrap();
    let mut expected = vec![2; 500];
    expected[95..105].fill(3);
    expected.resize(1100, 1);
    assert_eq!(file.len().unwrap(), 1100);
    assert_eq!(read(&*file, 2000), expected);
    let on_disk = dir.path().join("log/a");
    assert_eq!(fs::read(&on_disk).unwrap(), []);
    assert_eq!(at_risk(dir.path()), AtRisk { lost: 1510, kept: 0 });
    file.sync_data().unwrap();
    assert_eq!(fs::read(&on_disk).unwrap(), expected);
    assert_eq!(read(&*file, 2000), expected);
    assert_eq!(at_risk(dir.path()), AtRisk::default());
}

#[test]
fn some_sectors_of_what_is_not_synced_may_be_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(dir.path(), Kept::Some, 7);
    let file = disk.create("a").unwrap();
    file.preallocate(1 << 20).unwrap();
    write_all(&*file, &[1; 64 * 512], 100).unwrap();
    let found = fs::read(dir.path().join("log/a")).unwrap();
    let there = found.iter().filter(|b| **b == 1).count();
    let AtRisk { lost, kept } = at_risk(dir.path());
    assert_eq!((kept, lost + kept), (there as u64, 64 * 512));
    assert!(lost > 0 && kept > 0, "{lost} {kept}");
    // Whole sectors alone.
    for sector in found[512..].chunks(512).take(60) {
        assert!(sector.iter().all(|b| *b == sector[0]));
    }
    // What was let through first is no newer than what came after it.
    write_all(&*file, &[2; 64 * 512], 100).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(&*file, 100 + 64 * 512)[100..], [2; 64 * 512]);
}

/// A log on it is a log: what was called durable is there for whoever comes after a kill.
#[test]
fn what_a_log_called_durable_is_in_its_files() {
    let dir = tempfile::tempdir().unwrap();
    for (seed, keeps) in [(3, Kept::None), (4, Kept::Some)] {
        let log = Arc::new(disk(dir.path(), keeps, seed));
        let mut still = Still::open_on(log, small()).unwrap();
        let begin = still.log.last().map_or(0, |last| last.index + 1);
        for index in begin..begin + 40 {
            still.append(vec![entry(1, index, [7; 700])]);
            still.write_all();
        }
        assert_eq!(still.acknowledged(), 40);
        // Not closed: a kill comes before that.
        let found = Arc::new(RealDisk::new(dir.path().join("log")));
        let found = Still::open_on(found, small()).unwrap();
        assert_eq!(all(&found.log).len() as u64, begin + 40);
    }
}
