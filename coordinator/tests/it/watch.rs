//! Watches over the wire: order, resumption, and what is refused.

use std::{collections::BTreeMap, time::Duration};

use client::{
    Client,
    watch::{Change, StateWatch},
};
use proto::{
    convert::{status::from_status, watch::Resource},
    v1::{self as pb, watch_service_client::WatchServiceClient},
};
use tokio::sync::watch::Sender;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming, transport::Channel};
use types::{ModelName, Reason, Revision, model::Placement, reason::Refusal};

use crate::{
    harness::{Cluster, agent, region, user, within},
    registry,
};

async fn list(service: &mut WatchServiceClient<Channel>) -> (pb::ResponseHeader, Vec<pb::Resource>) {
    let mut chunks = service
        .list(pb::ListRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut resources = Vec::new();
    loop {
        let chunk = chunks
            .message()
            .await
            .unwrap()
            .expect("a list ends with its last chunk");
        resources.extend(chunk.resources);
        if chunk.last {
            return (chunk.header.unwrap(), resources);
        }
    }
}

async fn watch(
    service: &mut WatchServiceClient<Channel>,
    cluster_id: &str,
    after_revision: u64,
) -> Result<Streaming<pb::WatchResponse>, tonic::Status> {
    let request = pb::WatchRequest {
        cluster_id: cluster_id.to_owned(),
        after_revision,
        filter: None,
    };
    service.watch(request).await.map(tonic::Response::into_inner)
}

/// The names of the next `n` models that are created, with their revisions.
async fn next_models(stream: &mut Streaming<pb::WatchResponse>, n: usize) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    within("the events", async {
        while seen.len() < n {
            let response = stream.message().await.unwrap().unwrap();
            let revision = response.header.unwrap().revision;
            for event in response.events {
                if let Some(pb::resource::Resource::Model(m)) = event.resource.and_then(|r| r.resource) {
                    seen.push((revision, m.name));
                }
            }
        }
    })
    .await;
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_event_after_the_list_comes_once_in_order_from_any_coordinator() {
    let cluster = Cluster::start(3).await;
    let admin = cluster.admin();
    let make = async |i: usize| {
        let name = format!("m{i:03}").parse().unwrap();
        admin
            .create_model(&name, "", BTreeMap::new(), &Default::default())
            .await
            .unwrap();
    };
    make(0).await;
    let mut services = Vec::new();
    for i in 0..3 {
        services.push(WatchServiceClient::new(cluster.channel(i, &user("admin")).await));
    }
    let (header, resources) = list(&mut services[0]).await;
    let is_model = |r: &&pb::Resource| matches!(r.resource, Some(pb::resource::Resource::Model(_)));
    assert_eq!(resources.iter().filter(is_model).count(), 1);
    for i in 1..=20 {
        make(i).await;
    }
    let names: Vec<_> = (1..=20).map(|i| format!("m{i:03}")).collect();
    for service in &mut services {
        let mut stream = watch(service, &header.cluster_id, header.revision).await.unwrap();
        let seen = next_models(&mut stream, 20).await;
        assert_eq!(
            seen.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>(),
            names
        );
        assert!(seen.is_sorted_by(|a, b| a.0 < b.0));
        // From the middle: what is left, and nothing twice.
        let mut resumed = watch(service, &header.cluster_id, seen[9].0).await.unwrap();
        assert_eq!(next_models(&mut resumed, 10).await, seen[10..]);
        // While nothing happens a bookmark says so.
        let bookmark = within("a bookmark", stream.message()).await.unwrap().unwrap();
        assert!(bookmark.events.is_empty() && bookmark.header.unwrap().revision >= seen[19].0);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clusters_position_and_one_in_the_future_are_refused() {
    let cluster = Cluster::start(1).await;
    let mut service = WatchServiceClient::new(cluster.channel(0, &user("admin")).await);
    let (header, _) = list(&mut service).await;
    let elsewhere = uuid::Uuid::now_v7().to_string();
    let cases = [
        (elsewhere.as_str(), header.revision, Reason::WrongCluster),
        (
            &header.cluster_id,
            header.revision + 1_000,
            Reason::FutureRevision,
        ),
        ("nonsense", 0, Reason::InvalidArgument),
    ];
    for (cluster_id, after, reason) in cases {
        let refused = watch(&mut service, cluster_id, after).await.unwrap_err();
        assert_eq!(from_status(&refused).reason, reason);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_watches_with_its_reason() {
    let mut cluster = Cluster::start(1).await;
    let mut service = WatchServiceClient::new(cluster.channel(0, &user("admin")).await);
    let (header, _) = list(&mut service).await;
    let mut stream = watch(&mut service, &header.cluster_id, header.revision)
        .await
        .unwrap();
    let stopping = cluster.stop(0);
    let ended = within("the end of the watch", async {
        let (_, ended) = tokio::join!(stopping, async {
            loop {
                if let Err(status) = stream.message().await {
                    return from_status(&status).reason;
                }
            }
        });
        ended
    })
    .await;
    assert_eq!(ended, Reason::NotServing);
}

fn model(i: usize) -> ModelName {
    format!("m{i:04}").parse().unwrap()
}

/// Makes a model; at which revision.
async fn make(admin: &Client, i: usize) -> Revision {
    let (name, everywhere) = (model(i), Placement::default());
    let made = admin.create_model(&name, "", BTreeMap::new(), &everywhere);
    made.await.unwrap().modified
}

/// Makes one model after the other until it is stopped; at which revisions.
async fn make_models(admin: Client, written: Sender<usize>, stop: CancellationToken) -> Vec<Revision> {
    let mut made = Vec::new();
    while !stop.is_cancelled() {
        made.push(make(&admin, made.len()).await);
        written.send_replace(made.len());
    }
    made
}

/// What a watch told of models, each of which must be the next one.
struct Follower {
    watch: StateWatch,
    last: Revision,
    seen: Vec<Revision>,
}

impl Follower {
    async fn begin(client: Client) -> Self {
        let mut watch = StateWatch::new(client, Duration::from_secs(5));
        match within("a list", watch.next()).await {
            Change::Reset { revision: last, .. } => Self {
                watch,
                last,
                seen: Vec::new(),
            },
            other => panic!("a watch begins with a list: {other:?}"),
        }
    }

    /// Takes the next change.
    async fn take(&mut self) {
        let (revision, events) = match self.watch.next().await {
            Change::Reset { revision, .. } => panic!("it began anew at {revision}, after {}", self.last),
            Change::Bookmark { revision } => (revision, Vec::new()),
            Change::Events { revision, events } => (revision, events),
        };
        assert!(revision > self.last, "{revision} after {}", self.last);
        self.last = revision;
        for event in events {
            if let Resource::Model(record) = event.resource {
                assert_eq!(record.name, model(self.seen.len()), "at {revision}");
                self.seen.push(revision);
            }
        }
    }

    async fn until(&mut self, models: usize) {
        let seen = async {
            while self.seen.len() < models {
                self.take().await;
            }
        };
        within("the events of so many models", seen).await;
    }
}

/// One after the other stops under the watch and comes back, the leader first, and writes go on all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_watch_goes_on_elsewhere_without_a_gap_or_a_repetition_when_the_leader_stops() {
    const SOME: usize = 20;
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let order: Vec<usize> = (leader..leader + 3).map(|i| i % 3).collect();
    let endpoints = order.iter().map(|i| cluster.nodes[*i].endpoint.clone()).collect();
    let files = cluster.certs.issue(&user("watcher").to_string());
    let mut follower = Follower::begin(cluster.client_of(&files, endpoints)).await;
    let (written, stop) = (Sender::new(0), CancellationToken::new());
    let writer = tokio::spawn(make_models(cluster.admin(), written.clone(), stop.clone()));
    for i in order {
        let target = *written.borrow() + SOME;
        tokio::join!(cluster.stop(i), follower.until(target));
        let target = *written.borrow() + SOME;
        follower.until(target).await;
        cluster.restart(i).await;
        within("a coordinator's registration", cluster.registered(3)).await;
    }
    stop.cancel();
    let mut made = within("the end of the writer", writer).await.unwrap();
    made.push(make(&cluster.admin(), made.len()).await);
    follower.until(made.len()).await;
    assert_eq!(follower.seen, made);
    cluster.shutdown().await;
}

/// The refusal of a watch whose position is not kept.
async fn compacted(service: &mut WatchServiceClient<Channel>, cluster_id: &str, after: u64) -> Refusal {
    let status = watch(service, cluster_id, after).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    let refusal = from_status(&status);
    let shown = after.to_string();
    assert_eq!(
        (refusal.reason, refusal.operand("shown")),
        (Reason::Compacted, Some(shown.as_str()))
    );
    refusal
}

/// What is before the snapshot that a coordinator starts from it does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_is_not_kept_is_compacted_and_the_oldest_that_is_named_is_served() {
    const BEFORE: usize = 60;
    let mut cluster = Cluster::start_with(1, |config| {
        config.raft.snapshot_after = Some(20);
        config.raft.logs_kept = Some(5);
    })
    .await;
    let admin = cluster.admin();
    let mut service = WatchServiceClient::new(cluster.channel(0, &user("admin")).await);
    let (header, _) = list(&mut service).await;
    let mut made = Vec::new();
    for i in 0..BEFORE {
        made.push((make(&admin, i).await.0, model(i).to_string()));
    }
    let snapshot = within("a snapshot", async {
        loop {
            let covered = admin.status().await.unwrap().snapshot_index;
            if covered > made[0].0 {
                return covered;
            }
        }
    })
    .await;
    // In memory there is more than its log has.
    let mut live = watch(&mut service, &header.cluster_id, header.revision)
        .await
        .unwrap();
    assert_eq!(next_models(&mut live, BEFORE).await, made);
    cluster.stop(0).await;
    cluster.restart(0).await;
    within("a leader", cluster.leads(0)).await;
    for i in BEFORE..BEFORE + 3 {
        made.push((make(&admin, i).await.0, model(i).to_string()));
    }
    let mut service = WatchServiceClient::new(cluster.channel(0, &user("admin")).await);
    let refused = compacted(&mut service, &header.cluster_id, header.revision).await;
    let oldest: u64 = refused.operand("oldest").unwrap().parse().unwrap();
    assert!(oldest >= snapshot && oldest > header.revision, "{refused}");
    compacted(&mut service, &header.cluster_id, oldest - 1).await;
    let left: Vec<_> = made.iter().filter(|(at, _)| *at > oldest).cloned().collect();
    assert!((3..made.len()).contains(&left.len()), "{left:?} after {oldest}");
    let mut stream = watch(&mut service, &header.cluster_id, oldest).await.unwrap();
    assert_eq!(next_models(&mut stream, left.len()).await, left);
    // A client lists again by itself, and knows all.
    let cluster_id = header.cluster_id.parse().unwrap();
    let after = Revision(header.revision);
    let mut resumed = StateWatch::resume(admin.clone(), Duration::from_secs(5), cluster_id, after);
    match within("a list", resumed.next()).await {
        Change::Reset { resources, .. } => {
            let models = resources.iter().filter(|r| matches!(r, Resource::Model(_)));
            assert_eq!(models.count(), made.len());
        }
        other => panic!("nothing is known of what was before: {other:?}"),
    }
    cluster.shutdown().await;
}

/// Of a resource that an event carries, in words.
fn kind(event: &pb::Event) -> &'static str {
    use pb::resource::Resource;
    match event.resource.as_ref().and_then(|r| r.resource.as_ref()) {
        Some(Resource::Version(_)) => "version",
        Some(Resource::Replica(_)) => "replica",
        Some(Resource::Alias(_)) => "alias",
        _ => "other",
    }
}

/// A copy is verified: with it the version is ready, is the champion, and is wanted in the other regions.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_events_of_a_revision_come_in_one_message_from_any_coordinator() {
    let cluster = Cluster::start(3).await;
    let mut services = Vec::new();
    for i in 0..3 {
        services.push(WatchServiceClient::new(cluster.channel(i, &user("admin")).await));
    }
    let (header, _) = list(&mut services[0]).await;
    let mut streams = Vec::new();
    for service in &mut services {
        streams.push(watch(service, &header.cluster_id, header.revision).await.unwrap());
    }
    let (admin, agent, name) = (cluster.admin(), cluster.client(&agent("r1", "a1")), model(0));
    make(&admin, 0).await;
    registry::publish(&admin, &agent, &name, &region("r1")).await;
    let (_, aliases) = admin.get_model(&name).await.unwrap();
    let ready = aliases[0].modified.0;
    let mut told = Vec::new();
    for stream in &mut streams {
        let mut last = header.revision;
        let mut messages = Vec::new();
        // A bookmark says that nothing more comes of a revision.
        let whole = async {
            loop {
                let message = stream.message().await.unwrap().unwrap();
                let revision = message.header.unwrap().revision;
                if message.events.is_empty() {
                    match revision < ready {
                        true => continue,
                        false => return,
                    }
                }
                assert!(revision > last && !message.more, "{revision} after {last}");
                last = revision;
                messages.push((revision, message.events));
            }
        };
        within("all events", whole).await;
        messages.retain(|(at, _)| *at <= ready);
        let (_, events) = messages.iter().find(|(at, _)| *at == ready).unwrap();
        let mut kinds: Vec<_> = events.iter().map(kind).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["alias", "replica", "replica", "replica", "version"]);
        told.push(messages);
    }
    assert!(told.windows(2).all(|two| two[0] == two[1]));
    cluster.shutdown().await;
}
