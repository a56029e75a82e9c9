//! Services beside an agent: said as its config has them, and taken back when it stops.

use std::num::NonZeroU16;

use node_agent::config::ServiceSection;
use types::service::{ServiceKey, ServiceProtocol};

use crate::world::World;

#[tokio::test]
async fn what_the_config_names_is_registered_said_again_when_it_is_lost_and_taken_back_at_the_end() {
    let mut world = World::new().await;
    world.config.services = vec![ServiceSection {
        name: "feature-store".parse().unwrap(),
        port: NonZeroU16::new(7000).unwrap(),
        address: None,
        protocol: ServiceProtocol::Grpc,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
    }];
    let agent = world.agent().await;
    let key: ServiceKey = "feature-store/a1:7000".parse().unwrap();
    let is_there = async |what: &str| {
        world
            .coordinator
            .until(what, |s| s.view.services.contains_key(&key))
            .await;
    };
    is_there("a registration").await;
    let record = world.coordinator.lock().view.services[&key].clone();
    assert_eq!(
        (record.address.as_str(), record.protocol, record.incarnation),
        ("127.0.0.1", ServiceProtocol::Grpc, agent.holder().incarnation)
    );
    assert_eq!(record.labels, world.config.services[0].labels);
    let lost = proto::convert::watch::Resource::Service(Box::new(record));
    world.coordinator.discard(&lost);
    is_there("another registration").await;
    agent.shutdown().await.unwrap();
    let left = world.coordinator.lock().view.services.clone();
    assert!(left.is_empty(), "{left:?}");
}
