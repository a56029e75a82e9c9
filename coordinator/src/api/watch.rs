//! `WatchService`: everything at one revision, then every event after it. Works on any coordinator.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use proto::{
    convert::{text, watch::Resource},
    v1::{self as pb, watch_service_server::WatchService},
};
use state::{ControlState, Event};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::{Request, Response, Status};
use types::{
    ClusterId, ModelVersion, Principal, Reason, Revision, RoleName, UnixMillis,
    epoch::Holder,
    model::AliasRecord,
    plan::{PlanKind, PlanRecord, PlanState},
    reason::Refusal,
    replica::{ReplicaRecord, ReplicaState},
    units::ByteCount,
};

mod everything;

use self::everything::{Place, fill_from};
use super::{
    Api, caller,
    copies::{Copied, Copies},
    list, status,
};
use crate::{
    metrics::Watcher,
    watch_hub::{Batch, Next},
};

/// Resources of one chunk of a list at most; fewer where they are large.
const CHUNK: usize = 200;
/// How often a watch says up to which revision nothing happened, while nothing happens.
const BOOKMARK: Duration = Duration::from_secs(1);
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

type Chunks = stream::BoxStream<'static, Result<pb::ListChunk, Status>>;
type Responses = stream::BoxStream<'static, Result<pb::WatchResponse, Status>>;

#[tonic::async_trait]
impl WatchService for Watches {
    type ListStream = Chunks;
    type WatchStream = Responses;

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<Chunks>, Status> {
        let caller = caller(&request)?;
        let permit = self.permit()?;
        let options = request.into_inner().read;
        // As fresh as the caller asks for; what is listed is from then on.
        let (mut header, ()) = self.api.read(&caller, options, |_| ()).await?;
        let look = || self.api.raft.view();
        let copied = self
            .copies
            .get(Revision(header.revision), caller.deadline, look)
            .await;
        let copied = copied.map_err(status)?;
        header.revision = copied.revision().0;
        Ok(Response::new(chunks(header, copied, permit).boxed()))
    }

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<Responses>, Status> {
        let caller = caller(&request)?;
        let permit = self.permit()?;
        let r = request.into_inner();
        self.check_cluster(&r.cluster_id)?;
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
            api: Arc::clone(&self.api),
            position: after,
            last,
            begun: None,
            _open: (permit, Watcher::open()),
        };
        Ok(Response::new(watching.into_stream().boxed()))
    }
}

