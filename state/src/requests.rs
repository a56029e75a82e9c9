//! Request ids that were answered, and their first answers (I9).
//!
//! Absent on purpose: wall clocks. Ages are counted in state time; an id's own time is the one inside the UUIDv7.
//! Invariant: an id that was ever answered is either in the table or at or below the floor, so it never runs again. Only
//! what is refused whenever it runs is not remembered: it has no effect, and a fenced writer would fill the table.

mod answers;
mod kept;

use std::time::Duration;

use types::{
    Digest, Principal, RequestId, UnixMillis,
    planted::{self, Bug},
};

pub(crate) use self::{
    answers::{Answered, Answers},
    kept::Kept,
};
use crate::{
    command::Entry,
    features::{Feature, Features},
    rejection::Rejection,
    reply::Reply,
};

/// How far ahead of state time a request id may be, so that no fast clock can raise the floor over honest ones.
pub const REQUEST_AHEAD_MAX: Duration = Duration::from_secs(60);
/// Answers that are kept at least.
pub const REQUESTS_KEPT_MIN: u64 = 100_000;
/// How long each answer is kept at least, in state time.
pub const REQUESTS_KEPT_FOR: Duration = Duration::from_secs(3600);
/// Answers that are kept at most, of people's requests: some 80 bytes each in memory and in a snapshot. What comes
/// beyond it is refused until the oldest are an hour old. To forget sooner would break a promise to every caller for the
/// sake of the one that floods. Of it the last tenth is for what runs the cluster, and the one before for the reports of agents
/// ([`crate::Feature::RoomForOperators`]).
pub const REQUESTS_KEPT_MAX: u64 = 1_000_000;

/// Answered requests. Its bounds are part of it, so that all replicas forget alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTable {
    pub(crate) kept_min: u64,
    pub(crate) kept_for: Duration,
    pub(crate) kept_max: u64,
    /// The highest id that was forgotten; an unknown id at or below it may have been answered.
    pub(crate) floor: Option<RequestId>,
    pub(crate) answered: Answers,
}

/// Whether a request was answered before.
pub(crate) enum Seen {
    Before(Result<Reply, Rejection>),
    Never,
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
            kept_max: REQUESTS_KEPT_MAX,
            floor: None,
            answered: Answers::default(),
        }
    }

    /// With room for this many answers.
    #[must_use]
    pub fn capped(self, kept_max: u64) -> Self {
        Self { kept_max, ..self }
    }

    /// The first answer of a known id, that an id is new, or why it cannot be taken. `digest` is the entry's.
    pub(crate) fn look_up(
        &mut self,
        entry: &Entry,
        digest: Digest,
        features: Features,
        state_time: UnixMillis,
    ) -> Result<Seen, Rejection> {
        let request_id = entry.request_id;
        if !request_id.is_v7() {
            return Err(Rejection::invalid(
                "request_id",
                format!("{request_id} is no UUIDv7"),
            ));
        }
        match self.answered.get(request_id) {
            Some(_) if planted::has(Bug::ForgottenRequests) => Ok(Seen::Never),
            Some(known) if known.digest == digest => Ok(Seen::Before(known.outcome.outcome())),
            Some(_) => Err(Rejection::RequestReused { request_id }),
            None => {
                self.check_new(request_id, state_time)?;
                self.check_room(self.room_for(entry, features), state_time)?;
                Ok(Seen::Never)
            }
        }
    }

    /// What a request was answered first; refused if the id was that of another one.
    pub(crate) fn answer_to(&self, id: RequestId, digest: Digest) -> Option<Result<Reply, Rejection>> {
        let known = self.answered.get(id)?;
        Some(match known.digest == digest {
            true => known.outcome.outcome(),
            false => Err(Rejection::RequestReused { request_id: id }),
        })
    }

    /// What an id was answered first.
    pub(crate) fn first_answer(&self, id: RequestId) -> Option<Result<Reply, Rejection>> {
        self.answered.get(id).map(|known| known.outcome.outcome())
    }

    /// Answers that may be remembered when this one comes. Bulk work, of people and of the agents that copy what people registered, leaves
    /// a tenth to what people do to run the cluster; agents have a tenth beyond people and coordinators two. So a flood of requests
    /// stops no replication, no switchover and no failover.
    fn room_for(&self, entry: &Entry, features: Features) -> u64 {
        let is_bulk = features.has(Feature::RoomForOperators) && entry.command.is_bulk();
        let tenths = match (&entry.actor, is_bulk) {
            (Principal::User { .. }, true) => 8,
            (Principal::Agent { .. }, true) => 9,
            (Principal::User { .. }, false) => 10,
            (Principal::Agent { .. }, false) => 11,
            (Principal::Coordinator { .. }, _) => 12,
        };
        let tenth = self.kept_max / 10;
        match tenths {
            ..10 => self.kept_max - tenth * (10 - tenths),
            _ => self.kept_max.saturating_add(tenth.saturating_mul(tenths - 10)),
        }
    }

    /// That one more answer can be remembered. It is not run otherwise: what is run must be remembered (I9).
    fn check_room(&mut self, limit: u64, state_time: UnixMillis) -> Result<(), Rejection> {
        if self.answered.len() < limit {
            return Ok(());
        }
        self.forget(state_time);
        let oldest = self.answered.first();
        let free_at = oldest.map_or(state_time, |oldest| oldest.at.plus(self.kept_for));
        if self.answered.len() < limit {
            return Ok(());
        }
        Err(Rejection::RequestsExhausted {
            limit,
            kept_for: self.kept_for,
            retry_after: free_at.since(state_time) + Duration::from_millis(1),
        })
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
    pub(crate) fn remember(&mut self, id: RequestId, digest: Digest, outcome: Kept, at: UnixMillis) {
        self.answered.insert(Answered {
            id,
            digest,
            at,
            outcome,
        });
        self.forget(at);
    }

    /// Forgets the oldest ids beyond both bounds.
    fn forget(&mut self, now: UnixMillis) {
        while self.answered.len() > self.kept_min {
            match self.answered.first() {
                // The oldest id may be a slow clock's and answered just now: it blocks the others, for an hour at most.
                Some(oldest) if oldest.at.plus(self.kept_for) < now => self.floor = Some(oldest.id),
                Some(_) | None => break,
            }
            self.answered.pop_first();
        }
    }
}
