//! Links that are cut where it hurts: one voter between two halves, one direction only, again and again.

use std::time::Duration;

use coordinator::raft::{ProposeError, RaftLimits, RaftNode};
use tokio::time::Instant;

use super::harness::{Cluster, create_model, deadline, has_model, request_id, timing, user, within};

/// A write at whoever takes it, one of `nodes` after the other.
async fn written_by_any(nodes: &[&RaftNode], name: &str) -> usize {
    let id = request_id();
    within("a write", async {
        loop {
            for (i, node) in nodes.iter().enumerate() {
                let by = Instant::now() + Duration::from_millis(500);
                if let Ok(proposed) = node.propose(user(), id, create_model(name), by).await {
                    proposed.outcome.unwrap();
                    return i;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// The old leader reaches one voter only, which two others need for their majority; the fifth is down. While that leader beats,
/// the bridge hears it and elects nobody else: it has to fall silent by itself (openraft#2080).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_reaches_one_bridge_alone_does_not_keep_the_rest_from_electing() {
    let mut cluster = Cluster::of(5, RaftLimits::default()).await;
    cluster.write("before").await;
    let old = cluster.leader_index().await;
    let [_bridge, x, y, down] = [1, 2, 3, 4].map(|n| (old + n) % 5);
    cluster.sites[down].stop().await;
    for far in [x, y] {
        cluster.distance.cut(old, far);
    }
    let term = cluster.node(old).leadership().borrow().term;
    let rest: Vec<_> = (0..5).filter(|i| *i != old && *i != down).collect();
    let nodes: Vec<_> = rest.iter().map(|i| cluster.node(*i)).collect();
    written_by_any(&nodes, "after").await;
    let newer = nodes.iter().all(|node| node.leadership().borrow().term > term);
    assert!(newer && has_model(cluster.node(x), "before"));
    // The old one cannot keep anything to itself.
    let by = Instant::now() + timing().election_max;
    let refused = cluster
        .node(old)
        .propose(user(), request_id(), create_model("lost"), by)
        .await;
    assert!(refused.is_err(), "{refused:?}");
    cluster.distance.heal();
    cluster.assert_converged().await;
    cluster.stop_all().await;
}

/// Its heartbeats go out, and no answer ever comes in: the others hear a leader that can decide nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hears_nobody_is_replaced() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("before").await;
    let old = cluster.leader_index().await;
    let others: Vec<_> = (0..3).filter(|i| *i != old).collect();
    let began = Instant::now();
    for other in &others {
        cluster.distance.cut_way(*other, old);
    }
    let nodes: Vec<_> = others.iter().map(|i| cluster.node(*i)).collect();
    written_by_any(&nodes, "after").await;
    // Under the default timing, whose longest election timeout is 400 ms, this is 5 s.
    let took = began.elapsed();
    assert!(took < timing().election_max * 25 / 2, "{took:?}");
    assert!(
        cluster
            .node(old)
            .confirm_leadership(Instant::now() + timing().election_max)
            .await
            .is_err()
    );
    cluster.distance.heal();
    cluster.assert_converged().await;
    cluster.stop_all().await;
}

/// What was not heard for a while campaigns when it is heard again; with pre-votes nobody has to listen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_cut_off_disturbs_nobody_when_it_returns() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let leader = cluster.leader_index().await;
    let away = (leader + 1) % 3;
    for other in (0..3).filter(|i| *i != away) {
        cluster.distance.cut(away, other);
    }
    let before = cluster.node(leader).leadership().borrow().clone();
    // It would campaign several times meanwhile.
    within("a long silence", async {
        let long = timing().election_max * 5;
        while cluster
            .node(away)
            .status()
            .leader_silent
            .is_none_or(|silent| silent < long)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(
        cluster.node(away).status().term,
        before.term,
        "a pre-vote raises no term"
    );
    let last = cluster.write("meanwhile").await.revision;
    cluster.distance.heal();
    cluster.node(away).wait_applied(last, deadline()).await.unwrap();
    cluster.write("after").await;
    let after = cluster.node(leader).leadership().borrow().clone();
    assert_eq!(after, before, "the same leadership");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_flaps_costs_no_leadership() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let leader = cluster.leader_index().await;
    let flapping = (leader + 1) % 3;
    let before = cluster.node(leader).leadership().borrow().clone();
    let mut written = 0;
    for _ in 0..8 {
        // Cut for longer than a heartbeat may take, then whole for less than a campaign takes.
        cluster.distance.cut(leader, flapping);
        let until = Instant::now() + timing().heartbeat * 4;
        while Instant::now() < until {
            written += 1;
            cluster.write(&format!("m{written}")).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        cluster.distance.heal();
        tokio::time::sleep(timing().heartbeat).await;
    }
    let last = cluster.write("after").await.revision;
    assert_eq!(*cluster.node(leader).leadership().borrow(), before);
    cluster
        .node(flapping)
        .wait_applied(last, deadline())
        .await
        .unwrap();
    cluster.stop_all().await;
}

/// Refused, and surely so, once its lease is over: proposals, and the round that every renewal of a role's lease needs (L7).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_in_a_minority_refuses_proposals_and_confirms_nothing() {
    let mut cluster = Cluster::of(5, RaftLimits::default()).await;
    let old = cluster.leader_index().await;
    let with = (old + 1) % 5;
    for far in (0..5).filter(|i| *i != old && *i != with) {
        cluster.distance.cut(old, far);
        cluster.distance.cut(with, far);
    }
    let node = cluster.node(old).clone();
    // A round that begins now misses the majority; as does every later one.
    assert!(node.confirm_leadership(deadline()).await.is_err());
    let refused = within("a sure refusal", async {
        loop {
            let by = Instant::now() + timing().election_max;
            match node.propose(user(), request_id(), create_model("lost"), by).await {
                Err(ProposeError::OutcomeUnknown { .. }) => {}
                Err(sure) => return sure,
                Ok(_) => panic!("a minority acknowledged a write"),
            }
        }
    })
    .await;
    assert!(refused.to_refusal().reason.surely_no_effect(), "{refused}");
    let rest: Vec<_> = (0..5)
        .filter(|i| *i != old && *i != with)
        .map(|i| cluster.node(i))
        .collect();
    written_by_any(&rest, "after").await;
    assert!(
        node.confirm_leadership(Instant::now() + timing().election_max)
            .await
            .is_err()
    );
    drop(rest);
    cluster.distance.heal();
    cluster.assert_converged().await;
    drop(node);
    cluster.stop_all().await;
}
