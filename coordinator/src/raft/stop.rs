//! How a node stops, also where its disk does not answer.
//!
//! Invariants: all steps have one bound together; and whatever may still write in the data directory keeps it locked.

use std::{sync::PoisonError, time::Duration};

use tokio::time::{Instant, timeout_at};
use tracing::error;

use super::{RaftNode, identity::Identity};

/// How long all steps of a stop have together: a disk may hang. Kubernetes kills a pod 30 s after it was told to end, and leadership
/// and calls that are under way have some seconds before this, loops and what is left some after it.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// What of a stop was left undone where the lock is not free.
const STILL_WRITES: &str = "its data directory stays locked until all that was begun there is written";

/// Whoever starts on the directory next finds it free, unless its disk hangs.
pub(super) async fn let_go_of(identity: &Identity) {
    in_time(Instant::now() + STOPS_WITHIN, STILL_WRITES, identity.unlock()).await;
}

/// One step of a stop; none, and a line that says what was left undone, where it has not ended by then.
async fn in_time<T>(by: Instant, undone: &'static str, step: impl Future<Output = T>) -> Option<T> {
    let ended = timeout_at(by, step).await.ok();
    if ended.is_none() {
        error!(
            undone,
            "this coordinator ends without a step that waits for its disk"
        );
    }
    ended
}

impl RaftNode {
    /// Stops: no more votes, appends or applies. Every task of this node has ended, its files are closed and the
    /// directory is unlocked when it returns; other handles then read the last state and are refused the rest. Where a disk hangs it
    /// returns all the same, after 15 s: what was left undone is logged, and whatever may write yet keeps the directory locked until it
    /// has ended.
    pub async fn shutdown(self) {
        let by = Instant::now() + STOPS_WITHIN;
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        tokio::join!(
            in_time(by, "peers.json was not written", self.save_memory()),
            self.end_raft(by),
        );
        self.inner.store.close();
        in_time(by, STILL_WRITES, self.inner.identity.unlock()).await;
    }

    async fn end_raft(&self, by: Instant) {
        let ended = in_time(by, "raft did not stop", self.inner.engine.close()).await;
        if let Some(Err(error)) = ended {
            error!(error, "raft did not stop cleanly");
        }
        in_time(
            by,
            "tasks of this coordinator did not end",
            self.inner.tasks.wait(),
        )
        .await;
        self.inner.stopped.send_if_modified(|cause| {
            let first = cause.is_none();
            cause.get_or_insert_with(|| "shut down".to_owned());
            first
        });
        let closed = self.inner.log_closed.lock();
        let closed = closed.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(closed) = closed {
            in_time(by, "the log was not closed", closed).await;
        }
    }
}
