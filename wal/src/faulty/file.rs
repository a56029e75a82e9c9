//! One open file of a faulty disk.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Fault,
    gate::Gate,
    memory::{File, Memory, off},
    not_found,
};
use crate::disk::DiskFile;

pub(super) struct FaultyFile {
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) gate: Arc<Gate>,
    pub(super) id: usize,
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
        self.gate.pass();
        self.with(|memory| {
            memory.begin_whole()?;
            let file = file(memory, self.id)?;
            file.durable.clone_from(&file.bytes);
            file.unsynced.clear();
            Ok(())
        })
    }
}
