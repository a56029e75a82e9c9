//! What is in memory of a faulty disk, what of it is durable, and what a crash makes of it.

use std::{collections::BTreeMap, io};

use super::{Fault, Lost};
use crate::chance::Chance;

/// Bytes that a real disk writes together or not at all; ours tears these, too, where it is told to.
const SECTOR: usize = 512;

#[derive(Default)]
pub(super) struct Memory {
    pub(super) files: Vec<File>,
    pub(super) names: BTreeMap<String, usize>,
    /// As of the last sync of the directory.
    pub(super) durable_names: BTreeMap<String, usize>,
    pub(super) name_changes: Vec<NameChange>,
    pub(super) capacity: Option<u64>,
    pub(super) operations: u64,
    pub(super) faults: BTreeMap<u64, Fault>,
    /// Every write finds no room, also where the file has its length.
    pub(super) copies: bool,
    /// Every change of a name finds no room.
    pub(super) full_names: bool,
    pub(super) crashed: bool,
}

#[derive(Clone, Default)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Made(String, usize),
    Moved(String, String),
    Gone(String),
}

impl Memory {
    pub(super) fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|id| self.files.get(*id))
            .map(|f| f.bytes.len() as u64)
            .sum()
    }

    /// Counts an operation; says what goes wrong with it.
    pub(super) fn begin(&mut self) -> io::Result<Option<Fault>> {
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
    pub(super) fn begin_whole(&mut self) -> io::Result<()> {
        match self.begin()? {
            Some(Fault::Enospc) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Crash) => Err(off()),
            Some(Fault::Short | Fault::Eio) | None => Ok(()),
        }
    }

    /// The same for one that changes a name.
    pub(super) fn begin_name(&mut self) -> io::Result<()> {
        self.begin_whole()?;
        match self.full_names {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    pub(super) fn name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    pub(super) fn has_room(&self, more: u64) -> bool {
        self.capacity
            .is_none_or(|c| self.used().saturating_add(more) <= c)
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, usize>) {
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
    pub(super) fn write(&mut self, bytes: &[u8], at: usize) {
        patch(&mut self.bytes, bytes, at);
        self.unsynced.push((at, bytes.to_vec()));
    }

    pub(super) fn crash(&mut self, lost: Lost, chance: &mut Chance) {
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
pub(super) fn off() -> io::Error {
    io::Error::other("the machine is off")
}
