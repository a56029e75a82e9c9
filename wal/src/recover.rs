//! Opening a log: which segments there are, what they come to, and where they end.
//!
//! The end is the first place at which no valid batch of the expected number stands. If anything valid and newer stands
//! behind it, in this segment or a later one, that is damage: nothing is changed, and the log is not opened. Otherwise it is
//! the write that a crash cut short (its pages may have reached the disk in any order, so anything may stand there): it
//! was never called durable, and is overwritten with zeros before anything is appended.
//! What cannot be told: damage in the very last batch, if the crash came before the mark that follows it.

use std::path::PathBuf;

use crate::{
    Config,
    disk::{Disk, write_all},
    error::{Corruption, OpenError},
    frame::{FRAMES_AT, HEADER_BYTES, Kind},
    index::Place,
    record::{Head, Record},
    replay::Replay,
    scan::{FIRST, Loaded, load},
    segment::{Kept, Name, Segment, parse_name, segment_name},
};

/// What opening a log found, for whoever tells people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// A batch that a crash cut short, if one can be seen. It was never called durable.
    pub cut: Option<Cut>,
    /// Segments that hold batches.
    pub segments: usize,
}

/// Where the log was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// The first byte that was cut.
    pub offset: u64,
}

/// A log that was read, and is clean from its end on.
pub(crate) struct Recovered {
    pub(crate) log_id: [u8; 16],
    pub(crate) replay: Replay,
    /// Segments with batches, oldest first; the last one is written on.
    pub(crate) kept: Vec<Kept>,
    /// Where the next batch goes in the last of them.
    pub(crate) tail: u64,
    /// The last batch's number; 0 in a new log.
    pub(crate) sequence: u64,
    /// Segments behind them in which nothing stands.
    pub(crate) ready: Vec<Segment>,
    /// Numbers of free files.
    pub(crate) free: Vec<u64>,
    pub(crate) cut: Option<Cut>,
}

/// Reads what is there, and cuts a torn tail.
pub(crate) fn recover(disk: &dyn Disk, config: &Config) -> Result<Recovered, OpenError> {
    let names = names(disk)?;
    let mut reader = Reader::new(config);
    for &number in &names.segments {
        let (loaded, prefix) = load(disk, number, reader.log_id)?;
        reader.log_id = Some(prefix.log_id);
        reader.read(loaded)?;
    }
    reader.check_complete(disk)?;
    finish(disk, config, reader, names.free)
}

struct Names {
    segments: Vec<u64>,
    free: Vec<u64>,
}

fn io_error(disk: &dyn Disk, name: &str, doing: &'static str) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = disk.path().join(name);
    move |source| OpenError::Io { path, doing, source }
}

/// What is there; what was being prepared at a crash is removed.
fn names(disk: &dyn Disk) -> Result<Names, OpenError> {
    let (mut segments, mut free) = (Vec::new(), Vec::new());
    for name in disk.list().map_err(io_error(disk, "", "list it"))? {
        match parse_name(&name) {
            Name::Segment(number) => segments.push(number),
            Name::Free(number) => free.push(number),
            Name::New(_) => disk.remove(&name).map_err(io_error(disk, &name, "remove it"))?,
            Name::Former => {
                let path = disk.path().join(name);
                return Err(OpenError::Foreign { path });
            }
            Name::Other => {}
        }
    }
    segments.sort_unstable();
    free.sort_unstable();
    for pair in segments.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(OpenError::Corrupt(Corruption {
                path: disk.path().join(segment_name(pair[0] + 1)),
                offset: 0,
                expected: format!("segment {}", pair[0] + 1),
                found: "there is no such file, and there are later ones".to_owned(),
            }));
        }
    }
    Ok(Names { segments, free })
}

struct Reader {
    log_id: Option<[u8; 16]>,
    replay: Replay,
    kept: Vec<Kept>,
    /// The segment that is written on, with its bytes.
    last: Option<Loaded>,
    tail: usize,
    marked: bool,
    /// Where the mark ends, or the batches where there is none.
    clean_from: usize,
    sequence: u64,
    /// Where reading ended before the last file.
    ended: Option<End>,
    empty: Vec<(Segment, bool)>,
}

