//! A stop where a disk does not answer: it ends all the same, and nobody else has the directory while something may be written there.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use coordinator::raft::{RaftLimits, StartError};
use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags, flock, mkfifoat},
    io::Errno,
};
use wal::faulty::FaultyDisk;

use super::harness::{Cluster, Site, create_model, deadline, request_id, user, within};

/// A file that takes for ever to open for writing, because nobody reads from it. What waits for it fails when this is dropped, also
/// where a test fails: the end of its runtime waits for that.
pub(super) struct Hangs(PathBuf);

impl Hangs {
    pub(super) fn at(path: &Path) -> Self {
        // One that was begun before it is there for a moment.
        while let Err(error) = mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR) {
            assert_eq!(error, Errno::EXIST);
        }
        Self(path.to_owned())
    }
}

impl Drop for Hangs {
    fn drop(&mut self) {
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let reader = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&self.0);
        drop((reader, fs::remove_file(&self.0)));
    }
}

fn is_in_use(dir: &Path) -> bool {
    let lock = fs::File::open(dir.join("lock")).unwrap();
    let taken = flock(&lock, FlockOperation::NonBlockingLockExclusive);
    assert!(matches!(taken, Ok(()) | Err(Errno::WOULDBLOCK)), "{taken:?}");
    taken.is_err()
}

/// Nobody else has the directory.
pub(super) async fn assert_in_use(site: &mut Site) {
    assert!(is_in_use(site.dir()), "the directory is free");
    let refused = site.start().await;
    assert!(matches!(refused, Err(StartError::Locked { .. })), "{refused:?}");
}

/// Once what hung has ended.
pub(super) async fn start_again(site: &mut Site) {
    within("a start after the disk answered", async {
        while let Err(error) = site.start().await {
            assert!(matches!(error, StartError::Locked { .. }), "{error}");
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Proposes what the disk does not answer for, and waits until it waits.
async fn hang(cluster: &Cluster, disk: &FaultyDisk) {
    disk.set_hanging(true);
    let leader = cluster.leader().await.clone();
    let proposed = async move {
        leader
            .propose(user(), request_id(), create_model("hangs"), deadline())
            .await
    };
    drop(tokio::spawn(proposed));
    within("a sync that hangs", async {
        while disk.waiting() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_disk_does_not_answer_keeps_the_directory_locked() {
    let disk = FaultyDisk::new();
    let mut cluster = Cluster::on(vec![disk.clone()], RaftLimits::default()).await;
    hang(&cluster, &disk).await;
    within("the end of a node whose log hangs", cluster.sites[0].stop()).await;
    assert_in_use(&mut cluster.sites[0]).await;
    disk.set_hanging(false);
    start_again(&mut cluster.sites[0]).await;
    cluster.write("after").await;
    cluster.stop_all().await;
}

/// What is remembered of the others is written by a thread that nothing ends; and all steps of a stop have one bound together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peers_json_that_hangs_keeps_the_directory_locked_and_the_stop_short() {
    let disks = vec![FaultyDisk::new(), FaultyDisk::new()];
    let mut cluster = Cluster::on(disks.clone(), RaftLimits::default()).await;
    let hangs = Hangs::at(&cluster.sites[1].dir().join("peers.json.tmp"));
    let other = cluster.sites[0].config.node.clone();
    let remembered = cluster.node(1).route_to(&other).remembered;
    cluster.write("news").await;
    within("news of the other", async {
        while cluster.node(1).route_to(&other).remembered == remembered {
            tokio::task::yield_now().await;
        }
    })
    .await;
    hang(&cluster, &disks[1]).await;
    let began = Instant::now();
    within("the end of a node whose disks hang", cluster.sites[1].stop()).await;
    // As a sum of steps: 20 s.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    disks[1].set_hanging(false);
    assert_in_use(&mut cluster.sites[1]).await;
    drop(hangs);
    start_again(&mut cluster.sites[1]).await;
    cluster.write("after").await;
    cluster.stop_all().await;
}

/// It ends as soon as it was told, not once it has written that down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_turned_away_ends_where_its_node_json_hangs() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.level_up().await;
    let gone = (cluster.leader_index().await + 1) % 3;
    let hangs = Hangs::at(&cluster.sites[gone].dir().join("node.json.tmp"));
    cluster.remove(cluster.request(gone)).await.unwrap();
    let cause = within("its end", cluster.node(gone).stopped()).await;
    assert!(cause.contains("was taken out of this cluster"), "{cause}");
    within("its stop", cluster.sites[gone].stop()).await;
    assert_in_use(&mut cluster.sites[gone]).await;
    drop(hangs);
    let dir = cluster.sites[gone].dir().to_owned();
    within("the lock of a directory in which nobody writes", async {
        while is_in_use(&dir) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    cluster.stop_all().await;
}

/// Whoever mends what was wrong starts again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_lets_go_of_the_directory() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    cluster.stop_all().await;
    let site = &mut cluster.sites[0];
    // Read after the lock was taken and the log was opened.
    let peers = site.dir().join("peers.json");
    fs::create_dir(&peers).unwrap();
    let refused = site.start().await;
    assert!(matches!(refused, Err(StartError::DataDir { .. })), "{refused:?}");
    assert!(!is_in_use(site.dir()));
    fs::remove_dir(&peers).unwrap();
    site.start().await.unwrap();
    cluster.write("after").await;
    cluster.stop_all().await;
}
