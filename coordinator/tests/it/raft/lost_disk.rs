//! A voter whose disk was wiped, or whose log was: it acknowledged entries that it knows nothing of now. Its vote could
//! elect somebody who never had them, and its answers would count as if it still did.

use std::fs;

use coordinator::raft::{JoinError, Peer, ProposeError, RaftLimits, StartError};
use proto::raft_v1::{self as pb, snapshot_part::Part};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::harness::{Cluster, deadline, within};

fn leads(route: &pb::Route, term: u64) -> pb::Vote {
    pb::Vote {
        term,
        node: route.from,
        committed: true,
    }
}

/// Everything that would make node `to` store or vote, from node `from`; says what each was answered.
async fn all_calls(cluster: &Cluster, from: usize, to: usize) -> Vec<(&'static str, Status)> {
    let mut service = cluster.calls(from, to);
    let route = cluster.route(from, to);
    let vote = pb::VoteRequest {
        route: Some(route.clone()),
        vote: Some(pb::Vote {
            committed: false,
            ..leads(&route, 1_000_000)
        }),
        last_log_id: None,
        leadership_transfer: true,
    };
    let append = pb::AppendRequest {
        route: Some(route.clone()),
        vote: Some(leads(&route, 1_000_001)),
        ..pb::AppendRequest::default()
    };
    let snapshot = pb::SnapshotPart {
        part: Some(Part::Header(pb::SnapshotHeader {
            route: Some(route.clone()),
            vote: Some(leads(&route, 1_000_002)),
            size_bytes: 0,
            sha256: Vec::new(),
        })),
    };
    let transfer = pb::TransferLeaderRequest {
        route: Some(route.clone()),
        from_leader: Some(leads(&route, 1_000_003)),
        to: route.to,
        last_log_id: None,
    };
    let calls = async {
        let streamed = service
            .stream_append(futures::stream::iter([append.clone()]))
            .await;
        let streamed = match streamed {
            Ok(mut answers) => answers.get_mut().message().await.map(drop),
            Err(status) => Err(status),
        };
        [
            ("vote", service.vote(vote.clone()).await.map(drop)),
            ("pre_vote", service.pre_vote(vote).await.map(drop)),
            ("append", service.append(append).await.map(drop)),
            ("stream_append", streamed),
            (
                "install_snapshot",
                service
                    .install_snapshot(futures::stream::iter([snapshot]))
                    .await
                    .map(drop),
            ),
            (
                "transfer_leader",
                service.transfer_leader(transfer).await.map(drop),
            ),
        ]
    };
    let answers = within("the answers", calls).await;
    answers
        .into_iter()
        .map(|(call, answer)| (call, answer.err().unwrap_or_else(|| Status::ok(""))))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_neither_stores_nor_votes() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    cluster.write("before").await;
    cluster.assert_converged().await;
    let leader = cluster.leader_index().await;
    let (wiped, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.sites[wiped].stop().await;
    fs::remove_dir_all(cluster.sites[wiped].dir()).unwrap();
    cluster.sites[wiped].config.bootstrap = None;
    cluster.sites[wiped].start().await.unwrap();
    // The new leader has never heard from it, so nothing that it says can surprise Raft.
    let to = cluster.sites[other].config.node.clone();
    let handed = cluster
        .node(leader)
        .transfer_leadership(Some(to), deadline())
        .await;
    handed.unwrap();
    cluster.write("after").await;
    for (call, answer) in all_calls(&cluster, other, wiped).await {
        assert_eq!(answer.code(), Code::FailedPrecondition, "{call}: {answer}");
    }
    let refused = cluster.welcome(wiped).await;
    assert!(matches!(refused, Err(JoinError::LostDisk { .. })), "{refused:?}");
    let status = cluster.node(wiped).status();
    assert_eq!((status.term, status.last_log.0, status.applied.0), (0, 0, 0));
    assert!(status.members.is_empty(), "{:?}", status.members);
    // Nor after another start.
    cluster.sites[wiped].stop().await;
    cluster.sites[wiped].start().await.unwrap();
    let refused = cluster.welcome(wiped).await;
    assert!(matches!(refused, Err(JoinError::LostDisk { .. })), "{refused:?}");
    cluster.stop_all().await;
}

/// A leader counts on what one that does not vote yet has stored, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_never_called_new() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    let leader = cluster.leader().await;
    let refused = leader.welcome(&cluster.sites[0].peer(), deadline()).await;
    assert!(matches!(refused, Err(JoinError::LostDisk { .. })), "{refused:?}");
    let refusal = refused.unwrap_err().to_refusal();
    assert_eq!(refusal.operand(JoinError::LOST_DISK), Some("c0"));
    assert!(refusal.message.contains("regent cluster replace"), "{refusal}");
    cluster.stop_all().await;
}

