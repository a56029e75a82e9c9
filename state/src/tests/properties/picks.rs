//! Selectors, and the few names that they choose from.

use proptest::prelude::*;
use types::{Holder, ModelVersion, NodeId, NodeIncarnation, Principal, RegionId, VersionKey};

use crate::{state::ControlState, tests::world::actor};

/// Which command, and three choices in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    pub(super) what: u8,
    pub(super) a: u16,
    pub(super) b: u16,
    pub(super) c: u16,
}

pub(super) fn pick() -> impl Strategy<Value = Pick> {
    (any::<u8>(), any::<u16>(), any::<u16>(), any::<u16>()).prop_map(|(what, a, b, c)| Pick { what, a, b, c })
}

pub(super) fn choose<T: Clone>(from: &[T], by: u16) -> T {
    from[usize::from(by) % from.len()].clone()
}

pub(super) const REGIONS: [&str; 3] = ["eu", "us", "ap"];
pub(super) const NODES: [&str; 3] = ["a1", "b1", "d1"];

pub(super) fn region(by: u16) -> RegionId {
    choose(&REGIONS, by).parse().unwrap()
}
pub(super) fn node(by: u16) -> NodeId {
    choose(&NODES, by).parse().unwrap()
}
pub(super) fn version(by: u16) -> VersionKey {
    VersionKey {
        model: choose(&["m", "n"], by).parse().unwrap(),
        version: ModelVersion(u64::from(by / 2 % 4)),
    }
}
pub(super) fn agent(by: u16) -> Principal {
    actor(&format!("{}/{}", choose(&REGIONS, by), choose(&NODES, by)))
}
pub(super) fn holder(by: u16, run: u16) -> Holder {
    let incarnation = NodeIncarnation::from_u128(u128::from(run % 3) + 1);
    Holder {
        region: region(by),
        node: node(by),
        incarnation,
    }
}
/// The current run of a node, if it is registered.
pub(super) fn current(state: &ControlState, by: u16) -> Holder {
    let run = state
        .node(&node(by))
        .map_or(NodeIncarnation::from_u128(1), |n| n.incarnation);
    Holder {
        incarnation: run,
        ..holder(by, 0)
    }
}
