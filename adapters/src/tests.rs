//! What needs no database: tables of decisions, and configs.

mod config;
mod decide;

use types::{ClusterId, Epoch, FencingToken, Holder, NodeIncarnation};

pub(crate) fn token(counter: u32, node: &str) -> FencingToken {
    FencingToken {
        cluster_id: ClusterId::from_u128(7),
        role: "primaries/orders".parse().unwrap(),
        epoch: Epoch::new(1, counter),
        holder: Holder {
            region: "west".parse().unwrap(),
            node: node.parse().unwrap(),
            incarnation: NodeIncarnation::from_u128(1),
        },
    }
}
