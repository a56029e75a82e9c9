//! What a witness says to those who call it.

use proto::{
    convert::status::from_status,
    v1::{
        self as pb, cluster_service_client::ClusterServiceClient,
        primary_service_client::PrimaryServiceClient, registry_service_client::RegistryServiceClient,
        watch_service_client::WatchServiceClient,
    },
};
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use types::{Reason, region::NodeKind};

use crate::harness::{Cluster, agent, user};

/// It is UNAVAILABLE, says what it is, and names who leads.
fn assert_refused(what: &str, status: &Status, leader: &str) {
    assert_eq!(status.code(), Code::Unavailable, "{what}: {status}");
    let refusal = from_status(status);
    assert_eq!(refusal.reason, Reason::NotLeader, "{what}: {refusal}");
    assert!(refusal.message.contains("c3 is a witness"), "{what}: {refusal}");
    assert_eq!(refusal.operand("leader_api"), Some(leader), "{what}: {refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_answers_for_itself_alone_and_names_who_serves() {
    let mut cluster = Cluster::start(2).await;
    cluster.add_witness().await;
    let leader = cluster.nodes[cluster.leader().await].endpoint.clone();
    let channel = cluster.channel(2, &user("admin")).await;

    let mut itself = ClusterServiceClient::new(channel.clone());
    let status = itself
        .get_status(pb::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(status.witness && status.raft_state == "FOLLOWER", "{status:?}");
    let witnesses = status.members.iter().filter(|m| m.witness);
    assert_eq!(witnesses.map(|m| m.node.as_str()).collect::<Vec<_>>(), ["c3"]);
    let health = HealthClient::new(channel.clone())
        .check(HealthCheckRequest::default())
        .await;
    assert_eq!(health.unwrap().into_inner().status, 1, "it is healthy");

    let read = RegistryServiceClient::new(channel.clone())
        .list_models(pb::ListModelsRequest::default())
        .await;
    assert_refused("a read", &read.unwrap_err(), &leader);
    let stale = pb::ListModelsRequest {
        read: Some(pb::ReadOptions {
            allow_stale: true,
            ..pb::ReadOptions::default()
        }),
        ..pb::ListModelsRequest::default()
    };
    let read = RegistryServiceClient::new(channel.clone())
        .list_models(stale)
        .await;
    assert_refused("a stale read", &read.unwrap_err(), &leader);
    let settings = itself.get_settings(pb::GetSettingsRequest::default()).await;
    assert_refused("a setting", &settings.unwrap_err(), &leader);
    let saved = itself.save_snapshot(pb::SaveSnapshotRequest::default()).await;
    assert_refused("a backup", &saved.unwrap_err(), &leader);
    let mut registry = RegistryServiceClient::new(channel.clone());
    let change = registry.create_model(pb::CreateModelRequest::default()).await;
    assert_refused("a change", &change.unwrap_err(), &leader);
    let watch = WatchServiceClient::new(channel)
        .watch(pb::WatchRequest::default())
        .await;
    assert_refused("a watch", &watch.unwrap_err(), &leader);
    let agents = cluster.channel(2, &agent("r1", "a1")).await;
    let mut leases = PrimaryServiceClient::new(agents);
    let renewal = leases.renew_lease(pb::RenewLeaseRequest::default()).await;
    assert_refused("a renewal", &renewal.unwrap_err(), &leader);

    let nodes = cluster.admin().list_nodes(None).await.unwrap();
    let kinds: Vec<_> = nodes.iter().map(|n| (n.node.as_str(), n.kind)).collect();
    let serves = NodeKind::Coordinator;
    assert_eq!(kinds, [("c1", serves), ("c2", serves), ("c3", NodeKind::Witness)]);
    let regions = cluster.admin().list_regions().await.unwrap();
    assert_eq!(
        regions.len(),
        2,
        "where a witness stands is no region: {regions:?}"
    );
    cluster.shutdown().await;
}

/// Its own stop hands nothing over, and its next start is known to the cluster again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_starts_again_as_what_it_was() {
    let mut cluster = Cluster::start(2).await;
    cluster.add_witness().await;
    cluster.stop(2).await;
    cluster.nodes[2].config.witness = false;
    let refused = coordinator::Coordinator::start(cluster.nodes[2].config.clone()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("was made by a witness"), "{refused}");
    cluster.nodes[2].config.witness = true;
    cluster.restart(2).await;
    // One of the others is lost: without the witness there would be no majority.
    let leader = cluster.leader().await;
    cluster.stop(leader).await;
    cluster.leader().await;
    let name = "after".parse().unwrap();
    let placement = types::model::Placement::Everywhere;
    let admin = cluster.admin();
    let made = admin.create_model(&name, "", std::collections::BTreeMap::default(), &placement);
    made.await.unwrap();
    cluster.shutdown().await;
}
