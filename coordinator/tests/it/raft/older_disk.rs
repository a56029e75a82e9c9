//! A voter whose disk is older than the others remember (L20): restored from a copy, it has forgotten votes and entries that
//! it acknowledged. It is let in nowhere; every other start is.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use coordinator::raft::{JoinError, RaftLimits, RaftRole, StartError};
use proto::raft_v1 as pb;
use tokio::time::{Instant, timeout};
use tonic::Code;
use types::reason::{Reason, Refusal};

use super::harness::{Cluster, create_model, deadline, has_model, request_id, user, within};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            // One that a running node just removed is no loss.
            false => drop(fs::copy(entry.path(), target)),
        }
    }
}

fn put_back(copy_of: &Path, dir: &Path) {
    fs::remove_dir_all(dir).unwrap();
    copy(copy_of, dir);
}

impl Cluster {
    /// Writes at least `n` models, and goes on for `time`; the names of those that were acknowledged.
    async fn load(&self, prefix: &str, n: usize, time: Duration) -> Vec<String> {
        let end = Instant::now() + time;
        let mut names = Vec::new();
        while names.len() < n || Instant::now() < end {
            let name = format!("{prefix}{}", names.len());
            self.write(&name).await;
            names.push(name);
        }
        names
    }

    async fn turned_away(&self, i: usize) -> Refusal {
        let answer = within("an answer to its start", self.node(i).let_in()).await;
        answer.expect_err("it was let in")
    }

    fn kept(&self, root: &str) -> PathBuf {
        self.root.path().join(root)
    }

    /// What a vote request from `from` for itself is answered by `to`.
    async fn ask_for_vote(&self, from: usize, to: usize) -> Code {
        let route = self.route(from, to);
        let vote = pb::Vote {
            term: 1_000,
            node: route.from,
            committed: false,
        };
        let request = pb::VoteRequest {
            route: Some(route),
            vote: Some(vote),
            last_log_id: Some(pb::LogId {
                term: 1_000,
                index: 1_000_000,
            }),
            leadership_transfer: true,
        };
        let answer = within("an answer", self.calls(from, to).vote(request)).await;
        answer.err().map_or(Code::Ok, |status| status.code())
    }
}

/// The copy is of a running disk, so that no start tells it apart: what it had stored since does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_restored_under_load_is_refused_and_nothing_is_lost() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.level_up().await;
    let mut written = cluster.load("a", 20, Duration::ZERO).await;
    let leader = cluster.leader_index().await;
    let (old, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let kept = cluster.kept("copy");
    copy(cluster.sites[old].dir(), &kept);
    written.extend(cluster.load("b", 20, Duration::ZERO).await);
    cluster.assert_converged().await;
    cluster.sites[old].stop().await;
    put_back(&kept, cluster.sites[old].dir());
    cluster.sites[old].start().await.unwrap();
    let refusal = cluster.turned_away(old).await;
    assert_eq!(refusal.operand(JoinError::LOST_DISK), Some(&*format!("c{old}")));
    for words in ["older than what", "its log ends at", "`regent cluster replace"] {
        assert!(refusal.message.contains(words), "{words:?} in {refusal}");
    }
    // It votes for nobody any more, and does not start again.
    assert_eq!(cluster.ask_for_vote(other, old).await, Code::FailedPrecondition);
    cluster.sites[old].stop().await;
    let again = cluster.sites[old].start().await.unwrap_err();
    assert!(matches!(again, StartError::TurnedAway { .. }), "{again}");
    // The others have everything, and its name comes back the way that it was told.
    written.extend(cluster.load("c", 3, Duration::ZERO).await);
    cluster.remove(cluster.request(old)).await.unwrap();
    fs::remove_dir_all(cluster.sites[old].dir()).unwrap();
    cluster.sites[old].config.bootstrap = None;
    cluster.sites[old].start().await.unwrap();
    cluster.join(old).await;
    cluster.assert_converged().await;
    for node in cluster.live() {
        assert!(written.iter().all(|name| has_model(node, name)));
    }
    cluster.stop_all().await;
}

/// Nobody is left who counted on it as its leader: what the others were told meanwhile, and wrote down, is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_disk_is_refused_also_where_everybody_was_started_anew() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let kept = cluster.kept("copy");
    cluster.load("a", 10, Duration::ZERO).await;
    copy(cluster.sites[1].dir(), &kept);
    // Longer than it takes to tell the others.
    let written = cluster.load("b", 10, Duration::from_millis(1_500)).await;
    cluster.assert_converged().await;
    cluster.stop_all().await;
    put_back(&kept, cluster.sites[1].dir());
    cluster.start_all().await;
    let refusal = cluster.turned_away(1).await;
    assert_eq!(refusal.reason, Reason::ClusterState);
    cluster.sites[1].stop().await;
    cluster.write("after").await;
    let leader = cluster.leader().await;
    assert!(written.iter().all(|name| has_model(leader, name)));
    cluster.stop_all().await;
}

