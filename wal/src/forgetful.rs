//! A directory of the machine's file system that keeps in this process what is not synced: SIGKILL loses it, as a power cut would.
//!
//! Reads see all of it. Of each write some sectors may be in the file at once, drawn by chance from a seed, as a system writes pages
//! back when it likes: what a kill then interrupts is torn. The rest follows when the file is synced, behind a first sync of what is
//! there, which leaves time to be killed in.
//! For tests with real processes. It is there in builds with debug assertions alone: no package has it, whatever its settings say.
//! Absent on purpose: names. A name that a kill finds is kept; [`crate::faulty`] forgets those, too.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    chance::Chance,
    disk::{Disk, DiskFile, RealDisk, write_all},
};

/// Bytes that are in the file together or not at all.
const SECTOR: u64 = 512;

/// How long a sync takes at least, as on a slow disk: on a fast one a kill would seldom find anything to lose.
const SYNC: Duration = Duration::from_millis(5);

/// What of a write that is not synced a kill finds in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    None,
    /// Some sectors, in any order.
    Some,
}

/// What a kill would make of the log's files now. Zeros, of which segments are made, are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtRisk {
    /// Bytes that are in no file.
    pub lost: u64,
    /// Bytes that are in a file although they are not synced: with those above they make a torn write.
    pub kept: u64,
}

impl AtRisk {
    /// What the record at `path` says: after a kill, what it did. An error where no such disk was in use.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let at = |n: usize| {
            let eight: Option<[u8; 8]> = bytes.get(n..n + 8).and_then(|b| b.try_into().ok());
            eight
                .map(u64::from_le_bytes)
                .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        Ok(Self {
            lost: at(0)?,
            kept: at(8)?,
        })
    }
}

/// The disk.
pub struct ForgetfulDisk {
    real: RealDisk,
    sync: Duration,
    shared: Arc<Mutex<Shared>>,
}

/// What its files share.
struct Shared {
    keeps: Kept,
    chance: Chance,
    at_risk: AtRisk,
    record: File,
}

impl ForgetfulDisk {
    /// Of the directory `dir`. `record` is a file beside it that says, at every moment, what a kill would lose.
    pub fn new(dir: impl Into<PathBuf>, record: &Path, keeps: Kept, seed: u64) -> io::Result<Self> {
        let shared = Shared {
            keeps,
            chance: Chance::new(seed),
            at_risk: AtRisk::default(),
            record: File::create(record)?,
        };
        shared.tell()?;
        Ok(Self {
            real: RealDisk::new(dir),
            sync: SYNC,
            shared: Arc::new(Mutex::new(shared)),
        })
    }

    /// The same, with syncs that take this long: as long is at risk what is written.
    #[must_use]
    pub fn syncing_for(self, sync: Duration) -> Self {
        Self { sync, ..self }
    }

    fn wrap(&self, real: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(ForgetfulFile {
            real,
            sync: self.sync,
            held: Mutex::default(),
            shared: self.shared.clone(),
        })
    }
}

impl Shared {
    /// The process that reads it may outlive this one by a kill: the system keeps what was written.
    fn tell(&self) -> io::Result<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.at_risk.lost.to_le_bytes());
        bytes[8..].copy_from_slice(&self.at_risk.kept.to_le_bytes());
        self.record.write_all_at(&bytes, 0)
    }
}

impl Disk for ForgetfulDisk {
    fn path(&self) -> &Path {
        self.real.path()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.real.list()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.real.open(name)?))
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.real.create(name)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.real.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.real.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.real.sync_dir()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.real.free_bytes()
    }
}

