//! A file's writer that keeps what a full disk does not take.
//!
//! Invariant: bytes reach the file in order and once, however often a flush is tried.

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// Handed to the system once so much waits.
const BUFFER_BYTES: usize = 8 << 10;
/// Lines of a full disk that wait at most: more than the entries can make that the Raft log's reserve takes.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Appends to a file.
#[derive(Debug)]
pub(super) struct Patient {
    file: File,
    /// Where the next byte goes.
    end: u64,
    waiting: Vec<u8>,
}

/// A disk that is full is no error: what it did not take waits.
pub(super) fn unless_full(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if is_full(&error) => Ok(()),
        done => done,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl Patient {
    /// Appends from `end` on.
    pub(super) fn new(file: File, end: u64) -> Self {
        let waiting = Vec::new();
        Self { file, end, waiting }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Adds bytes; an error only where too many wait, or the disk failed.
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        match self.waiting.len() {
            0..BUFFER_BYTES => Ok(()),
            BUFFER_BYTES..WAITING_BYTES_MAX => unless_full(self.flush()),
            _ => self.flush(),
        }
    }

    /// Hands everything to the system; what it does not take waits, and the error says why.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut done = 0;
        let result = loop {
            let rest = &self.waiting[done..];
            if rest.is_empty() {
                break Ok(());
            }
            match self.file.write_at(rest, self.end) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    done += n;
                    self.end += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        self.waiting.drain(..done);
        result
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        // What a disk does not take at the end is in the Raft log still.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The system's own full file.
    #[test]
    fn what_a_full_disk_does_not_take_waits_and_is_written_once() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut patient = Patient::new(full, 0);
        let lines: Vec<u8> = (0..3 * BUFFER_BYTES).map(|n| n.to_le_bytes()[0]).collect();
        for line in lines.chunks(100) {
            patient.add(line).unwrap();
        }
        assert!(is_full(&patient.flush().unwrap_err()));
        let room = tempfile::tempfile().unwrap();
        patient.file = room.try_clone().unwrap();
        patient.flush().unwrap();
        patient.flush().unwrap();
        patient.add(b"end").unwrap();
        drop(patient);
        let mut there = vec![0; lines.len() + 3];
        room.read_exact_at(&mut there, 0).unwrap();
        assert!(there[..lines.len()] == lines[..] && there.ends_with(b"end"));
        assert_eq!(room.metadata().unwrap().len(), there.len() as u64);
    }
}
