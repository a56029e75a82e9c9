//! What a coordinator says of itself to whoever sends callers to it.

use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Cluster, user, within};

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

/// A leader that is left alone goes on naming itself, and nobody takes that for being well.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_hears_no_quorum_says_so_until_it_hears_one_again() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = (0..3).filter(|i| *i != leader).collect();
    let mut health = HealthClient::new(cluster.channel(leader, &user("admin")).await);
    let watched = health.watch(HealthCheckRequest::default()).await;
    let mut said = watched.unwrap().into_inner();
    let mut until = async |wanted: i32| {
        within(&format!("health {wanted}"), async {
            while said.message().await.unwrap().unwrap().status != wanted {}
        })
        .await;
    };
    until(SERVING).await;
    for other in &others {
        cluster.stop(*other).await;
    }
    until(NOT_SERVING).await;
    cluster.restart(others[0]).await;
    until(SERVING).await;
    cluster.shutdown().await;
}
