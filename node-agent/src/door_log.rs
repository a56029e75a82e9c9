//! What this agent's door decided, one line of JSON for each privileged call, in order.
//!
//! Absent on purpose: any decision. A line is written before the answer leaves, and before the effect that it tells of. It
//! reaches the kernel and not the disk: it is evidence about this process, and survives its `kill -9`. A log of
//! [`ROTATE_AT`] bytes is put aside under the suffix `.1`, where it replaces the one before it.
//! Invariants: sequence numbers grow by one from 1, also over restarts and from the older file to the newer; a line is
//! there whole or not at all, also where the disk was full in its middle.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use types::{Epoch, Holder, Reason, RoleName};

/// The log's name in the agent's data directory.
pub const FILE_NAME: &str = "agent-door.jsonl";

/// How long a log grows before a new one is begun.
pub const ROTATE_AT: u64 = 64 << 20;

/// How much of a log's end is read first; twice as much, and again, where that is no whole line.
const TAIL: u64 = 16 << 10;

/// What the door said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoorVerdict {
    /// The call was carried out.
    Accepted,
    /// The call changed nothing.
    Refused,
}

/// One privileged call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorRecord {
    /// Position in the log, from 1.
    pub seq: u64,
    /// Wall clock at the decision, microseconds since the Unix epoch; for people.
    pub unix_micros: u64,
    /// The call, as `ServeVersion`.
    pub method: String,
    /// The role of the token.
    pub role: RoleName,
    /// The epoch that was shown.
    pub shown: Epoch,
    /// The holder that was shown.
    pub shown_holder: Holder,
    /// The door's floor when the call arrived; none where nothing was known of the role.
    pub floor_before: Option<Epoch>,
    /// Who held the floor's epoch then; none also for nobody.
    pub floor_holder: Option<Holder>,
    /// What the door said.
    pub verdict: DoorVerdict,
    /// Why it refused; none if it did not.
    pub reason: Option<Reason>,
}

/// The log, open for appending.
#[derive(Debug)]
pub struct DoorLog {
    path: PathBuf,
    lines: Lines<File>,
    next_seq: u64,
    rotate_at: u64,
}

