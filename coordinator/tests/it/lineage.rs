//! What versions were trained from, and what was measured of them, over the wire.

use std::collections::{BTreeMap, BTreeSet};

use client::{Client, calls::ChangeOptions};
use types::{
    DatasetName, MetricName, Micros, Reason, Revision, VersionKey,
    model::{Artifact, ArtifactPath, VersionRecord},
};

use crate::{
    harness::{Cluster, agent, region, user, within},
    registry::publish,
};

fn dataset(name: &str) -> DatasetName {
    name.parse().unwrap()
}
fn metrics(values: &[(&str, &str)]) -> BTreeMap<MetricName, Micros> {
    let read = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
    values.iter().map(read).collect()
}
fn keys(versions: &[VersionRecord]) -> Vec<String> {
    versions.iter().map(|v| v.key.to_string()).collect()
}

/// A cluster that knows lineage, and a region with somewhere to put bytes.
async fn standing(cluster: &Cluster) -> (Client, VersionKey) {
    let admin = cluster.admin();
    within("the feature level", async {
        while admin.feature_level().await.unwrap() < state::Feature::Datasets.level() {}
    })
    .await;
    let agent = cluster.client(&agent("r1", "a1"));
    let key = publish(&admin, &agent, &"fraud.scorer".parse().unwrap(), &region("r1")).await;
    (admin, key)
}

async fn announce(admin: &Client, model: &str, datasets: &[&str]) -> VersionRecord {
    let artifact = Artifact {
        path: ArtifactPath::new("model").unwrap(),
        size: types::ByteCount(3),
        digest: types::Digest::of(b"abc"),
        media_type: String::new(),
    };
    let datasets: Vec<_> = datasets.iter().map(|name| dataset(name)).collect();
    let (model, at) = (model.parse().unwrap(), region("r1"));
    admin
        .create_version(&model, &at, &[artifact], "bert", BTreeMap::new(), &datasets)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_versions_that_depend_on_a_data_set_are_listed_at_every_coordinator_in_pages() {
    use proto::v1::{self as pb, registry_service_client::RegistryServiceClient};

    let cluster = Cluster::start(3).await;
    let (admin, _) = standing(&cluster).await;
    let clicks = "s3://lake/clicks/date=2026-03-01";
    let first = announce(&admin, "ranker", &[clicks, "people"]).await;
    assert_eq!(
        first.datasets,
        BTreeSet::from([dataset(clicks), dataset("people")])
    );
    announce(&admin, "ranker", &["people"]).await;
    announce(&admin, "ads", &[clicks]).await;
    admin.abort_version(&first.key, "wrong file").await.unwrap();
    for endpoint in cluster.endpoints() {
        let files = cluster.certs.issue("spiffe://regent.local/user/admin");
        let one = cluster.client_of(&files, vec![endpoint]);
        let found = one.list_dependents(&dataset(clicks), &[]).await.unwrap();
        assert_eq!(keys(&found), ["ads@1", "ranker@1"]);
    }
    let living = admin
        .list_dependents(&dataset(clicks), &["state!=DELETED".to_owned()])
        .await;
    assert_eq!(keys(&living.unwrap()), ["ads@1"]);
    let nobody = admin.list_dependents(&dataset("clicks"), &[]).await.unwrap();
    assert_eq!(keys(&nobody), [""; 0]);
    let of_model = admin
        .list_versions_where(&"ranker".parse().unwrap(), &[format!("dataset={clicks}")])
        .await;
    assert_eq!(keys(&of_model.unwrap()), ["ranker@1"]);

    let mut service = RegistryServiceClient::new(cluster.channel(0, &user("admin")).await);
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListDependentsRequest {
            dataset: "people".to_owned(),
            page_size: 1,
            page_token,
            ..Default::default()
        };
        let page = service.list_dependents(request).await.unwrap().into_inner();
        assert!(page.versions.len() <= 1);
        seen.extend(
            page.versions
                .into_iter()
                .map(|v| format!("{}@{}", v.model, v.version)),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["ranker@1", "ranker@2"]);
    let bad = pb::ListDependentsRequest::default();
    let refused = service.list_dependents(bad).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_says_what_was_measured_of_it_last_and_a_retry_measures_nothing() {
    let cluster = Cluster::start(1).await;
    let (admin, key) = standing(&cluster).await;
    let values = metrics(&[("accuracy", "0.9125"), ("loss", "-0.000001")]);
    let validating = admin.with_change_options(ChangeOptions {
        validate_only: true,
        ..ChangeOptions::default()
    });
    let would_be = validating.set_version_metrics(&key, &values, &[]).await.unwrap();
    assert_eq!(would_be.metrics.len(), 2);
    assert!(admin.get_version(&key).await.unwrap().metrics.is_empty());
    let said = admin.with_request_id(client::retry::mint_request_id());
    let first = said.set_version_metrics(&key, &values, &[]).await.unwrap();
    let again = said.set_version_metrics(&key, &values, &[]).await.unwrap();
    assert_eq!(again, first);
    let of = |version: &VersionRecord, name: &str| {
        let found = version.metrics.get(&name.parse::<MetricName>().unwrap());
        found.map(|m| (m.value.to_string(), m.by.to_string()))
    };
    let by = "spiffe://regent.local/user/admin";
    assert_eq!(of(&first, "loss"), Some(("-0.000001".to_owned(), by.to_owned())));
    let at = |etag| {
        admin.with_change_options(ChangeOptions {
            etag: Some(etag),
            ..ChangeOptions::default()
        })
    };
    let stale = at(Revision(1))
        .set_version_metrics(&key, &values, &[])
        .await
        .unwrap_err();
    assert_eq!(stale.reason, Reason::EtagMismatch);
    let better = metrics(&[("accuracy", "0.95")]);
    let second = at(first.modified)
        .set_version_metrics(&key, &better, &["loss".parse().unwrap()])
        .await
        .unwrap();
    assert_eq!(of(&second, "accuracy"), Some(("0.95".to_owned(), by.to_owned())));
    assert_eq!(of(&second, "loss"), None);
    let model = &key.model;
    for (condition, found) in [
        ("metrics.accuracy>=0.95", 1),
        ("metrics.accuracy>0.95", 0),
        ("metrics.loss<1", 0),
    ] {
        let listed = admin
            .list_versions_where(model, &[condition.to_owned()])
            .await
            .unwrap();
        assert_eq!(listed.len(), found, "{condition}");
    }
    let own = cluster.client(&agent("r1", "a1"));
    let denied = own.set_version_metrics(&key, &better, &[]).await.unwrap_err();
    assert_eq!(denied.reason, Reason::PermissionDenied);
    cluster.shutdown().await;
}
