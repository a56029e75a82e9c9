//! Regions as resources over the wire: made, labelled, kept while they are in use, taken away, and made anew by who joins.

use std::collections::BTreeMap;

use client::{
    Client,
    calls::{ChangeOptions, RegionChange},
    watch::{Change, StateWatch},
};
use proto::convert::watch::Resource;
use types::{
    Reason, RegionId, Revision, RoleName,
    region::{NodeStatus, RegionLabels},
    role::FailoverMode,
};

use crate::{
    agent::{TestAgent, World},
    harness::{Cluster, PATIENCE, region, within},
};

async fn standing(cluster: &Cluster) -> Client {
    let admin = cluster.admin();
    within("the feature level", async {
        while admin.feature_level().await.unwrap() < state::Feature::Regions.level() {}
    })
    .await;
    admin
}

fn labels() -> RegionLabels {
    RegionLabels {
        display_name: "South America".to_owned(),
        provider: "gcp".to_owned(),
        cost_tags: BTreeMap::from([("team".to_owned(), "search".to_owned())]),
    }
}

fn with(client: &Client, etag: Option<Revision>, validate_only: bool) -> Client {
    client.with_change_options(ChangeOptions {
        etag,
        validate_only,
        ..ChangeOptions::default()
    })
}

async fn names(admin: &Client) -> Vec<String> {
    let regions = admin.list_regions().await.unwrap();
    regions.iter().map(|r| r.region.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_is_made_labelled_and_taken_away_as_any_record_is_changed() {
    let cluster = Cluster::start(1).await;
    let admin = standing(&cluster).await;
    let sa = region("sa");
    let tried = with(&admin, None, true)
        .create_region(&sa, &labels())
        .await
        .unwrap();
    assert_eq!(tried.labels, labels());
    assert_eq!(names(&admin).await, ["r1"]);
    let made = admin.create_region(&sa, &labels()).await.unwrap();
    assert_eq!(names(&admin).await, ["r1", "sa"]);
    let again = admin.create_region(&sa, &labels()).await.unwrap_err();
    assert_eq!(again.reason, Reason::AlreadyExists, "{again}");

    let change = RegionChange {
        display_name: Some(String::new()),
        set_cost_tags: BTreeMap::from([("environment".to_owned(), "test".to_owned())]),
        remove_cost_tags: ["team".to_owned()].into(),
        ..RegionChange::default()
    };
    let updated = with(&admin, Some(made.modified), false)
        .update_region(&sa, &change)
        .await;
    let updated = updated.unwrap();
    assert_eq!(
        (
            updated.labels.display_name.as_str(),
            updated.labels.provider.as_str()
        ),
        ("", "gcp")
    );
    assert_eq!(updated.labels.cost_tags, change.set_cost_tags);
    assert_eq!(admin.get_region(&sa).await.unwrap(), updated);
    let late = with(&admin, Some(made.modified), false);
    for refused in [
        late.update_region(&sa, &change).await.unwrap_err(),
        late.delete_region(&sa).await.unwrap_err(),
    ] {
        assert_eq!(refused.reason, Reason::EtagMismatch, "{refused}");
    }

    let used = admin.delete_region(&region("r1")).await.unwrap_err();
    assert_eq!(
        (used.reason, used.operand("nodes")),
        (Reason::RegionInUse, Some("c1")),
        "{used}"
    );
    with(&admin, None, true).delete_region(&sa).await.unwrap();
    let gone = with(&admin, Some(updated.modified), false)
        .delete_region(&sa)
        .await;
    gone.unwrap();
    assert_eq!(names(&admin).await, ["r1"]);
    let missing = admin.delete_region(&sa).await.unwrap_err();
    assert_eq!(missing.reason, Reason::RegionNotFound, "{missing}");
    cluster.shutdown().await;
}

/// Its answer got lost, somebody undid it, and it is asked for again: that it was never made would be no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_undone_since_is_not_told_as_one_that_was_never_made() {
    let cluster = Cluster::start(1).await;
    let admin = standing(&cluster).await;
    let sa = region("sa");
    let asked = admin.with_request_id(client::retry::mint_request_id());
    asked.create_region(&sa, &labels()).await.unwrap();
    admin.delete_region(&sa).await.unwrap();
    let gone = asked.create_region(&sa, &labels()).await.unwrap_err();
    assert_eq!(gone.reason, Reason::RecordGone, "{gone}");
    assert!(!gone.reason.surely_no_effect() && !gone.reason.retryable());
    assert_eq!(names(&admin).await, ["r1"], "and it is not made again");
    cluster.shutdown().await;
}

/// What a watcher was told, up to the deletion of a region.
async fn until_deleted(watch: &mut StateWatch, region: &RegionId) -> Vec<(String, String)> {
    let mut deleted = Vec::new();
    loop {
        let Change::Events { events, .. } = watch.next().await else {
            continue;
        };
        for event in events.into_iter().filter(|event| event.deleted) {
            let name = match event.resource {
                Resource::Region(r) if r.region == *region => {
                    deleted.push((event.kind, r.region.to_string()));
                    return deleted;
                }
                Resource::Region(r) => r.region.to_string(),
                Resource::Node(r) => format!("{} of {}", r.node, r.region),
                other => format!("{other:?}"),
            };
            deleted.push((event.kind, name));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_gone_is_dropped_and_its_region_after_it_and_both_may_come_back() {
    let cluster = Cluster::start(1).await;
    let admin = standing(&cluster).await;
    let (sa, world) = (region("sa"), World::default());
    // Its only agent would be given the role, and who holds one is not dropped.
    let role = RoleName::global();
    admin.set_role_mode(&role, FailoverMode::Manual).await.unwrap();
    let agent = TestAgent::start(&cluster, &world, "sa");
    let node = agent.holder.node.clone();
    let up = async |wanted: Option<NodeStatus>| {
        let mut watch = StateWatch::new(admin.clone(), PATIENCE);
        within(&format!("{wanted:?}"), async {
            while admin.get_node(&node).await.ok().map(|n| n.status) != wanted {
                watch.next().await;
            }
        })
        .await;
    };
    up(Some(NodeStatus::Up)).await;
    let early = admin.remove_node(&node).await.unwrap_err();
    assert_eq!(early.reason, Reason::IllegalTransition, "{early}");
    let coordinator = admin.remove_node(&"c1".parse().unwrap()).await.unwrap_err();
    assert_eq!(coordinator.reason, Reason::IllegalTransition, "{coordinator}");
    drop(agent);
    up(Some(NodeStatus::Down)).await;
    let used = admin.delete_region(&sa).await.unwrap_err();
    assert_eq!(used.operand("nodes"), Some("a-sa"), "{used}");

    let (_, header) = admin.settings().await.unwrap();
    let mut watch = StateWatch::resume(admin.clone(), PATIENCE, header.cluster_id, header.revision);
    with(&admin, None, true).remove_node(&node).await.unwrap();
    admin.remove_node(&node).await.unwrap();
    up(None).await;
    admin.delete_region(&sa).await.unwrap();
    let told = within("the deletions are told", until_deleted(&mut watch, &sa)).await;
    let told: Vec<_> = told
        .iter()
        .map(|(kind, name)| (kind.as_str(), name.as_str()))
        .collect();
    assert_eq!(told, [("node_deleted", "a-sa of sa"), ("region_deleted", "sa")]);

    let back = TestAgent::start(&cluster, &world, "sa");
    up(Some(NodeStatus::Up)).await;
    assert_eq!(names(&admin).await, ["r1", "sa"]);
    drop(back);
    cluster.shutdown().await;
}
