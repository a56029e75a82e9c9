//! Each back end against the suite, and what rests on them.

mod fs;
mod keys;
mod mem;
mod pointer_rule;
mod pointer_writes;
mod probe;
#[cfg(feature = "s3")]
mod s3;
mod transfer;

use types::{ClusterId, Epoch, FencingToken, NodeIncarnation, RoleName, epoch::Holder};

/// Time for a claim that is not about time.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// A token of `primaries/global` in cluster 10.
pub(crate) fn token(counter: u32, node: &str) -> FencingToken {
    FencingToken {
        cluster_id: ClusterId::from_u128(10),
        role: RoleName::global(),
        epoch: Epoch::new(1, counter),
        holder: holder(node),
    }
}

pub(crate) fn holder(node: &str) -> Holder {
    let incarnation = NodeIncarnation::from_u128(7);
    Holder {
        region: "us-west-2".parse().unwrap(),
        node: node.parse().unwrap(),
        incarnation,
    }
}
