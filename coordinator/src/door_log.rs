//! The registry door's record: one line for each applied command that showed a fencing token.
//!
//! Every coordinator writes the same lines for the entries that it applied, because they come from the log; a node that
//! was brought up to date by a snapshot lacks the lines before it. Replay after a restart repeats none.
//! Invariant: lines stand in the order of their revisions. A line that a crash tore is cut when the file is opened.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use state::DoorRecord;
use types::{Epoch, Holder, Reason, Revision, RoleName};

/// The file's name in a coordinator's data directory.
pub const FILE_NAME: &str = "registry-door.jsonl";

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

/// Reads a door log, of a running coordinator too: a line that is still being written is left out.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<DoorLine>> {
    let bytes = std::fs::read(path)?;
    whole_lines(&bytes).map(|(line, _)| line).collect()
}

/// Each whole line, with the offset at which it ends.
fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = (io::Result<DoorLine>, u64)> + '_ {
    let mut end = 0;
    bytes.split_inclusive(|b| *b == b'\n').filter_map(move |line| {
        end += line.len() as u64;
        line.ends_with(b"\n")
            .then(|| (serde_json::from_slice(line).map_err(io::Error::from), end))
    })
}

/// The writing side; one per data directory.
#[derive(Debug)]
pub(crate) struct DoorLog {
    writer: BufWriter<File>,
    last: Revision,
}

impl DoorLog {
    /// Opens or creates the file, cuts a torn last line, and finds the last revision in it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        let (mut last, mut end) = (Revision::default(), 0);
        for (line, at) in whole_lines(&std::fs::read(path)?) {
            // A crash of the whole machine may leave zeros where a line was not synced: the rest is rewritten by replay.
            let Ok(line) = line else { break };
            (last, end) = (line.revision, at);
        }
        file.set_len(end)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self {
            writer: BufWriter::new(file),
            last,
        })
    }

    /// Adds a line unless the revision is there already.
    pub(crate) fn append(&mut self, revision: Revision, record: DoorRecord) -> io::Result<()> {
        if revision <= self.last {
            return Ok(());
        }
        self.last = revision;
        serde_json::to_writer(&mut self.writer, &line(revision, record))?;
        self.writer.write_all(b"\n")
    }

    /// Hands the lines to the system: a killed process loses none of them.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Makes the lines durable; called before a snapshot lets the log forget their entries.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().sync_data()
    }
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
