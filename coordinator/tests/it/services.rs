//! Services over the wire: found at every coordinator, healthy while their node is, and gone with its run.

use client::{
    Client,
    calls::Offer,
    watch::{Change, StateWatch},
};
use proto::convert::watch::Resource;
use types::{
    NodeIncarnation, Reason, RoleName,
    role::FailoverMode,
    service::{ServiceHealth, ServiceKey, ServiceProtocol, ServiceRecord},
};

use crate::{
    agent::{TestAgent, World},
    failover::until,
    harness::{Cluster, PATIENCE, agent, user, within},
};

fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}
fn offer(address: &str) -> Offer {
    Offer {
        address: address.to_owned(),
        protocol: ServiceProtocol::Grpc,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
    }
}

/// A cluster that knows services, and the agents of two regions.
async fn standing(cluster: &Cluster, world: &World) -> (Client, Vec<TestAgent>) {
    let admin = cluster.admin();
    let agents: Vec<_> = ["r1", "r2"]
        .map(|region| TestAgent::start(cluster, world, region))
        .into();
    within("the feature level", async {
        while admin.feature_level().await.unwrap() < state::Feature::Services.level() {}
    })
    .await;
    for agent in &agents {
        is_known(&admin, agent).await;
    }
    (admin, agents)
}

async fn is_known(admin: &Client, agent: &TestAgent) {
    let what = format!("{} is known", agent.holder);
    until(admin, &what, |resource| match resource {
        Resource::Node(n) if n.incarnation == agent.holder.incarnation => Some(()),
        _ => None,
    })
    .await;
}

