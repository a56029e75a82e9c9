//! What this node remembers of the other members' disks, so that none of them comes back older (L20): in memory at once,
//! in `peers.json` every few seconds.
//!
//! Absent on purpose: the comparison ([`policy::standing`]), and anything of the own disk.
//! Invariant: nothing is remembered less than before. A file that cannot be read is never taken for an empty one: who
//! forgot would let an older disk in.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use policy::standing::{Ballot, Boot, LogPoint, Remembered, Stored};
use serde::{Deserialize, Serialize};
use types::DiskId;

use super::{error::StartError, files};

/// The only layout so far.
const FORMAT: u32 = 1;

/// `peers.json`.
#[derive(Serialize, Deserialize)]
struct PeersFile {
    format: u32,
    peers: Vec<PeerRecord>,
}

#[derive(Serialize, Deserialize)]
struct PeerRecord {
    disk: DiskId,
    boot: Option<BootRecord>,
    vote: Option<VoteRecord>,
    stored: Option<StoredRecord>,
}

#[derive(Serialize, Deserialize)]
struct BootRecord {
    count: u64,
    run: u64,
}

#[derive(Serialize, Deserialize)]
struct VoteRecord {
    term: u64,
    voted_for: u64,
    elected: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredRecord {
    under: u64,
    term: u64,
    index: u64,
}

/// The highest that is known of each disk.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    known: Mutex<Known>,
    /// Held while the file is written: an older one never comes after a newer one.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    disks: BTreeMap<DiskId, Remembered>,
    /// Since it was written last.
    changed: bool,
}

impl Memory {
    /// Reads what was written in `dir` before; nothing there is nothing known.
    pub(crate) fn open(dir: &Path) -> Result<Self, StartError> {
        let path = dir.join("peers.json");
        let disks = match fs::read(&path) {
            Ok(bytes) => parse(&path, &bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => {
                let doing = "cannot read it";
                return Err(StartError::DataDir { path, doing, source });
            }
        };
        let known = Known {
            disks,
            changed: false,
        };
        Ok(Self {
            path,
            known: Mutex::new(known),
            writing: Mutex::new(()),
        })
    }

    /// Takes in what was heard of a disk.
    pub(crate) fn learn(&self, disk: DiskId, heard: Remembered) {
        let mut known = self.known();
        let before = known.disks.get(&disk).copied();
        let mut now = before.unwrap_or_default();
        now.learn(heard);
        if before != Some(now) {
            known.disks.insert(disk, now);
            known.changed = true;
        }
    }

    /// What is remembered of a disk; nothing of one that was never heard of.
    pub(crate) fn of(&self, disk: DiskId) -> Remembered {
        self.known().disks.get(&disk).copied().unwrap_or_default()
    }

    /// Writes it down, if there is news; forgets disks that are no member's. What is remembered by then is on disk when it returns, so
    /// it waits for one that is under way.
    pub(crate) fn save(&self, members: &BTreeSet<DiskId>) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = {
            let mut known = self.known();
            let before = known.disks.len();
            known.disks.retain(|disk, _| members.contains(disk));
            if !known.changed && known.disks.len() == before {
                return Ok(());
            }
            known.changed = false;
            encode(&known.disks)?
        };
        files::replace(&self.path, &bytes).inspect_err(|_| self.known().changed = true)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<BTreeMap<DiskId, Remembered>, StartError> {
    let other = |problem: String| StartError::Forgot {
        path: path.to_owned(),
        problem,
    };
    let file: PeersFile = serde_json::from_slice(bytes).map_err(|e| other(e.to_string()))?;
    if file.format != FORMAT {
        return Err(other(format!("format {} where {FORMAT} is known", file.format)));
    }
    Ok(file.peers.into_iter().map(PeerRecord::read).collect())
}

fn encode(disks: &BTreeMap<DiskId, Remembered>) -> io::Result<Vec<u8>> {
    let file = PeersFile {
        format: FORMAT,
        peers: disks.iter().map(|(disk, r)| PeerRecord::of(*disk, r)).collect(),
    };
    let mut bytes = serde_json::to_vec_pretty(&file).map_err(io::Error::other)?;
    bytes.push(b'\n');
    Ok(bytes)
}

impl PeerRecord {
    fn of(disk: DiskId, remembered: &Remembered) -> Self {
        Self {
            disk,
            boot: remembered.boot.map(|b| BootRecord {
                count: b.count,
                run: b.run,
            }),
            vote: remembered.ballot.map(|b| VoteRecord {
                term: b.term,
                voted_for: b.voted_for,
                elected: b.elected,
            }),
            stored: remembered.stored.map(|s| StoredRecord {
                under: s.under,
                term: s.upto.term,
                index: s.upto.index,
            }),
        }
    }

    fn read(self) -> (DiskId, Remembered) {
        let remembered = Remembered {
            boot: self.boot.map(|b| Boot {
                count: b.count,
                run: b.run,
            }),
            ballot: self.vote.map(|v| Ballot {
                term: v.term,
                voted_for: v.voted_for,
                elected: v.elected,
            }),
            stored: self.stored.map(|s| Stored {
                under: s.under,
                upto: LogPoint {
                    term: s.term,
                    index: s.index,
                },
            }),
        };
        (self.disk, remembered)
    }
}
