//! One watcher: a position in the hub, a filter, and no queue.
//!
//! Invariant: what it gives out is every event after its start that the filter takes, in order, once, all of a revision in
//! messages that follow each other (I7). It holds the batch of one revision at most; what it is not asked for it does not make.

use std::time::Duration;

use futures::{Stream, stream};
use prost::Message;
use proto::v1 as pb;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use types::{Reason, Revision, WatchFilter, reason::Refusal};

use super::events::{event, subject};
use crate::{
    api::{list, status},
    watch_hub::{Batch, Next, WatchHub},
};

/// How long a watch is silent at most: then a bookmark says up to which revision nothing was for it.
pub(super) const BOOKMARK: Duration = Duration::from_secs(1);
/// Revisions of which nothing is wanted that are passed before others get their turn.
const PASSED_AT_ONCE: u32 = 64;

/// The wanted ones of `all` from a place on, as many as fit a message of so many bytes, and the place of the next one.
pub(super) fn part<'a, T, M: Message>(
    (all, from): (&'a [T], usize),
    (most, bytes): (usize, usize),
    is_wanted: impl Fn(&T) -> bool,
    to_wire: impl Fn(&'a T) -> M,
) -> (Vec<M>, Option<usize>) {
    let wanted = || {
        let rest = all.iter().enumerate().skip(from);
        rest.filter(|(_, item)| is_wanted(item))
    };
    let filled = list::fill(bytes, wanted().take(most).map(|(_, item)| to_wire(item)));
    let next = wanted().nth(filled.len()).map(|(at, _)| at);
    (filled, next)
}

/// Where a watcher stands. `T` is what it holds while it is open.
pub(super) struct Watching<T> {
    pub(super) hub: WatchHub,
    /// Of every answer, but for its revision.
    pub(super) header: pb::ResponseHeader,
    pub(super) filter: WatchFilter,
    pub(super) position: Revision,
    pub(super) last: watch::Receiver<Revision>,
    pub(super) shutdown: CancellationToken,
    /// How long it is silent at most: [`BOOKMARK`].
    pub(super) silence: Duration,
    /// Bytes of the events of one message, unless one alone is larger.
    pub(super) bytes: usize,
    /// A revision whose events did not fit one message, and the place of the next one that is wanted.
    pub(super) begun: Option<(Batch, usize)>,
    pub(super) _open: T,
}

impl<T: Send + 'static> Watching<T> {
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<pb::WatchResponse, Status>> + Send {
        stream::unfold(Some(self), |watching| async move {
            let mut watching = watching?;
            match watching.next().await {
                Ok(response) => Some((Ok(response), Some(watching))),
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    /// The next revision with events that are wanted; or, every second, the revision up to which there are none.
    pub(super) async fn next(&mut self) -> Result<pb::WatchResponse, Status> {
        if let Some((batch, from)) = self.begun.take()
            && let Some(response) = self.response(batch, from)
        {
            return Ok(response);
        }
        let due = Instant::now() + self.silence;
        let mut passed = 0;
        loop {
            self.last.borrow_and_update();
            match self.hub.next(self.position).map_err(status)? {
                Next::Batch(batch) => {
                    self.position = batch.revision;
                    if let Some(response) = self.response(batch, 0) {
                        return Ok(response);
                    }
                    // Nothing waits in this branch, and there may always be a next one.
                    passed += 1;
                    if passed % PASSED_AT_ONCE == 0 {
                        tokio::task::yield_now().await;
                        self.check_serving()?;
                    }
                    if Instant::now() >= due {
                        return Ok(self.bookmark());
                    }
                    continue;
                }
                Next::UpTo(revision) => self.position = revision,
            }
            tokio::select! {
                () = self.shutdown.cancelled() => self.check_serving()?,
                () = tokio::time::sleep_until(due) => return Ok(self.bookmark()),
                changed = self.last.changed() => if changed.is_err() {
                    return Err(status(Refusal::new(Reason::NotServing, "this coordinator has stopped")));
                },
            }
        }
    }

    fn check_serving(&self) -> Result<(), Status> {
        if self.shutdown.is_cancelled() {
            return Err(status(Refusal::new(
                Reason::NotServing,
                "this coordinator is stopping",
            )));
        }
        Ok(())
    }

    fn bookmark(&self) -> pb::WatchResponse {
        pb::WatchResponse {
            header: Some(self.header_at(self.position)),
            ..pb::WatchResponse::default()
        }
    }

    fn header_at(&self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader {
            revision: revision.0,
            ..self.header.clone()
        }
    }

    /// The events of a revision that are wanted, from a place on, as many as fit; none where there are none.
    fn response(&mut self, batch: Batch, from: usize) -> Option<pb::WatchResponse> {
        let revision = batch.revision;
        let (events, next) = part(
            (&batch.events, from),
            (usize::MAX, self.bytes),
            |e| self.filter.takes(&subject(e)),
            |e| event(e, revision),
        );
        if events.is_empty() {
            return None;
        }
        let header = Some(self.header_at(revision));
        self.begun = next.map(|next| (batch, next));
        let more = self.begun.is_some();
        Some(pb::WatchResponse { header, events, more })
    }
}
