//! Bits that flip in what was durable: the log says so, and says where; it never goes on without what it acknowledged.

use super::{Still, entry, model::Model, small};
use crate::{
    Corruption, Log, OpenError, ReadError,
    disk::Disk as _,
    faulty::{Chance, FaultyDisk, Lost},
    frame::ALIGN,
    scan::FIRST,
};

/// A log of some segments, with purged and voided entries, at rest.
fn at_rest(seed: u64) -> (FaultyDisk, Model) {
    let (disk, mut chance) = (FaultyDisk::new(), Chance::new(seed));
    let mut still = Still::open(&disk).unwrap();
    let mut model = Model::default();
    for _ in 0..60 {
        let step = model.draw(&mut chance, None);
        model.apply(&step);
        still.issue(&step);
        if chance.below(2) == 0 {
            still.write_all();
        }
    }
    still.write_all();
    still.writer.mark().unwrap();
    while still.log.pool().turn().unwrap() != crate::pool::Prepared::Idle {}
    (disk, model)
}

fn segments(disk: &FaultyDisk) -> Vec<String> {
    let names = disk.list().unwrap();
    names.into_iter().filter(|n| n.ends_with(".seg")).collect()
}

#[test]
fn a_flipped_bit_is_named_or_harms_nothing() {
    let (mut named, mut harmless) = (0, 0);
    for seed in 0..60 {
        let (disk, model) = at_rest(seed);
        let mut chance = Chance::new(seed);
        let names = segments(&disk);
        for _ in 0..60 {
            let damaged = disk.copy();
            let name = &names[chance.pick(names.len())];
            // Half of them where the batches are dense.
            let range = if chance.below(2) == 0 { 16 << 10 } else { 6 << 10 };
            let at = chance.pick(range);
            let bit = u8::try_from(chance.below(8)).unwrap();
            assert!(damaged.flip(name, at, bit));
            match Still::open(&damaged) {
                Ok(still) => {
                    assert_eq!(
                        Model::of(&still.log),
                        model,
                        "seed {seed}: {name} byte {at} bit {bit}"
                    );
                    harmless += 1;
                }
                Err(OpenError::Corrupt(Corruption { path, offset, .. })) => {
                    assert_eq!(path, disk.path().join(name), "seed {seed} byte {at}");
                    assert!(offset <= at as u64, "seed {seed}: {offset} for {at}");
                    named += 1;
                }
                // The format's number is damaged, too.
                Err(OpenError::OtherVersion { .. }) => panic!("a prefix without its checksum"),
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
    }
    assert!(
        named > 500 && harmless > 500,
        "a weak test: {named} named, {harmless} harmless"
    );
}

/// What cannot be told: the last batch, before its mark. Nothing before it goes with it.
#[test]
fn without_its_mark_damage_in_the_last_batch_alone_is_taken_for_a_write_cut_short() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    for index in 0..3 {
        still.append(vec![entry(1, index, [7; 40])]);
        still.write_all();
    }
    let unmarked = disk.copy();
    still.writer.mark().unwrap();
    let name = "000000000001.seg";
    let bytes = disk.read(name).unwrap();
    let last = bytes.windows(40).rposition(|w| w == [7; 40]).unwrap();
    for disk in [&disk, &unmarked] {
        assert!(disk.flip(name, last, 3));
    }
    assert_eq!(super::indexes(&Still::open(&unmarked).unwrap().log), [0, 1]);
    let error = Still::open(&disk).err().unwrap().to_string();
    assert!(error.starts_with("/disk/000000000001.seg at byte "), "{error}");
    assert!(
        error.contains("batch 3 was expected") && error.contains("is whole"),
        "{error}"
    );
}

#[test]
fn a_segment_that_is_gone_is_named() {
    let (disk, _) = (0..)
        .map(at_rest)
        .find(|(disk, _)| segments(disk).len() > 4)
        .unwrap();
    let names = segments(&disk);
    disk.remove(&names[1]).unwrap();
    let error = Still::open(&disk).err().unwrap().to_string();
    assert!(
        error.contains(&names[1]) && error.contains("no such file"),
        "{error}"
    );
    // The oldest one is missed by the entries in it.
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    for index in 0..40 {
        still.append(vec![entry(1, index, [1; 1000])]);
        still.write_all();
    }
    disk.remove("000000000001.seg").unwrap();
    let error = Still::open(&disk).err().unwrap().to_string();
    assert!(
        error.contains("000000000001.seg") && error.contains("entry 0"),
        "{error}"
    );
}

#[test]
fn a_file_that_was_cut_or_swapped_is_named() {
    let (disk, _) = at_rest(1);
    let names = segments(&disk);
    let (first, second) = (disk.read(&names[0]).unwrap(), disk.read(&names[1]).unwrap());
    let cut = disk.copy();
    cut.put(&names[0], &first[..first.len() - 100]);
    let error = Still::open(&cut).err().unwrap().to_string();
    assert!(
        error.contains("a file of 16384 bytes was expected, it has 16284"),
        "{error}"
    );
    let swapped = disk.copy();
    swapped.put(&names[0], &second);
    let error = Still::open(&swapped).err().unwrap().to_string();
    assert!(error.contains(&names[0]), "{error}");
    // One of another log that happens to have its number.
    let other = FaultyDisk::new();
    let config = crate::Config {
        log_id: *b"another log here",
        ..small()
    };
    let mut still = Still::open_with(&other, config).unwrap();
    still.append(vec![entry(1, 0, [1])]);
    still.write_all();
    let mixed = disk.copy();
    let last = names.last().unwrap();
    let mut bytes = other.read("000000000001.seg").unwrap();
    bytes[16..24].copy_from_slice(&disk.read(last).unwrap()[16..24]);
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    mixed.put(last, &bytes);
    let error = Still::open(&mixed).err().unwrap().to_string();
    assert!(error.contains("of another log"), "{error}");
}

#[test]
fn damage_that_came_while_the_log_is_open_is_named_when_it_is_read() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    for index in 0..20 {
        still.append(vec![entry(1, index, [index.to_le_bytes()[0]; 500])]);
        still.write_all();
    }
    // The cache holds the newest alone.
    assert!(still.log.read_cached(0, 1, usize::MAX).is_none());
    assert!(still.log.read_cached(19, 20, usize::MAX).is_some());
    let bytes = disk.read("000000000001.seg").unwrap();
    let at = bytes.windows(500).position(|w| w == [3; 500]).unwrap();
    assert!(disk.flip("000000000001.seg", at, 1));
    assert_eq!(still.log.read(0, 3, usize::MAX).unwrap().len(), 3);
    match still.log.read(0, 20, usize::MAX).unwrap_err() {
        ReadError::Corrupt(corruption) => assert!(corruption.expected.contains("entry 3 of term 1")),
        error => panic!("{error}"),
    }
}

/// A payload may hold anything, also what this log wrote, and be torn.
#[test]
fn a_payload_that_looks_like_batches_is_taken_for_none() {
    let disk = FaultyDisk::new();
    let mut still = Still::open(&disk).unwrap();
    for index in 0..4 {
        still.append(vec![entry(1, index, [5; 100])]);
        still.write_all();
    }
    let bytes = disk.read("000000000001.seg").unwrap();
    let batches = &bytes[FIRST..FIRST + 1024];
    for shift in 0..ALIGN {
        let mut payload = vec![0; shift];
        payload.extend_from_slice(batches);
        still.append(vec![entry(1, 4 + shift as u64, payload)]);
        let full = disk.operations() + 1;
        disk.fail_at(full, crate::faulty::Fault::Crash);
    }
    assert!(!still.drain(Log::pool));
    for seed in 0..50 {
        let after = disk.after_crash(Lost::Sectors, &mut Chance::new(seed));
        let log = Still::open(&after).unwrap().log;
        assert!(super::indexes(&log).len() >= 4, "seed {seed}");
    }
}