/// A segment in which no first batch stands.
struct End {
    path: PathBuf,
    offset: usize,
}

impl Reader {
    fn new(config: &Config) -> Self {
        Self {
            log_id: None,
            replay: Replay::new(config.cache_bytes),
            kept: Vec::new(),
            last: None,
            tail: FIRST,
            marked: false,
            clean_from: FIRST,
            sequence: 0,
            ended: None,
            empty: Vec::new(),
        }
    }

    fn read(&mut self, loaded: Loaded) -> Result<(), Corruption> {
        let begins = loaded.frame(FIRST).filter(|_| self.ended.is_none());
        let Some(first) = begins else {
            return self.read_empty(loaded);
        };
        let records = loaded.records(&first)?;
        let Some((_, Record::Head(head))) = records.first() else {
            let found = "its first batch begins otherwise".to_owned();
            return Err(loaded.corrupt(FIRST, "the head of a segment".to_owned(), found));
        };
        if self.kept.is_empty() {
            self.replay.begin(head);
            self.sequence = first.sequence;
        } else {
            self.follows(&loaded, first.sequence, head)?;
            self.sequence += 1;
        }
        let mut kept = Kept {
            segment: loaded.segment.clone(),
            highest: None,
        };
        self.apply(&loaded, &mut kept, records.get(1..).unwrap_or_default())?;
        self.tail = first.end;
        self.read_batches(&loaded, &mut kept)?;
        self.kept.push(kept);
        self.last = Some(loaded);
        Ok(())
    }

    /// The segments before this one end where it says, and with the batch before its first.
    fn follows(&self, loaded: &Loaded, sequence: u64, head: &Head) -> Result<(), Corruption> {
        let Some(before) = &self.last else { return Ok(()) };
        if sequence == self.sequence + 1 && head.previous_end == self.tail as u64 {
            return Ok(());
        }
        let expected = format!("batch {}", self.sequence + 1);
        let found = format!(
            "none is there, and segment {} begins with batch {sequence}, behind byte {} of this one",
            loaded.segment.number, head.previous_end
        );
        Err(before.corrupt(self.tail, expected, found))
    }

    fn read_batches(&mut self, loaded: &Loaded, kept: &mut Kept) -> Result<(), Corruption> {
        self.marked = false;
        let next = loop {
            let Some(frame) = loaded.frame(self.tail) else {
                break self.tail;
            };
            match frame.kind {
                Kind::Batch if frame.sequence == self.sequence + 1 => {
                    let records = loaded.records(&frame)?;
                    self.apply(loaded, kept, &records)?;
                    self.sequence += 1;
                    self.tail = frame.end;
                }
                Kind::Mark if frame.sequence == self.sequence => {
                    let records = loaded.records(&frame)?;
                    self.apply(loaded, kept, &records)?;
                    self.marked = true;
                    break frame.end;
                }
                Kind::Batch | Kind::Mark => {
                    let found = format!("number {} is there", frame.sequence);
                    let expected = format!("batch {}", self.sequence + 1);
                    return Err(loaded.corrupt(self.tail, expected, found));
                }
            }
        };
        self.clean_from = next;
        match loaded.evidence(next, self.sequence + 1) {
            Some((at, newer)) => Err(self.damage(loaded, self.tail, loaded, at, newer.sequence)),
            None => Ok(()),
        }
    }

    fn apply(
        &mut self,
        loaded: &Loaded,
        kept: &mut Kept,
        records: &[(usize, Record)],
    ) -> Result<(), Corruption> {
        for (at, record) in records {
            let place = Place {
                segment: loaded.segment.number,
                offset: u32::try_from(*at).unwrap_or(u32::MAX),
            };
            let applied = self.replay.apply(record, place);
            applied.map_err(|(expected, found)| loaded.corrupt(*at, expected, found))?;
            if let Record::Entry(entry) = record {
                kept.note(entry.id.index);
            }
        }
        Ok(())
    }

