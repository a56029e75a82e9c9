//! The registry door's record: one line for each applied command that showed a fencing token.
//!
//! Every coordinator writes the same lines for the entries that it applied, because they come from the log; a node that
//! was brought up to date by a snapshot lacks the lines before it. Replay after a restart repeats none. A log of
//! [`ROTATE_AT`] bytes is put aside under the suffix `.1`, where it replaces the one before it.
//! On a full disk lines wait in memory, for as long as the Raft log's own reserve takes the entries that make them: no snapshot
//! is taken before they are on the disk, so a restart writes them again.
//! Invariants: lines stand in the order of their revisions, over both files. A line that a crash tore is cut when the log is
//! opened, and so is what stands behind a hole: entries whose lines may be torn or missing are in the Raft log still, and
//! replay writes those lines again. What was put aside was synced whole, and has no holes.

mod patient;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use state::DoorRecord;
use types::{Epoch, Holder, Reason, Revision, RoleName};

use self::patient::Patient;

use crate::raft::files;

/// The file's name in a coordinator's data directory.
pub const FILE_NAME: &str = "registry-door.jsonl";

/// How long a log grows before a new one is begun: some 50,000 lines, so that at least as many are kept, and what a start
/// has to read is small.
pub const ROTATE_AT: u64 = 16 << 20;

/// No line is as long: one that is, is none.
const LINE_MAX: u64 = 64 << 10;

/// What the registry's door saw and decided at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorLine {
    /// The entry's revision; grows from line to line.
    pub revision: Revision,
    /// The role of the token.
    pub role: RoleName,
    /// The epoch that was shown.
    pub shown: Epoch,
    /// The holder that was shown.
    pub shown_holder: Holder,
    /// The role's committed epoch.
    pub current: Epoch,
    /// The role's committed holder.
    pub holder: Option<Holder>,
    /// Whether the write took effect.
    pub accepted: bool,
    /// Why it did not.
    pub reason: Option<Reason>,
}

/// Reads a door log with what was put aside, of a running coordinator too: a line that is still being written is left out.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<DoorLine>> {
    let path = path.as_ref();
    // The newer file is opened first: if it is put aside right now, it is read twice, and no line is missed.
    let newer = open_if_there(path)?;
    let older = open_if_there(&older(path))?;
    if newer.is_none() && older.is_none() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no such door log"));
    }
    let (mut lines, mut last) = (Vec::new(), Revision::default());
    for file in [older, newer].into_iter().flatten() {
        for (line, _) in WholeLines::of(file) {
            let line = line?;
            if line.revision > last {
                last = line.revision;
                lines.push(line);
            }
        }
    }
    Ok(lines)
}

/// Where the lines before a log's first one are, if there were too many.
fn older(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".1");
    PathBuf::from(name)
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Each whole line, with the offset at which it ends; one at a time in memory.
struct WholeLines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    end: u64,
}

impl<R: io::Read> WholeLines<R> {
    fn of(reader: R) -> Self {
        Self {
            reader: BufReader::new(reader),
            line: Vec::new(),
            end: 0,
        }
    }
}

impl<R: io::Read> Iterator for WholeLines<R> {
    type Item = (io::Result<DoorLine>, u64);

    fn next(&mut self) -> Option<Self::Item> {
        self.line.clear();
        let limited = &mut (&mut self.reader).take(LINE_MAX);
        if let Err(error) = limited.read_until(b'\n', &mut self.line) {
            return Some((Err(error), self.end));
        }
        let read = self.line.len() as u64;
        // The last line is whole once its end is there; what is longer than any line is not one.
        if self.line.last() != Some(&b'\n') && read < LINE_MAX {
            return None;
        }
        self.end += read;
        Some((parse(&self.line), self.end))
    }
}

