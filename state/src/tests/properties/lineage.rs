//! Entries about what versions were trained from, and what was measured of them.

use std::collections::BTreeSet;

use types::{DatasetName, Micros};

use super::picks::{Pick, choose};
use crate::{Feature, command::Command, state::ControlState, tests::world::World};

/// What a version is announced with; mostly nothing, where the level knows nothing of it.
pub(super) fn datasets(world: &World, Pick { a, b, c, .. }: Pick) -> BTreeSet<DatasetName> {
    if !world.state.features().has(Feature::Datasets) && !c.is_multiple_of(8) {
        return BTreeSet::new();
    }
    let known = ["clicks", "lake/orders@3", "people"];
    [a, b]
        .iter()
        .map(|by| choose(&known, *by).parse().unwrap())
        .collect()
}

/// Values of a version that there is, if there is one: some that it has, some that it has not, some both set and removed.
pub(super) fn metrics(state: &ControlState, Pick { a, b, c, .. }: Pick) -> Command {
    let known: Vec<_> = state.versions.keys().cloned().collect();
    let version = match known.is_empty() {
        true => super::picks::version(a),
        false => choose(&known, a),
    };
    let name = |by| choose(&["accuracy", "loss", "f1"], by).parse().unwrap();
    // Half of the time what is known already.
    let known = state.version(&version).and_then(|v| v.metrics.first_key_value());
    let set = match known.filter(|_| c.is_multiple_of(2)) {
        Some((name, measured)) => (name.clone(), measured.value),
        None => (name(b), Micros(i64::from(c % 4) - 1)),
    };
    Command::SetVersionMetrics {
        version,
        set: [set].into(),
        remove: (0..u16::from(b % 4 == 0)).map(|_| name(c / 2)).collect(),
    }
}
