//! The public API of one of these nodes without a wire; and somebody who writes while it is asked.

use std::{
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use coordinator::{
    api::{Api, registry::Registry, watch::Watches},
    authz::Caller,
    leases::Leases,
    raft::{Proposed, RaftNode},
    sessions::Sessions,
    watch_hub::WatchHub,
};
use futures::stream::BoxStream;
use proto::{
    convert::status::from_status,
    v1::{
        self as pb, registry_service_server::RegistryService as _, watch_service_server::WatchService as _,
    },
};
use state::Command;
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use types::{RequestId, Revision, reason::Refusal};

use super::harness::{Cluster, request_id, user, within};
use crate::acknowledged::{Acknowledged, Answer, tags};

/// The model that is written to and read.
pub(super) const MODEL: &str = "m";

/// Whatever is there, from the node's own state.
pub(super) const STALE: pb::ReadOptions = pb::ReadOptions {
    allow_stale: true,
    max_staleness_millis: 0,
    min_revision: 0,
};
/// Confirmed by a quorum.
pub(super) const CONFIRMED: pb::ReadOptions = pb::ReadOptions {
    allow_stale: false,
    max_staleness_millis: 0,
    min_revision: 0,
};

/// The command that writes this number.
pub(super) fn set_number(number: u64) -> Command {
    Command::SetModelTags {
        model: MODEL.parse().unwrap(),
        set: tags(number),
        remove: std::collections::BTreeSet::new(),
        etag: None,
        token: None,
    }
}

/// What stands between a node and its callers.
#[derive(Clone)]
pub(super) struct Desk {
    api: Arc<Api>,
    stop: CancellationToken,
    hub: Arc<JoinHandle<()>>,
}

impl Desk {
    /// Of a node to whose stream nobody has subscribed yet.
    pub(super) fn of(node: &RaftNode) -> Self {
        let stop = CancellationToken::new();
        // Nobody renews anything here.
        let (leases, _) = Leases::new(node.clone());
        let applied = node.subscribe();
        let hub = WatchHub::new(applied.after());
        let run = tokio::spawn(hub.clone().run(applied, stop.clone()));
        let api = Api::new(node.clone(), hub, Sessions::default(), leases, stop.clone());
        Self {
            api,
            stop,
            hub: Arc::new(run),
        }
    }

    fn call<T>(message: T, patience: Duration) -> Request<T> {
        let received = Instant::now();
        let mut request = Request::new(message);
        request.extensions_mut().insert(Caller {
            principal: user(),
            received,
            deadline: received + patience,
        });
        request
    }

    /// Reads [`MODEL`].
    pub(super) async fn get(&self, read: pb::ReadOptions, patience: Duration) -> Result<Answer, Refusal> {
        let message = pb::GetModelRequest {
            read: Some(read),
            name: MODEL.to_owned(),
        };
        let sent = StdInstant::now();
        let registry = Registry(Arc::clone(&self.api));
        let response = registry.get_model(Self::call(message, patience)).await;
        let response = response.map_err(|status| from_status(&status))?.into_inner();
        Ok(Answer::of(sent, response))
    }

    /// The last revision that a watch can begin after now.
    pub(super) fn last(&self) -> watch::Receiver<Revision> {
        self.api.hub.last()
    }

    pub(super) async fn watch(
        &self,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<pb::WatchResponse, Status>>, Refusal> {
        let cluster_id = self.api.raft.cluster_id().unwrap();
        let message = pb::WatchRequest {
            cluster_id: cluster_id.to_string(),
            after_revision: after.0,
            filter: None,
        };
        let watches = Watches::new(Arc::clone(&self.api));
        let response = watches.watch(Self::call(message, Duration::from_secs(10))).await;
        Ok(response.map_err(|status| from_status(&status))?.into_inner())
    }

    /// Everybody else has let go of it.
    pub(super) async fn end(self) {
        self.stop.cancel();
        let hub = Arc::into_inner(self.hub).expect("the last of them ends it");
        within("the end of a hub", hub).await.unwrap();
    }
}

/// Writes 1, 2, 3, … at whoever leads, one after the other.
pub(super) struct Writer {
    pub(super) acknowledged: Arc<Acknowledged>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Writer {
    /// At the nodes that run now, until it is ended. There is a [`MODEL`].
    pub(super) fn begin(cluster: &Cluster) -> Self {
        let (acknowledged, stop) = (Arc::new(Acknowledged::default()), CancellationToken::new());
        let nodes: Vec<_> = cluster.live().cloned().collect();
        let (heard, ended) = (Arc::clone(&acknowledged), stop.clone());
        let task = tokio::spawn(async move {
            for number in 1.. {
                let Some(done) = write(&nodes, request_id(), set_number(number), &ended).await else {
                    return;
                };
                done.outcome.unwrap();
                heard.note(number, done.revision);
            }
        });
        Self {
            acknowledged,
            stop,
            task,
        }
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        within("the end of a writer", self.task).await.unwrap();
    }
}

/// Until there is an answer, or it is ended.
async fn write(
    nodes: &[RaftNode],
    id: RequestId,
    command: Command,
    ended: &CancellationToken,
) -> Option<Proposed> {
    while !ended.is_cancelled() {
        let leader = nodes.iter().find(|n| n.leadership().borrow().since.is_some());
        if let Some(leader) = leader {
            let by = Instant::now() + Duration::from_secs(5);
            if let Ok(done) = leader.propose(user(), id, command.clone(), by).await {
                return Some(done);
            }
        }
        tokio::task::yield_now().await;
    }
    None
}
