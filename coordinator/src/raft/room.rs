//! What the log has room for, on its disk and in memory: asked before anything goes into it, because what waits there holds up every
//! vote behind it.
//!
//! Absent on purpose: the reckoning, which is the log's ([`wal::View::takes`]).
//! Invariants: whatever was let through and is not in the log yet is reckoned in with the next, also when the stream that brought it
//! is over; and so much of it is in memory that one more message of it, at most, is above the bound of what waits for the disk.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use openraft::{
    EntryPayload,
    errors::Fatal,
    raft::{AppendEntriesRequest, StreamAppendResult},
};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, timeout},
};
use tracing::warn;
use types::reason::{Reason, Refusal};
use wal::Passing;

use super::{
    RaftNode,
    log_store::{id_out, payload_len},
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
/// Between two warnings while messages are refused.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// A leader that does not take an answer for so long has gone, or is held up: whatever else it sent is judged without it.
const ANSWER_TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// What becomes of a message that a leader sent.
pub(super) type Answered = Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>;

/// What leaders sent, was let through, and is not answered.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    tally: Mutex<Tally>,
    /// Something of it was answered.
    answered: Notify,
}

#[derive(Debug, Default)]
struct Tally {
    passing: Passing,
    /// When there was no room last.
    refused_at: Option<Instant>,
    /// When that was said last.
    warned_at: Option<Instant>,
}

impl Sent {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn passing(&self) -> Passing {
        self.lock().passing
    }
}

impl Tally {
    fn has_refused(&self) -> bool {
        self.refused_at.is_some_and(|at| at.elapsed() < REFUSED_FOR)
    }

    /// Takes note of a refusal; whether it is time to say so.
    fn refuse(&mut self, now: Instant) -> bool {
        let said = self.warned_at.is_some_and(|at| now - at < WARN_EVERY);
        self.refused_at = Some(now);
        if !said {
            self.warned_at = Some(now);
        }
        !said
    }
}

/// A message that was let through; reckoned in until this is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    sent: Arc<Sent>,
    own: Passing,
    cut: bool,
}

impl Pass {
    /// Whether only the beginning of the message was: what its leader sends behind it does not follow.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut sent = self.sent.lock();
        sent.passing.entries = sent.passing.entries.saturating_sub(self.own.entries);
        sent.passing.bytes = sent.passing.bytes.saturating_sub(self.own.bytes);
        drop(sent);
        self.sent.answered.notify_waiters();
    }
}

/// The messages of a stream that were let through and are not answered, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Passed(Arc<Mutex<VecDeque<Pass>>>);

impl Passed {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Pass>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// One more.
    fn push(&self, pass: Pass) {
        self.lock().push_back(pass);
    }
    /// The first one was answered.
    fn pop(&self) {
        let answered = self.lock().pop_front();
        drop(answered);
    }
}

/// Why a message is not let through now.
enum Held {
    /// Too much of what came before it waits in memory.
    Behind,
    /// The disk does not take it.
    NoRoom,
}

/// Takes the answers of a stream to their end, whether its leader is still there for them or not: until then its messages wait for
/// Raft, and count.
pub(super) async fn follow(
    answers: impl Stream<Item = Answered>,
    passed: Passed,
    leader: mpsc::Sender<Answered>,
) {
    let (mut answers, mut leader) = (pin!(answers), Some(leader));
    while let Some(answer) = answers.next().await {
        passed.pop();
        if let Some(to) = &leader
            && to.send_timeout(answer, ANSWER_TAKEN_WITHIN).await.is_err()
        {
            leader = None;
        }
    }
}

