//! What a leader ends that another one left half made.

use std::{collections::BTreeSet, time::Duration};

use openraft::{EntryPayload, async_runtime::WatchReceiver as _};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::raft::{RaftNode, tests::alone::leading, types::Membership};

/// Waits until one set of voters decides again, in a later membership than `after`.
async fn ended(node: &RaftNode, after: u64) {
    let mut metrics = node.raft().metrics();
    loop {
        let (index, sets) = {
            let now = metrics.borrow_watched();
            let stored = &now.membership_config;
            let index = stored.log_id().as_ref().map_or(
                0,
                openraft::alias::LogIdOf::<crate::raft::types::TypeConfig>::index,
            );
            (index, stored.membership().get_joint_config().len())
        };
        if sets == 1 && index > after {
            return;
        }
        metrics.changed().await.unwrap();
    }
}

/// Its leader had got as far as the joint membership, and nobody asks for the change any more.
#[tokio::test]
async fn a_joint_membership_that_was_left_behind_is_ended() {
    let dir = TempDir::new().unwrap();
    let node = leading(dir.path()).await;
    let only = BTreeSet::from([node.own_id()]);
    let nodes = [(node.own_id(), node.own_peer().clone())];
    let joint = Membership::new(vec![only.clone(), only], std::collections::BTreeMap::from(nodes)).unwrap();
    let left = node
        .raft()
        .append_membership(joint, EntryPayload::Blank, [])
        .await
        .unwrap();
    let joint_at = left.log_id.index();
    let wait = timeout(Duration::from_secs(30), ended(&node, joint_at)).await;
    assert!(wait.is_ok(), "it is still joint: {:?}", node.membership());
    assert!(!node.is_changing_membership());
    node.shutdown().await;
}
