//! What a build knows of the rules: who is told, and who is not taken in for it.

use coordinator::raft::{JoinError, JoinRequest, ProposeError, RaftLimits};
use proto::raft_v1 as pb;
use state::{Command, features::SUPPORTED};
use tonic::Code;
use types::{Principal, reason::Reason};

use super::harness::{Cluster, deadline, request_id, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_says_what_its_build_knows_to_members_of_its_cluster() {
    let mut cluster = Cluster::of(2, RaftLimits::default()).await;
    let mut service = cluster.calls(1, 0);
    let mut ask = async |route| {
        let request = pb::FeaturesRequest { route: Some(route) };
        let answer = within("an answer", service.features(request)).await;
        answer.map(|a| a.into_inner().supported_level)
    };
    let right = cluster.route(1, 0);
    assert_eq!(ask(right.clone()).await.unwrap(), SUPPORTED);
    let other_disk = pb::Route {
        to_disk: vec![7; 16],
        ..right
    };
    assert_eq!(
        ask(other_disk).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    cluster.stop_all().await;
}

/// It would stop at the log, and count as a voter that is down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_below_the_clusters_level_is_not_taken_in() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    let level = cluster.leader().await.read(|state| state.features().level());
    assert_eq!(level, 0, "nobody raises it here");
    let raise = Command::SetFeatureLevel { level: SUPPORTED };
    let raised = cluster.propose_as(request_id(), raise).await;
    raised.outcome.unwrap();
    let newcomer = cluster.add_site(RaftLimits::default()).await;
    cluster.welcome(newcomer).await.unwrap();
    let request = |supported_level| JoinRequest {
        peer: cluster.sites[newcomer].peer(),
        cluster_id: cluster.node(0).cluster_id().unwrap(),
        supported_level,
    };
    let leader = cluster.leader().await;
    let refused = leader
        .add_member(request(SUPPORTED - 1), deadline())
        .await
        .unwrap_err();
    assert!(matches!(refused, JoinError::TooOld { .. }), "{refused:?}");
    assert_eq!(refused.to_refusal().reason, Reason::FeatureLevel);
    assert!(
        refused
            .to_string()
            .contains("upgrade this coordinator; a newer build goes on"),
        "{refused}"
    );
    assert_eq!(leader.members().len(), 1);
    leader.add_member(request(SUPPORTED), deadline()).await.unwrap();
    cluster.stop_all().await;
}

/// The level may be raised between the look at who asks and its vote: the raise was under way, or it takes a while to catch up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_is_too_old_by_the_time_it_would_vote_stays_a_learner() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    let newcomer = cluster.add_site(RaftLimits::default()).await;
    cluster.welcome(newcomer).await.unwrap();
    let request = JoinRequest {
        peer: cluster.sites[newcomer].peer(),
        cluster_id: cluster.node(0).cluster_id().unwrap(),
        supported_level: 0,
    };
    // It cannot catch up before it is back.
    cluster.sites[newcomer].stop().await;
    let leader = cluster.node(0).clone();
    let joining = {
        let leader = leader.clone();
        tokio::spawn(async move { leader.add_member(request, deadline()).await })
    };
    let learner = async {
        while leader.members().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    within("a learner", learner).await;
    let raise = Command::SetFeatureLevel { level: SUPPORTED };
    let raised = cluster.propose_as(request_id(), raise).await;
    raised.outcome.unwrap();
    cluster.sites[newcomer].start().await.unwrap();
    let refused = within("an answer", joining).await.unwrap().unwrap_err();
    assert!(matches!(refused, JoinError::TooOld { .. }), "{refused:?}");
    let voters = leader.members().into_iter().filter(|m| m.voter);
    assert_eq!(voters.count(), 1);
    cluster.stop_all().await;
}

/// Every coordinator of an older build would stop at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_older_builds_cannot_read_does_not_reach_the_log_below_its_level() {
    let mut cluster = Cluster::of(1, RaftLimits::default()).await;
    let leader = cluster.leader().await;
    let admin: Principal = "spiffe://regent.local/user/admin".parse().unwrap();
    let preference = || Command::SetLeaderPreference { regions: Vec::new() };
    let before = leader.applied();
    let refused = leader
        .propose(admin.clone(), request_id(), preference(), deadline())
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            ProposeError::BelowLevel {
                level: 0,
                needs: 2,
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(refused.to_refusal().reason, Reason::FeatureLevel);
    let previewed = leader
        .preview(admin.clone(), request_id(), preference(), deadline())
        .await;
    assert_eq!(previewed.unwrap_err(), refused);
    assert_eq!(leader.applied(), before);
    let raise = Command::SetFeatureLevel { level: SUPPORTED };
    cluster.propose_as(request_id(), raise).await.outcome.unwrap();
    let taken = leader
        .propose(admin, request_id(), preference(), deadline())
        .await;
    taken.unwrap().outcome.unwrap();
    cluster.stop_all().await;
}