impl RaftNode {
    /// The messages of a leader's stream as they are let through. It ends where there is no room for the next one, or for all of one;
    /// the leader begins another, and is held up again.
    pub(super) fn let_through(
        &self,
        messages: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
        passed: Passed,
    ) -> BoxStream<'static, AppendEntriesRequest<TypeConfig>> {
        let state = Some((self.clone(), messages.boxed(), passed));
        stream::unfold(state, |state| async move {
            let (node, mut messages, passed) = state?;
            let mut message = messages.next().await?;
            let pass = node.pass(&mut message).await.ok()?;
            let goes_on = !pass.is_cut();
            passed.push(pass);
            Some((message, goes_on.then_some((node, messages, passed))))
        })
        .boxed()
    }

    /// Lets a leader's message through once there is room for all of its commands that are not in the log, or cuts it to those that
    /// there is room for: leaders may send as few as they like, and are answered up to where. The rest of what there is belongs to
    /// votes, and to the entries by which leaders and members change, which pass at once.
    pub(super) async fn pass(&self, message: &mut AppendEntriesRequest<TypeConfig>) -> Result<Pass, Refusal> {
        let mut no_room_since = None;
        loop {
            let mut answered = pin!(self.sent().answered.notified());
            answered.as_mut().enable();
            match self.enter(&message.entries) {
                Ok(pass) => return Ok(pass),
                // Meanwhile the disk is not what it is held up by.
                Err(Held::Behind) => no_room_since = None,
                Err(Held::NoRoom) => {
                    let since = *no_room_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= ROOM_WAIT {
                        return self.cut(message);
                    }
                }
            }
            // The disk tells nobody when it has room.
            let _ = timeout(ROOM_LOOK, answered).await;
        }
    }

    fn enter(&self, entries: &[LogEntry]) -> Result<Pass, Held> {
        let lengths: Vec<usize> = entries.iter().map(payload_len).collect();
        let mut sent = self.sent().lock();
        self.check(&mut sent, entries, &lengths)?;
        Ok(self.reckon_in(&mut sent, &lengths))
    }

    /// Whether entries, with payloads of these lengths, are let through now. Where some are, so are fewer of the first ones.
    fn check(&self, sent: &mut Tally, entries: &[LogEntry], lengths: &[usize]) -> Result<(), Held> {
        let command = |entry: &LogEntry| matches!(entry.payload, EntryPayload::Normal(_));
        if !entries.iter().any(command) {
            return Ok(());
        }
        let passing = sent.passing.bytes;
        if passing > 0 && passing + lengths.iter().sum::<usize>() > self.room().queue_bytes() {
            return Err(Held::Behind);
        }
        let takes_all = self.room().takes(sent.passing, lengths);
        // Nearly always, and each look below takes a lock that the log's writer needs.
        if takes_all && !sent.has_refused() {
            return Ok(());
        }
        // A new leader, which does not know what is here, begins with entries of which most are.
        let ids = entries.iter().map(|entry| id_out(&entry.log_id));
        let known = self.room().known(ids);
        if entries.iter().skip(known).any(command) {
            let new = lengths.get(known..).unwrap_or_default();
            if !takes_all && !self.room().takes(sent.passing, new) {
                return Err(Held::NoRoom);
            }
            sent.refused_at = None;
        }
        Ok(())
    }

    fn reckon_in(&self, sent: &mut Tally, lengths: &[usize]) -> Pass {
        let own = Passing {
            entries: lengths.len(),
            bytes: lengths.iter().sum(),
        };
        sent.passing.entries += own.entries;
        sent.passing.bytes += own.bytes;
        Pass {
            sent: Arc::clone(self.sent()),
            own,
            cut: false,
        }
    }

    /// As many of the first entries as there is room for; an error where that is none.
    fn cut(&self, message: &mut AppendEntriesRequest<TypeConfig>) -> Result<Pass, Refusal> {
        let cut = self.enter_first(&message.entries);
        self.note_refusal(&message.entries);
        let Some(pass) = cut else {
            return Err(Refusal::new(Reason::DiskFull, NO_ROOM));
        };
        message.entries.truncate(pass.own.entries);
        Ok(pass)
    }

    /// Lets as many of the first entries through as there is room for, and not all of them.
    fn enter_first(&self, entries: &[LogEntry]) -> Option<Pass> {
        let lengths: Vec<usize> = entries.iter().map(payload_len).collect();
        let mut sent = self.sent().lock();
        let counts: Vec<usize> = (1..entries.len()).collect();
        let count = counts.partition_point(|count| {
            let first = entries.get(..*count).zip(lengths.get(..*count));
            first.is_some_and(|(entries, lengths)| self.check(&mut sent, entries, lengths).is_ok())
        });
        let first = lengths.get(..count).filter(|first| !first.is_empty())?;
        let mut pass = self.reckon_in(&mut sent, first);
        pass.cut = true;
        Some(pass)
    }

    fn note_refusal(&self, entries: &[LogEntry]) {
        if self.sent().lock().refuse(Instant::now()) {
            let (room, bytes) = (self.room().room(), entries.iter().map(payload_len).sum::<usize>());
            let (path, free_bytes) = (room.path.display(), room.free_bytes);
            warn!(%path, free_bytes, bytes, "no room for what the leader sends: this coordinator falls behind until some is freed");
        }
    }

    /// Whether there was no room for what a leader sent lately: as a rule because the disk is full, and sooner where that is much.
    pub(crate) fn refuses_entries(&self) -> bool {
        self.sent().lock().has_refused()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_there_is_no_room_is_said_once_a_minute() {
        let (mut tally, first) = (Tally::default(), Instant::now());
        let second = Duration::from_secs(1);
        for (after, is_said) in [
            (Duration::ZERO, true),
            (second, false),
            (WARN_EVERY - second, false),
            (WARN_EVERY, true),
            (WARN_EVERY + second, false),
        ] {
            assert_eq!(tally.refuse(first + after), is_said, "{after:?}");
            assert!(tally.has_refused());
            // The beginning of a batch was let through.
            tally.refused_at = None;
        }
    }
}
