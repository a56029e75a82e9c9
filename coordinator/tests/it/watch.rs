//! Watches over the wire: order, resumption, and what is refused.

use std::collections::BTreeMap;

use proto::{
    convert::status::from_status,
    v1::{self as pb, watch_service_client::WatchServiceClient},
};
use tonic::{Streaming, transport::Channel};
use types::Reason;

use crate::harness::{Cluster, user, within};

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
