//! Request ids that were answered, and their first answers (I9).
//!
//! Absent on purpose: wall clocks. Ages are counted in state time; an id's own time is the one inside the UUIDv7.
//! Invariant: an id that was ever answered is either in the table or at or below the floor, so it never runs again.

use std::{collections::BTreeMap, time::Duration};

use types::{Digest, RequestId, UnixMillis};

use crate::{codec, command::Entry, rejection::Rejection, reply::Reply};

/// How far ahead of state time a request id may be, so that no fast clock can raise the floor over honest ones.
pub const REQUEST_AHEAD_MAX: Duration = Duration::from_secs(60);
/// Answers that are kept at least.
pub const REQUESTS_KEPT_MIN: u64 = 100_000;
/// How long each answer is kept at least, in state time.
pub const REQUESTS_KEPT_FOR: Duration = Duration::from_secs(3600);

/// Answered requests. Its two bounds are part of it, so that all replicas forget alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTable {
    pub(crate) kept_min: u64,
    pub(crate) kept_for: Duration,
    /// The highest id that was forgotten; an unknown id at or below it may have been answered.
    pub(crate) floor: Option<RequestId>,
    pub(crate) answered: BTreeMap<RequestId, Answered>,
}

/// One answered request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// SHA-256 over caller and command, so that neither can be changed under an id.
    pub(crate) digest: Digest,
    /// State time of the answer.
    pub(crate) at: UnixMillis,
    pub(crate) outcome: Result<Reply, Rejection>,
}

/// Whether a request was answered before.
pub(crate) enum Seen {
    Before(Result<Reply, Rejection>),
    Never(Digest),
}

impl Default for RequestTable {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestTable {
    /// With the bounds of the design.
    pub fn new() -> Self {
        Self::with_limits(REQUESTS_KEPT_MIN, REQUESTS_KEPT_FOR)
    }

    /// With other bounds: at least so many answers, and each for at least so long.
    pub fn with_limits(kept_min: u64, kept_for: Duration) -> Self {
        Self {
            kept_min,
            kept_for,
            floor: None,
            answered: BTreeMap::new(),
        }
    }

    /// The first answer of a known id, the digest to remember of a new one, or why the id cannot be taken.
    pub(crate) fn look_up(&self, entry: &Entry, state_time: UnixMillis) -> Result<Seen, Rejection> {
        let request_id = entry.request_id;
        if !request_id.is_v7() {
            return Err(Rejection::invalid(
                "request_id",
                format!("{request_id} is no UUIDv7"),
            ));
        }
        let digest = codec::request_digest(entry);
        match self.answered.get(&request_id) {
            Some(known) if known.digest == digest => Ok(Seen::Before(known.outcome.clone())),
            Some(_) => Err(Rejection::RequestReused { request_id }),
            None => self
                .check_new(request_id, state_time)
                .map(|()| Seen::Never(digest)),
        }
    }

    fn check_new(&self, request_id: RequestId, state_time: UnixMillis) -> Result<(), Rejection> {
        match self.floor {
            Some(floor) if request_id <= floor => {
                return Err(Rejection::RequestTooOld {
                    request_id,
                    floor,
                    state_time,
                });
            }
            Some(_) | None => {}
        }
        if request_id.unix_millis() > state_time.plus(REQUEST_AHEAD_MAX).0 {
            return Err(Rejection::RequestFromFuture {
                request_id,
                state_time,
            });
        }
        Ok(())
    }

    /// Keeps an answer, and forgets the oldest ids beyond both bounds.
    pub(crate) fn remember(
        &mut self,
        id: RequestId,
        digest: Digest,
        outcome: &Result<Reply, Rejection>,
        at: UnixMillis,
    ) {
        let outcome = outcome.clone();
        self.answered.insert(id, Answered { digest, at, outcome });
        while self.answered.len() as u64 > self.kept_min {
            match self.answered.first_key_value() {
                // The oldest id may be a slow clock's and answered just now: it blocks the others, for an hour at most.
                Some((id, oldest)) if oldest.at.plus(self.kept_for) < at => self.floor = Some(*id),
                Some(_) | None => break,
            }
            self.answered.pop_first();
        }
    }
}
