//! The writers' log: one JSON line for each attempt, in the order of their ends.

use std::{
    io::{self, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use types::{Epoch, FencingToken};

use crate::{
    demo::{
        doors::{Attempt, Outcome},
        micros::Micros,
    },
    error::Failure,
};

/// Lines that wait for the disk. Eight writers end one attempt each at a time, so this never fills unless the disk
/// stands still; then the writers wait.
const QUEUE: usize = 256;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// The region's agent gave a token.
    Token {
        /// When.
        at: Micros,
        /// Its epoch.
        epoch: Epoch,
    },
    /// A write ended.
    Attempt(Attempt),
    /// The pointer of the own region's store is left alone from now on.
    Held {
        /// When.
        at: Micros,
    },
}

/// Where writers put their lines; clones share the file.
#[derive(Clone, Debug)]
pub(super) struct LogHandle(mpsc::Sender<Line>);

impl LogHandle {
    /// Hands a line over; waits while too many do.
    pub(super) async fn put(&self, line: Line) {
        // The writing side ends only after every handle is gone, or when the disk fails; it says so itself.
        let _ = self.0.send(line).await;
    }
}

/// Opens the file; the returned future writes until every handle is gone.
pub(super) fn open(
    path: &Path,
) -> Result<(LogHandle, impl Future<Output = Result<(), Failure>> + use<>), Failure> {
    let path = path.to_owned();
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|e| Failure::file("open", &path, e))?;
    let (sender, lines) = mpsc::channel(QUEUE);
    let write = async move {
        write_lines(file, lines)
            .await
            .map_err(|e| Failure::file("write", &path, e))
    };
    Ok((LogHandle(sender), write))
}

/// Whole batches go to the file with one call, so that a reader sees whole lines soon.
async fn write_lines(mut file: std::fs::File, mut lines: mpsc::Receiver<Line>) -> io::Result<()> {
    let mut batch = Vec::new();
    while lines.recv_many(&mut batch, QUEUE).await > 0 {
        let mut text = Vec::new();
        for line in batch.drain(..) {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        file.write_all(&text)?;
    }
    Ok(())
}

/// An attempt in the making: what was shown, to whom, since when.
#[derive(Debug)]
pub(super) struct Begun {
    at: Micros,
    door: String,
    id: String,
    token: FencingToken,
}

impl Begun {
    /// Now, at `door`.
    pub(super) fn now(door: &str, id: impl ToString, token: &FencingToken) -> Self {
        Self {
            at: Micros::now(),
            door: door.to_owned(),
            id: id.to_string(),
            token: token.clone(),
        }
    }

    /// Ends now.
    pub(super) fn ended(self, told: Told) -> Attempt {
        Attempt {
            at: self.at,
            took: Micros::now().0.saturating_sub(self.at.0),
            door: self.door,
            id: self.id,
            shown: self.token.epoch,
            holder: self.token.holder,
            outcome: told.outcome,
            named: told.named,
            reason: told.reason,
        }
    }
}

/// What the writer was told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) outcome: Outcome,
    pub(super) named: Option<Epoch>,
    pub(super) reason: String,
}

impl Told {
    /// Without an epoch.
    pub(super) fn new(outcome: Outcome, reason: impl ToString) -> Self {
        Self {
            outcome,
            named: None,
            reason: reason.to_string(),
        }
    }
    /// Refused, naming the current epoch.
    pub(super) fn stale(named: Option<Epoch>, reason: impl ToString) -> Self {
        Self {
            outcome: Outcome::Refused,
            named,
            reason: reason.to_string(),
        }
    }
}
