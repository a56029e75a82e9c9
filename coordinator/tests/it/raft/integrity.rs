//! Replicas whose states differ though their logs do not: found by their hashes, fenced off, and replaced by what the
//! majority has. Where there is no majority, everybody stops.

use std::{
    fs::{self, File},
    io::BufReader,
    path::PathBuf,
};

use coordinator::raft::{ProposeError, RaftLimits, RaftNode};
use futures::future::join_all;
use state::{ControlState, codec};
use tokio::time::Instant;
use types::ModelName;

use super::harness::{Cluster, PATIENCE, create_model, deadline, files, has_model, request_id, user, within};

/// As [`create_model`] describes every model.
const DESCRIPTION: [u8; 200] = [b'x'; 200];

/// The same state, in which every model's description reads otherwise.
pub(super) fn tampered(state: &ControlState, letter: u8) -> ControlState {
    let mut bytes = codec::encode_snapshot(state);
    let mut at = 0;
    while let Some(found) = bytes[at..]
        .windows(DESCRIPTION.len())
        .position(|w| w == DESCRIPTION)
    {
        bytes[at + found..at + found + DESCRIPTION.len()].fill(letter);
        at += found + DESCRIPTION.len();
    }
    // Behind magic, format and length stands the digest of the rest.
    let (head, body) = bytes.split_at_mut(52);
    head[20..].copy_from_slice(types::Digest::of(body).as_bytes());
    let other = codec::decode_snapshot(&bytes).unwrap();
    assert_eq!(other.revision(), state.revision());
    assert_ne!(other.state_hash(), state.state_hash());
    other
}

fn description(node: &RaftNode, model: &str) -> String {
    let name: ModelName = model.parse().unwrap();
    node.read(|state| state.model(&name).unwrap().description.clone())
}

fn is_right(node: &RaftNode, model: &str) -> bool {
    description(node, model).as_bytes() == DESCRIPTION
}

impl Cluster {
    /// Waits until a node thinks so of its own state; each look costs a round of whoever leads.
    async fn believes(&self, i: usize, itself: bool) {
        let thinks = async {
            while self.node(i).status().suspicion.is_none() != itself {
                let soon = Instant::now() + PATIENCE / 20;
                let _ = join_all(self.live().map(|node| node.linearize(soon))).await;
            }
        };
        within("a verdict on a state", thinks).await;
    }

    /// Until it is undone no snapshot can be brought to this site or written there.
    fn take_away_snapshots(&self, i: usize) -> (PathBuf, PathBuf) {
        let (dir, away) = (
            self.sites[i].dir().join("snapshots"),
            self.sites[i].dir().join("away"),
        );
        fs::rename(&dir, &away).unwrap();
        fs::write(&dir, "no folder").unwrap();
        (dir, away)
    }

    async fn serves_nobody(&self, i: usize) {
        let node = self.node(i);
        let is_refusal = |error: &ProposeError| matches!(error, ProposeError::NotServing { detail } if detail.contains("its state") || detail.contains("the states"));
        let read = node.linearize(deadline()).await.unwrap_err();
        assert!(is_refusal(&read), "{read}");
        let confirmed = node.confirm_leadership(deadline()).await.unwrap_err();
        assert!(is_refusal(&confirmed), "{confirmed}");
        let proposed = node
            .propose(user(), request_id(), create_model("never"), deadline())
            .await;
        assert!(is_refusal(&proposed.unwrap_err()));
    }
}

fn give_back_snapshots((dir, away): (PathBuf, PathBuf)) {
    fs::remove_file(&dir).unwrap();
    fs::rename(away, dir).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_differs_serves_nobody_until_its_state_is_the_majoritys() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("a").await;
    cluster.assert_converged().await;
    let wrong = (cluster.leader_index().await + 1) % 3;
    let kept = cluster.take_away_snapshots(wrong);
    cluster.node(wrong).tamper(|state| tampered(state, b'y'));
    cluster.write("b").await;
    cluster.believes(wrong, false).await;
    cluster.serves_nobody(wrong).await;
    // The others know it, and go on.
    cluster.write("c").await;
    let told = async {
        let node = &cluster.sites[wrong].config.node;
        while !cluster.leader().await.status().compared.differing.contains(node) {
            cluster.leader().await.linearize(deadline()).await.unwrap();
        }
    };
    within("word of it at the leader", told).await;
    // It is not forgotten over a restart: nobody is served before the next comparison.
    cluster.sites[wrong].stop().await;
    give_back_snapshots(kept);
    let state_suspect = cluster.sites[wrong].dir().join("state-suspect");
    assert!(
        fs::read_to_string(&state_suspect)
            .unwrap()
            .contains("is not that of")
    );
    // As if it had begun with the wrong state again: nobody tells it what is right before it has it.
    for other in (0..3).filter(|i| *i != wrong) {
        cluster.distance.cut(wrong, other);
    }
    cluster.sites[wrong].start().await.unwrap();
    assert!(cluster.node(wrong).status().suspicion.is_some());
    cluster
        .node(wrong)
        .tamper(|state| match state.model(&"a".parse().unwrap()) {
            Some(_) => tampered(state, b'y'),
            None => state.clone(),
        });
    assert!(!is_right(cluster.node(wrong), "a"));
    cluster.distance.heal();
    cluster.believes(wrong, true).await;
    cluster.write("d").await;
    cluster.assert_converged().await;
    assert!(is_right(cluster.node(wrong), "a") && !state_suspect.exists());
    let cleared = async {
        while !cluster.leader().await.status().compared.differing.is_empty() {
            cluster.leader().await.linearize(deadline()).await.unwrap();
        }
    };
    within("the all-clear at the leader", cleared).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_differs_loses_its_leadership_and_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("a").await;
    let wrong = cluster.leader_index().await;
    let kept = cluster.take_away_snapshots(wrong);
    let term = cluster.node(wrong).status().term;
    cluster.node(wrong).tamper(|state| tampered(state, b'y'));
    cluster.write("b").await;
    cluster.believes(wrong, false).await;
    cluster.serves_nobody(wrong).await;
    // Somebody else leads, and it is no leader by its own account either.
    cluster.write("c").await;
    let leader = cluster.leader_index().await;
    assert_ne!(leader, wrong);
    assert!(cluster.node(leader).status().term > term);
    give_back_snapshots(kept);
    cluster.believes(wrong, true).await;
    cluster.write("d").await;
    cluster.assert_converged().await;
    for node in cluster.live() {
        assert!(["a", "b", "c", "d"].iter().all(|name| has_model(node, name)));
        assert!(is_right(node, "a"));
    }
    // It may lead again, with the right state, also from its disk.
    cluster.sites[wrong].stop().await;
    cluster.sites[wrong].start().await.unwrap();
    cluster.assert_converged().await;
    cluster.stop_all().await;
}

