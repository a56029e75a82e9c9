//! When this node last heard from whoever leads: what a follower's word about a quorum rests on.
//!
//! Raft's own metrics say whom a follower takes for its leader, and not since when that one is silent.
//! Absent on purpose: any part in elections; those go by openraft's own clock.

#[cfg(test)]
mod tests;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::types::Vote;

/// The last word of the newest leader that spoke to this node in this run.
#[derive(Debug, Default)]
pub(crate) struct Hearing(Mutex<Option<Word>>);

#[derive(Clone, Copy, Debug)]
struct Word {
    term: u64,
    leader: u64,
    at: Instant,
}

impl Hearing {
    /// Entries or a heartbeat came under this vote. A deposed leader's come to nothing.
    pub(crate) fn note(&self, vote: &Vote, at: Instant) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let term = vote.leader_id.term;
        if vote.committed && last.is_none_or(|last| last.term <= term) {
            *last = Some(Word {
                term,
                leader: vote.leader_id.voted_for,
                at,
            });
        }
    }

    /// When a leader spoke last, whichever it was.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map(|word| word.at)
    }

    /// How long ago the leader of `term` spoke; `None` if it never did.
    pub(crate) fn silence(&self, term: u64, leader: u64, now: Instant) -> Option<Duration> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = last.filter(|last| last.term == term && last.leader == leader)?;
        Some(now.saturating_duration_since(last.at))
    }
}
