//! A disk in memory for tests: it forgets what was not synced, tears writes, fills up, fails, and flips bits.
//!
//! Every operation that changes something has a number; faults are set for numbers, so that a test can put one at each.
//! Absent on purpose: threads, clocks and chance of its own; the same seed tears the same bytes.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

mod file;
mod gate;
mod memory;

use self::{
    file::FaultyFile,
    gate::Gate,
    memory::{File, Memory, NameChange},
};
pub use crate::chance::Chance;
use crate::disk::{Disk, DiskFile};

/// What goes wrong at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The machine loses its power: this operation may have begun, and none after it happens.
    Crash,
    /// The device fails.
    Eio,
    /// No room. A write of several bytes writes some of them first.
    Enospc,
    /// A write writes a part, and says so.
    Short,
}

/// What of the bytes that were not synced is on the disk after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nothing is.
    All,
    /// The writes up to some byte are.
    Rest,
    /// Some sectors are, in any order.
    Sectors,
    /// Everything is.
    Nothing,
}

impl Lost {
    /// Each of them.
    pub const EACH: [Self; 4] = [Self::All, Self::Rest, Self::Sectors, Self::Nothing];
}

/// A disk in memory. Clones share it.
#[derive(Clone)]
pub struct FaultyDisk {
    path: PathBuf,
    memory: Arc<Mutex<Memory>>,
    gate: Arc<Gate>,
}

impl FaultyDisk {
    /// An empty one that never fills.
    pub fn new() -> Self {
        Self {
            path: PathBuf::from("/disk"),
            memory: Arc::default(),
            gate: Arc::default(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it holds so many bytes; `None` ends that.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.memory().capacity = bytes;
    }

    /// Bytes in files.
    pub fn used(&self) -> u64 {
        self.memory().used()
    }

    /// Whether writes within a file need room, too, and find none: as on a file system that copies what is written over.
    pub fn set_full_for_writes(&self, full: bool) {
        self.memory().copies = full;
    }

    /// Whether names need room, too, and find none: as where a directory is copied to take one out of it.
    pub fn set_full_for_names(&self, full: bool) {
        self.memory().full_names = full;
    }

    /// Whether it does not answer: whoever syncs a file waits until it does.
    pub fn set_hanging(&self, hangs: bool) {
        self.gate.set(hangs);
    }

    /// How many wait for it.
    pub fn waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// How many operations have changed something so far.
    pub fn operations(&self) -> u64 {
        self.memory().operations
    }

    /// Sets a fault for an operation, the first one being 0.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.memory().faults.insert(operation, fault);
    }

    /// Whether a [`Fault::Crash`] was met.
    pub fn crashed(&self) -> bool {
        self.memory().crashed
    }

    /// What is there after the power comes back. This one is not changed.
    pub fn after_crash(&self, lost: Lost, chance: &mut Chance) -> Self {
        let memory = self.memory();
        let mut files = memory.files.clone();
        for file in &mut files {
            file.crash(lost, chance);
        }
        let kept = match lost {
            Lost::All => 0,
            Lost::Nothing => memory.name_changes.len(),
            Lost::Rest | Lost::Sectors => chance.pick(memory.name_changes.len() + 1),
        };
        let mut names = memory.durable_names.clone();
        for change in memory.name_changes.iter().take(kept) {
            change.apply(&mut names);
        }
        let after = Memory {
            files,
            durable_names: names.clone(),
            names,
            capacity: memory.capacity,
            ..Memory::default()
        };
        Self {
            path: self.path.clone(),
            memory: Arc::new(Mutex::new(after)),
            gate: Arc::default(),
        }
    }

    /// A copy, with what is not synced and what is.
    pub fn copy(&self) -> Self {
        let memory = self.memory();
        let copy = Memory {
            files: memory.files.clone(),
            names: memory.names.clone(),
            durable_names: memory.durable_names.clone(),
            name_changes: memory.name_changes.clone(),
            capacity: memory.capacity,
            ..Memory::default()
        };
        Self {
            path: self.path.clone(),
            memory: Arc::new(Mutex::new(copy)),
            gate: Arc::default(),
        }
    }

    /// A file's bytes.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let memory = self.memory();
        let file = memory.names.get(name).and_then(|id| memory.files.get(*id));
        file.map(|file| file.bytes.clone())
    }

    /// Puts a file there, durably.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut memory = self.memory();
        let id = memory.files.len();
        memory.files.push(File {
            bytes: bytes.to_vec(),
            durable: bytes.to_vec(),
            unsynced: Vec::new(),
        });
        memory.names.insert(name.to_owned(), id);
        memory.durable_names.insert(name.to_owned(), id);
    }

    /// Changes one bit of what is durable; false where there is no such byte.
    pub fn flip(&self, name: &str, at: usize, bit: u8) -> bool {
        let mut memory = self.memory();
        let Some(id) = memory.names.get(name).copied() else {
            return false;
        };
        let Some(file) = memory.files.get_mut(id) else {
            return false;
        };
        for bytes in [&mut file.bytes, &mut file.durable] {
            let Some(byte) = bytes.get_mut(at) else {
                return false;
            };
            *byte ^= 1 << (bit & 7);
        }
        true
    }
}

impl Default for FaultyDisk {
    fn default() -> Self {
        Self::new()
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for FaultyDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.memory().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.memory().names.get(name).copied().ok_or_else(not_found)?;
        Ok(Arc::new(FaultyFile {
            memory: self.memory.clone(),
            gate: self.gate.clone(),
            id,
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut memory = self.memory();
        memory.begin_name()?;
        let id = memory.files.len();
        memory.files.push(File::default());
        memory.name(NameChange::Made(name.to_owned(), id));
        drop(memory);
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut memory = self.memory();
        if !memory.names.contains_key(from) {
            return Err(not_found());
        }
        memory.begin_name()?;
        memory.name(NameChange::Moved(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut memory = self.memory();
        if !memory.names.contains_key(name) {
            return Err(not_found());
        }
        memory.begin_name()?;
        memory.name(NameChange::Gone(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut memory = self.memory();
        memory.begin_whole()?;
        memory.durable_names = memory.names.clone();
        memory.name_changes.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let memory = self.memory();
        let used = memory.used();
        Ok(memory.capacity.map_or(u64::MAX, |c| c.saturating_sub(used)))
    }
}