async fn stands(admin: &Client, key: &ServiceKey, health: ServiceHealth) -> ServiceRecord {
    until(admin, &format!("{key} {health}"), |resource| match resource {
        Resource::Service(s) if s.key == *key && s.health == health => Some(s.as_ref().clone()),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_instance_is_found_everywhere_sick_with_its_nodes_session_and_gone_with_its_run() {
    let cluster = Cluster::start(3).await;
    let world = World::default();
    let (admin, mut agents) = standing(&cluster, &world).await;
    let (store, run) = (key("store/a-r1:7000"), Some(agents[0].holder.incarnation));
    let made = agents[0]
        .client
        .register_service(&store, run, &offer("10.0.0.7"))
        .await
        .unwrap();
    assert_eq!(
        (made.health, made.region.as_str()),
        (ServiceHealth::Healthy, "r1")
    );
    let again = agents[0]
        .client
        .register_service(&store, run, &offer("10.0.0.7"))
        .await
        .unwrap();
    assert_eq!(again, made, "the same again changes nothing");
    for endpoint in cluster.endpoints() {
        let files = cluster.certs.issue("spiffe://regent.local/user/admin");
        let one = cluster.client_of(&files, vec![endpoint]);
        assert_eq!(
            one.list_services(None, &[]).await.unwrap(),
            std::slice::from_ref(&made)
        );
        assert_eq!(one.get_service(&store).await.unwrap(), made);
    }
    agents[0].speaks.send_replace(false);
    let sick = stands(&admin, &store, ServiceHealth::Unhealthy).await;
    assert_eq!(sick.address, "10.0.0.7");
    let healthy = ["health=HEALTHY".to_owned()];
    assert_eq!(admin.list_services(None, &healthy).await.unwrap(), []);
    agents[0].speaks.send_replace(true);
    stands(&admin, &store, ServiceHealth::Healthy).await;
    // Another process takes the node: what the first one offered is not known to be there.
    agents.remove(0).die().await;
    let second = TestAgent::start(&cluster, &world, "r1");
    is_known(&admin, &second).await;
    assert_eq!(
        admin.get_service(&store).await.unwrap_err().reason,
        Reason::ServiceNotFound
    );
    cluster.shutdown().await;
}

/// Whoever follows services alone learns of it, and nobody is sent to an address of a node that is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_is_dropped_takes_its_services_along() {
    let cluster = Cluster::start(1).await;
    let world = World::default();
    // The node of the role's holder is not dropped, so nobody gets the role, before there is anybody to give it to.
    let (role, manual) = (RoleName::global(), FailoverMode::Manual);
    cluster.admin().set_role_mode(&role, manual).await.unwrap();
    let (admin, mut agents) = standing(&cluster, &world).await;
    let keys = ["index/a-r1:7001", "store/a-r1:7000"].map(key);
    let other = key("store/a-r2:7000");
    for key in keys.iter().chain([&other]) {
        admin
            .register_service(key, None, &offer("10.0.0.7"))
            .await
            .unwrap();
    }
    let node = agents[0].holder.node.clone();
    let early = admin.remove_node(&node).await.unwrap_err();
    assert_eq!(early.reason, Reason::IllegalTransition, "{early}");
    agents.remove(0).die().await;
    stands(&admin, &keys[0], ServiceHealth::Unhealthy).await;
    stands(&admin, &keys[1], ServiceHealth::Unhealthy).await;

    let (_, header) = admin.settings().await.unwrap();
    let mut watch = StateWatch::resume(admin.clone(), PATIENCE, header.cluster_id, header.revision);
    admin.remove_node(&node).await.unwrap();
    let told = within("the services are gone", async {
        let mut gone = Vec::new();
        while gone.len() < keys.len() {
            let Change::Events { events, .. } = watch.next().await else {
                continue;
            };
            gone.extend(events.into_iter().filter_map(|event| match event.resource {
                Resource::Service(s) if event.deleted => Some(s.key),
                _ => None,
            }));
        }
        gone
    })
    .await;
    assert_eq!(told, keys);
    let left = admin.list_services(None, &[]).await.unwrap();
    assert_eq!(left.iter().map(|s| &s.key).collect::<Vec<_>>(), [&other]);
    let refused = admin.register_service(&keys[0], None, &offer("10.0.0.7")).await;
    assert_eq!(refused.unwrap_err().reason, Reason::NodeNotFound);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_agent_registers_for_its_own_run_alone_and_a_person_for_any_node() {
    let cluster = Cluster::start(1).await;
    let (admin, agents) = standing(&cluster, &World::default()).await;
    let run = Some(agents[0].holder.incarnation);
    let own = &agents[0].client;
    let refused = async |client: &Client, at: &str, run| {
        let answer = client.register_service(&key(at), run, &offer("h")).await;
        answer.unwrap_err().reason
    };
    assert_eq!(
        refused(own, "store/a-r2:7000", run).await,
        Reason::PermissionDenied
    );
    assert_eq!(
        refused(own, "store/a-r1:7000", None).await,
        Reason::PermissionDenied
    );
    let old = Some(NodeIncarnation::from_u128(1));
    assert_eq!(
        refused(own, "store/a-r1:7000", old).await,
        Reason::StaleIncarnation
    );
    let stranger = cluster.client(&agent("r2", "a-r1"));
    assert_eq!(
        refused(&stranger, "store/a-r1:7000", run).await,
        Reason::PermissionDenied
    );
    assert_eq!(
        refused(&admin, "store/nobody:7000", None).await,
        Reason::NodeNotFound
    );
    assert_eq!(
        refused(&admin, "store/c1:7000", None).await,
        Reason::IllegalTransition
    );
    let store = key("store/a-r1:7000");
    admin.register_service(&store, None, &offer("h")).await.unwrap();
    own.deregister_service(&store, run).await.unwrap();
    let gone = own.deregister_service(&store, run).await.unwrap_err();
    assert_eq!(
        (gone.reason, gone.operand("service")),
        (Reason::ServiceNotFound, Some("store"))
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn instances_are_listed_by_service_and_condition_in_pages() {
    use proto::v1::{self as pb, discovery_service_client::DiscoveryServiceClient};

    let cluster = Cluster::start(1).await;
    let (admin, _agents) = standing(&cluster, &World::default()).await;
    let places = [
        "cache/a-r1:1",
        "store/a-r1:2",
        "store/a-r1:3",
        "store/a-r2:2",
        "zoo/a-r2:9",
    ];
    for place in places {
        admin
            .register_service(&key(place), None, &offer("h"))
            .await
            .unwrap();
    }
    let listed = async |service: Option<&str>, filter: &str| {
        let service = service.map(|name| name.parse().unwrap());
        let found = admin
            .list_services(service.as_ref(), &[filter.to_owned()])
            .await
            .unwrap();
        found.iter().map(|s| s.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(Some("store"), "port>=0").await, &places[1..4]);
    assert_eq!(listed(Some("store"), "region=r2").await, ["store/a-r2:2"]);
    assert_eq!(listed(None, "port=2").await, ["store/a-r1:2", "store/a-r2:2"]);
    assert_eq!(listed(None, "labels.zone!=a").await, [""; 0]);
    let mut service = DiscoveryServiceClient::new(cluster.channel(0, &user("admin")).await);
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListServicesRequest {
            service: "store".to_owned(),
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = service.list_services(request).await.unwrap().into_inner();
        assert!(page.instances.len() <= 2);
        seen.extend(
            page.instances
                .into_iter()
                .map(|s| format!("{}/{}:{}", s.service, s.node, s.port)),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, &places[1..4]);
    let bad = pb::GetServiceRequest {
        service: "store".to_owned(),
        node: "a-r1".to_owned(),
        port: 70_000,
        ..Default::default()
    };
    let refused = service.get_service(bad).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    cluster.shutdown().await;
}
