//! A leader whose disk is full lets another lead, by itself, and what was acknowledged stays.

use coordinator::raft::{ProposeError, RaftLimits};
use wal::faulty::FaultyDisk;

use super::harness::{Cluster, create_model, deadline, has_model, request_id, user, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_leaves_a_full_disk_for_one_with_room() {
    let disks: Vec<FaultyDisk> = (0..3).map(|_| FaultyDisk::new()).collect();
    let mut cluster = Cluster::on(disks.clone(), RaftLimits::default()).await;
    let full = cluster.leader_index().await;
    let also_full = (full + 1) % 3;
    let with_room = 3 - full - also_full;
    cluster.write("before").await;
    // Of the other two one is full as well: it is no successor.
    for i in [also_full, full] {
        disks[i].set_capacity(Some(disks[i].used()));
    }
    let mut leads = cluster.node(with_room).leadership();
    let leads = leads.wait_for(|l| l.since.is_some());
    within("the one with room to lead", leads).await.unwrap();
    // Both others have only their reserve, and one of them must take it.
    cluster.write("on-one-disk-and-a-reserve").await;
    let refused = cluster.node(full);
    let answer = refused
        .propose(user(), request_id(), create_model("here"), deadline())
        .await;
    assert!(
        matches!(answer, Err(ProposeError::NotLeader { .. })),
        "{answer:?}"
    );
    for disk in &disks {
        disk.set_capacity(None);
    }
    cluster.write("after").await;
    cluster.assert_converged().await;
    let leader = cluster.leader().await;
    for name in ["before", "on-one-disk-and-a-reserve", "after"] {
        assert!(has_model(leader, name), "{name}");
    }
    cluster.stop_all().await;
}
