//! What clients did and what they were told: one line of JSON per event, written before the next step of its process.
//!
//! `invoke` is followed by `ok` (it happened), `fail` (it surely did not) or `info` (nobody knows). All times come from
//! one monotonic clock of the harness, so that "ended before the other began" means something.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use types::{Epoch, Holder};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Microseconds since the run began.
    pub(crate) at: u64,
    /// Which client; a client does one thing at a time.
    pub(crate) process: u32,
    /// Which of its operations.
    pub(crate) op: u64,
    /// What the line says of it.
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum What {
    /// It begins.
    Invoke {
        /// What is asked.
        action: Action,
    },
    /// It happened.
    Ok {
        /// Milliseconds of the lease that the agent says are left; only for a token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease_left_millis: Option<u64>,
        /// The token that was given, as epoch and holder; only for a token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<(Epoch, Holder)>,
    },
    /// It surely did not happen.
    Fail {
        /// Why.
        reason: String,
        /// The current epoch that a refusal named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Epoch>,
    },
    /// Nobody knows.
    Info {
        /// What was seen instead of an answer.
        reason: String,
    },
    /// A fault began or ended.
    Nemesis {
        /// In words.
        fault: String,
    },
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "snake_case")]
pub(crate) enum Action {
    /// The token that a region's agent holds.
    Token {
        /// The region.
        region: String,
    },
    /// A guarded write.
    Write {
        /// `registry` or `agent/R`.
        door: String,
        /// The epoch that is shown.
        epoch: Epoch,
        /// Whose it is.
        holder: Holder,
    },
}

/// The history of a run, as it grows; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct History {
    began: Instant,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    /// The first error of the disk; a history with a hole is worthless.
    broken: Option<std::io::Error>,
}

impl History {
    /// A new file; the clock starts here.
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        let inner = Inner {
            file: File::create(path)?,
            broken: None,
        };
        Ok(Self {
            began: Instant::now(),
            inner: Arc::new(Mutex::new(inner)),
        })
    }

    /// Writes a line, with the time at which it is written.
    pub(crate) fn record(&self, process: u32, op: u64, what: What) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken under the lock, so that lines stand in the order of their times.
        let at = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let event = Event {
            at,
            process,
            op,
            what,
        };
        let written = serde_json::to_vec(&event)
            .map_err(std::io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                inner.file.write_all(&line)
            });
        if let Err(error) = written {
            inner.broken.get_or_insert(error);
        }
    }

    /// That every line was written.
    pub(crate) fn finish(self) -> std::io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.broken.take().map_or(Ok(()), Err)
    }
}

/// Reads a history; every line must be whole.
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<Event>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines
        .map(|line| serde_json::from_str(&line?).map_err(std::io::Error::from))
        .collect()
}
