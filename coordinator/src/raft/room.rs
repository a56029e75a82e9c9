//! What the log's disk has room for: asked before anything goes into the log, because what waits there for room holds up every vote
//! behind it.
//!
//! Absent on purpose: the reckoning, which is the log's ([`wal::View::takes`]).
//! Invariant: whatever was let through and is not in the log yet is reckoned in with the next.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use openraft::{EntryPayload, raft::AppendEntriesRequest};
use tokio::time::{Instant, sleep};
use tracing::warn;
use types::reason::{Reason, Refusal};
use wal::Passing;

use super::{
    RaftNode,
    log_store::payload_len,
    types::{LogEntry, TypeConfig},
};
use crate::propose::PROPOSED_BYTES_MAX;

/// What a leader is told that sends more than a full disk takes.
const NO_ROOM: &str =
    "the disk of this coordinator is full: these entries do not fit what is left beside what votes need";
/// How long a leader's entries wait for room, so that it does not ask again at once.
const ROOM_WAIT: Duration = Duration::from_secs(1);
/// How often it is looked for meanwhile.
const ROOM_LOOK: Duration = Duration::from_millis(50);

/// For so long it counts that a message was refused: its leader sends it again sooner.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// What leaders sent, was let through, and is not answered.
#[derive(Debug, Default)]
pub(crate) struct Sent(Mutex<Tally>);

#[derive(Debug, Default)]
struct Tally {
    passing: Passing,
    /// When there was no room last.
    refused_at: Option<Instant>,
}

impl Sent {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_refused(&self) -> bool {
        self.lock()
            .refused_at
            .is_some_and(|at| at.elapsed() < REFUSED_FOR)
    }
}

/// A message that was let through; reckoned in until this is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    sent: Arc<Sent>,
    own: Passing,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let passing = &mut self.sent.lock().passing;
        passing.entries = passing.entries.saturating_sub(self.own.entries);
        passing.bytes = passing.bytes.saturating_sub(self.own.bytes);
    }
}

/// The messages of a stream that were let through and are not answered, in order. They are over with the stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Passed(Arc<Mutex<VecDeque<Pass>>>);

impl Passed {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Pass>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// One more.
    pub(super) fn push(&self, pass: Pass) {
        self.lock().push_back(pass);
    }
    /// The first one was answered.
    pub(super) fn pop(&self) {
        let answered = self.lock().pop_front();
        drop(answered);
    }
}

impl RaftNode {
    /// Lets a leader's message through once the disk takes all of its commands. The rest of what there is belongs to votes, and to the
    /// entries by which leaders and members change, which pass at once.
    pub(super) async fn pass(&self, message: &AppendEntriesRequest<TypeConfig>) -> Result<Pass, Refusal> {
        let command = |entry: &LogEntry| matches!(entry.payload, EntryPayload::Normal(_));
        let lengths: Vec<usize> = message.entries.iter().map(payload_len).collect();
        let needs_room = message.entries.iter().any(command);
        let until = Instant::now() + ROOM_WAIT;
        loop {
            if let Some(pass) = self.enter(&lengths, needs_room) {
                return Ok(pass);
            }
            if Instant::now() >= until {
                self.note_refusal(&lengths);
                return Err(Refusal::new(Reason::DiskFull, NO_ROOM));
            }
            sleep(ROOM_LOOK).await;
        }
    }

    fn enter(&self, lengths: &[usize], needs_room: bool) -> Option<Pass> {
        let mut sent = self.sent().lock();
        if needs_room && !self.room().takes(sent.passing, lengths) {
            return None;
        }
        let own = Passing {
            entries: lengths.len(),
            bytes: lengths.iter().sum(),
        };
        sent.passing.entries += own.entries;
        sent.passing.bytes += own.bytes;
        if needs_room {
            sent.refused_at = None;
        }
        drop(sent);
        Some(Pass {
            sent: Arc::clone(self.sent()),
            own,
        })
    }

    fn note_refusal(&self, lengths: &[usize]) {
        if !self.sent().has_refused() {
            let (room, bytes) = (self.room().room(), lengths.iter().sum::<usize>());
            let (path, free_bytes) = (room.path.display(), room.free_bytes);
            warn!(%path, free_bytes, bytes, "no room for what the leader sends: this coordinator falls behind until some is freed");
        }
        self.sent().lock().refused_at = Some(Instant::now());
    }

    /// Whether there was no room for what a leader sent lately: as a rule because the disk is full, and sooner where that is much.
    pub(crate) fn refuses_entries(&self) -> bool {
        self.sent().has_refused()
    }

    /// Whether the disk takes all that was proposed here and is not answered, with what is being proposed now.
    pub(crate) fn takes_proposals(&self) -> bool {
        let proposed = self.config().limits.proposals_in_flight;
        let proposed = Passing {
            // One more for each that has a permit for its bytes alone.
            entries: proposed.saturating_sub(self.in_flight().available_permits()) + 1,
            bytes: PROPOSED_BYTES_MAX.saturating_sub(self.in_flight_bytes().available_permits()),
        };
        self.room().takes(proposed, &[])
    }
}
