//! The setting of elections over the API: who changes it, and what a coordinator says of it.

use std::time::Duration;

use proto::v1::{self as pb, cluster_service_client::ClusterServiceClient};
use types::election::ElectionTiming;

use crate::harness::{Cluster, region, user, within};

/// An answer that got lost is asked for again, and finds another leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leadership_is_handed_over_once_however_often_it_is_asked() {
    let cluster = Cluster::start(3).await;
    let admin = cluster.admin();
    within("the level that knows the look", async {
        while admin.feature_level().await.unwrap() < 11 {}
    })
    .await;
    let before = cluster.leader().await;
    let seen = admin.transfer_leadership(None, true).await.unwrap();
    assert_eq!(seen.from, format!("c{}", before + 1));
    assert_ne!(seen.leader, seen.from, "it says who would lead");
    assert_eq!(cluster.leader().await, before, "and does nothing");
    let only_look = pb::TransferLeadershipRequest {
        validate_only: true,
        ..pb::TransferLeadershipRequest::default()
    };
    let mut leader = ClusterServiceClient::new(cluster.channel(before, &user("admin")).await);
    let look = leader.transfer_leadership(only_look).await.unwrap();
    let done = admin.transfer_leadership(None, false).await.unwrap();
    assert_eq!(done.from, seen.from);
    let now = cluster.leader().await;
    assert_eq!(done.leader, format!("c{}", now + 1));
    let term = admin.status().await.unwrap().term;
    let known = admin.status().await.unwrap().header.unwrap();
    for (to_node, validate_only) in [("", false), (&done.leader, false), ("", true)] {
        let again = pb::TransferLeadershipRequest {
            to_node: to_node.to_owned(),
            from_node: seen.from.clone(),
            validate_only,
            from_term: 0,
        };
        let mut leader = ClusterServiceClient::new(cluster.channel(now, &user("admin")).await);
        let answer = leader.transfer_leadership(again).await.unwrap().into_inner();
        assert_eq!(answer.leader_node, done.leader);
        let header = answer.header.unwrap();
        assert_eq!(
            (&header.cluster_id, header.validated_only),
            (&known.cluster_id, validate_only)
        );
        assert!(header.revision >= known.revision && !header.stale, "{header:?}");
    }
    assert_eq!(
        (admin.status().await.unwrap().term, cluster.leader().await),
        (term, now)
    );
    // The first leader leads again, and an answer to the first look comes late: that leadership is over.
    let looked = look.into_inner();
    admin
        .transfer_leadership(Some(&seen.from.parse().unwrap()), false)
        .await
        .unwrap();
    assert_eq!(cluster.leader().await, before);
    let late = pb::TransferLeadershipRequest {
        from_node: seen.from.clone(),
        from_term: looked.from_term,
        ..pb::TransferLeadershipRequest::default()
    };
    let mut leader = ClusterServiceClient::new(cluster.channel(before, &user("admin")).await);
    let answer = leader.transfer_leadership(late).await.unwrap().into_inner();
    assert_eq!(answer.leader_node, seen.from, "it leads, and nothing was done");
    assert!(answer.from_term > looked.from_term && looked.from_term > 0);
    assert_eq!(cluster.leader().await, before);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_fixes_the_timing_hands_it_back_and_sees_the_distances() {
    let cluster = Cluster::start(3).await;
    let admin = cluster.admin();
    let of = |wire: Option<proto::v1::ElectionTiming>| wire.map(|t| t.heartbeat_millis);
    // The test's configs name one: it is fixed once the log can say so.
    let first = within("the founder's timing in the log", async {
        loop {
            let (settings, _) = admin.settings().await.unwrap();
            if let Some(election) = settings.election {
                return election;
            }
        }
    })
    .await;
    assert_eq!((of(first.timing), first.derived), (Some(60), false));
    assert_eq!(first.reason, "from the config of c1");

    let timing = ElectionTiming {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(500),
        election_max: Duration::from_millis(900),
    };
    let fixed = admin.set_election_timing(Some(&timing)).await.unwrap();
    let election = fixed.election.unwrap();
    assert_eq!((of(election.timing), election.derived), (Some(100), false));
    assert!(
        election.reason.starts_with("fixed by spiffe://"),
        "{}",
        election.reason
    );
    within("a coordinator that goes by it and knows the distances", async {
        loop {
            let status = admin.status().await.unwrap();
            if of(status.election_timing) == Some(100) && status.round_trips.len() == 3 {
                return;
            }
        }
    })
    .await;
    let absurd = ElectionTiming {
        election_min: Duration::from_millis(200),
        ..timing
    };
    let refused = admin.set_election_timing(Some(&absurd)).await.unwrap_err();
    assert_eq!(refused.reason, types::Reason::InvalidArgument, "{refused:?}");
    let back = admin.set_election_timing(None).await.unwrap();
    assert!(back.election.is_some_and(|election| election.derived));

    let wanted = [region("r2"), region("r1")];
    let settings = admin.set_leader_preference(&wanted).await.unwrap();
    assert_eq!(settings.preferred_regions, ["r2", "r1"]);
    let unknown = admin
        .set_leader_preference(&[region("nowhere")])
        .await
        .unwrap_err();
    assert_eq!(unknown.reason, types::Reason::RegionNotFound);
    cluster.shutdown().await;
}
