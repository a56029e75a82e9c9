//! A coordinator whose disk was wiped and that was started again under its name.

use coordinator::RunError;

use crate::harness::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_ends_with_the_way_back() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(1).await;
    cluster.wipe(1);
    cluster.restart(1).await;
    // A leader to whom it is new as well, whoever led before.
    let admin = cluster.admin();
    let to = if cluster.leader().await == 0 { "c3" } else { "c1" };
    admin.transfer_leadership(to).await.unwrap();
    let ended = cluster.end(1).await;
    let Err(RunError::Join(refusal)) = ended else {
        panic!("{ended:?}");
    };
    let text = refusal.to_string();
    assert!(
        text.contains("c2 is a member of this cluster, but its disk has seen none")
            && text.contains("new node name"),
        "{text}"
    );
    cluster.shutdown().await;
}
