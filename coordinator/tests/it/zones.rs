//! The zones of nodes: entered once the cluster knows of them, changed by who starts again, and written no oftener.

use client::Client;
use types::{ZoneName, region::NodeRecord};

use crate::{
    agent::{TestAgent, World},
    harness::{Cluster, region, within},
};

fn zone(name: &str) -> ZoneName {
    name.parse().unwrap()
}

/// Each node with its zone, once that is `wanted`.
async fn zones(admin: &Client, wanted: &[(&str, &str)]) -> Vec<NodeRecord> {
    let said = |node: &NodeRecord| {
        let zone = node.zone.as_ref().map(ToString::to_string);
        (node.node.to_string(), zone.unwrap_or_default())
    };
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(n, z)| ((*n).to_owned(), (*z).to_owned()))
        .collect();
    let mut watch = client::watch::StateWatch::new(admin.clone(), crate::harness::PATIENCE);
    within(&format!("zones {wanted:?}"), async {
        loop {
            watch.next().await;
            let nodes = admin.list_nodes(None).await.unwrap();
            if nodes.iter().map(said).eq(wanted.iter().cloned()) {
                return nodes;
            }
        }
    })
    .await
}

/// A cluster is founded at level 0, which knows of no zones; that its founder asks again once it knows of them, the test of a rolling
/// upgrade sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_labelled_once_its_cluster_knows_of_zones_and_anew_at_its_next_start() {
    let mut cluster = Cluster::in_zones(&["r1a", "r2b"]).await;
    let (admin, world) = (cluster.admin(), World::default());
    cluster.add_witness_in("r3a").await;
    let agent = TestAgent::start_in_zone(&cluster, &world, "r1", "r1c");
    let all = [("a-r1", "r1c"), ("c1", "r1a"), ("c2", "r2b"), ("c3", "r3a")];
    zones(&admin, &all).await;

    let listed =
        |nodes: Vec<NodeRecord>| -> Vec<String> { nodes.iter().map(|n| n.node.to_string()).collect() };
    let found = admin.list_nodes_in(None, Some(&zone("r1a"))).await.unwrap();
    assert_eq!(listed(found), ["c1"]);
    let found = admin
        .list_nodes_in(Some(&region("r1")), Some(&zone("r1c")))
        .await
        .unwrap();
    assert_eq!(listed(found), ["a-r1"]);
    let found = admin
        .list_nodes_in(Some(&region("r2")), Some(&zone("r1c")))
        .await
        .unwrap();
    assert_eq!(listed(found), [""; 0]);
    let one = admin.get_node(&"c2".parse().unwrap()).await.unwrap();
    assert_eq!(one.zone, Some(zone("r2b")));
    let nobody = admin.get_node(&"c9".parse().unwrap()).await.unwrap_err();
    assert_eq!(nobody.reason, types::Reason::NodeNotFound, "{nobody}");

    cluster.stop(1).await;
    cluster.nodes[1].config.zone = None;
    cluster.restart(1).await;
    zones(
        &admin,
        &[("a-r1", "r1c"), ("c1", "r1a"), ("c2", ""), ("c3", "r3a")],
    )
    .await;
    drop(agent);
    let mut moved = TestAgent::start_in_zone(&cluster, &world, "r1", "r1d");
    zones(
        &admin,
        &[("a-r1", "r1d"), ("c1", "r1a"), ("c2", ""), ("c3", "r3a")],
    )
    .await;

    // Heartbeats name no zone, and what is known is not written again.
    within("revisions of which nobody makes more", async {
        loop {
            let before = admin.settings().await.unwrap().1.revision;
            moved.is_heard().await;
            moved.is_heard().await;
            let after = admin.settings().await.unwrap().1.revision;
            if before == after {
                return;
            }
        }
    })
    .await;
    drop(moved);
    cluster.shutdown().await;
}
