//! A follower whose disk is full: it takes what keeps the cluster together, and no more commands than its reserve has room for.

use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tempfile::TempDir;
use tokio::time::timeout;
use wal::{Level, faulty::FaultyDisk};

use super::{alone::alone_on, *};
use crate::raft::{
    RaftNode, WallClock,
    types::{EntryBytes, TypeConfig, log_id},
};

/// More than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(40);
/// Of a command; two of them are less than what is left when the reserve ends.
const COMMAND_BYTES: usize = 200 << 10;

fn command(index: u64) -> LogEntry {
    LogEntry {
        log_id: log_id(1, index),
        payload: EntryPayload::Normal(EntryBytes(vec![7; COMMAND_BYTES].into())),
    }
}

/// What a leader sends after the entry before this one.
fn message(entry: LogEntry) -> AppendEntriesRequest<TypeConfig> {
    let index = entry.log_id.index();
    AppendEntriesRequest {
        vote: vote(1, true),
        prev_log_id: index.checked_sub(1).map(|before| log_id(1, before)),
        entries: vec![entry],
        leader_commit: None,
    }
}

async fn takes(node: &RaftNode, entry: LogEntry) {
    let taken = timeout(PATIENCE, node.raft().append_entries(message(entry))).await;
    assert_eq!(taken.unwrap().unwrap(), AppendEntriesResponse::Success);
}

#[tokio::test]
async fn a_follower_at_the_end_of_its_reserve_takes_no_commands_and_what_elects() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new();
    let node = alone_on(dir.path(), WallClock::system(), Some(Arc::new(disk.clone()))).await;
    takes(&node, blank(1, 0)).await;
    disk.set_capacity(Some(disk.used()));
    let mut next = 1;
    while node.has_room_for(&message(command(next))).await {
        takes(&node, command(next)).await;
        next += 1;
    }
    assert!(
        next > 4,
        "{next}: a full disk is no reason yet, its reserve takes some"
    );
    assert_eq!(node.room().level(), Level::Critical);
    // The leader's blank entry, and its vote before it.
    assert!(node.has_room_for(&message(blank(1, next))).await);
    takes(&node, blank(1, next)).await;
    assert_eq!(
        node.room().queued(),
        (0, 0),
        "nothing waits in memory for the disk"
    );
    disk.set_capacity(None);
    let makes_room = async {
        while !node.has_room_for(&message(command(next + 1))).await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, makes_room).await.unwrap();
    takes(&node, command(next + 1)).await;
    node.shutdown().await;
}
