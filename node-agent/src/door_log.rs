//! What this agent's door decided, one line of JSON for each privileged call, in order.
//!
//! Absent on purpose: rotation, and any decision. A line is written before the answer leaves. It reaches the kernel and
//! not the disk: it is evidence about this process, and survives its `kill -9`.
//! Invariant: sequence numbers grow by one from 1 within a file, also over restarts.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use types::{Epoch, Holder, Reason, RoleName};

/// The log's name in the agent's data directory.
pub const FILE_NAME: &str = "agent-door.jsonl";

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
    file: File,
    next_seq: u64,
}

impl DoorLog {
    /// Opens or makes the log; a torn last line of a killed process is cut off.
    ///
    /// # Errors
    /// Those of the file system, and a line that is no record.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).read(true).append(true).open(path)?;
        let (records, whole) = scan(&mut file, path)?;
        file.set_len(whole)?;
        let next_seq = records.last().map_or(1, |r| r.seq + 1);
        Ok(Self { file, next_seq })
    }

    /// Appends a record and gives it its number.
    ///
    /// # Errors
    /// Those of the file system; the record is then not part of the log.
    pub fn append(&mut self, mut record: DoorRecord) -> io::Result<u64> {
        record.seq = self.next_seq;
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        // One write: a reader sees whole lines, or at worst a torn last one.
        self.file.write_all(&line)?;
        self.next_seq += 1;
        Ok(record.seq)
    }
}

/// Reads a log, also one that a running agent appends to; a torn last line is left out.
///
/// # Errors
/// Those of the file system, and a line that is no record, with its number.
pub fn read(path: &Path) -> io::Result<Vec<DoorRecord>> {
    let mut file = File::open(path)?;
    Ok(scan(&mut file, path)?.0)
}

/// Where the log of the agent with this data directory is.
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// All whole lines, and how many bytes they take.
fn scan(file: &mut File, path: &Path) -> io::Result<(Vec<DoorRecord>, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(file);
    let (mut records, mut whole, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok((records, whole));
        }
        let record = serde_json::from_slice(&line).map_err(|e| {
            let text = format!("{} line {}: {e}", path.display(), records.len() + 1);
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        records.push(record);
        whole += read as u64;
    }
}
