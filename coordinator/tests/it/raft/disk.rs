//! Restarts, snapshots and damage.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
};

use coordinator::{
    door_log,
    raft::{Published, RaftLimits, StartError},
};
use state::Command;
use types::{Epoch, FencingToken, Holder, NodeIncarnation, RoleName};

use super::harness::{Cluster, deadline, files, has_model, request_id, within};

/// Snapshots often, and a log too short to catch up from.
pub(super) fn short_log() -> RaftLimits {
    RaftLimits {
        snapshot_after: 20,
        logs_kept: 5,
        ..RaftLimits::default()
    }
}

/// The log's first segment, and where its last byte stands.
fn log_file(dir: &std::path::Path) -> (std::path::PathBuf, Vec<u8>, usize) {
    let path = dir.join("log/000000000001.seg");
    let bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    (path, bytes, end)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_comes_back_from_its_disks() {
    let mut cluster = Cluster::of(3, short_log()).await;
    for i in 0..70 {
        cluster.write(&format!("m{i}")).await;
    }
    cluster.snapshot_taken(0).await;
    cluster.stop_all().await;
    assert!(!files(&cluster.sites[0].dir().join("snapshots")).is_empty());
    cluster.start_all().await;
    cluster.write("after").await;
    cluster.assert_converged().await;
    for node in cluster.live() {
        assert!((0..70).all(|i| has_model(node, &format!("m{i}"))));
    }
    cluster.stop_all().await;
}

/// The log grows meanwhile, and everything goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_written_stops_nobody_and_comes_later() {
    let mut cluster = Cluster::of(1, short_log()).await;
    let snapshots = cluster.sites[0].dir().join("snapshots");
    // The first one meets a full disk.
    let meets = snapshots.join("incoming-1-0.tmp");
    std::os::unix::fs::symlink("/dev/full", &meets).unwrap();
    for i in 0..60 {
        cluster.write(&format!("m{i}")).await;
    }
    cluster.snapshot_taken(0).await;
    assert!(!fs::exists(&meets).unwrap(), "it was tried");
    cluster.write("after").await;
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.write("again").await;
    assert!((0..60).all(|i| has_model(cluster.node(0), &format!("m{i}"))));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_far_behind_is_brought_up_by_a_snapshot() {
    let mut cluster = Cluster::of(3, short_log()).await;
    cluster.write("first").await;
    cluster.assert_converged().await;
    let behind = (cluster.leader_index().await + 1) % 3;
    let stood_at = cluster.node(behind).applied();
    cluster.sites[behind].stop().await;
    for i in 0..120 {
        cluster.write(&format!("m{i}")).await;
    }
    cluster.purged_beyond(stood_at).await;
    let target = cluster.leader().await.linearize(deadline()).await.unwrap();
    cluster.sites[behind].start().await.unwrap();
    let node = cluster.node(behind).clone();
    let mut subscription = node.subscribe();
    node.wait_applied(target, deadline()).await.unwrap();
    let reset = within("a reset", async {
        loop {
            if let Some(Published::Reset { revision }) = subscription.next().await {
                return revision;
            }
        }
    })
    .await;
    assert!(reset > stood_at);
    cluster.assert_converged().await;
    // What it installed is what it starts from next time.
    cluster.sites[behind].stop().await;
    cluster.sites[behind].start().await.unwrap();
    assert!(cluster.node(behind).applied() >= reset);
    cluster.assert_converged().await;
    cluster.stop_all().await;
}

/// The growth of the log counts from that snapshot on: were Raft not told, nothing before it would go until the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raft_hears_of_a_snapshot_that_somebody_else_asked_for() {
    let limits = RaftLimits {
        logs_kept: 5,
        ..RaftLimits::default()
    };
    let mut cluster = Cluster::of(2, limits).await;
    for i in 0..30 {
        cluster.write(&format!("m{i}")).await;
    }
    cluster.assert_converged().await;
    let at = cluster.node(1).applied();
    let request = proto::raft_v1::FetchSnapshotRequest {
        route: Some(cluster.route(0, 1)),
        at_least_index: at.0,
    };
    let answer = cluster.calls(0, 1).fetch_snapshot(request).await.unwrap();
    let mut parts = answer.into_inner();
    while within("a part", parts.message()).await.unwrap().is_some() {}
    cluster.snapshot_taken(1).await;
    assert!(cluster.node(1).status().snapshot >= at);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_log_tail_costs_nothing_that_a_quorum_acknowledged() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    for i in 0..30 {
        cluster.write(&format!("m{i}")).await;
    }
    cluster.assert_converged().await;
    cluster.stop_all().await;
    // Two have pieces of a write that never ended, behind what they acknowledged.
    for (site, piece) in [(1, &b"RGfr\x09"[..]), (2, &[0, 0, 0, 2, 9])] {
        let (path, mut bytes, end) = log_file(cluster.sites[site].dir());
        let begins = (end + 1).next_multiple_of(8);
        bytes[begins..begins + piece.len()].copy_from_slice(piece);
        fs::write(path, bytes).unwrap();
    }
    cluster.start_all().await;
    cluster.write("after").await;
    cluster.assert_converged().await;
    for node in cluster.live() {
        assert!((0..30).all(|i| has_model(node, &format!("m{i}"))));
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_or_foreign_directory_is_refused_by_name() {
    let mut cluster = Cluster::of(1, short_log()).await;
    for i in 0..60 {
        cluster.write(&format!("m{i}")).await;
    }
    cluster.snapshot_taken(0).await;
    let site = &mut cluster.sites[0];
    let mut other = site.config.clone();
    let in_use = coordinator::raft::RaftNode::start(other.clone(), std::sync::Arc::new(no_dial), None).await;
    assert!(matches!(in_use, Err(StartError::Locked { .. })));
    site.stop().await;

    other.node = "someone-else".parse().unwrap();
    let foreign = coordinator::raft::RaftNode::start(other, std::sync::Arc::new(no_dial), None).await;
    let foreign = foreign.err().unwrap().to_string();
    assert!(
        foreign.contains("belongs to node c0, not to someone-else"),
        "{foreign}"
    );

    let snapshot = files(&site.dir().join("snapshots")).pop().unwrap();
    let good = fs::read(&snapshot).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&snapshot, bad).unwrap();
    let damaged = site.start().await.err().unwrap().to_string();
    let name = snapshot.file_name().unwrap().to_str().unwrap();
    assert!(damaged.contains(name) && damaged.contains("digest"), "{damaged}");
    fs::write(&snapshot, good).unwrap();

    let (log, good, _) = log_file(site.dir());
    let mut bad = good.clone();
    bad[4_200] ^= 1;
    fs::write(&log, bad).unwrap();
    let damaged = site.start().await.err().unwrap().to_string();
    assert!(
        damaged.contains("000000000001.seg is damaged: at byte 4096 batch 1 was expected"),
        "{damaged}"
    );
    fs::write(&log, good).unwrap();

    fs::write(site.dir().join("node.json"), "{").unwrap();
    let unreadable = site.start().await.err().unwrap().to_string();
    assert!(unreadable.contains("node.json is damaged"), "{unreadable}");
}

/// Rights to the file would not help, and nobody is told to see to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_log_of_another_version_is_refused_with_one_way_out() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    cluster.propose_as(request_id(), guarded_write(&cluster)).await;
    cluster.stop_all().await;
    let site = &mut cluster.sites[0];
    let log = site.dir().join(coordinator::door_log::FILE_NAME);
    let later = fs::read_to_string(&log)
        .unwrap()
        .replace("\"accepted\"", "\"weight\":1,\"accepted\"");
    assert!(later.contains("weight"), "{later}");
    fs::write(&log, later).unwrap();
    let refused = site.start().await.err().unwrap().to_string();
    let said = format!(
        "{}: it holds a line of another version: unknown field `weight`",
        log.display()
    );
    assert!(refused.starts_with(&said), "{refused}");
    assert!(
        refused.contains("run the version that wrote it, or move the file away"),
        "{refused}"
    );
    assert!(!refused.contains("readable"), "{refused}");
}

