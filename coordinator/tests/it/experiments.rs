//! Experiments over the wire: who gets what is the same at every coordinator, and whoever leads.

use std::collections::BTreeMap;

use client::{Client, calls::ChangeOptions};
use types::{
    ExperimentName, ModelName, ModelVersion, Reason, Revision,
    experiment::{ExperimentRecord, Share},
};

use crate::{
    harness::{Cluster, agent, region, within},
    registry::publish,
};

const MODEL: &str = "fraud.scorer";

fn model() -> ModelName {
    MODEL.parse().unwrap()
}
fn name(name: &str) -> ExperimentName {
    name.parse().unwrap()
}
fn split(shares: &[(u64, u32)]) -> Vec<Share> {
    let share = |(version, percent): &(u64, u32)| Share {
        version: ModelVersion(*version),
        percent: *percent,
    };
    shares.iter().map(share).collect()
}

/// Two ready versions, of which region r1 alone has copies, and a cluster that knows experiments.
async fn standing(cluster: &Cluster) -> Client {
    let admin = cluster.admin();
    within("the feature level", async {
        while admin.feature_level().await.unwrap() < state::Feature::Experiments.level() {}
    })
    .await;
    let agent = cluster.client(&agent("r1", "a1"));
    for _ in 0..2 {
        publish(&admin, &agent, &model(), &region("r1")).await;
    }
    admin
}

