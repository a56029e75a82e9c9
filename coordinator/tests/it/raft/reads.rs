//! What readers and watchers see.

use coordinator::raft::{ProposeError, Published, RaftLimits};
use futures::future::join_all;
use types::Revision;

use super::harness::{Cluster, deadline, has_model, read_until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_reads_what_was_acknowledged() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    for i in 0..10 {
        let name = format!("m{i}");
        let written = cluster.write(&name).await;
        for node in cluster.live() {
            let at = node.linearize(deadline()).await.unwrap();
            assert!(at >= written.revision);
            assert!(
                has_model(node, &name),
                "{} does not see {name}",
                node.own_peer().node
            );
        }
    }
    let leader = cluster.leader().await;
    let confirmed = leader.confirm_leadership(deadline()).await.unwrap();
    assert!(confirmed >= leader.read_at(|s| s.revision()).1);
    for node in cluster.live().filter(|n| !n.leadership().borrow().is_leader) {
        let refused = node.confirm_leadership(deadline()).await;
        assert!(
            matches!(refused, Err(ProposeError::NotLeader { leader: Some(_) })),
            "{refused:?}"
        );
    }
    cluster.stop_all().await;
}

/// Its log has all writes, and its state is held up by somebody who does not take what it publishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_state_lags_answers_no_read_before_it_has_caught_up() {
    // More than are on their way to a subscriber.
    const MANY: usize = 1_200;
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let lags = (cluster.leader_index().await + 1) % 3;
    let node = cluster.node(lags).clone();
    let holds_up = node.subscribe();
    let names: Vec<_> = (0..MANY).map(|i| format!("m{i}")).collect();
    join_all(names.iter().map(|name| cluster.write(name))).await;
    let last = cluster.write("last").await.revision;
    assert!(node.applied() < last);
    let reader = node.clone();
    let read = tokio::spawn(async move {
        let at = reader.linearize(deadline()).await.unwrap();
        (at, has_model(&reader, "last"))
    });
    // Rounds that the third one asks for meanwhile are answered.
    for _ in 0..3 {
        let other = cluster.node((lags + 1) % 3);
        other.linearize(deadline()).await.unwrap();
    }
    drop(holds_up);
    let (at, is_there) = within("the read", read).await.unwrap();
    assert!(at >= last && is_there, "{at} where {last} was acknowledged");
    drop(node);
    cluster.assert_converged().await;
    cluster.stop_all().await;
}

fn revisions(steps: &[Published]) -> Vec<u64> {
    let of = |step: &Published| match step {
        Published::Applied { revision, .. } => revision.0,
        Published::Reset { revision } => panic!("reset at {revision}"),
    };
    steps.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_sees_every_revision_once_and_in_order_also_after_a_restart() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let mut subscription = cluster.node(1).subscribe();
    let after = subscription.after();
    let mut last = Revision::default();
    for i in 0..20 {
        last = cluster.write(&format!("m{i}")).await.revision;
    }
    let steps = read_until(&mut subscription, last).await;
    assert_eq!(revisions(&steps), (after.0 + 1..=last.0).collect::<Vec<_>>());

    let events = |steps: &[Published]| -> Vec<_> {
        let of = |step: &Published| match step {
            Published::Applied { revision, events } => Some((*revision, events.clone())),
            Published::Reset { .. } => None,
        };
        steps
            .iter()
            .filter_map(of)
            .filter(|(_, e)| !e.is_empty())
            .collect()
    };
    let before = events(&steps);
    assert!(before.len() >= 20);
    cluster.sites[1].stop().await;
    cluster.sites[1].start().await.unwrap();
    let mut subscription = cluster.node(1).subscribe();
    let replayed = events(&read_until(&mut subscription, last).await);
    assert_eq!(&replayed[replayed.len() - before.len()..], &before[..]);
    cluster.stop_all().await;
}