struct ForgetfulFile {
    real: Arc<dyn DiskFile>,
    sync: Duration,
    /// What is not synced, in the order in which it was written.
    held: Mutex<Held>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Held {
    writes: Vec<(u64, Vec<u8>)>,
    at_risk: AtRisk,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    fn end(&self) -> u64 {
        let ends = self.writes.iter().map(|(at, bytes)| at + bytes.len() as u64);
        ends.max().unwrap_or_default()
    }

    /// Puts what is held over what was read at `offset`.
    fn lay_over(&self, buffer: &mut [u8], offset: u64) {
        let until = offset + buffer.len() as u64;
        for (at, bytes) in &self.writes {
            let (from, to) = ((*at).max(offset), (at + bytes.len() as u64).min(until));
            let place = |n: u64, base: u64| usize::try_from(n - base).unwrap_or(usize::MAX);
            if from < to {
                let over = &bytes[place(from, *at)..place(to, *at)];
                buffer[place(from, offset)..place(to, offset)].copy_from_slice(over);
            }
        }
    }
}

/// The pieces of a write that begin where sectors do.
fn sectors(bytes: &[u8], offset: u64) -> impl Iterator<Item = (u64, &[u8])> {
    let first = usize::try_from(SECTOR - offset % SECTOR).unwrap_or(usize::MAX);
    let (head, rest) = bytes.split_at(first.min(bytes.len()));
    let pieces = std::iter::once(head).chain(rest.chunks(usize::try_from(SECTOR).unwrap_or(usize::MAX)));
    pieces.scan(offset, |at, piece| {
        let from = *at;
        *at += piece.len() as u64;
        Some((from, piece))
    })
}

impl ForgetfulFile {
    /// Lets some sectors of a write through; says what is at risk by it.
    fn let_through(&self, bytes: &[u8], offset: u64) -> io::Result<AtRisk> {
        let mut at_risk = AtRisk::default();
        for (at, piece) in sectors(bytes, offset).filter(|(_, piece)| piece.iter().any(|b| *b != 0)) {
            let is_kept = {
                let mut shared = locked(&self.shared);
                shared.keeps == Kept::Some && shared.chance.below(2) == 0
            };
            if is_kept {
                write_all(&*self.real, piece, at)?;
                at_risk.kept += piece.len() as u64;
            } else {
                at_risk.lost += piece.len() as u64;
            }
        }
        Ok(at_risk)
    }

    /// Notes what is at risk now, for this file and in all.
    fn note(&self, held: &mut Held, now: AtRisk) -> io::Result<()> {
        let mut shared = locked(&self.shared);
        shared.at_risk.lost += now.lost;
        shared.at_risk.lost -= held.at_risk.lost;
        shared.at_risk.kept += now.kept;
        shared.at_risk.kept -= held.at_risk.kept;
        held.at_risk = now;
        shared.tell()
    }
}

impl DiskFile for ForgetfulFile {
    fn len(&self) -> io::Result<u64> {
        let held = locked(&self.held).end();
        Ok(self.real.len()?.max(held))
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.real.preallocate(len)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let held = locked(&self.held);
        let mut read = self.real.read_at(buffer, offset)?;
        let there = held.end().saturating_sub(offset);
        let there = usize::try_from(there).map_or(buffer.len(), |n| n.min(buffer.len()));
        if read < there {
            buffer[read..there].fill(0);
            read = there;
        }
        held.lay_over(&mut buffer[..read], offset);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut held = locked(&self.held);
        let more = self.let_through(bytes, offset)?;
        held.writes.push((offset, bytes.to_vec()));
        let now = AtRisk {
            lost: held.at_risk.lost + more.lost,
            kept: held.at_risk.kept + more.kept,
        };
        self.note(&mut held, now)?;
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut held = locked(&self.held);
        // Of the rest nothing is in the file yet: whoever is killed meanwhile loses it.
        self.real.sync_data()?;
        std::thread::sleep(self.sync);
        for (at, bytes) in &held.writes {
            write_all(&*self.real, bytes, *at)?;
        }
        self.real.sync_data()?;
        held.writes.clear();
        self.note(&mut held, AtRisk::default())
    }
}

impl Drop for ForgetfulFile {
    /// What nobody will sync any more is at nobody's risk.
    fn drop(&mut self) {
        let mut held = std::mem::take(&mut *locked(&self.held));
        // A record that cannot be written is missed by whoever reads it.
        let _ = self.note(&mut held, AtRisk::default());
    }
}
