//! A follower whose disk is full: it takes what keeps the cluster together, and no more commands than its reserve has room for.

use std::time::Duration;

use futures::stream;
use openraft::{
    async_runtime::WatchReceiver as _,
    errors::Fatal,
    raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult},
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use wal::faulty::FaultyDisk;

use super::{
    alone::{alone_on, leads},
    *,
};
use crate::raft::{
    RaftNode, WallClock, openraft_config,
    types::{EntryBytes, TypeConfig, log_id},
};

/// More than a busy machine needs.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

pub(super) fn command(index: u64, bytes: usize) -> LogEntry {
    LogEntry {
        log_id: log_id(1, index),
        payload: EntryPayload::Normal(EntryBytes(vec![7; bytes].into())),
    }
}

/// What a leader sends after the entry before this one.
pub(super) fn message(entry: LogEntry) -> AppendEntriesRequest<TypeConfig> {
    let index = entry.log_id.index();
    AppendEntriesRequest {
        vote: vote(entry.log_id.leader_id.term, true),
        prev_log_id: index.checked_sub(1).map(|before| log_id(1, before)),
        entries: vec![entry],
        leader_commit: None,
    }
}

pub(super) async fn takes(node: &RaftNode, entry: LogEntry) {
    let taken = timeout(PATIENCE, node.raft().append_entries(message(entry))).await;
    assert_eq!(taken.unwrap().unwrap(), AppendEntriesResponse::Success);
}

/// Whether commands are let through, with nothing before them that is not in the log yet.
async fn has_room_for(node: &RaftNode, entry: LogEntry) -> bool {
    node.pass(&mut message(entry)).await.is_ok()
}

/// Leaves nothing free, and waits until the log has seen it.
pub(super) async fn fill(node: &RaftNode, disk: &FaultyDisk) {
    disk.set_capacity(Some(disk.used()));
    let full = async {
        while !node.is_full() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, full).await.unwrap();
}

#[tokio::test]
async fn a_follower_at_the_end_of_its_reserve_takes_no_commands_and_what_elects() {
    // Two of the small ones are less than what is left when the reserve ends, and a large one is more.
    for bytes in [200 << 10, 1 << 20] {
        check_full(bytes).await;
    }
}

async fn check_full(bytes: usize) {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new();
    let node = alone_on(dir.path(), WallClock::system(), Some(Arc::new(disk.clone()))).await;
    takes(&node, blank(1, 0)).await;
    fill(&node, &disk).await;
    let mut next = 1;
    while has_room_for(&node, command(next, bytes)).await {
        takes(&node, command(next, bytes)).await;
        next += 1;
    }
    assert!(
        next > 2,
        "{next}: a full disk is no reason yet, its reserve takes some"
    );
    assert!(node.room().is_full());
    // The next leader's blank entry, and its vote before it.
    assert!(has_room_for(&node, blank(2, next)).await);
    takes(&node, blank(2, next)).await;
    assert_eq!(
        node.room().queued(),
        (0, 0),
        "nothing waits in memory for the disk"
    );
    disk.set_capacity(None);
    let makes_room = async {
        while !has_room_for(&node, after(next, bytes)).await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, makes_room).await.unwrap();
    let mut last = message(after(next, bytes));
    last.prev_log_id = Some(log_id(2, next));
    let taken = timeout(PATIENCE, node.raft().append_entries(last)).await;
    assert_eq!(taken.unwrap().unwrap(), AppendEntriesResponse::Success);
    node.shutdown().await;
}

/// The new leader's first command.
fn after(blank: u64, bytes: usize) -> LogEntry {
    LogEntry {
        log_id: log_id(2, blank + 1),
        ..command(blank + 1, bytes)
    }
}

/// The disk of a follower decides nothing about what its leader takes.
#[tokio::test]
async fn a_follower_at_the_end_of_its_reserve_names_the_leader() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new();
    let node = alone_on(dir.path(), WallClock::system(), Some(Arc::new(disk.clone()))).await;
    let leader = Peer {
        api_endpoint: "https://127.0.0.1:2".to_owned(),
        ..peer("c3", 3)
    };
    let members = BTreeMap::from([(3, leader), (node.own_id(), node.own_peer().clone())]);
    let voters = BTreeSet::from([3, node.own_id()]);
    let members = Membership::new(vec![voters], members).unwrap();
    let membership = LogEntry {
        payload: EntryPayload::Membership(members),
        ..blank(1, 0)
    };
    takes(&node, membership).await;
    fill(&node, &disk).await;
    let mut next = 1;
    while node.takes_proposals() {
        takes(&node, command(next, 64 << 10)).await;
        next += 1;
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let user = "spiffe://regent.local/user/admin".parse().unwrap();
    let (id, command) = (
        RequestId::from_u128(1 << 64),
        Command::SetFeatureLevel { level: 1 },
    );
    let refused = node.propose(user, id, command, deadline).await.unwrap_err();
    let refused = refused.to_refusal();
    assert_eq!(refused.reason, types::Reason::NotLeader, "{refused}");
    assert!(
        refused.to_string().contains("c3 at https://127.0.0.1:2"),
        "{refused}"
    );
    node.shutdown().await;
}

/// A node whose disk has 20 MiB left, as its log has seen.
pub(super) async fn with_20_mib(dir: &TempDir) -> RaftNode {
    let disk = FaultyDisk::new();
    let node = alone_on(dir.path(), WallClock::system(), Some(Arc::new(disk.clone()))).await;
    takes(&node, blank(1, 0)).await;
    leave_20_mib(&node, &disk).await;
    node
}

async fn leave_20_mib(node: &RaftNode, disk: &FaultyDisk) {
    disk.set_capacity(Some(disk.used() + (20 << 20)));
    let looked = async {
        while node.room().room().free_bytes > 20 << 20 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, looked).await.unwrap();
}