/// A line that a crash tore is no JSON; one that is, and is no [`DoorLine`], is the work of another version.
fn parse(line: &[u8]) -> io::Result<DoorLine> {
    serde_json::from_slice(line).map_err(|error| match error.classify() {
        Category::Data => {
            let text = format!("it holds a line of another version: {error}");
            io::Error::new(io::ErrorKind::Unsupported, text)
        }
        Category::Io | Category::Syntax | Category::Eof => io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

/// The last line before a hole or the end, and where it ends.
fn last_whole(file: impl io::Read) -> io::Result<(Revision, u64)> {
    let (mut last, mut end) = (Revision::default(), 0);
    for (line, at) in WholeLines::of(file) {
        match line {
            Ok(line) => (last, end) = (line.revision, at),
            // A crash of the whole machine may leave zeros where a line was not synced: the rest is rewritten by replay.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => break,
            Err(error) => return Err(error),
        }
    }
    Ok((last, end))
}

/// The writing side; one per data directory.
#[derive(Debug)]
pub(crate) struct DoorLog {
    path: PathBuf,
    writer: Patient,
    size: u64,
    rotate_at: u64,
    last: Revision,
}

impl DoorLog {
    /// Opens or creates the file, cuts a torn last line, and finds the last revision in it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::rotating_at(path, ROTATE_AT)
    }

    /// The same with another bound.
    pub(crate) fn rotating_at(path: &Path, rotate_at: u64) -> io::Result<Self> {
        let file = create(path)?;
        let (mut last, size) = last_whole(&file)?;
        if let Some(older) = open_if_there(&older(path))?.filter(|_| size == 0) {
            last = last_whole(&older)?.0;
        }
        file.set_len(size)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Patient::new(file, size),
            size,
            rotate_at,
            last,
        })
    }

    /// Adds a line unless the revision is there already.
    pub(crate) fn append(&mut self, revision: Revision, record: DoorRecord) -> io::Result<()> {
        if revision <= self.last {
            return Ok(());
        }
        if self.size >= self.rotate_at {
            // Without room the log goes on in its file, and is put aside later.
            patient::unless_full(self.rotate())?;
        }
        let mut bytes = serde_json::to_vec(&line(revision, record))?;
        bytes.push(b'\n');
        self.writer.add(&bytes)?;
        self.size += bytes.len() as u64;
        self.last = revision;
        Ok(())
    }

    /// Puts the file aside. It is synced first: replay fills the holes of the newer file alone.
    fn rotate(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        files::sync(self.writer.file(), &self.path)?;
        // Made first: a disk that has no room for it leaves everything as it was.
        let next = files::temp_path(&self.path);
        let file = create(&next)?;
        file.set_len(0)?;
        files::rename(&self.path, &older(&self.path))?;
        files::rename(&next, &self.path)?;
        self.writer = Patient::new(file, 0);
        self.size = 0;
        Ok(())
    }

    /// Hands the lines to the system: a killed process loses none of them. On a full disk they wait.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        patient::unless_full(self.writer.flush())
    }

    /// What makes the lines so far durable; called before a snapshot lets the log forget their entries. Lines may be added
    /// while it runs.
    pub(crate) fn begin_sync(&mut self) -> io::Result<impl FnOnce() -> io::Result<()> + use<>> {
        self.writer.flush()?;
        let (file, path) = (self.writer.file().try_clone()?, self.path.clone());
        Ok(move || files::sync(&file, &path))
    }

    /// Makes the lines durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.begin_sync()?()
    }
}

/// Opens the file, or makes it: durably, since a sync of its lines later on says nothing of its name.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)?;
    files::sync_dir(path.parent().unwrap_or_else(|| Path::new(".")))?;
    Ok(file)
}

fn line(revision: Revision, record: DoorRecord) -> DoorLine {
    let DoorRecord {
        role,
        shown,
        shown_holder,
        current,
        holder,
        accepted,
        reason,
    } = record;
    DoorLine {
        revision,
        role,
        shown,
        shown_holder,
        current,
        holder,
        accepted,
        reason,
    }
}