async fn assigned(client: &Client, users: u32) -> Vec<Option<ModelVersion>> {
    let mut all = Vec::new();
    for user in 0..users {
        let (model, march, user) = (model(), name("march"), format!("user-{user}"));
        let found = client.assign_user(&model, &march, &user, None).await;
        all.push(found.unwrap().version);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_gets_the_same_version_at_every_coordinator_and_after_a_change_of_leader() {
    let mut cluster = Cluster::start(3).await;
    let admin = standing(&cluster).await;
    admin
        .create_experiment(&model(), &name("march"), "", &split(&[(1, 50), (2, 50)]))
        .await
        .unwrap();
    let first = assigned(&admin, 40).await;
    for version in [1, 2] {
        assert!(first.contains(&Some(ModelVersion(version))), "{first:?}");
    }
    for endpoint in cluster.endpoints() {
        let files = cluster.certs.issue("spiffe://regent.local/user/admin");
        let one = cluster.client_of(&files, vec![endpoint]);
        assert_eq!(assigned(&one, 40).await, first);
    }
    // Region r2 has no copy of either version: its users have the same arms, and nothing to get.
    let there = admin
        .assign_user(&model(), &name("march"), "user-0", Some(&region("r2")))
        .await
        .unwrap();
    assert_eq!((Some(there.arm), there.version), (first[0], None));
    let leader = cluster.leader().await;
    cluster.stop(leader).await;
    cluster.leader().await;
    assert_eq!(assigned(&admin, 40).await, first);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_experiment_is_changed_by_who_has_seen_it_and_ends() {
    let cluster = Cluster::start(1).await;
    let admin = standing(&cluster).await;
    let (model, march) = (model(), name("march"));
    let halves = split(&[(1, 50), (2, 50)]);
    let validating = admin.with_change_options(ChangeOptions {
        validate_only: true,
        ..ChangeOptions::default()
    });
    let would_be = validating
        .create_experiment(&model, &march, "pays?", &halves)
        .await
        .unwrap();
    assert_eq!(admin.list_experiments(None, &[]).await.unwrap(), []);
    let id = client::retry::mint_request_id();
    let create = admin.with_request_id(id);
    let made = create
        .create_experiment(&model, &march, "pays?", &halves)
        .await
        .unwrap();
    assert_eq!((&made.arms, &made.slots), (&would_be.arms, &would_be.slots));
    // A retry makes no second one.
    let again = create
        .create_experiment(&model, &march, "pays?", &halves)
        .await
        .unwrap();
    assert_eq!(again, made);

    let reported: BTreeMap<_, _> = [("paid".parse().unwrap(), "0.9125".parse().unwrap())].into();
    let two = ModelVersion(2);
    let measured = admin
        .report_experiment(&model, &march, two, &reported)
        .await
        .unwrap();
    assert_eq!(measured.arms[1].metrics, reported);
    let emptied = split(&[(1, 0), (2, 100)]);
    let stale = admin.set_experiment_split(&model, &march, &emptied, made.modified);
    assert_eq!(stale.await.unwrap_err().reason, Reason::EtagMismatch);
    let moved = admin
        .set_experiment_split(&model, &march, &split(&[(2, 100), (1, 0)]), measured.modified)
        .await
        .unwrap();
    let percents = |e: &ExperimentRecord| {
        e.arms
            .iter()
            .map(|a| (a.version.0, a.percent))
            .collect::<Vec<_>>()
    };
    assert_eq!(percents(&moved), [(1, 0), (2, 100)]);
    assert_eq!(admin.get_experiment(&model, &march).await.unwrap(), moved);

    let here = admin
        .assign_user(&model, &march, "u", Some(&region("r1")))
        .await
        .unwrap();
    assert_eq!((here.arm, here.version), (two, Some(two)));
    for (region, user, reason) in [
        ("nowhere", "u".to_owned(), Reason::RegionNotFound),
        ("r1", String::new(), Reason::InvalidArgument),
        ("r1", "u".repeat(513), Reason::InvalidArgument),
    ] {
        let place = crate::harness::region(region);
        let refused = admin.assign_user(&model, &march, &user, Some(&place));
        assert_eq!(
            refused.await.unwrap_err().reason,
            reason,
            "{region} {}",
            user.len()
        );
    }

    let key = moved.versions().nth(1).unwrap();
    let in_use = admin.delete_version(&key, "old").await.unwrap_err();
    assert_eq!(
        (in_use.reason, in_use.operand("experiment")),
        (Reason::VersionState, Some("march"))
    );
    // Reports and the end, too, where they say what they have seen.
    let of_the_first = admin.with_change_options(ChangeOptions {
        etag: Some(made.modified),
        ..ChangeOptions::default()
    });
    let ended = of_the_first.end_experiment(&model, &march, "2 pays").await;
    let reported = of_the_first
        .report_experiment(&model, &march, two, &reported)
        .await;
    for late in [ended.map(|_| ()), reported.map(|_| ())] {
        assert_eq!(late.unwrap_err().reason, Reason::EtagMismatch);
    }
    let ended = admin.end_experiment(&model, &march, "2 pays").await.unwrap();
    assert!(!ended.is_running() && ended.ended_at.is_some());
    let over = admin.assign_user(&model, &march, "u", None).await.unwrap_err();
    assert_eq!(over.reason, Reason::IllegalTransition);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn experiments_are_listed_by_model_and_condition_in_pages() {
    use proto::v1::{self as pb, experiment_service_client::ExperimentServiceClient};

    let cluster = Cluster::start(1).await;
    let admin = standing(&cluster).await;
    for n in 0..5 {
        let halves = split(&[(1, 50), (2, 50)]);
        admin
            .create_experiment(&model(), &name(&format!("e{n}")), "", &halves)
            .await
            .unwrap();
    }
    admin.end_experiment(&model(), &name("e3"), "").await.unwrap();
    let running = ["state=RUNNING".to_owned()];
    let names = |found: Vec<ExperimentRecord>| found.iter().map(|e| e.name.to_string()).collect::<Vec<_>>();
    let listed = admin.list_experiments(Some(&model()), &running).await.unwrap();
    assert_eq!(names(listed), ["e0", "e1", "e2", "e4"]);
    let other = admin
        .list_experiments(Some(&"fraud".parse().unwrap()), &[])
        .await
        .unwrap();
    assert_eq!(names(other), [""; 0]);
    let unknown = admin
        .list_experiments(None, &["percent=50".to_owned()])
        .await
        .unwrap_err();
    assert!(
        unknown.message.contains("the fields are model, name"),
        "{unknown}"
    );

    let mut service = ExperimentServiceClient::new(cluster.channel(0, &crate::harness::user("admin")).await);
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListExperimentsRequest {
            model: MODEL.to_owned(),
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = service.list_experiments(request).await.unwrap().into_inner();
        assert!(page.experiments.len() <= 2);
        seen.extend(page.experiments.into_iter().map(|e| e.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["e0", "e1", "e2", "e3", "e4"]);
    let revision = Revision(u64::MAX);
    let ahead = admin
        .with_min_revision(revision)
        .list_experiments(None, &[])
        .await;
    assert_eq!(ahead.unwrap_err().reason, Reason::FutureRevision);
    cluster.shutdown().await;
}