impl DoorLog {
    /// Opens or makes the log; a torn last line of a killed process is cut off. Reads its end only.
    ///
    /// # Errors
    /// Those of the file system, and a last line that is no record.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::rotating_at(path, ROTATE_AT)
    }

    /// The same with another bound.
    pub(crate) fn rotating_at(path: &Path, rotate_at: u64) -> io::Result<Self> {
        let mut file = appending(path)?;
        let (last, whole) = tail(&mut file, path)?;
        file.set_len(whole)?;
        let last = match last {
            Some(last) => Some(last),
            None => last_of_older(path)?,
        };
        Ok(Self {
            path: path.to_owned(),
            lines: Lines::new(file, whole),
            next_seq: last.map_or(1, |r| r.seq + 1),
            rotate_at,
        })
    }

    /// Carries out an effect whose record is in the log before it: nothing happens that is not written down. The record of
    /// an effect that failed is taken back.
    ///
    /// # Errors
    /// The outer one is of the file system, and nothing happened; the inner one is the effect's own.
    pub fn carry_out<T, E>(
        &mut self,
        record: DoorRecord,
        effect: impl FnOnce() -> Result<T, E>,
    ) -> io::Result<Result<T, E>> {
        self.make_room();
        let (before, seq) = (self.lines.good, self.write(record)?);
        let done = effect();
        if done.is_err() {
            self.lines.take_back(before);
            self.next_seq = seq;
        }
        Ok(done)
    }

    /// Appends a record and gives it its number.
    ///
    /// # Errors
    /// Those of the file system; the record is then not part of the log.
    pub fn append(&mut self, record: DoorRecord) -> io::Result<u64> {
        self.make_room();
        self.write(record)
    }

    fn write(&mut self, mut record: DoorRecord) -> io::Result<u64> {
        record.seq = self.next_seq;
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        self.lines.append(&line)?;
        self.next_seq += 1;
        Ok(record.seq)
    }

    fn make_room(&mut self) {
        if self.lines.good >= self.rotate_at
            && let Err(error) = self.rotate()
        {
            tracing::warn!(path = %self.path.display(), %error, "the door log cannot be put aside; it grows on");
        }
    }

    /// The same on a disk that takes nothing.
    #[cfg(test)]
    pub(crate) fn read_only(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let good = file.metadata()?.len();
        Ok(Self {
            lines: Lines::new(file, good),
            ..Self::open(path)?
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let older = older(&self.path);
        // Half a line that is still there must not end up in the middle of what is kept.
        self.lines.mend()?;
        fs::rename(&self.path, &older)?;
        match appending(&self.path) {
            Ok(file) => {
                self.lines = Lines::new(file, 0);
                Ok(())
            }
            Err(error) => fs::rename(&older, &self.path).and(Err(error)),
        }
    }
}

/// What lines are written to.
pub(crate) trait Medium: Write {
    /// Forgets everything after the first `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Medium for File {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// Lines that are there whole or not at all.
#[derive(Debug)]
pub(crate) struct Lines<M> {
    medium: M,
    /// The length up to which every line is whole.
    good: u64,
    /// Whether there may be something behind that which does not count: half a line, or one that was taken back.
    torn: bool,
}

impl<M: Medium> Lines<M> {
    pub(crate) fn new(medium: M, good: u64) -> Self {
        Self {
            medium,
            good,
            torn: false,
        }
    }

    /// Appends a line, or leaves the lines as they were. One that can neither be finished nor taken back lets no other
    /// follow until it is cut.
    pub(crate) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.mend()?;
        // One write: a reader sees whole lines, or at worst a torn last one.
        if let Err(error) = self.medium.write_all(line) {
            self.torn = true;
            // The failure of the write is what the caller must hear; that of the cut is met again by the next line.
            let _ = self.mend();
            return Err(error);
        }
        self.good += line.len() as u64;
        Ok(())
    }

    /// Forgets the lines behind the first `good` bytes, at the latest before the next line.
    pub(crate) fn take_back(&mut self, good: u64) {
        (self.good, self.torn) = (good, true);
        let _ = self.mend();
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.medium.cut(self.good)?;
            self.torn = false;
        }
        Ok(())
    }
}

/// Reads a log, also one that a running agent appends to; a torn last line is left out. What was put aside is not in it.
///
/// # Errors
/// Those of the file system, and a line that is no record, with its number.
pub fn read(path: &Path) -> io::Result<Vec<DoorRecord>> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut records, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 || line.last() != Some(&b'\n') {
            return Ok(records);
        }
        let at = format!("line {}", records.len() + 1);
        records.push(parse(&line, path, &at)?);
    }
}

/// Where the log of the agent with this data directory is.
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// Where the lines before a log's first one are, if there were too many.
pub fn older(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".1");
    PathBuf::from(name)
}

fn appending(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path)
}

fn last_of_older(path: &Path) -> io::Result<Option<DoorRecord>> {
    let path = older(path);
    match File::open(&path) {
        Ok(mut file) => Ok(tail(&mut file, &path)?.0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last whole line, and how many bytes it and those before it take.
fn tail(file: &mut File, path: &Path) -> io::Result<(Option<DoorRecord>, u64)> {
    let len = file.metadata()?.len();
    let mut span = TAIL.min(len);
    loop {
        file.seek(SeekFrom::Start(len - span))?;
        let mut bytes = Vec::new();
        Read::by_ref(file).take(span).read_to_end(&mut bytes)?;
        let mut ends = bytes.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
        let (end, before) = (
            ends.next().map(|(at, _)| at + 1),
            ends.next().map(|(at, _)| at + 1),
        );
        match (end, before.or_else(|| (span == len).then_some(0))) {
            (Some(end), Some(start)) => {
                let whole = len - span + end as u64;
                let at = format!("the line before byte {whole}");
                let line = bytes.get(start..end).unwrap_or_default();
                return Ok((Some(parse(line, path, &at)?), whole));
            }
            _ if span == len => return Ok((None, 0)),
            _ => span = (span * 2).min(len),
        }
    }
}

fn parse(line: &[u8], path: &Path, at: &str) -> io::Result<DoorRecord> {
    serde_json::from_slice(line).map_err(|e| {
        let text = format!("{}, {at}: {e}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}
