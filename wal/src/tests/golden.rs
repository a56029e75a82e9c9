//! The bytes of format 1, kept and read for ever. A change to them is a decision, not an update.

use std::path::Path;

use super::{Still, all, entry, id};
use crate::{Entry, disk::Disk as _, faulty::FaultyDisk};

const KEPT: [&str; 3] = ["000000000002.seg", "000000000003.seg", "000000000004.seg"];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1")
}

/// One of each record, over three segments; the first of four is purged.
fn written() -> FaultyDisk {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    still
        .log
        .save_vote(b"first vote".to_vec().into(), Box::new(|_| {}));
    for index in 0..12 {
        still.append(vec![entry(1, index, vec![index.to_le_bytes()[0]; 1500])]);
        still.write_all();
    }
    still.log.truncate_after(Some(id(1, 10)), Box::new(|_| {}));
    still.append(vec![entry(2, 11, b"eleven".to_vec()), entry(2, 12, [])]);
    still.log.purge(id(1, 8), Box::new(|_| {}));
    still.log.set_committed(id(2, 11));
    still.write_all();
    for index in 13..26 {
        still.append(vec![entry(3, index, vec![index.to_le_bytes()[0]; 1200])]);
        still.write_all();
    }
    still
        .log
        .save_vote(b"last vote".to_vec().into(), Box::new(|_| {}));
    still.append(vec![Entry {
        kind: 2,
        ..entry(4, 26, b"the last".to_vec())
    }]);
    still.write_all();
    while still.log.pool().turn().unwrap() != crate::pool::Prepared::Idle {}
    still.log.set_committed(id(4, 26));
    still.writer.mark().unwrap();
    disk
}

/// Zeros at the end are not kept.
fn shortened(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    &bytes[..end]
}

#[test]
fn the_bytes_of_format_1_are_what_they_were() {
    let disk = written();
    for name in KEPT {
        let (path, bytes) = (folder().join(name), disk.read(name).unwrap());
        if std::env::var_os("REGENT_UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(&path, shortened(&bytes)).unwrap();
        }
        let kept = std::fs::read(&path).unwrap();
        assert!(
            shortened(&bytes) == kept,
            "{name} is written otherwise than it was"
        );
    }
}

#[test]
fn a_log_of_format_1_is_read() {
    let disk = FaultyDisk::new();
    for name in KEPT {
        let mut bytes = std::fs::read(folder().join(name)).unwrap();
        bytes.resize(16 << 10, 0);
        disk.put(name, &bytes);
    }
    let log = Still::open(&disk).unwrap().log;
    assert_eq!(log.vote().unwrap(), b"last vote"[..]);
    assert_eq!((log.purged(), log.committed()), (Some(id(1, 8)), Some(id(4, 26))));
    let entries = all(&log);
    assert_eq!(entries.len(), 18);
    assert_eq!(entries[1], entry(1, 10, vec![10; 1500]));
    assert_eq!(entries[2], entry(2, 11, b"eleven".to_vec()));
    assert_eq!(
        entries[17],
        Entry {
            kind: 2,
            ..entry(4, 26, b"the last".to_vec())
        }
    );
    assert_eq!(disk.list().unwrap(), KEPT);
}
