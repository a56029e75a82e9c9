//! The registry over the wire: records, etags, request ids, pages, hints, and what survives.

use std::collections::{BTreeMap, BTreeSet};

use client::{Client, calls::ReplicaReport};
use proto::{
    convert::status::from_status,
    v1::{
        self as pb, cluster_service_client::ClusterServiceClient,
        registry_service_client::RegistryServiceClient,
    },
};
use tonic::Request;
use types::{
    ByteCount, ModelName, Reason, RegionId, VersionKey,
    model::{Artifact, ArtifactPath, VersionState},
    region::{FencingDoor, StoreBinding},
    replica::{ReplicaKey, ReplicaState},
};

use crate::harness::{Cluster, agent, region, user, within};

fn model(name: &str) -> ModelName {
    name.parse().unwrap()
}

fn tags(value: &str) -> BTreeMap<String, String> {
    [("owner".to_owned(), value.to_owned())].into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_move_by_etag_and_a_retry_changes_nothing() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    let name = model("fraud.scorer");
    let made = admin
        .create_model(&name, "scores", tags("a"), &Default::default())
        .await
        .unwrap();
    assert_eq!((made.description.as_str(), &made.tags), ("scores", &tags("a")));
    let again = admin
        .create_model(&name, "other", tags("b"), &Default::default())
        .await
        .unwrap_err();
    assert_eq!(again.reason, Reason::AlreadyExists);

    let id = client::retry::mint_request_id();
    let (set, header) = admin
        .set_model_tags_as(id, &name, tags("b"), Vec::new(), Some(made.modified), None)
        .await
        .unwrap();
    assert_eq!(set.tags, tags("b"));
    assert!(header.revision > made.modified);
    // The same request once more: the first answer, though its etag is stale by now.
    let (retried, _) = admin
        .set_model_tags_as(id, &name, tags("b"), Vec::new(), Some(made.modified), None)
        .await
        .unwrap();
    assert_eq!(retried.modified, set.modified);
    let reused = admin
        .set_model_tags_as(id, &name, tags("c"), Vec::new(), None, None)
        .await
        .unwrap_err();
    assert_eq!(reused.reason, Reason::RequestReused);
    let lost = admin
        .set_model_tags(&name, tags("c"), Vec::new(), Some(made.modified), None)
        .await
        .unwrap_err();
    assert_eq!(lost.reason, Reason::EtagMismatch);
    let remove = vec!["owner".to_owned()];
    let removed = admin
        .set_model_tags(&name, BTreeMap::new(), remove, None, None)
        .await;
    assert_eq!(removed.unwrap().0.tags, BTreeMap::new());
    let missing = admin.get_model(&model("no.such")).await.unwrap_err();
    assert_eq!(
        (missing.reason, missing.operand("model")),
        (Reason::ModelNotFound, Some("no.such"))
    );
    cluster.shutdown().await;
}

/// Also where others change it in the same moment: whoever goes on from an answer goes on from their own change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_the_record_as_its_own_change_left_it() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    let name = model("fraud.scorer");
    admin
        .create_model(&name, "scores", tags("a"), &Default::default())
        .await
        .unwrap();
    let changes = (0..200).map(|n| {
        let (admin, name) = (&admin, &name);
        async move {
            let owner = n.to_string();
            let (record, _) = admin
                .set_model_tags(name, tags(&owner), Vec::new(), None, None)
                .await
                .unwrap();
            assert_eq!(record.tags, tags(&owner));
            record.modified
        }
    });
    let etags = futures::future::join_all(changes).await;
    let distinct: BTreeSet<_> = etags.iter().copied().collect();
    assert_eq!(distinct.len(), etags.len());
    let (last, _) = admin.get_model(&name).await.unwrap();
    assert_eq!(Some(&last.modified), distinct.last());
    cluster.shutdown().await;
}