/// Others may have taken it in without the knowledge of one that follows, or of a leader that was cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_leader_with_a_majority_calls_a_coordinator_new() {
    let mut cluster = Cluster::of(2, RaftLimits::default()).await;
    cluster.assert_converged().await;
    let leader = cluster.leader_index().await;
    let stranger = Peer {
        node: "c9".parse().unwrap(),
        ..cluster.sites[0].peer()
    };
    let refused = cluster.node(1 - leader).welcome(&stranger, deadline()).await;
    let not_leader = |e: &JoinError| matches!(e, JoinError::Raft(ProposeError::NotLeader { .. }));
    assert!(refused.as_ref().is_err_and(not_leader), "{refused:?}");
    cluster.sites[1 - leader].stop().await;
    let soon = Instant::now() + cluster.sites[leader].config.timing.election_max;
    let refused = cluster.node(leader).welcome(&stranger, soon).await;
    let alone = |e: &JoinError| not_leader(e) || matches!(e, JoinError::Raft(ProposeError::NoQuorum { .. }));
    assert!(refused.as_ref().is_err_and(alone), "{refused:?}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_stores_once_a_leader_called_it_new_also_after_a_restart() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    let new = cluster.add_site(RaftLimits::default()).await;
    for (call, answer) in all_calls(&cluster, 0, new).await {
        assert_eq!(answer.code(), Code::FailedPrecondition, "{call}: {answer}");
    }
    cluster.welcome(new).await.unwrap();
    cluster.sites[new].stop().await;
    cluster.sites[new].start().await.unwrap();
    assert_eq!(cluster.node(new).cluster_id(), cluster.node(0).cluster_id());
    cluster.join(new).await;
    cluster.write("m").await;
    cluster.assert_converged().await;
    cluster.stop_all().await;
}

/// Both were called new before either was a member; then the other one stands where the member did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_disks_under_one_name_only_the_one_that_was_taken_in_stores_and_votes() {
    let mut cluster = Cluster::of(2, RaftLimits::default()).await;
    let new = cluster.add_site(RaftLimits::default()).await;
    let (first, other) = (
        cluster.sites[new].dir().to_owned(),
        cluster.root.path().join("other"),
    );
    for disk in [&other, &first] {
        cluster.sites[new].stop().await;
        cluster.sites[new].config.data_dir.clone_from(disk);
        cluster.sites[new].start().await.unwrap();
        cluster.welcome(new).await.unwrap();
    }
    cluster.join(new).await;
    cluster.assert_converged().await;
    cluster.sites[new].stop().await;
    cluster.sites[new].config.data_dir = other;
    cluster.sites[new].start().await.unwrap();
    for (call, answer) in all_calls(&cluster, 0, new).await {
        assert_eq!(answer.code(), Code::FailedPrecondition, "{call}: {answer}");
    }
    let refused = cluster.try_join(new).await.unwrap_err();
    assert!(matches!(refused, JoinError::OtherDisk { .. }), "{refused}");
    assert_eq!(refused.to_refusal().operand(JoinError::LOST_DISK), Some("c2"));
    cluster.write("m").await;
    let status = cluster.node(new).status();
    assert_eq!((status.term, status.last_log.0, status.applied.0), (0, 0, 0));
    cluster.sites[new].stop().await;
    cluster.sites[new].config.data_dir = first;
    cluster.sites[new].start().await.unwrap();
    cluster.join(new).await;
    cluster.assert_converged().await;
    cluster.stop_all().await;
}

/// The path in the error must not lead to a voter that forgot: the log alone was removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_without_its_log_does_not_start() {
    let mut cluster = Cluster::of(2, RaftLimits::default()).await;
    cluster.write("m").await;
    cluster.assert_converged().await;
    cluster.stop_all().await;
    for site in &mut cluster.sites {
        fs::remove_dir_all(site.dir().join("log")).unwrap();
        let refused = site.start().await.unwrap_err();
        assert!(matches!(refused, StartError::Damaged { .. }), "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("it is empty, and this node has voted")
                && text.contains("`regent cluster replace NODE`"),
            "{text}"
        );
    }
}