    /// A segment without a first batch: the log ended before it, unless something later in it proves otherwise.
    fn read_empty(&mut self, loaded: Loaded) -> Result<(), Corruption> {
        if let Some((at, newer)) = loaded.evidence(FIRST, self.sequence + 1) {
            return Err(match &self.ended {
                Some(end) => Corruption {
                    path: end.path.clone(),
                    ..self.damage(&loaded, end.offset, &loaded, at, newer.sequence)
                },
                None => self.damage(&loaded, FIRST, &loaded, at, newer.sequence),
            });
        }
        if self.kept.is_empty() && self.empty.is_empty() && loaded.segment.number > 1 {
            let found = "none is there, and the segments before it were purged".to_owned();
            return Err(loaded.corrupt(FIRST, "the first batch of the oldest segment".to_owned(), found));
        }
        let used = loaded.is_used();
        self.ended.get_or_insert_with(|| End {
            path: loaded.path().to_owned(),
            offset: FIRST,
        });
        self.empty.push((loaded.segment, used));
        Ok(())
    }

    fn damage(
        &self,
        damaged: &Loaded,
        offset: usize,
        newer: &Loaded,
        at: usize,
        sequence: u64,
    ) -> Corruption {
        let found = format!(
            "none is there, and batch {sequence} in {} at byte {at}, which was written after it was durable, is whole",
            newer.path().display()
        );
        damaged.corrupt(offset, format!("batch {}", self.sequence + 1), found)
    }

    /// Every entry that is not purged is there.
    fn check_complete(&self, disk: &dyn Disk) -> Result<(), Corruption> {
        let (Some(index), Some(oldest)) = (self.replay.missing(), self.kept.first()) else {
            return Ok(());
        };
        let missing = oldest.segment.number.saturating_sub(1);
        Err(Corruption {
            path: disk.path().join(segment_name(missing)),
            offset: 0,
            expected: format!("entry {index}, in this segment or one before it"),
            found: "there is no such file".to_owned(),
        })
    }
}

fn finish(disk: &dyn Disk, config: &Config, reader: Reader, free: Vec<u64>) -> Result<Recovered, OpenError> {
    let mut cut = None;
    if let Some(last) = &reader.last {
        let name = segment_name(last.segment.number);
        cut = torn(last, &reader);
        if last.is_dirty(reader.clean_from) {
            zero(&last.segment, reader.clean_from as u64).map_err(io_error(
                disk,
                &name,
                "cut its torn tail",
            ))?;
        }
        // A process that was killed may have left the last batch in memory alone.
        let synced = last.segment.file.sync_data();
        synced.map_err(io_error(disk, &name, "sync it"))?;
    }
    let log_id = reader.log_id.unwrap_or(config.log_id);
    let mut ready = Vec::new();
    for (segment, used) in reader.empty {
        let name = segment_name(segment.number);
        // The rest of a first batch that was cut short, or of an earlier use of the file.
        if used {
            let clean = zero(&segment, FRAMES_AT).and_then(|()| segment.file.sync_data());
            clean.map_err(io_error(disk, &name, "clean it"))?;
        }
        ready.push(segment);
    }
    disk.sync_dir().map_err(io_error(disk, "", "sync it"))?;
    Ok(Recovered {
        log_id,
        replay: reader.replay,
        kept: reader.kept,
        tail: reader.tail as u64,
        sequence: reader.sequence,
        ready,
        free,
        cut,
    })
}

/// A batch that was begun at the end of the log, as far as its header reached the disk.
fn torn(last: &Loaded, reader: &Reader) -> Option<Cut> {
    let header = last.bytes.get(reader.tail..reader.tail + HEADER_BYTES)?;
    let begun = !reader.marked && crate::frame::is_header(header, reader.tail, last.segment.seed);
    begun.then(|| Cut {
        path: last.path().to_owned(),
        offset: reader.tail as u64,
    })
}

/// Overwrites a segment from `from` on.
fn zero(segment: &Segment, from: u64) -> std::io::Result<()> {
    let zeros = vec![0; 256 << 10];
    let mut at = from;
    while at < segment.bytes {
        let piece = usize::try_from(segment.bytes - at).map_or(zeros.len(), |rest| rest.min(zeros.len()));
        write_all(&*segment.file, &zeros[..piece], at)?;
        at += piece as u64;
    }
    Ok(())
}