/// A model's next version, announced, uploaded and verified in a region, as that region's agent says.
pub(crate) async fn publish(admin: &Client, agent: &Client, name: &ModelName, at: &RegionId) -> VersionKey {
    let artifact = Artifact {
        path: ArtifactPath::new("model.safetensors").unwrap(),
        size: ByteCount(3),
        digest: types::Digest::of(b"abc"),
        media_type: String::new(),
    };
    let store = StoreBinding {
        endpoint: "http://127.0.0.1:1".to_owned(),
        bucket: "models".to_owned(),
        fencing_door: FencingDoor::Qualified,
    };
    agent.attach_store(at, &store).await.unwrap();
    let announced = admin
        .create_version(name, at, &[artifact], "bert", BTreeMap::new(), &[])
        .await
        .unwrap();
    assert_eq!(announced.state, VersionState::PendingUpload);
    admin.complete_upload(&announced.key).await.unwrap();
    let copy = ReplicaKey {
        version: announced.key.clone(),
        region: at.clone(),
    };
    let started = ReplicaReport::Started { source: None };
    let started = agent.report_replica(&copy, &started).await.unwrap();
    assert_eq!(started.state, ReplicaState::Copying);
    let report = ReplicaReport::Verified {
        attempt: started.attempts,
        bytes: 3,
    };
    let verified = agent.report_replica(&copy, &report).await.unwrap();
    assert_eq!(verified.state, ReplicaState::Verified);
    announced.key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_becomes_ready_once_an_agent_of_its_region_has_verified_it() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    let agent = cluster.client(&agent("r1", "a1"));
    let name = model("fraud.scorer");
    let key = publish(&admin, &agent, &name, &region("r1")).await;
    let ready = admin
        .get_version_by_alias(&name, &"champion".parse().unwrap())
        .await
        .unwrap();
    assert_eq!((ready.key.clone(), ready.state), (key, VersionState::Ready));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_and_a_foreign_token_is_refused() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    for i in 0..7 {
        let name = model(&format!("m{i}"));
        admin
            .create_model(&name, "", BTreeMap::new(), &Default::default())
            .await
            .unwrap();
    }
    let mut registry = RegistryServiceClient::new(cluster.channel(0, &user("admin")).await);
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListModelsRequest {
            page_size: 3,
            page_token,
            ..Default::default()
        };
        let page = registry.list_models(request).await.unwrap().into_inner();
        assert!(page.models.len() <= 3);
        seen.extend(page.models.into_iter().map(|m| m.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..7).map(|i| format!("m{i}")).collect::<Vec<_>>());
    // Pages count what meets the conditions: none comes half empty, and none of it is lost between two.
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListModelsRequest {
            page_size: 2,
            page_token,
            filter: vec!["name!=m2".to_owned(), "name!=*4".to_owned()],
            ..Default::default()
        };
        let page = registry.list_models(request).await.unwrap().into_inner();
        assert!(page.filtered);
        seen.push(page.models.into_iter().map(|m| m.name).collect::<Vec<_>>());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, [vec!["m0", "m1"], vec!["m3", "m5"], vec!["m6"]]);
    let request = pb::ListModelsRequest {
        filter: vec!["colour=red".to_owned()],
        ..Default::default()
    };
    let refused = from_status(&registry.list_models(request).await.unwrap_err());
    assert_eq!(
        (refused.reason, refused.operand("field")),
        (Reason::InvalidArgument, Some("filter"))
    );
    let request = pb::ListModelsRequest {
        page_token: "made up".to_owned(),
        ..Default::default()
    };
    let refused = from_status(&registry.list_models(request).await.unwrap_err());
    assert_eq!(
        (refused.reason, refused.operand("field")),
        (Reason::InvalidArgument, Some("page_token"))
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_reads_what_was_acknowledged_and_says_where_to_write() {
    let cluster = Cluster::start(3).await;
    cluster
        .admin()
        .create_model(&model("m"), "", BTreeMap::new(), &Default::default())
        .await
        .unwrap();
    // Who leads may change between two questions on a busy machine: then it is asked again.
    let (follower, refused) = within("a follower's hint", async {
        loop {
            let follower = (cluster.leader().await + 1) % 3;
            let channel = cluster.channel(follower, &user("admin")).await;
            let mut service = ClusterServiceClient::new(channel);
            let status = service.get_status(pb::GetStatusRequest {}).await.unwrap();
            if status.into_inner().raft_state != "FOLLOWER" {
                continue;
            }
            let mut registry = RegistryServiceClient::new(cluster.channel(follower, &user("admin")).await);
            let id = client::retry::mint_request_id().to_string();
            let request = pb::CreateModelRequest {
                name: format!("n{}", &id[24..]),
                request_id: id,
                ..Default::default()
            };
            let Err(status) = registry.create_model(request).await else {
                continue;
            };
            let refused = from_status(&status);
            if refused.operand("leader").is_some() {
                return (follower, refused);
            }
        }
    })
    .await;
    assert_eq!(refused.reason, Reason::NotLeader);
    let named = cluster
        .nodes
        .iter()
        .position(|n| refused.operand("leader") == Some(n.config.node.as_str()));
    let named = named.expect("the leader is a node of the cluster");
    assert_ne!(named, follower);
    assert_eq!(
        refused.operand("leader_api"),
        Some(cluster.nodes[named].endpoint.as_str())
    );

    let mut registry = RegistryServiceClient::new(cluster.channel(follower, &user("admin")).await);
    let read = registry.get_model(pb::GetModelRequest {
        name: "m".to_owned(),
        ..Default::default()
    });
    let header = read.await.unwrap().into_inner().header.unwrap();
    assert!(!header.stale);
    let stale = pb::GetModelRequest {
        name: "m".to_owned(),
        read: Some(pb::ReadOptions {
            allow_stale: true,
            ..pb::ReadOptions::default()
        }),
    };
    let header = registry
        .get_model(stale)
        .await
        .unwrap()
        .into_inner()
        .header
        .unwrap();
    assert!(header.stale && header.age_millis < 60_000, "{header:?}");
    let mut service = ClusterServiceClient::new(cluster.channel(follower, &user("admin")).await);
    let status = service
        .get_status(Request::new(pb::GetStatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.members.len(), 3);
    assert!(status.resident_bytes > 1 << 20);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_acknowledged_is_there_after_all_were_stopped() {
    let mut cluster = Cluster::start(3).await;
    let admin = cluster.admin();
    for i in 0..20 {
        let name = model(&format!("m{i}"));
        admin
            .create_model(&name, "", BTreeMap::new(), &Default::default())
            .await
            .unwrap();
    }
    for i in 0..3 {
        cluster.stop(i).await;
    }
    for i in 0..3 {
        cluster.restart(i).await;
    }
    let admin = cluster.admin();
    let models = within("a read after the restart", async {
        loop {
            if let Ok(models) = admin.list_models().await {
                return models;
            }
        }
    })
    .await;
    assert_eq!(models.len(), 20);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_quorum_status_and_stale_reads_answer_and_the_rest_is_refused() {
    let mut cluster = Cluster::start(3).await;
    cluster
        .admin()
        .create_model(&model("m"), "", BTreeMap::new(), &Default::default())
        .await
        .unwrap();
    let (last, leader) = (2, cluster.leader().await);
    for i in [0, 1] {
        cluster.stop(i).await;
    }
    let _ = leader;
    let files = cluster.certs.issue(&user("admin").to_string());
    let alone = cluster.client_of(&files, vec![cluster.nodes[last].endpoint.clone()]);
    assert_eq!(alone.status().await.unwrap().members.len(), 3);
    assert_eq!(alone.with_stale_reads().list_models().await.unwrap().len(), 1);
    let quick = alone.with_deadline(std::time::Duration::from_secs(2));
    assert!(quick.list_models().await.is_err());
    cluster.restart(0).await;
    within("a quorum again", async {
        while alone.list_models().await.is_err() {}
    })
    .await;
    cluster.shutdown().await;
}

/// 100 versions of 1,000 files with long paths: together more than a client takes in one message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_large_versions_come_in_messages_that_clients_take() {
    let cluster = Cluster::start(1).await;
    let admin = cluster.admin();
    let store = StoreBinding {
        endpoint: "http://127.0.0.1:1".to_owned(),
        bucket: "models".to_owned(),
        fencing_door: FencingDoor::Qualified,
    };
    let agent = cluster.client(&agent("r1", "a1"));
    agent.attach_store(&region("r1"), &store).await.unwrap();
    let artifacts: Vec<_> = (0..1_000)
        .map(|i| Artifact {
            path: ArtifactPath::new(format!("{i:04}/{}", "p".repeat(190))).unwrap(),
            size: ByteCount(3),
            digest: types::Digest::of(b"abc"),
            media_type: String::new(),
        })
        .collect();
    let (name, source) = (model("large"), region("r1"));
    for _ in 0..100 {
        let made = admin.create_version(&name, &source, &artifacts, "bert", BTreeMap::new(), &[]);
        made.await.unwrap();
    }
    let expected: Vec<_> = (1..=100).collect();
    let listed = within("the pages", admin.list_versions(&name)).await.unwrap();
    let numbers: Vec<_> = listed.iter().map(|v| v.key.version.0).collect();
    assert_eq!(numbers, expected);
    assert!(listed.iter().all(|v| v.artifacts == artifacts));
    let mut watch = client::watch::StateWatch::new(admin, crate::harness::PATIENCE);
    let listed = within("a list", watch.next()).await;
    let client::watch::Change::Reset { resources, .. } = listed else {
        panic!("a watch begins with a list");
    };
    let numbers: Vec<_> = resources
        .iter()
        .filter_map(|r| match r {
            proto::convert::watch::Resource::Version(v) => Some(v.key.version.0),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, expected);
    cluster.shutdown().await;
}