/// What a disk says is checked by digests; somebody who computes them anew, or a build that computed wrongly, is not caught
/// by those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_snapshot_on_disk_is_found_at_the_start_and_replaced() {
    let limits = RaftLimits {
        snapshot_after: 8,
        logs_kept: 0,
        ..RaftLimits::default()
    };
    let mut cluster = Cluster::of(3, limits).await;
    cluster.level_up().await;
    for n in 0..16 {
        cluster.write(&format!("m{n}")).await;
    }
    let wrong = (cluster.leader_index().await + 1) % 3;
    cluster.snapshot_taken(wrong).await;
    cluster.assert_converged().await;
    cluster.sites[wrong].stop().await;
    let snapshot = files(&cluster.sites[wrong].dir().join("snapshots"))
        .pop()
        .unwrap();
    let read = codec::read_snapshot(BufReader::new(File::open(&snapshot).unwrap())).unwrap();
    let other = tampered(&read.state, b'y');
    codec::write_snapshot(&other, &read.label, File::create(&snapshot).unwrap()).unwrap();
    cluster.sites[wrong].start().await.unwrap();
    assert!(!is_right(cluster.node(wrong), "m0"));
    // Nobody writes anything: the states of now are enough.
    let mended = async {
        while !is_right(cluster.node(wrong), "m0") {
            cluster.leader().await.linearize(deadline()).await.unwrap();
        }
    };
    within("another state", mended).await;
    cluster.believes(wrong, true).await;
    cluster.node(wrong).linearize(deadline()).await.unwrap();
    cluster.sites[wrong].stop().await;
    cluster.sites[wrong].start().await.unwrap();
    assert!(is_right(cluster.node(wrong), "m0"), "the wrong one is back");
    cluster.assert_converged().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_differ_wait_for_the_third_to_say_who_is_right() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("a").await;
    cluster.assert_converged().await;
    let leader = cluster.leader_index().await;
    let (wrong, silent) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.sites[silent].stop().await;
    cluster.node(wrong).tamper(|state| tampered(state, b'y'));
    let soon = Instant::now() + PATIENCE / 8;
    // It may be answered before the comparison, or not at all.
    let _ = cluster
        .node(leader)
        .propose(user(), request_id(), create_model("b"), soon)
        .await;
    cluster.believes(leader, false).await;
    cluster.believes(wrong, false).await;
    cluster.serves_nobody(leader).await;
    cluster.sites[silent].start().await.unwrap();
    cluster.believes(leader, true).await;
    cluster.believes(wrong, true).await;
    cluster.write("c").await;
    cluster.assert_converged().await;
    assert!(cluster.live().all(|node| is_right(node, "a")));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_everybody_stops_and_says_who_has_which_state() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("a").await;
    cluster.assert_converged().await;
    for (i, letter) in [(0, b'y'), (1, b'z')] {
        cluster.node(i).tamper(|state| tampered(state, letter));
    }
    let leader = cluster.leader().await;
    let soon = Instant::now() + PATIENCE / 8;
    let _ = leader
        .propose(user(), request_id(), create_model("b"), soon)
        .await;
    let causes = within("the end of all", join_all(cluster.live().map(RaftNode::stopped))).await;
    let hashes: Vec<_> = cluster
        .live()
        .map(|node| node.read(|state| state.state_hash().to_string()))
        .collect();
    for cause in &causes {
        assert!(
            cause.starts_with("no majority of the voters agrees on the state at revision"),
            "{cause}"
        );
        assert!(cause.contains("docs/protocol/integrity.md"), "{cause}");
    }
    // The one that led may have applied more than it compared last; the hashes that are named are three.
    let named = |cause: &str| (0..3).all(|i| cause.contains(&format!("c{i} ")));
    assert!(causes.iter().all(|cause| named(cause)), "{causes:?} {hashes:?}");
    // Nobody is served after a restart before they have compared again. Here the log, applied anew, makes all of them right.
    cluster.stop_all().await;
    for site in &cluster.sites {
        assert!(site.dir().join("state-suspect").exists());
    }
    cluster.start_all().await;
    for i in 0..3 {
        cluster.believes(i, true).await;
    }
    cluster.assert_converged().await;
    assert!(cluster.live().all(|node| is_right(node, "a")));
    cluster.stop_all().await;
}
