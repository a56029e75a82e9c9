//! How a change is asked for, and what comes of it: the part that all changing methods share.
//!
//! Invariant: one that is only validated proposes nothing, and is refused where the change itself would be.

use std::sync::Arc;

use proto::{
    convert::{self, status::to_status},
    v1 as pb,
};
use state::{Command, ControlState, Event, Expects, Reply};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};
use tonic::{Request, Status};
use types::{
    Digest, Epoch, Reason,
    planted::{self, Bug},
    reason::Refusal,
};

use super::{Api, caller, outcome, record::Record, status};
use crate::{authz::Caller, propose::Asked, raft::Proposed};

/// What a change says besides what it wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    request_id: String,
    expects: Expects,
    validate_only: bool,
}

impl Manner {
    /// Under this request id, whatever stands, and for good.
    pub(crate) fn of(request_id: &str) -> Self {
        Self {
            request_id: request_id.to_owned(),
            ..Self::default()
        }
    }

    /// As most changes of a record say it: only if it has this etag, and not done where it is only to be validated.
    pub(crate) fn said(request_id: &str, etag: &str, validate_only: bool) -> Result<Self, Status> {
        Ok(Self::of(request_id).etag(etag)?.validate_only(validate_only))
    }

    /// Only if the record that the command addresses has this etag; empty: whatever it has.
    pub(crate) fn etag(mut self, etag: &str) -> Result<Self, Status> {
        self.expects.etag = convert::etag(etag).map_err(status)?;
        Ok(self)
    }

    /// Only if the role that the command addresses is at this epoch; 0: whatever it is at.
    pub(crate) fn expected_epoch(mut self, epoch: u64) -> Self {
        self.expects.epoch = (epoch != 0).then(|| Epoch::from_u64(epoch));
        self
    }

    /// The command follows from what was asked and from the state: it is what was asked that the request id is for.
    pub(crate) fn asked(mut self, asked: Option<Digest>) -> Self {
        self.expects.asked = asked;
        self
    }

    /// Not done, if so: only decided.
    pub(crate) fn validate_only(mut self, validate_only: bool) -> Self {
        self.validate_only = validate_only;
        self
    }
}

/// A command that was applied, or would be.
pub(crate) struct Committed {
    pub(crate) reply: Reply,
    pub(crate) header: pb::ResponseHeader,
    /// What the change did; nothing where it would be made only, had been made before, or left everything as it was.
    events: Arc<[Event]>,
    /// The state as it would be; none where the change was made.
    previewed: Option<Box<ControlState>>,
}

impl Committed {
    /// Reads what the change made of the state, or would make of it.
    pub(crate) fn read<T>(&self, api: &Api, f: impl FnOnce(&ControlState) -> T) -> T {
        match &self.previewed {
            Some(state) => f(state),
            None => api.raft.read(f),
        }
    }

    /// The record that the change is about, as the change left it, whatever others have made of it since: its etag is for whoever goes on
    /// from this change. Where nothing was changed, or long ago because the change is asked for again, it is the record of now; somebody
    /// may have deleted that, which is no answer by which a caller may think that nothing happened.
    pub(crate) fn record<R: Record, T>(
        &self,
        api: &Api,
        key: &R::Key,
        tell: impl FnOnce(&R) -> T,
    ) -> Result<T, Status> {
        let mut last_first = self.events.iter().rev();
        let changed = last_first.find_map(|event| R::in_event(event, key));
        if let Some(record) = changed.filter(|_| !planted::has(Bug::LateAnswers)) {
            return Ok(tell(record));
        }
        let gone = || {
            let revision = self.header.revision;
            let why = format!(
                "the change was made, and what it was about has been deleted since; now at revision {revision}"
            );
            status(Refusal::new(Reason::RecordGone, why).with("current", revision))
        };
        self.read(api, |s| R::in_state(s, key).map(tell)).ok_or_else(gone)
    }
}

impl Api {
    /// Makes the change that a request asks for, as `read` reads it: what the answer is about, the manner, and the command.
    pub(crate) async fn change<R, K>(
        &self,
        request: Request<R>,
        read: impl FnOnce(R) -> Result<(K, Manner, Command), Status>,
    ) -> Result<(K, Committed), Status> {
        let caller = caller(&request)?;
        let (key, manner, command) = read(request.into_inner())?;
        let done = self.propose(&caller, manner, command).await?;
        Ok((key, done))
    }