/// Nothing was written since, and yet it was started since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_from_before_the_last_start_is_refused_by_its_count() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("a").await;
    cluster.assert_converged().await;
    let old = (cluster.leader_index().await + 1) % 3;
    let kept = cluster.kept("copy");
    cluster.sites[old].stop().await;
    copy(cluster.sites[old].dir(), &kept);
    cluster.sites[old].start().await.unwrap();
    within("its start", cluster.node(old).let_in()).await.unwrap();
    // The others hear of the start with the first exchange, which a later entry's applying does not wait for.
    let heard = async {
        while peers_remember(&cluster, old).await < 2 {
            cluster.write(&format!("m-{}", uuid::Uuid::now_v7())).await;
        }
    };
    within("the others to hear of its start", heard).await;
    cluster.sites[old].stop().await;
    put_back(&kept, cluster.sites[old].dir());
    cluster.sites[old].start().await.unwrap();
    cluster.turned_away(old).await;
    cluster.stop_all().await;
}

/// The highest start of node `of` that some other member says it remembers.
async fn peers_remember(cluster: &Cluster, of: usize) -> u64 {
    let mut highest = 0;
    for from in (0..3).filter(|i| *i != of) {
        let route = cluster.node(from).route_to(&cluster.sites[of].config.node);
        let boot = route.remembered.and_then(|r| r.boot);
        highest = highest.max(boot.map_or(0, |b| b.count));
    }
    highest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_start_at_once_are_let_in() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("a").await;
    for round in 0..3 {
        cluster.stop_all().await;
        cluster.start_all().await;
        for node in cluster.live() {
            within("a start", node.let_in()).await.unwrap();
        }
        cluster.write(&format!("b{round}")).await;
        cluster.assert_converged().await;
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_nobody_answers_votes_for_nobody_and_does_not_campaign() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("a").await;
    let route_from = 1;
    let before = cluster.node(0).status().term;
    let to = cluster.route(route_from, 0);
    cluster.stop_all().await;
    cluster.sites[0].start().await.unwrap();
    let vote = pb::VoteRequest {
        vote: Some(pb::Vote {
            term: 1_000,
            node: to.from,
            committed: false,
        }),
        route: Some(to),
        last_log_id: None,
        leadership_transfer: true,
    };
    let refused = within("an answer", cluster.calls(route_from, 0).vote(vote)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("has just started"), "{refused}");
    let alone = cluster.sites[0].config.timing.election_max * 4;
    let let_in = timeout(alone, cluster.node(0).let_in()).await;
    assert!(let_in.is_err(), "one of three is no majority");
    let status = cluster.node(0).status();
    assert_eq!((status.role, status.term), (RaftRole::Follower, before));
    // One more is enough for both.
    cluster.sites[1].start().await.unwrap();
    within("a start", cluster.node(0).let_in()).await.unwrap();
    cluster.write("b").await;
    cluster.stop_all().await;
}

/// A leader's own last entries, which nobody else stored, are cut by the next one. That is no older disk, before or after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_were_never_committed_may_be_cut_off() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("a").await;
    cluster.assert_converged().await;
    let leader = cluster.leader_index().await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let node = cluster.node(leader).clone();
    let over = AtomicBool::new(false);
    let burst = async |n: u32| {
        let proposals = (0..8).map(|i| {
            let soon = Instant::now() + Duration::from_millis(200);
            node.propose(user(), request_id(), create_model(&format!("lost{n}-{i}")), soon)
        });
        drop(futures::future::join_all(proposals).await);
    };
    let load = async {
        let mut n = 1;
        while !over.load(Ordering::Relaxed) {
            burst(n).await;
            n += 1;
        }
    };
    let stop = async {
        for other in others {
            let running = cluster.sites[other].running.take().unwrap();
            running.stop().await;
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, stop);
    // The last of those may have been committed in time; where its lease has run out meanwhile, earlier ones were not.
    burst(0).await;
    let status = node.status();
    assert!(
        status.last_log > status.applied,
        "nothing is left uncommitted: {status:?}"
    );
    let long = status.last_log;
    drop(node);
    cluster.sites[leader].stop().await;
    for other in others {
        cluster.sites[other].start().await.unwrap();
    }
    cluster.write("b").await;
    for _ in 0..2 {
        cluster.sites[leader].start().await.unwrap();
        within("a start", cluster.node(leader).let_in()).await.unwrap();
        cluster.write(&format!("m-{}", uuid::Uuid::now_v7())).await;
        cluster.assert_converged().await;
        cluster.sites[leader].stop().await;
    }
    assert!(long.0 > 0);
    cluster.stop_all().await;
}

/// What stands before a snapshot is gone from the log, and is not missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_purged_behind_a_snapshot_is_not_older() {
    let limits = RaftLimits {
        snapshot_after: 20,
        logs_kept: 0,
        ..RaftLimits::default()
    };
    let mut cluster = Cluster::of(3, limits).await;
    cluster.load("a", 60, Duration::ZERO).await;
    for i in 0..3 {
        cluster.snapshot_taken(i).await;
    }
    let old = (cluster.leader_index().await + 1) % 3;
    cluster.sites[old].stop().await;
    cluster.sites[old].start().await.unwrap();
    within("a start", cluster.node(old).let_in()).await.unwrap();
    cluster.write("b").await;
    cluster.assert_converged().await;
    let at = cluster.leader().await.linearize(deadline()).await.unwrap();
    assert!(at.0 > 60);
    cluster.stop_all().await;
}
