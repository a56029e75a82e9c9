//! The writes of a test, as their writer heard of them, and what an answer that says how old it is must have of them (I2).
//!
//! What was asked for at `sent`, and says that it is `age` old, has every write that was acknowledged before `sent - age`. Nothing is
//! allowed for: an age is rounded up, and counts from before the round that it goes back to.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use proto::v1 as pb;
use tokio::sync::watch;
use types::Revision;

/// The tag that is written: 1, 2, 3, …
const TAG: &str = "number";

/// The tags of the write of this number.
pub(crate) fn tags(number: u64) -> BTreeMap<String, String> {
    [(TAG.to_owned(), number.to_string())].into()
}

/// What was written last, as a record has it.
pub(crate) fn number(model: &pb::Model) -> u64 {
    model.tags.get(TAG).map_or(0, |number| number.parse().unwrap())
}

/// One answer about the model that is written to.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Before the question was sent.
    pub(crate) sent: Instant,
    pub(crate) header: pb::ResponseHeader,
    pub(crate) model: pb::Model,
}

impl Answer {
    pub(crate) fn of(sent: Instant, response: pb::GetModelResponse) -> Self {
        Self {
            sent,
            header: response.header.unwrap(),
            model: response.model.unwrap(),
        }
    }

    /// What it says of its age; none where it was confirmed.
    pub(crate) fn age(&self) -> Option<Duration> {
        let age = Duration::from_millis(self.header.age_millis);
        self.header.stale.then_some(age)
    }

    pub(crate) fn number(&self) -> u64 {
        number(&self.model)
    }
}

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Write {
    number: u64,
    revision: Revision,
    heard: Instant,
}

/// All of one writer, oldest first: one begins when the one before is acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    writes: Mutex<Vec<Write>>,
    last: watch::Sender<u64>,
}

impl Acknowledged {
    /// The next write was acknowledged just now.
    pub(crate) fn note(&self, number: u64, revision: Revision) {
        let heard = Instant::now();
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.push(Write {
            number,
            revision,
            heard,
        });
        drop(writes);
        self.last.send_replace(number);
    }

    /// The number of the last one.
    pub(crate) fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Waits for the one of this number.
    pub(crate) async fn reached(&self, number: u64) {
        let mut last = self.last.subscribe();
        last.wait_for(|last| *last >= number).await.unwrap();
    }

    fn before(&self, moment: Instant) -> Option<Write> {
        let writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let next = writes.partition_point(|write| write.heard < moment);
        next.checked_sub(1).map(|at| writes[at])
    }

    /// That an answer is no older than it says; the number of the last write that it had to have, 0 where there was none.
    pub(crate) fn check(&self, answer: &Answer) -> u64 {
        let header = &answer.header;
        assert!(answer.model.modified_revision <= header.revision, "{answer:?}");
        let by = answer.sent.checked_sub(answer.age().unwrap_or_default());
        let Some(owed) = by.and_then(|by| self.before(by)) else {
            return 0;
        };
        assert!(
            answer.number() >= owed.number && header.revision >= owed.revision.0,
            "{owed:?} had been acknowledged {:?} before this was asked: {answer:?}",
            answer.sent - owed.heard,
        );
        owed.number
    }
}
