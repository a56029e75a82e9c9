//! What an agent says of the services beside it, and what it takes back.

use std::num::NonZeroU16;

use client::calls::Offer;
use proto::convert::watch::Resource;
use types::{
    NodeIncarnation, Principal, Revision, UnixMillis,
    region::NodeStatus,
    service::{ServiceHealth, ServiceKey, ServiceProtocol, ServiceRecord},
};

use super::records::{agent_of, me, node};
use crate::{
    config::ServiceSection,
    hosted::{Step, Wanted, next, wanted},
    view::View,
};

fn section(name: &str, port: u16, address: Option<&str>) -> ServiceSection {
    ServiceSection {
        name: name.parse().unwrap(),
        port: NonZeroU16::new(port).unwrap(),
        address: address.map(str::to_owned),
        protocol: ServiceProtocol::Http,
        labels: Default::default(),
    }
}

fn offer(address: &str) -> Offer {
    Offer {
        address: address.to_owned(),
        protocol: ServiceProtocol::Http,
        labels: Default::default(),
    }
}

fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

fn record(at: &str, address: &str, by: Principal) -> Resource {
    Resource::Service(Box::new(ServiceRecord {
        key: key(at),
        region: me().region,
        incarnation: me().incarnation,
        address: address.to_owned(),
        protocol: ServiceProtocol::Http,
        labels: Default::default(),
        health: ServiceHealth::Healthy,
        registered_at: UnixMillis(0),
        registered_by: by,
        modified: Revision(1),
    }))
}

fn view(status: NodeStatus, services: Vec<Resource>) -> View {
    let mut view = View::default();
    view.upsert(Resource::Node(node("west/a1", status)));
    services.into_iter().for_each(|s| view.upsert(s));
    view
}

fn config() -> Vec<Wanted> {
    let sections = [
        section("store", 7000, None),
        section("cache", 7001, Some("cache.west")),
    ];
    wanted(&sections, &me(), "10.0.0.7")
}

#[test]
fn what_the_config_names_is_registered_under_this_node_once() {
    let missing = [
        Step::Register(key("store/a1:7000"), offer("10.0.0.7")),
        Step::Register(key("cache/a1:7001"), offer("cache.west")),
    ];
    let own = agent_of(&me());
    assert_eq!(next(&config(), &me(), &view(NodeStatus::Up, vec![])), missing);
    let store = record("store/a1:7000", "10.0.0.7", own.clone());
    let cache = record("cache/a1:7001", "cache.west", own.clone());
    let half = view(NodeStatus::Up, vec![store.clone()]);
    assert_eq!(next(&config(), &me(), &half), &missing[1..]);
    let whole = view(NodeStatus::Up, vec![store.clone(), cache]);
    assert_eq!(next(&config(), &me(), &whole), []);
    // Whoever registered it otherwise, the config is how it should be.
    let moved = view(
        NodeStatus::Up,
        vec![store, record("cache/a1:7001", "elsewhere", own)],
    );
    assert_eq!(next(&config(), &me(), &moved), &missing[1..]);
}

#[test]
fn what_the_agent_itself_registered_and_the_config_names_no_more_is_taken_back() {
    let own = agent_of(&me());
    let admin: Principal = "spiffe://regent.local/user/admin".parse().unwrap();
    let there = vec![
        record("old/a1:1", "h", own.clone()),
        record("by-hand/a1:2", "h", admin),
        record("old/b1:1", "h", own),
    ];
    let seen = view(NodeStatus::Up, there);
    assert_eq!(next(&[], &me(), &seen), [Step::Deregister(key("old/a1:1"))]);
}

#[test]
fn nothing_is_said_before_the_registry_takes_this_run_for_living() {
    let mut other = me();
    other.incarnation = NodeIncarnation::from_u128(9);
    for (me, seen) in [
        (me(), View::default()),
        (me(), view(NodeStatus::Down, vec![])),
        (other, view(NodeStatus::Up, vec![])),
    ] {
        assert_eq!(next(&config(), &me, &seen), [], "{me}");
    }
}

#[test]
fn an_address_of_ip_version_6_stands_without_brackets() {
    let found = wanted(&[section("store", 7000, None)], &me(), "[::1]");
    assert_eq!(found[0].1.address, "::1");
}
