//! Tables and properties of the decisions, and the things that they share.

mod clock;
mod compaction;
mod door;
mod experiment;
mod failover;
mod features;
mod fence;
mod health;
mod integrity;
mod lag;
mod leader;
mod membership;
mod placement;
mod rebind;
mod standing;
mod timing;
mod witness;

use std::time::Duration;

use types::{
    ClusterId, Epoch, FencingToken, Holder, NodeIncarnation, RegionId, Revision, RoleName, UnixMillis,
    role::{FailoverMode, RoleRecord, TimingPolicy},
};

const CLUSTER: ClusterId = ClusterId::from_u128(1);

fn region(name: &str) -> RegionId {
    name.parse().unwrap()
}

/// `holder("eu/a1#3")`: the third run of a1 in eu.
fn holder(text: &str) -> Holder {
    let (region, node) = text.split_once('/').unwrap();
    let (node, run) = node.split_once('#').unwrap();
    Holder {
        region: region.parse().unwrap(),
        node: node.parse().unwrap(),
        incarnation: NodeIncarnation::from_u128(run.parse().unwrap()),
    }
}

fn role(epoch: u32, held_by: Option<&str>) -> RoleRecord {
    let timing = TimingPolicy::fast();
    RoleRecord {
        role: RoleName::global(),
        epoch: Epoch::new(1, epoch),
        holder: held_by.map(holder),
        reservation: None,
        candidates: Vec::new(),
        mode: FailoverMode::Automatic,
        outstanding_ttl: timing.lease_ttl,
        timing,
        changed_at: UnixMillis(0),
        reason: String::new(),
        modified: Revision(1),
    }
}

fn token(epoch: u32, shown_by: &str) -> FencingToken {
    FencingToken {
        cluster_id: CLUSTER,
        role: RoleName::global(),
        epoch: Epoch::new(1, epoch),
        holder: holder(shown_by),
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
