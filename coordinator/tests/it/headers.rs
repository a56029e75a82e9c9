//! The headers of what is answered about the cluster itself: that the fields which every answer has are filled in, too (I2).

use proto::{
    convert::status::from_status,
    v1::{self as pb, ResponseHeader, cluster_service_client::ClusterServiceClient},
};
use tonic::Status;
use types::{ClusterId, Rebind, SignedRebind};

use crate::{
    authority::methods_of,
    harness::{Cluster, user, within},
};

/// What was asked, and the header of its answer.
type Headers = Vec<(&'static str, Option<ResponseHeader>)>;

macro_rules! ask {
    ($service:ident . $method:ident ( $request:expr )) => {
        (
            stringify!($method),
            $service.$method($request).await?.into_inner().header,
        )
    };
}

/// What answers by itself, without what services of records share. Nothing is changed by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_about_the_cluster_itself_says_which_one_at_which_revision_and_whether_it_was_only_tried()
 {
    let cluster = Cluster::start(3).await;
    let admin = cluster.admin();
    within("the level that knows all of it", async {
        while admin.feature_level().await.unwrap() < state::features::SUPPORTED {}
    })
    .await;
    let (settings, known) = admin.settings().await.unwrap();
    let answers = within("a leader that answers all of it", async {
        loop {
            match Box::pin(ask_all(&cluster, settings.clone(), known.cluster_id)).await {
                Ok(answers) => return answers,
                // Another one leads now.
                Err(status) => assert!(from_status(&status).reason.retryable(), "{status}"),
            }
        }
    })
    .await;
    for (asked, header) in &answers {
        let header = header.as_ref().unwrap_or_else(|| panic!("{asked} has none"));
        assert_eq!(header.cluster_id, known.cluster_id.to_string(), "{asked}");
        // Who asked first may have heard from one that has applied more.
        assert!(header.revision > 0, "{asked}: {header:?}");
        let tries = !matches!(*asked, "get_status" | "get_settings" | "join");
        assert_eq!(header.validated_only, tries, "{asked}");
        assert!(!header.stale, "{asked}: {header:?}");
    }
    let mut asked: Vec<_> = answers.iter().map(|(asked, _)| asked.replace('_', "")).collect();
    asked.push("savesnapshot".to_owned());
    let mut all = methods_of("ClusterService").map(|name| name.to_lowercase());
    assert!(all.all(|method| asked.contains(&method)), "{asked:?}");
    cluster.shutdown().await;
}

async fn ask_all(cluster: &Cluster, settings: pb::Settings, id: ClusterId) -> Result<Headers, Status> {
    let leads = cluster.leader().await;
    let mut service = ClusterServiceClient::new(cluster.channel(leads, &user("admin")).await);
    let request_id = || client::retry::mint_request_id().to_string();
    let newcomer = "spiffe://regent.local/region/r9/coordinator/c9".parse().unwrap();
    let mut welcome = ClusterServiceClient::new(cluster.channel(leads, &newcomer).await);
    let rebind = SignedRebind {
        statement: Rebind {
            cluster: id,
            supersedes: ClusterId::from_u128(7),
            generation: settings.generation,
        },
        signature: vec![1],
    };
    Ok(vec![
        ask!(service.get_status(pb::GetStatusRequest {})),
        ask!(service.get_settings(pb::GetSettingsRequest::default())),
        ask!(welcome.join(pb::JoinRequest {
            node: "c9".to_owned(),
            region: "r9".to_owned(),
            incarnation: types::NodeIncarnation::from_u128(9).to_string(),
            ..pb::JoinRequest::default()
        })),
        ask!(service.set_timing(pb::SetTimingRequest {
            request_id: request_id(),
            timing: settings.timing,
            validate_only: true,
            ..pb::SetTimingRequest::default()
        })),
        ask!(service.set_election_timing(pb::SetElectionTimingRequest {
            request_id: request_id(),
            derived: true,
            validate_only: true,
            ..pb::SetElectionTimingRequest::default()
        })),
        ask!(service.set_leader_preference(pb::SetLeaderPreferenceRequest {
            request_id: request_id(),
            validate_only: true,
            ..pb::SetLeaderPreferenceRequest::default()
        })),
        ask!(service.record_rebind(pb::RecordRebindRequest {
            request_id: request_id(),
            rebind: Some((&rebind).into()),
            validate_only: true,
            ..pb::RecordRebindRequest::default()
        })),
        ask!(service.transfer_leadership(pb::TransferLeadershipRequest {
            validate_only: true,
            ..pb::TransferLeadershipRequest::default()
        })),
        ask!(service.remove_member(pb::RemoveMemberRequest {
            request_id: request_id(),
            node: format!("c{}", (leads + 1) % 3 + 1),
            accept_region_loss: true,
            validate_only: true,
            ..pb::RemoveMemberRequest::default()
        })),
    ])
}
