//! A disk in memory for tests: it forgets what was not synced, tears writes, fills up, fails, and flips bits.
//!
//! Every operation that changes something has a number; faults are set for numbers, so that a test can put one at each.
//! Absent on purpose: threads, clocks and chance of its own; the same seed tears the same bytes.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::disk::{Disk, DiskFile};

/// Bytes that a real disk writes together or not at all; ours tears these, too, where it is told to.
const SECTOR: usize = 512;

/// Numbers that look like chance and follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// One below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }
    /// One of so many cases.
    pub fn pick(&mut self, cases: usize) -> usize {
        usize::try_from(self.below(cases as u64)).unwrap_or_default()
    }
}

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
}

#[derive(Default)]
struct Memory {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    /// As of the last sync of the directory.
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    capacity: Option<u64>,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    /// Every write finds no room, also where the file has its length.
    copies: bool,
    crashed: bool,
}

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
enum NameChange {
    Made(String, usize),
    Moved(String, String),
    Gone(String),
}

impl FaultyDisk {
    /// An empty one that never fills.
    pub fn new() -> Self {
        Self {
            path: PathBuf::from("/disk"),
            memory: Arc::default(),
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

impl Memory {
    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|id| self.files.get(*id))
            .map(|f| f.bytes.len() as u64)
            .sum()
    }

    /// Counts an operation; says what goes wrong with it.
    fn begin(&mut self) -> io::Result<Option<Fault>> {
        if self.crashed {
            return Err(off());
        }
        let fault = self.faults.get(&self.operations).copied();
        self.operations += 1;
        match fault {
            Some(Fault::Crash) => self.crashed = true,
            Some(Fault::Eio) => return Err(io::Error::from_raw_os_error(5)),
            Some(Fault::Enospc | Fault::Short) | None => {}
        }
        Ok(fault)
    }

    /// The same for one that is done or not: a crash comes before it.
    fn begin_whole(&mut self) -> io::Result<()> {
        match self.begin()? {
            Some(Fault::Enospc) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Crash) => Err(off()),
            Some(Fault::Short | Fault::Eio) | None => Ok(()),
        }
    }

    fn name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn has_room(&self, more: u64) -> bool {
        self.capacity
            .is_none_or(|c| self.used().saturating_add(more) <= c)
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Made(name, id) => drop(names.insert(name.clone(), *id)),
            Self::Moved(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Gone(name) => drop(names.remove(name)),
        }
    }
}

impl File {
    fn write(&mut self, bytes: &[u8], at: usize) {
        patch(&mut self.bytes, bytes, at);
        self.unsynced.push((at, bytes.to_vec()));
    }

    fn crash(&mut self, lost: Lost, chance: &mut Chance) {
        let mut rest = match lost {
            Lost::All => 0,
            Lost::Nothing | Lost::Sectors => usize::MAX,
            Lost::Rest => chance.pick(self.unsynced.iter().map(|w| w.1.len()).sum::<usize>() + 1),
        };
        for (at, bytes) in std::mem::take(&mut self.unsynced) {
            let there = bytes.len().min(rest);
            rest -= there;
            // Pieces end where sectors of the disk do.
            let mut from = 0;
            while from < there {
                let to = there.min((at + from + 1).next_multiple_of(SECTOR) - at);
                if lost != Lost::Sectors || chance.below(2) == 0 {
                    patch(&mut self.durable, &bytes[from..to], at + from);
                }
                from = to;
            }
        }
        self.bytes.clone_from(&self.durable);
    }
}

fn patch(file: &mut Vec<u8>, bytes: &[u8], at: usize) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Nobody hears it on a real machine.
fn off() -> io::Error {
    io::Error::other("the machine is off")
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
            id,
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut memory = self.memory();
        memory.begin_whole()?;
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
        memory.begin_whole()?;
        memory.name(NameChange::Moved(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut memory = self.memory();
        if !memory.names.contains_key(name) {
            return Err(not_found());
        }
        memory.begin_whole()?;
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

struct FaultyFile {
    memory: Arc<Mutex<Memory>>,
    id: usize,
}

impl FaultyFile {
    fn with<T>(&self, f: impl FnOnce(&mut Memory) -> io::Result<T>) -> io::Result<T> {
        f(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn file(memory: &mut Memory, id: usize) -> io::Result<&mut File> {
    memory.files.get_mut(id).ok_or_else(not_found)
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|memory| Ok(file(memory, self.id)?.bytes.len() as u64))
    }

    fn preallocate(&self, len: u64) -> io::Result<()> {
        self.with(|memory| {
            memory.begin_whole()?;
            let now = file(memory, self.id)?.bytes.len() as u64;
            if !memory.has_room(len.saturating_sub(now)) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let (len, now) = (place(len)?, place(now)?);
            if len > now {
                file(memory, self.id)?.write(&vec![0; len - now], now);
            }
            Ok(())
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|memory| {
            let bytes = &file(memory, self.id)?.bytes;
            let rest = bytes.get(place(offset)?..).unwrap_or_default();
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.with(|memory| {
            let fault = memory.begin()?;
            let (at, now) = (place(offset)?, file(memory, self.id)?.bytes.len());
            let more = (at + bytes.len()).saturating_sub(now) as u64;
            if memory.copies || !memory.has_room(more) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let some = bytes.len().div_ceil(2);
            let file = file(memory, self.id)?;
            match fault {
                // What the last write began is torn with the rest.
                Some(Fault::Crash) => {
                    file.write(bytes, at);
                    return Err(off());
                }
                Some(Fault::Enospc) => {
                    file.write(&bytes[..some], at);
                    return Err(io::ErrorKind::StorageFull.into());
                }
                Some(Fault::Short) => {
                    file.write(&bytes[..some], at);
                    return Ok(some);
                }
                Some(Fault::Eio) | None => file.write(bytes, at),
            }
            Ok(bytes.len())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|memory| {
            memory.begin_whole()?;
            let file = file(memory, self.id)?;
            file.durable.clone_from(&file.bytes);
            file.unsynced.clear();
            Ok(())
        })
    }
}
