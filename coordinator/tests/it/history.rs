//! What is remembered, over the wire, and whose preferences are whose.

use client::Client;
use types::{
    Principal, Reason, Revision,
    history::{DeploymentRecord, HealthSubject, Standing},
};

use crate::{
    agent::{TestAgent, World},
    failover::until,
    harness::{Cluster, agent, region, user, within},
    registry::publish,
};

async fn standing(cluster: &Cluster) -> Client {
    let admin = cluster.admin();
    within("the feature level", async {
        while admin.feature_level().await.unwrap() < state::Feature::Histories.level() {}
    })
    .await;
    admin
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_of_aliases_are_listed_by_model_and_condition_in_pages() {
    use proto::v1::{self as pb, registry_service_client::RegistryServiceClient};

    let cluster = Cluster::start(1).await;
    let admin = standing(&cluster).await;
    let agent = cluster.client(&agent("r1", "a1"));
    let model = "fraud.scorer".parse().unwrap();
    let first = publish(&admin, &agent, &model, &region("r1")).await;
    let second = publish(&admin, &agent, &model, &region("r1")).await;
    publish(&admin, &agent, &"other".parse().unwrap(), &region("r1")).await;
    let champion = "champion".parse().unwrap();
    admin.set_alias(&second, &champion, "better", None).await.unwrap();
    admin.delete_alias(&model, &champion, None).await.unwrap();
    let found = admin.list_deployments(Some(&model), &[]).await.unwrap();
    let ends = |d: &DeploymentRecord| (d.from, d.to);
    let (one, two) = (Some(first.version), Some(second.version));
    assert_eq!(
        found.iter().map(ends).collect::<Vec<_>>(),
        [(None, one), (one, two), (two, None)]
    );
    assert_eq!(
        (found[1].reason.as_str(), found[1].by.clone()),
        ("better", user("admin"))
    );
    let better = admin
        .list_deployments(None, &["reason=better".to_owned()])
        .await
        .unwrap();
    assert_eq!(better, &found[1..2]);
    let mut service = RegistryServiceClient::new(cluster.channel(0, &user("admin")).await);
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListDeploymentsRequest {
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = service.list_deployments(request).await.unwrap().into_inner();
        seen.extend(
            page.deployments
                .into_iter()
                .map(|d| (d.model, Revision(d.revision))),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 4);
    assert!(seen.is_sorted(), "{seen:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_falls_silent_and_comes_back_is_remembered_and_its_heartbeats_are_not() {
    let cluster = Cluster::start(1).await;
    let admin = standing(&cluster).await;
    let agent = TestAgent::start(&cluster, &World::default(), "r1");
    let node = agent.holder.node.clone();
    let stands = async |status| {
        until(&admin, &format!("{node} {status}"), |resource| match resource {
            proto::convert::watch::Resource::Node(n) if n.node == node && n.status == status => Some(()),
            _ => None,
        })
        .await;
    };
    use types::region::NodeStatus::{Down, Up};
    stands(Up).await;
    agent.speaks.send_replace(false);
    stands(Down).await;
    agent.speaks.send_replace(true);
    stands(Up).await;
    let subject = HealthSubject::Node(node.clone());
    let found = admin.list_health_changes(Some(&subject), &[]).await.unwrap();
    let steps: Vec<_> = found.iter().map(|c| (c.from, c.to)).collect();
    let (up, down) = (Standing::Up, Standing::Down);
    assert_eq!(steps[..3], [(None, up), (Some(up), down), (Some(down), up)]);
    let sick = admin
        .list_health_changes(Some(&subject), &["to=DOWN".to_owned()])
        .await
        .unwrap();
    assert!(sick.iter().all(|c| c.to == down) && !sick.is_empty());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preferences_are_for_their_owner_and_the_admin() {
    let cluster = Cluster::start(1).await;
    let admin = standing(&cluster).await;
    let (eve, mallory) = (user("eve"), user("mallory"));
    let as_user = |who: &Principal| cluster.client(who);
    let set = |text: &str| [("output".to_owned(), text.to_owned())].into();
    let own = as_user(&eve)
        .set_preferences(None, set("json"), Vec::new())
        .await
        .unwrap();
    assert_eq!(
        (own.principal.clone(), own.changed_by.clone()),
        (eve.clone(), eve.clone())
    );
    assert_eq!(as_user(&eve).get_preferences(None).await.unwrap(), own);
    assert_eq!(admin.get_preferences(Some(&eve)).await.unwrap(), own);
    let none = as_user(&mallory).get_preferences(None).await.unwrap();
    assert_eq!((none.values.len(), none.modified), (0, Revision(0)));
    let thief = as_user(&mallory);
    assert_eq!(
        thief.get_preferences(Some(&eve)).await.unwrap_err().reason,
        Reason::PermissionDenied
    );
    let stolen = thief.set_preferences(Some(&eve), set("table"), Vec::new()).await;
    assert_eq!(stolen.unwrap_err().reason, Reason::PermissionDenied);
    let helped = admin
        .set_preferences(Some(&eve), set("table"), Vec::new())
        .await
        .unwrap();
    assert_eq!((helped.changed_by, helped.values), (user("admin"), set("table")));
    let emptied = as_user(&eve)
        .set_preferences(None, Default::default(), vec!["output".to_owned()])
        .await;
    assert!(emptied.unwrap().values.is_empty());
    cluster.shutdown().await;
}