/// The list in pieces; each is read and put into its form when it is asked for.
fn chunks(
    header: pb::ResponseHeader,
    copied: Arc<Copied<ControlState>>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<pb::ListChunk, Status>> {
    let rest = Some((Place::default(), copied, permit));
    stream::unfold(rest, move |rest| {
        let header = header.clone();
        async move {
            let (from, copied, permit) = rest?;
            let state = match copied.read() {
                Ok(state) => state,
                Err(refusal) => return Some((Err(status(refusal)), None)),
            };
            let (resources, next) = fill_from(&state, from, CHUNK);
            let chunk = pb::ListChunk {
                header: Some(header),
                resources,
                last: next.is_none(),
            };
            let more = next.map(|next| (next, copied, permit));
            Some((Ok(chunk), more))
        }
    })
}

struct Watching {
    api: Arc<Api>,
    position: Revision,
    last: watch::Receiver<Revision>,
    /// A revision whose events did not fit one message, and how many of them were sent.
    begun: Option<(Batch, usize)>,
    _open: (OwnedSemaphorePermit, Watcher),
}

impl Watching {
    fn into_stream(self) -> impl Stream<Item = Result<pb::WatchResponse, Status>> {
        stream::unfold(Some(self), |watching| async move {
            let mut watching = watching?;
            match watching.next().await {
                Ok(response) => Some((Ok(response), Some(watching))),
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    /// The next revision with events; or, every second, the revision up to which there are none.
    async fn next(&mut self) -> Result<pb::WatchResponse, Status> {
        if let Some((batch, from)) = self.begun.take() {
            return Ok(self.response(batch, from));
        }
        let bookmark = tokio::time::Instant::now() + BOOKMARK;
        loop {
            self.last.borrow_and_update();
            match self.api.hub.next(self.position).map_err(status)? {
                Next::Batch(batch) => {
                    self.position = batch.revision;
                    return Ok(self.response(batch, 0));
                }
                Next::UpTo(revision) => self.position = revision,
            }
            tokio::select! {
                () = self.api.shutdown.cancelled() => {
                    return Err(status(Refusal::new(Reason::NotServing, "this coordinator is stopping")));
                }
                () = tokio::time::sleep_until(bookmark) => {
                    return Ok(pb::WatchResponse {
                        header: Some(self.api.header(self.position)),
                        ..pb::WatchResponse::default()
                    });
                }
                changed = self.last.changed() => if changed.is_err() {
                    return Err(status(Refusal::new(Reason::NotServing, "this coordinator has stopped")));
                },
            }
        }
    }

    /// The events of a revision after its first `from`, as many as fit.
    fn response(&mut self, batch: Batch, from: usize) -> pb::WatchResponse {
        let header = Some(self.api.header(batch.revision));
        let events = part(&batch, from);
        let sent = from + events.len();
        let more = sent < batch.events.len();
        self.begun = more.then_some((batch, sent));
        pb::WatchResponse { header, events, more }
    }
}

fn part(batch: &Batch, from: usize) -> Vec<pb::Event> {
    let rest = batch.events.iter().skip(from);
    list::fill(rest.map(|e| event(e, batch.revision)))
}

/// An event on the wire. A deletion carries a record of which only the key means anything.
fn event(event: &Event, revision: Revision) -> pb::Event {
    let (kind, resource, deleted) = match event {
        Event::Cluster(c) => ("cluster_changed", Resource::Timing(c.timing.clone()), false),
        Event::Region(r) => ("region_changed", Resource::Region(r.clone()), false),
        Event::Node(n) => ("node_changed", Resource::Node(n.clone()), false),
        Event::Model(m) => ("model_changed", Resource::Model(m.clone()), false),
        Event::Version(v) => ("version_changed", Resource::Version(v.clone()), false),
        Event::Alias(a) => ("alias_changed", Resource::Alias(a.clone()), false),
        Event::AliasDeleted { model, alias } => {
            let gone = AliasRecord {
                model: model.clone(),
                alias: alias.clone(),
                version: ModelVersion(1),
                reason: String::new(),
                moved_at: UnixMillis::default(),
                moved_by: nobody(),
                modified: revision,
            };
            ("alias_deleted", Resource::Alias(gone), true)
        }
        Event::Replica(r) => ("replica_changed", Resource::Replica(r.clone()), false),
        Event::ReplicaDeleted(key) => {
            let gone = ReplicaRecord {
                key: key.clone(),
                state: ReplicaState::Pending,
                source: None,
                bytes_done: ByteCount(0),
                attempts: 0,
                error: String::new(),
                started_at: None,
                completed_at: None,
                modified: revision,
            };
            ("replica_deleted", Resource::Replica(gone), true)
        }
        Event::Role(r) => ("role_changed", Resource::Role(r.clone()), false),
        Event::Plan(p) => ("plan_changed", Resource::Plan(p.clone()), false),
        Event::PlanDeleted(plan) => {
            let gone = PlanRecord {
                plan: *plan,
                role: RoleName::global(),
                kind: PlanKind::Assign,
                trigger: String::new(),
                from: None,
                from_epoch: types::Epoch::ZERO,
                target: no_holder(),
                target_epoch: None,
                steps: Vec::new(),
                state: PlanState::Failed,
                reason: String::new(),
                doors: Vec::new(),
                created_at: UnixMillis::default(),
                created_by: nobody(),
                finished_at: None,
                modified: revision,
            };
            ("plan_deleted", Resource::Plan(Box::new(gone)), true)
        }
    };
    pb::Event {
        kind: kind.to_owned(),
        resource: Some((&resource).into()),
        deleted,
    }
}

fn nobody() -> Principal {
    Principal::User {
        name: "nobody".parse().expect("a valid name"),
    }
}

fn no_holder() -> Holder {
    Holder {
        region: "none".parse().expect("a valid name"),
        node: "none".parse().expect("a valid name"),
        incarnation: types::NodeIncarnation::from_u128(0),
    }
}

#[cfg(test)]
mod tests {
    use types::{RegionId, VersionKey, replica::ReplicaKey};

    use super::*;

    /// A region that joins late is to have a copy of every version: one entry, and an event for each.
    #[test]
    fn the_events_of_a_revision_come_in_parts_that_fit_each_once() {
        let pending = |n: u64| {
            Event::ReplicaDeleted(ReplicaKey {
                version: VersionKey {
                    model: "m".parse().unwrap(),
                    version: ModelVersion(n),
                },
                region: RegionId::new("r".repeat(60)).unwrap(),
            })
        };
        let batch = Batch {
            revision: Revision(7),
            events: (1..=60_000).map(pending).collect(),
        };
        let (mut seen, mut parts) = (Vec::new(), 0);
        while seen.len() < batch.events.len() {
            let next = part(&batch, seen.len());
            let bytes: usize = next.iter().map(prost::Message::encoded_len).sum();
            assert!(!next.is_empty() && bytes <= list::BYTES, "{bytes}");
            seen.extend(next);
            parts += 1;
        }
        assert!(parts > 1);
        let whole: Vec<_> = batch.events.iter().map(|e| event(e, batch.revision)).collect();
        assert!(seen == whole);
    }
}