    /// Proposes a caller's command in the manner that they ask for, or says what would come of it.
    pub(crate) async fn propose(
        &self,
        caller: &Caller,
        manner: Manner,
        command: Command,
    ) -> Result<Committed, Status> {
        if manner.validate_only {
            return self.preview(caller, manner, command).await;
        }
        let request_id = convert::request_id(&manner.request_id).map_err(|e| to_status(&e))?;
        let expects = manner.expects;
        let began = Instant::now();
        let result = self
            .raft
            .propose(
                caller.principal.clone(),
                request_id,
                Asked { command, expects },
                caller.deadline,
            )
            .await;
        crate::metrics::observe_proposal(outcome(&result), began.elapsed().as_secs_f64());
        let proposed = result.map_err(|e| self.refuse(&e))?;
        self.committed(proposed)
    }

    fn committed(&self, proposed: Proposed) -> Result<Committed, Status> {
        let reply = proposed.outcome.map_err(|rejection| {
            if rejection.reason() == Reason::StaleEpoch {
                crate::metrics::observe_fenced();
            }
            to_status(&rejection.to_refusal())
        })?;
        let header = self.header(proposed.revision);
        Ok(Committed {
            reply,
            header,
            events: proposed.events,
            previewed: None,
        })
    }

    async fn preview(&self, caller: &Caller, manner: Manner, command: Command) -> Result<Committed, Status> {
        let request_id = convert::request_id(&manner.request_id).map_err(status)?;
        let expects = manner.expects;
        let _turn = self.previews.turn(caller.deadline).await.map_err(status)?;
        let previewed = self
            .raft
            .preview(
                caller.principal.clone(),
                request_id,
                Asked { command, expects },
                caller.deadline,
            )
            .await;
        let (revision, preview) = previewed.map_err(|e| self.refuse(&e))?;
        let reply = preview.applied.outcome;
        let reply = reply.map_err(|rejection| status(rejection.to_refusal()))?;
        let header = pb::ResponseHeader {
            validated_only: true,
            ..self.header(revision)
        };
        Ok(Committed {
            reply,
            header,
            events: Arc::default(),
            previewed: Some(Box::new(preview.state)),
        })
    }
}

/// Changes that may wait for their turn to be validated; one more is refused at once. Each holds the permit of a call, for as long as
/// its caller grants it.
const WAITING_MAX: usize = 16;

/// Turns of changes that are only validated, one at a time: they are for people, and must not crowd out what is done.
pub(super) struct Previews {
    turn: Semaphore,
    /// The one whose turn it is, and those who wait.
    places: Semaphore,
}

impl Default for Previews {
    fn default() -> Self {
        Self {
            turn: Semaphore::new(1),
            places: Semaphore::new(1 + WAITING_MAX),
        }
    }
}

impl Previews {
    /// Waits for a turn, which ends with the value; refused where too many wait, or it does not come by `deadline`.
    async fn turn(&self, deadline: Instant) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), Refusal> {
        let place = self.places.try_acquire().map_err(|_| too_many_previews())?;
        let turn = timeout_at(deadline, self.turn.acquire()).await;
        let turn = turn.ok().and_then(Result::ok);
        Ok((turn.ok_or_else(too_many_previews)?, place))
    }
}

fn too_many_previews() -> Refusal {
    let why = "others are being validated";
    Refusal::new(Reason::Overloaded, why).with("retry_after_ms", 1_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::{join_all, poll_immediate};

    use super::*;

    #[tokio::test]
    async fn few_wait_for_a_turn_to_be_validated_and_one_more_is_refused_at_once() {
        let previews = Previews::default();
        let late = Instant::now() + Duration::from_secs(40);
        let first = previews.turn(late).await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(previews.turn(late))).collect();
        for one in &mut waiting {
            assert!(poll_immediate(one).await.is_none(), "its turn has not come");
        }
        let refused = poll_immediate(Box::pin(previews.turn(late))).await.unwrap();
        assert_eq!(refused.unwrap_err().reason, Reason::Overloaded);
        // Who gives up leaves its place to somebody else.
        waiting.pop();
        let mut next = Box::pin(previews.turn(late));
        assert!(poll_immediate(&mut next).await.is_none());
        waiting.push(next);
        drop(first);
        let turns = join_all(waiting.into_iter().map(async |one| one.await.map(drop))).await;
        assert!(turns.into_iter().all(|turn| turn.is_ok()));
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_in_time_is_refused() {
        let previews = Previews::default();
        let _first = previews
            .turn(Instant::now() + Duration::from_secs(40))
            .await
            .unwrap();
        let refused = previews.turn(Instant::now()).await.unwrap_err();
        assert_eq!(refused.reason, Reason::Overloaded);
    }
}
