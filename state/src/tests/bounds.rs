//! How many records there may be of each kind: the last one that fits is taken, the next is refused.

use types::{NodeId, region::NodeRecord, service::ServiceKey};

use super::{
    invariants::whole,
    world::{World, actor},
};
use crate::state::ControlState;

/// `line` with `{}` for a name is taken once in a state of one record less than the bound, then never again.
fn one_more_fits(state: ControlState, line: &str, refusal: &str) {
    let mut world = World::after(state);
    world.lines(&line.replace("{}", "last"));
    let refused = world
        .line(&line.replace("{}", "over"))
        .unwrap()
        .outcome
        .unwrap_err();
    assert_eq!(refused.to_string(), refusal);
    // What is there already is no new one.
    world.lines(&line.replace("{}", "last"));
}

#[test]
fn there_are_ten_thousand_nodes() {
    let mut state = whole();
    let one = state.nodes.get(&"d1".parse().unwrap()).unwrap().clone();
    let missing = 9_999 - state.nodes.len();
    for n in 0..missing {
        let node: NodeId = format!("n{n}").parse().unwrap();
        state
            .nodes
            .insert(node.clone(), NodeRecord { node, ..one.clone() });
    }
    one_more_fits(
        state,
        "RegisterNode node={} region=eu run=7",
        "count of nodes may be 10000 at most, not 10001",
    );
}

#[test]
fn there_are_two_hundred_and_fifty_six_regions() {
    let mut world = World::after(whole());
    (0..252).for_each(|n| world.lines(&format!("RegisterRegion region=r{n}")));
    world.lines("RegisterRegion region=last");
    let refused = world
        .line("RegisterRegion region=over")
        .unwrap()
        .outcome
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "count of regions may be 256 at most, not 257"
    );
    let refused = world
        .line("CreateRegion region=over")
        .unwrap()
        .outcome
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "count of regions may be 256 at most, not 257"
    );
}

#[test]
fn there_are_ten_thousand_services() {
    let mut state = whole();
    let one = state.services.values().next().unwrap().clone();
    let missing = 9_999 - state.services.len();
    for n in 0..missing {
        let service = format!("s{n}").parse().unwrap();
        let key = ServiceKey {
            service,
            ..one.key.clone()
        };
        let mut other = one.clone();
        other.key = key;
        state.add_service(other);
    }
    one_more_fits(
        state,
        "RegisterService key={}/b1:7000",
        "count of services may be 10000 at most, not 10001",
    );
}

#[test]
fn ten_thousand_users_have_preferences() {
    let mut state = whole();
    let one = state.preferences.values().next().unwrap().clone();
    let missing = 9_999 - state.preferences.len();
    for n in 0..missing {
        let mut other = one.clone();
        other.principal = actor(&format!("u{n}"));
        state.preferences.insert(other.principal.clone(), other);
    }
    let mut world = World::after(state);
    let set = |name: &str| format!("actor {name}\nSetPreferences of={name} set=output:json");
    world.lines(&set("last"));
    world.actor = actor("over");
    let refused = world
        .line("SetPreferences of=over set=output:json")
        .unwrap()
        .outcome
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "count of users with preferences may be 10000 at most, not 10001"
    );
    world.lines("actor last\nSetPreferences of=last set=page:50");
}
