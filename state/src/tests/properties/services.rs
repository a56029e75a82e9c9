//! Entries about services: said by persons, by the agents themselves, and by agents of other nodes or earlier runs.

use types::{
    region::NodeStatus,
    service::{ServiceHealth, ServiceKey, ServiceProtocol, ServiceRecord},
};

use super::picks::{Pick, choose, current, node, region};
use crate::{
    command::{Command, Entry},
    tests::world::{World, actor},
};

pub(super) fn service(world: &mut World, Pick { a, b, c, .. }: Pick) -> Entry {
    let key: ServiceKey = format!(
        "{}/{}:{}",
        choose(&["store", "cache"], a),
        node(b),
        7000 + a / 2 % 2
    )
    .parse()
    .unwrap();
    // Mostly the agent of that node, or a person.
    let by = if c % 8 == 0 { c / 8 } else { b };
    let is_person = c % 2 == 0 && c % 8 != 0;
    if !is_person {
        world.actor = actor(&format!("{}/{}", region(by), node(by)));
    } else {
        world.actor = actor("admin");
    }
    let run = current(&world.state, b).incarnation;
    let run = match a / 4 % 4 {
        0 => types::NodeIncarnation::from_u128(u128::from(c % 3) + 1),
        _ => run,
    };
    let incarnation = (!is_person || a % 3 == 0).then_some(run);
    let known: Vec<_> = world.state.services.values().cloned().collect();
    if !known.is_empty() && c % 4 != 0 && a / 16 % 4 != 3 {
        return of_known(world, &choose(&known, b), a / 16);
    }
    let command = match a / 16 % 4 {
        0 => Command::DeregisterService { key, incarnation },
        _ => Command::RegisterService {
            key,
            incarnation,
            address: choose(&["10.0.0.7", "h"], a / 64).to_owned(),
            protocol: ServiceProtocol::Tcp,
            labels: [("zone".to_owned(), choose(&["a", "b"], b / 4).to_owned())].into(),
        },
    };
    world.entry(command)
}

/// A person takes an instance away, says it again, or drops its host, which goes down for it.
fn of_known(world: &mut World, known: &ServiceRecord, by: u16) -> Entry {
    world.actor = actor("admin");
    let (key, node) = (known.key.clone(), known.key.node.clone());
    let command = match (by % 4, known.health) {
        (0, _) => Command::DeregisterService {
            key,
            incarnation: None,
        },
        (1, ServiceHealth::Unhealthy) => Command::RemoveNode { node },
        (1, ServiceHealth::Healthy) => Command::SetNodeStatus {
            node,
            incarnation: known.incarnation,
            status: NodeStatus::Down,
        },
        _ => Command::RegisterService {
            key,
            incarnation: None,
            address: known.address.clone(),
            protocol: known.protocol,
            labels: known.labels.clone(),
        },
    };
    world.entry(command)
}