fn no_dial(
    _: &coordinator::raft::Peer,
    endpoint: tonic::transport::Endpoint,
) -> Result<tonic::transport::Channel, tonic::transport::Error> {
    Ok(endpoint.connect_lazy())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_that_cannot_be_written_is_refused_by_name() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    cluster.stop_all().await;
    let site = &mut cluster.sites[0];
    let file = cluster.root.path().join("a-file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    site.config.data_dir = file.join("below");
    let refused = site.start().await.err().unwrap().to_string();
    assert!(
        refused.contains("a-file/below") && refused.contains("name another"),
        "{refused}"
    );
}

fn guarded_write(cluster: &Cluster) -> Command {
    let cluster_id = cluster.node(0).cluster_id().expect("the cluster is founded");
    Command::SetModelTags {
        model: "m".parse().unwrap(),
        set: [("sequence".to_owned(), "1".to_owned())].into(),
        remove: std::collections::BTreeSet::new(),
        etag: None,
        token: Some(FencingToken {
            cluster_id,
            role: RoleName::global(),
            epoch: Epoch::new(1, 7),
            holder: Holder {
                region: "region-0".parse().unwrap(),
                node: "a0".parse().unwrap(),
                incarnation: NodeIncarnation::from_u128(5),
            },
        }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_records_each_refusal_at_the_door_once() {
    let mut cluster = Cluster::of(3, short_log()).await;
    cluster.write("m").await;
    let mut refused_at = Vec::new();
    for _ in 0..30 {
        let answer = cluster.propose_as(request_id(), guarded_write(&cluster)).await;
        assert!(answer.outcome.is_err());
        refused_at.push(answer.revision);
    }
    cluster.assert_converged().await;
    cluster.stop_all().await;
    let path = cluster.sites[1].dir().join(door_log::FILE_NAME);
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"{\"revision\":9")
        .unwrap();
    cluster.start_all().await;
    cluster.assert_converged().await;
    cluster.stop_all().await;
    for site in &cluster.sites {
        let lines = door_log::read(site.dir().join(door_log::FILE_NAME)).unwrap();
        let at: Vec<_> = lines.iter().map(|l| l.revision).collect();
        assert_eq!(at, refused_at, "{}", site.config.node);
        assert!(
            lines
                .iter()
                .all(|l| !l.accepted && l.shown == Epoch::new(1, 7) && l.reason.is_some())
        );
    }
}
