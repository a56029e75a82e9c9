//! The feature level of a whole cluster.

use proto::v1::{self as pb, cluster_service_client::ClusterServiceClient};
use state::features::SUPPORTED;
use tonic::transport::Channel;

use crate::harness::{Cluster, user, within};

async fn level(service: &mut ClusterServiceClient<Channel>) -> u32 {
    let settings = service.get_settings(pb::GetSettingsRequest::default());
    settings.await.unwrap().into_inner().feature_level
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_cluster_reaches_the_level_of_its_builds_and_keeps_it() {
    let mut cluster = Cluster::start(3).await;
    let mut service = ClusterServiceClient::new(cluster.channel(1, &user("admin")).await);
    within("the level", async {
        while level(&mut service).await < SUPPORTED {}
    })
    .await;
    for i in 0..3 {
        cluster.stop(i).await;
    }
    for i in 0..3 {
        cluster.restart(i).await;
    }
    cluster.leader().await;
    let mut service = ClusterServiceClient::new(cluster.channel(2, &user("admin")).await);
    assert_eq!(level(&mut service).await, SUPPORTED);
    let status = service.get_status(pb::GetStatusRequest {}).await.unwrap();
    let status = status.into_inner();
    assert_eq!(
        (status.feature_level, status.supported_level),
        (SUPPORTED, SUPPORTED)
    );
    cluster.shutdown().await;
}
