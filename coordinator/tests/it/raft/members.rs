//! Who is taken in, and who is not listened to.

use coordinator::raft::{JoinError, JoinRequest, Peer, RaftLimits, raft_id};
use proto::raft_v1::{self as pb, raft_service_client::RaftServiceClient};
use state::features::SUPPORTED;
use tonic::{Code, transport::Endpoint};
use types::ClusterId;

use super::harness::{Cluster, deadline, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_moved_is_found_again() {
    let mut cluster = Cluster::of(3, RaftLimits::default()).await;
    let leader = cluster.leader_index().await;
    let moved = (leader + 1) % 3;
    cluster.sites[moved].stop().await;
    cluster.sites[moved].config.api_endpoint = "http://127.0.0.1:12345".to_owned();
    cluster.sites[moved].move_raft_port();
    cluster.sites[moved].start().await.unwrap();
    cluster.join(moved).await;
    let members = cluster.leader().await.members();
    let member = members.iter().find(|m| m.peer == cluster.sites[moved].peer());
    assert!(member.is_some_and(|m| m.voter), "{members:?}");
    assert_eq!(members.iter().filter(|m| m.voter).count(), 3);
    cluster.write("after").await;
    cluster.assert_converged().await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_not_taken_in() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    cluster.write("m").await;
    let leader = cluster.leader().await;
    let peer = Peer {
        node: "c9".parse().unwrap(),
        ..cluster.sites[0].peer()
    };
    let request = JoinRequest {
        peer: peer.clone(),
        cluster_id: ClusterId::from_u128(7),
        supported_level: SUPPORTED,
    };
    let refused = leader.add_member(request, deadline()).await;
    assert!(
        matches!(refused, Err(JoinError::OtherCluster { .. })),
        "{refused:?}"
    );
    assert_eq!(leader.members().len(), 1);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_coordinator_that_a_message_names_may_send_it() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    cluster.leader().await;
    let own = raft_id(&cluster.sites[0].config.node);
    let target = cluster.sites[0].config.raft_endpoint.clone();
    let vote = |from: u64, to: u64| pb::VoteRequest {
        route: Some(pb::Route {
            from,
            to,
            ..pb::Route::default()
        }),
        vote: Some(pb::Vote {
            term: 1_000_000,
            node: from,
            committed: false,
        }),
        last_log_id: None,
        leadership_transfer: true,
    };
    let call = async |caller: &str, request: pb::VoteRequest| {
        let endpoint = Endpoint::from_shared(target.clone()).unwrap();
        let channel = endpoint.user_agent(caller.to_owned()).unwrap().connect_lazy();
        let answer = within("an answer", RaftServiceClient::new(channel).vote(request)).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| status.code())
    };
    let c9 = raft_id(&"c9".parse().unwrap());
    let coordinator = "spiffe://regent.local/region/r/coordinator/c9";
    let denied = Err(Code::PermissionDenied);
    assert_eq!(
        call("spiffe://regent.local/region/r/node/c9", vote(c9, own)).await,
        denied
    );
    assert_eq!(
        call("spiffe://regent.local/user/admin", vote(c9, own)).await,
        denied
    );
    assert_eq!(call(coordinator, vote(c9 + 1, own)).await, denied);
    assert_eq!(
        call(coordinator, vote(c9, own + 1)).await,
        Err(Code::FailedPrecondition)
    );
    let mut foreign = vote(c9, own);
    foreign.route.as_mut().unwrap().cluster_id = vec![1; 16];
    cluster.write("m").await;
    assert_eq!(call(coordinator, foreign).await, Err(Code::FailedPrecondition));
    assert!(cluster.leader().await.leadership().borrow().term < 1_000_000);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_has_a_cluster_founds_no_other() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    cluster.write("m").await;
    let first = cluster.node(0).cluster_id();
    assert!(first.is_some());
    cluster.sites[0].stop().await;
    cluster.sites[0].start().await.unwrap();
    cluster.write("n").await;
    assert_eq!(cluster.node(0).cluster_id(), first);
    assert_eq!(cluster.node(0).read(|s| s.cluster().map(|c| c.cluster_id)), first);
    cluster.stop_all().await;
}
