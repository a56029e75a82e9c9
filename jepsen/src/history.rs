//! What clients did and what they were told: one line of JSON per event, written before the next step of its process.
//!
//! `invoke` is followed by `ok` (it happened), `fail` (it surely did not) or `info` (nobody knows). All times come from
//! one monotonic clock of the harness, so that "ended before the other began" means something.

use std::{
    collections::BTreeMap,
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
        /// What was answered.
        answer: Answer,
    },
    /// It surely did not happen.
    Fail {
        /// Which rule said no, as in `STALE_EPOCH`.
        code: String,
        /// Why, in words.
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
    /// What a watch gave out; it has one process for itself, and no operations.
    Told {
        /// It.
        told: Told,
    },
    /// A fault began or ended.
    Nemesis {
        /// Its name.
        fault: String,
        /// Which of the two.
        phase: Phase,
        /// How many of the longest election timeouts it may keep writes from being accepted, where a majority is left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        elections: Option<u32>,
    },
    /// What was seen of the cluster beside its clients: for pictures. Nothing is judged by it.
    Seen {
        /// It.
        seen: Seen,
    },
}

/// What happens to a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It begins now.
    Begins,
    /// It was proved to be over.
    Over,
}

/// What a cluster says of itself, as often as that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Seen {
    /// Who holds `primaries/global`, as a watch told.
    Role {
        /// The epoch.
        epoch: Epoch,
        /// Nobody between two holders.
        holder: Option<Holder>,
    },
    /// Whether a region's coordinator says that it leads.
    Leads {
        /// Its region.
        region: String,
        /// In which term; none: it does not, or says nothing.
        term: Option<u64>,
        /// The longest election timeout that it goes by; 0 where it does not lead.
        election_max_millis: u64,
    },
}

/// What an operation that happened was answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Nothing but that it is done.
    Done,
    /// A token.
    Token {
        /// Its epoch.
        epoch: Epoch,
        /// Whose it is.
        holder: Holder,
        /// Milliseconds of the lease that the agent says are left.
        lease_left_millis: u64,
    },
    /// What a register holds: after a read, or after a change of it.
    Held {
        /// The value; none before anything was written.
        value: Option<u64>,
        /// The revision at which it was written.
        etag: u64,
    },
    /// The place in a list at which an element was appended, from 1.
    Placed {
        /// It.
        place: u64,
    },
    /// A list: places and elements.
    Listed {
        /// As they came.
        elements: Vec<(u64, u64)>,
    },
}

/// What a watch gave out, as far as it is about registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Told {
    /// All registers at a revision: first of all, and where it could not go on.
    Whole {
        /// The revision.
        revision: u64,
        /// What they hold.
        registers: BTreeMap<String, u64>,
    },
    /// What a revision changed.
    Changed {
        /// The revision.
        revision: u64,
        /// What the registers hold from then on.
        registers: BTreeMap<String, u64>,
    },
    /// That no register changed up to a revision.
    Passed {
        /// The revision.
        revision: u64,
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
    /// Reads a register.
    Get {
        /// Which.
        register: String,
    },
    /// Writes a register, whatever it holds.
    Set {
        /// Which.
        register: String,
        /// Told apart from all others.
        value: u64,
    },
    /// Writes a register where it holds what was read before.
    Swap {
        /// Which.
        register: String,
        /// What was read.
        from: u64,
        /// Told apart from all others.
        value: u64,
    },
    /// Appends to a list.
    Append {
        /// Which.
        list: String,
        /// Told apart from all others.
        element: u64,
    },
    /// Reads a whole list.
    Read {
        /// Which.
        list: String,
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

/// An operation with its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op<'a> {
    /// Whose it is.
    pub(crate) process: u32,
    /// When it began, in microseconds.
    pub(crate) began: u64,
    /// When its end was known.
    pub(crate) ended: u64,
    /// What was asked.
    pub(crate) action: &'a Action,
    /// How it ended.
    pub(crate) end: &'a What,
}

impl Op<'_> {
    /// Whether the registry took a change.
    pub(crate) fn is_accepted_change(&self) -> bool {
        let is_change = match self.action {
            Action::Write { door, .. } => door == "registry",
            Action::Set { .. } | Action::Swap { .. } | Action::Append { .. } => true,
            Action::Token { .. } | Action::Get { .. } | Action::Read { .. } => false,
        };
        is_change && matches!(self.end, What::Ok { .. })
    }
}

/// The operations of a history in the order of their ends. One that the end of the run cut off has an unknown outcome.
pub(crate) fn operations(history: &[Event]) -> Vec<Op<'_>> {
    const CUT_OFF: &What = &What::Info {
        reason: String::new(),
    };
    let mut open = BTreeMap::new();
    let mut ops = Vec::new();
    for event in history {
        match &event.what {
            What::Invoke { action } => {
                open.insert((event.process, event.op), (event.at, action));
            }
            What::Nemesis { .. } | What::Told { .. } | What::Seen { .. } => {}
            end => {
                if let Some((began, action)) = open.remove(&(event.process, event.op)) {
                    ops.push(Op {
                        process: event.process,
                        began,
                        ended: event.at,
                        action,
                        end,
                    });
                }
            }
        }
    }
    let last = history.last().map_or(0, |event| event.at);
    ops.extend(open.into_iter().map(|((process, _), (began, action))| Op {
        process,
        began,
        ended: last,
        action,
        end: CUT_OFF,
    }));
    ops
}
