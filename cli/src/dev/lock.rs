//! One `regent` per cluster directory: an flock that the kernel gives back whatever happens to the process.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    time::Duration,
};

use chaos::Roster;
use rustix::fs::{FlockOperation, flock};

use crate::{dev::layout::Layout, error::Failure};

/// How long the processes of a run that was killed may take to end.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(10);

/// Held as long as the cluster runs.
#[derive(Debug)]
pub(crate) struct DirLock(#[expect(dead_code, reason = "the lock lives as long as the descriptor")] File);

impl DirLock {
    /// Takes the lock, and waits until the processes of a killed run have ended: they hold ports and locks of their own.
    pub(crate) async fn take(layout: &Layout) -> Result<Self, Failure> {
        let lock = Self(lock_file(&layout.lock())?);
        let leftover = Roster::read(&layout.roster())
            .map(|r| r.alive())
            .unwrap_or_default();
        for run in leftover {
            run.process.wait_gone(LEFTOVER_LIMIT).await.map_err(|_| {
                Failure::other(format!(
                    "{} of an earlier run still runs as process {}",
                    run.name, run.process.pid
                ))
                .remedy("end that process, then start again")
            })?;
        }
        Ok(lock)
    }
}

fn lock_file(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    let opened = options.create(true).truncate(false).write(true).open(path);
    let file = opened.map_err(|e| Failure::file("open", path, e))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| {
        if e == rustix::io::Errno::WOULDBLOCK {
            let dir = path.parent().unwrap_or(path);
            Failure::other(format!("{} is in use by another regent", dir.display()))
                .remedy("stop that one, or name another directory with --dir")
        } else {
            Failure::file("lock", path, e)
        }
    })?;
    Ok(file)
}
