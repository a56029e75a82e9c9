//! `WatchService`: everything at one revision, then every event after it. Works on any coordinator.

mod events;
mod everything;
mod stream;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt as _,
    stream::{BoxStream, unfold},
};
use proto::{
    convert::{text, watch as conv},
    v1::{self as pb, watch_service_server::WatchService},
};
use state::ControlState;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};
use types::{ClusterId, Reason, Revision, WatchFilter, filter::ResourceKind, reason::Refusal};

use self::{
    everything::{Place, fill_from},
    stream::{BOOKMARK, Watching},
};
use super::{
    Api, caller,
    copies::{Copied, Copies},
    list,
    primaries::confirmed_only,
    status,
};
use crate::metrics::Watcher;

/// Resources of one chunk of a list at most; fewer where they are large.
const CHUNK: usize = 200;
/// Streams that are open at once on one coordinator.
const WATCHERS_MAX: usize = 1_000;
/// Views of the state that readers of lists hold at once: each keeps in memory what has changed since.
const COPIES_MAX: usize = 4;
/// How long the readers of a copy may stall, once others want a copy of their own: less than those others wait for a list.
const LIST_PATIENCE: Duration = Duration::from_secs(1);

/// The service.
#[derive(Clone)]
pub struct Watches {
    api: Arc<Api>,
    open: Arc<Semaphore>,
    copies: Arc<Copies<ControlState>>,
}

impl std::fmt::Debug for Watches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watches").finish_non_exhaustive()
    }
}

impl Watches {
    /// With its bound on open streams.
    pub fn new(api: Arc<Api>) -> Self {
        Self {
            api,
            open: Arc::new(Semaphore::new(WATCHERS_MAX)),
            copies: Arc::new(Copies::new(COPIES_MAX, LIST_PATIENCE)),
        }
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.open).try_acquire_owned().map_err(|_| {
            let why = format!("{WATCHERS_MAX} watches are open");
            status(Refusal::new(Reason::Overloaded, why).with("retry_after_ms", 1_000))
        })
    }

    /// That a watch continues a list of this very cluster (I7).
    fn check_cluster(&self, shown: &str) -> Result<(), Status> {
        let shown: ClusterId = text("cluster_id", shown).map_err(status)?;
        match self.api.raft.cluster_id() {
            Some(own) if own == shown => Ok(()),
            Some(own) => Err(status(
                Refusal::new(
                    Reason::WrongCluster,
                    format!("a watch of cluster {shown} was asked of cluster {own}"),
                )
                .with("shown", shown)
                .with("current", own),
            )),
            None => Err(status(Refusal::new(
                Reason::NotServing,
                "this coordinator has joined no cluster yet",
            ))),
        }
    }
}

type Chunks = BoxStream<'static, Result<pb::ListChunk, Status>>;
type Responses = BoxStream<'static, Result<pb::WatchResponse, Status>>;

#[tonic::async_trait]
impl WatchService for Watches {
    type ListStream = Chunks;
    type WatchStream = Responses;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<Chunks>, Status> {
        let caller = caller(&request)?;
        let permit = self.permit()?;
        let r = request.into_inner();
        let filter = conv::filter(r.filter).map_err(status)?;
        let read = match may_have_roles(&filter) {
            true => confirmed_only(r.read)?,
            false => r.read,
        };
        // As fresh as the caller asks for; what is listed is from then on.
        let (mut header, ()) = self.api.read(&caller, read, |_| ()).await?;
        let look = || self.api.raft.view();
        let copied = self
            .copies
            .get(Revision(header.revision), caller.deadline, look)
            .await;
        let copied = copied.map_err(status)?;
        header.revision = copied.revision().0;
        Ok(Response::new(chunks(header, filter, copied, permit).boxed()))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Responses>, Status> {
        let caller = caller(&request)?;
        let permit = self.permit()?;
        let r = request.into_inner();
        self.check_cluster(&r.cluster_id)?;
        let filter = conv::filter(r.filter).map_err(status)?;
        let after = Revision(r.after_revision);
        let mut last = self.api.hub.last();
        if *last.borrow_and_update() < after {
            // The start was read from another coordinator, which is ahead of this one; or it is nonsense.
            let newest = self.api.linearize(caller.deadline).await?;
            if newest >= after {
                let _ = tokio::time::timeout_at(caller.deadline, last.wait_for(|seen| *seen >= after)).await;
            }
        }
        self.api.hub.next(after).map_err(status)?;
        let watching = Watching {
            hub: self.api.hub.clone(),
            header: self.api.header(after),
            filter,
            position: after,
            last,
            shutdown: self.api.shutdown.clone(),
            silence: BOOKMARK,
            bytes: list::BYTES,
            begun: None,
            _open: (permit, Watcher::open()),
        };
        Ok(Response::new(watching.into_stream().boxed()))
    }
}

/// Whether there may be roles and plans among what a filter takes; they are never told stale.
fn may_have_roles(filter: &WatchFilter) -> bool {
    let of_roles = [ResourceKind::Role, ResourceKind::Plan];
    filter.kinds.is_empty() || of_roles.iter().any(|kind| filter.kinds.contains(kind))
}

/// The list in pieces; each is read and put into its form when it is asked for.
fn chunks(
    header: pb::ResponseHeader,
    filter: WatchFilter,
    copied: Arc<Copied<ControlState>>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<pb::ListChunk, Status>> {
    let rest = Some((Place::default(), copied, permit, filter));
    unfold(rest, move |rest| {
        let header = header.clone();
        async move {
            let (from, copied, permit, filter) = rest?;
            let state = match copied.read() {
                Ok(state) => state,
                Err(refusal) => return Some((Err(status(refusal)), None)),
            };
            let (resources, next) = fill_from(&state, from, CHUNK, &filter);
            let chunk = pb::ListChunk {
                header: Some(header),
                resources,
                last: next.is_none(),
            };
            let more = next.map(|next| (next, copied, permit, filter));
            Some((Ok(chunk), more))
        }
    })
}
