//! A coordinator whose disk was wiped and that was started again under its name; and one whose disk is of another cluster than
//! everybody whom it asks.

use crate::{
    harness::{Cluster, ELECTION_MAX, closed_port, within},
    warnings::Warnings,
};
use coordinator::RunError;
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_ends_with_the_way_back() {
    let mut cluster = Cluster::start(3).await;
    cluster.stop(1).await;
    cluster.wipe(1);
    cluster.restart(1).await;
    // A leader to whom it is new as well, whoever led before.
    let admin = cluster.admin();
    let to = if cluster.leader().await == 0 { "c3" } else { "c1" };
    let to = to.parse().unwrap();
    admin.transfer_leadership(Some(&to), false).await.unwrap();
    let ended = cluster.end(1).await;
    let Err(RunError::Join(refusal)) = ended else {
        panic!("{ended:?}");
    };
    let text = refusal.to_string();
    assert!(
        text.contains("c2 is a member of this cluster, but its disk has seen none")
            && text.contains("`regent cluster replace NODE`"),
        "{text}"
    );
    cluster.shutdown().await;
}

/// Its config may still say `bootstrap`; a second cluster under the same CA would get the callers of the first one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_founder_that_knows_of_others_founds_no_second_cluster() {
    let mut cluster = Cluster::start(3).await;
    let before = cluster_id(&cluster).await;
    let others = cluster.endpoints()[1..].to_vec();
    cluster.stop(0).await;
    cluster.wipe(0);
    assert!(cluster.nodes[0].config.bootstrap);
    cluster.nodes[0].config.join = others;
    cluster.restart(0).await;
    let ended = cluster.end(0).await;
    let Err(RunError::Join(refusal)) = ended else {
        panic!("{ended:?}");
    };
    assert!(
        refusal.to_string().contains("c1 is a member of this cluster"),
        "{refusal}"
    );
    cluster.leader().await;
    assert_eq!(cluster_id(&cluster).await, before);
    cluster.shutdown().await;
}

/// Who does not answer may know of a cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_waits_until_each_of_the_others_has_said_that_there_is_no_cluster() {
    let mut cluster = Cluster::blank(2);
    cluster.nodes[1].config.join = vec![closed_port().await];
    cluster.restart(1).await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("https://{}", mute.local_addr().unwrap());
    let other = cluster.endpoints()[1].clone();
    cluster.nodes[0].config.join = vec![other.clone(), silent];
    cluster.restart(0).await;
    // Held open: it is asked, and says nothing. The second time comes after the first time's patience.
    let asked = async { [mute.accept().await.unwrap(), mute.accept().await.unwrap()] };
    let _held = within("two questions to the silent one", asked).await;
    assert_eq!(cluster_id(&cluster).await, "");
    cluster.stop(0).await;

    cluster.nodes[0].config.join = vec![other];
    cluster.restart(0).await;
    cluster.stop(1).await;
    cluster.nodes[1].config.join = vec![cluster.endpoints()[0].clone()];
    cluster.restart(1).await;
    within("both to be registered", cluster.registered(2)).await;
    cluster.shutdown().await;
}

/// A revived old majority, or a config that was copied: a voter that ended because of it would be missed by its own cluster.
#[tokio::test]
async fn a_voter_waits_for_its_own_cluster_also_where_everybody_whom_it_asks_is_of_another() {
    let mut cluster = Cluster::start(3).await;
    let other = cluster.add_other_cluster().await;
    let elsewhere = cluster.endpoints()[other].clone();
    let own_id = cluster_id(&cluster).await;
    for i in 0..3 {
        cluster.stop(i).await;
    }
    let other_id = cluster_id(&cluster).await;
    let mut warnings = Warnings::listen();
    cluster.nodes[1].config.join = vec![elsewhere.clone()];
    cluster.restart(1).await;
    let told = [
        "not known to the cluster yet",
        &elsewhere,
        &format!("the disk of node c2 belongs to cluster {own_id}, and this is cluster {other_id}"),
        &format!("`join` in its config is to name coordinators of {own_id}"),
        "WRONG_CLUSTER",
    ];
    within("a warning", warnings.next_with(&told)).await;
    // Many elections, and asked more than once.
    assert!(cluster.goes_on_for(1, ELECTION_MAX * 12).await);
    let again = warnings.rest();
    assert!(
        !again.iter().any(|line| line.contains("WRONG_CLUSTER")),
        "{again:?}"
    );
    cluster.restart(0).await;
    within("its own cluster", cluster.leads(1)).await;
    cluster.shutdown().await;
}

/// As whoever answers first says it; empty where it knows of none.
async fn cluster_id(cluster: &Cluster) -> String {
    cluster.admin().status().await.unwrap().header.unwrap().cluster_id
}