/// Large ones that come in one after the other, before any of them is in the log: while the disk has ample room, too.
#[tokio::test]
async fn what_was_let_through_is_reckoned_in_until_it_is_answered() {
    let dir = TempDir::new().unwrap();
    let node = with_20_mib(&dir).await;
    assert!(!node.room().is_full());
    let mut large = message(command(1, 1 << 20));
    let mut passed = Vec::new();
    while let Ok(pass) = node.pass(&mut large).await {
        passed.push(pass);
        assert!(passed.len() < 40, "what passes has an end");
    }
    assert!(passed.len() > 2, "{}: there is room for some", passed.len());
    assert!(!node.room().is_full());
    assert!(node.pong().disk_full, "others are told that it falls behind");
    let (next, ()) = tokio::join!(node.pass(&mut large), async { drop(passed.pop()) });
    assert!(next.is_ok(), "{next:?}");
    assert!(!node.pong().disk_full);
    drop((next, passed));
    // None of them came.
    assert!(node.pass(&mut large).await.is_ok());
    node.shutdown().await;
}

/// Proposals that are not in the log yet are reckoned in.
#[tokio::test]
async fn a_leader_takes_no_more_proposals_than_its_disk_has_room_for() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new();
    let node = alone_on(dir.path(), WallClock::system(), Some(Arc::new(disk.clone()))).await;
    let node = leads(node).await;
    leave_20_mib(&node, &disk).await;
    let proposed = node.in_flight_bytes().try_acquire_many(40 << 20).unwrap();
    assert!(!node.room().is_full());
    let user = "spiffe://regent.local/user/admin".parse().unwrap();
    let own = "spiffe://regent.local/region/eu/coordinator/c1".parse().unwrap();
    let refused = node.check_takes(&user).unwrap_err().to_refusal();
    assert_eq!(refused.reason, types::Reason::Overloaded, "{refused}");
    let room = node.room().left_bytes();
    // Less than is proposed; how many segments are ready beside what is free is the preparer's affair.
    assert!((8 << 20..40 << 20).contains(&room), "{room}");
    let text = format!("the disk of c0 has room for {room} bytes in /disk beside");
    assert!(refused.to_string().contains(&text), "{refused}");
    assert!(
        node.check_takes(&own).is_ok(),
        "a failover goes before what waits"
    );
    drop(proposed);
    assert!(node.check_takes(&user).is_ok());
    node.shutdown().await;
}

/// As where a quota is used up: to free as many bytes as are needed would be in vain.
#[tokio::test]
async fn a_disk_that_takes_no_writes_while_bytes_are_free_is_not_said_to_lack_them() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new();
    let node = leads(alone_on(dir.path(), WallClock::system(), Some(Arc::new(disk.clone()))).await).await;
    let propose = |node: RaftNode| async move {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let user = "spiffe://regent.local/user/admin".parse().unwrap();
        let id = node.own_request_id(deadline).await;
        let command = Command::SetFeatureLevel { level: 1 };
        node.propose(user, id, command, deadline).await
    };
    disk.set_full_for_writes(true);
    // If the log has not found it out by itself.
    let waits = tokio::spawn(propose(node.clone()));
    let full = async {
        while !node.is_full() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, full).await.unwrap();
    let refused = propose(node.clone()).await.unwrap_err().to_string();
    let says = "the disk of c0 is full: its file system takes no more writes in /disk, though ";
    assert!(refused.starts_with(says), "{refused}");
    assert!(!refused.contains("are needed"), "{refused}");
    disk.set_full_for_writes(false);
    let _ = waits.await.unwrap();
    node.shutdown().await;
}

/// Whoever wants it to end need not make room first, nor kill it: not while its timing changes, either.
#[tokio::test]
async fn a_node_that_waits_for_its_disk_ends_when_told_to() {
    for changes in [false, true] {
        check_ends(changes).await;
    }
}

async fn check_ends(changes: bool) {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new();
    let node = alone_on(dir.path(), WallClock::system(), Some(Arc::new(disk.clone()))).await;
    takes(&node, blank(1, 0)).await;
    fill(&node, &disk).await;
    let answers = wait_for_disk(&node).await;
    let (config, handle) = (node.config().clone(), node.clone());
    let config = openraft_config(&config, &config.timing, true).unwrap();
    let change = async {
        if changes {
            handle.engine().change(config).await.unwrap_err();
        }
    };
    // The change comes first, and holds the stop up.
    let ends = async { tokio::join!(change, node.shutdown()) };
    timeout(PATIENCE, ends).await.unwrap();
    let answers = answers.await.unwrap();
    let stored = answers.iter().filter(|a| matches!(a, Ok(Ok(_)))).count();
    assert!(stored < answers.len(), "{stored}: the rest was not acknowledged");
    disk.set_capacity(None);
    let node = alone_on(dir.path(), WallClock::system(), Some(Arc::new(disk))).await;
    let last = node.raft().metrics().borrow_watched().last_log_index;
    assert!(last >= Some(stored as u64), "{last:?} of {stored}");
    node.shutdown().await;
}

pub(super) type Answers = Vec<Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>>;

/// Gives the node more than its disk takes, unasked, until Raft waits for the disk.
pub(super) async fn wait_for_disk(node: &RaftNode) -> JoinHandle<Answers> {
    let messages = stream::iter((1..40).map(|index| message(command(index, 1 << 20))));
    let raft = node.raft();
    let answers = tokio::spawn(async move { raft.stream_append(messages).collect().await });
    let waits = async {
        while node.room().queued().1 <= 16 << 20 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waits).await.unwrap();
    answers
}
