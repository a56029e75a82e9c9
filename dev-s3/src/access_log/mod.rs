//! What this store decided on every write, in the order of its commits: the record that a checker believes.
//!
//! One JSON line per decision. A line of a key is written under that key's lock, after the change is visible and
//! before the answer leaves. A kill between the two leaves a change without a line; the next start finds it by
//! comparing the objects with the log, and adds a line marked `recovered`. Lines are not synced one by one: they
//! survive the end of the process, and what a power cut takes is added again in the same way.

mod line;
mod read;

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use s3s::{S3Result, s3_error};

pub use line::{AccessLine, Current};
pub use read::read;

use crate::{
    Error,
    directory::access_log_path,
    meta::{ObjectMeta, now_micros},
};

/// The open log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: File,
    next_seq: u64,
    /// After a line could not be written nothing is decided any more: a store without its record proves nothing.
    broken: bool,
}

/// An object that stands in the store when its log is opened.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Its bucket.
    pub(crate) bucket: String,
    /// What is known of it.
    pub(crate) meta: Arc<ObjectMeta>,
}

impl AccessLog {
    /// Opens the log, cuts a torn last line, and adds what the objects say and the log does not.
    pub(crate) fn open(root: &Path, standing: &[Standing]) -> Result<Self, Error> {
        let path = access_log_path(root);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::directory(&path))?;
        let (lines, good_bytes) = read::read_lines(&path).map_err(Error::damaged(&path))?;
        file.set_len(good_bytes).map_err(Error::directory(&path))?;
        let next_seq = lines.last().map_or(1, |line| line.seq + 1);
        let log = Self {
            writer: Mutex::new(Writer {
                path: path.clone(),
                file,
                next_seq,
                broken: false,
            }),
        };
        for line in missing(&lines, standing) {
            log.append(line).map_err(Error::directory(&path))?;
        }
        Ok(log)
    }

    /// Refuses writes once the log is broken.
    pub(crate) fn check_usable(&self) -> S3Result<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.broken {
            let path = writer.path.display();
            return Err(s3_error!(
                InternalError,
                "a write failed on disk: free space and restart ({path})"
            ));
        }
        Ok(())
    }

    /// Refuses writes from now on: the disk failed in the middle of a change, so memory may no longer be what is on it.
    pub(crate) fn stop(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).broken = true;
    }

    /// Numbers the line and writes it with one system call.
    pub(crate) fn append(&self, mut line: AccessLine) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        line.seq = writer.next_seq;
        line.unix_micros = now_micros();
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        if let Err(error) = writer.file.write_all(&text) {
            writer.broken = true;
            tracing::error!(path = %writer.path.display(), %error, "access log cannot be written; refusing writes");
            return Err(error);
        }
        writer.next_seq += 1;
        Ok(())
    }
}

/// Lines for changes that became visible just before the process was killed.
fn missing(lines: &[AccessLine], standing: &[Standing]) -> Vec<AccessLine> {
    let mut last: HashMap<(String, String), Option<&str>> = HashMap::new();
    for line in lines.iter().filter(|line| line.accepted()) {
        last.insert((line.bucket.clone(), line.key.clone()), line.etag.as_deref());
    }
    let mut found = Vec::new();
    for Standing { bucket, meta } in standing {
        let logged = last.remove(&(bucket.clone(), meta.key.clone()));
        if logged.flatten() != Some(&meta.etag) {
            found.push(AccessLine::recovered("PUT", 200, bucket, &meta.key, Some(meta)));
        }
    }
    let gone = last.into_iter().filter(|(_, etag)| etag.is_some());
    found.extend(gone.map(|((bucket, key), _)| AccessLine::recovered("DELETE", 204, &bucket, &key, None)));
    found
}
