//! One node whose port nobody serves: what it does of itself.

use std::{path::Path, sync::Arc, time::Duration};

use openraft::async_runtime::WatchReceiver as _;
use state::features::SUPPORTED;
use tokio::time::Instant;
use tonic::transport::Endpoint;
use types::{
    UnixMillis,
    time::{Clock as _, ManualClock, SystemClock},
};

use wal::{disk::Disk, faulty::FaultyDisk};

use super::*;
use crate::raft::{ProposeError, RaftConfig, RaftLimits, RaftNode, RaftTiming, WallClock, network::Lane};

/// A node that knows of no cluster. It founds none unasked.
pub(crate) async fn alone(dir: &Path) -> RaftNode {
    alone_at(dir, WallClock::system()).await
}

async fn alone_at(dir: &Path, clock: WallClock) -> RaftNode {
    alone_on(dir, clock, None).await
}

pub(super) async fn alone_on(dir: &Path, clock: WallClock, log_disk: Option<Arc<dyn Disk>>) -> RaftNode {
    try_alone_on(dir, clock, log_disk).await.unwrap()
}

/// As [`alone`], where that may fail.
pub(crate) async fn try_alone(dir: &Path) -> Result<RaftNode, StartError> {
    try_alone_on(dir, WallClock::system(), None).await
}

async fn try_alone_on(
    dir: &Path,
    clock: WallClock,
    log_disk: Option<Arc<dyn Disk>>,
) -> Result<RaftNode, StartError> {
    let config = RaftConfig {
        node: node("c0"),
        region: "r0".parse().unwrap(),
        witness: false,
        data_dir: dir.to_owned(),
        api_endpoint: "http://127.0.0.1:1".to_owned(),
        raft_endpoint: "http://127.0.0.1:1".to_owned(),
        bootstrap: None,
        // Nobody campaigns against it, and on a busy disk the first entry has its time.
        timing: RaftTiming {
            election_max: Duration::from_secs(4),
            ..RaftTiming::default()
        },
        timing_fixed: true,
        limits: RaftLimits::default(),
        clock,
        supported_level: SUPPORTED,
    };
    let dial = |_: &Peer, endpoint: Endpoint| Ok(endpoint.connect_lazy());
    RaftNode::start(config, Arc::new(dial), log_disk).await
}

/// The same, leading a cluster of its own.
pub(crate) async fn leading(dir: &Path) -> RaftNode {
    leads(alone(dir).await).await
}

pub(super) async fn leads(node: RaftNode) -> RaftNode {
    node.found(TimingPolicy::fast()).await.unwrap();
    let founded = tokio::time::Instant::now() + Duration::from_secs(40);
    node.founded(founded).await.unwrap();
    node
}

/// Also the one that does not answer, so that the level waits for it.
#[tokio::test]
async fn every_voter_is_asked_what_its_build_knows() {
    let dir = TempDir::new().unwrap();
    let node = alone(dir.path()).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = peer("c1", closed.local_addr().unwrap().port());
    drop(closed);
    let voters = BTreeMap::from([
        (node.own_id(), node.own_peer().clone()),
        (raft_id(&away.node), away),
    ]);
    node.raft().initialize(voters).await.unwrap();
    let mut metrics = node.raft().metrics();
    while node.voters().len() < 2 {
        metrics.changed().await.unwrap();
    }
    let said = node.supported_by_voters(Duration::from_secs(1)).await;
    let expected = [("c0", Some(SUPPORTED)), ("c1", None)].map(|(name, said)| (super::node(name), said));
    assert_eq!(said, BTreeMap::from(expected));
    node.shutdown().await;
}

/// Until its first entry is applied a founder is the member of a cluster that has no name: asked to be taken in, it would be
/// told that it lost its disk, and end. And it founds one cluster, however often it is asked to before that.
#[tokio::test]
async fn a_founder_is_known_as_one_at_once_and_founds_once() {
    let dir = TempDir::new().unwrap();
    let node = alone(dir.path()).await;
    assert!(!node.founds());
    node.found(TimingPolicy::fast()).await.unwrap();
    // What it has begun had no turn yet.
    assert!(node.founds());
    node.found(TimingPolicy::fast()).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    node.founded(deadline).await.unwrap();
    assert!(!node.founds());
    let region = Command::RegisterRegion {
        region: "r0".parse().unwrap(),
    };
    let actor = "spiffe://regent.local/user/admin".parse().unwrap();
    let id = RequestId::from_u128(uuid::Uuid::now_v7().as_u128());
    let third = node.propose(actor, id, region, deadline).await.unwrap();
    // After the blank entry of its leadership and the one that names the cluster.
    assert_eq!(third.revision, Revision(3));
    node.shutdown().await;
}

/// Its own clock jumps; what it proposes by itself goes on as if nothing had been.
#[tokio::test]
async fn ids_of_a_leaders_own_requests_follow_its_reckoning() {
    let dir = TempDir::new().unwrap();
    let start = SystemClock.now();
    let clock = Arc::new(ManualClock::new(start));
    let node = leads(alone_at(dir.path(), WallClock(clock.clone())).await).await;
    let deadline = || Instant::now() + Duration::from_secs(40);
    let first = node.own_request_id(deadline()).await;
    assert!(first.unix_millis() >= start.0, "{first}");
    for jump in [UnixMillis(0), start.plus(Duration::from_secs(86_400))] {
        clock.set(jump);
        let id = node.own_request_id(deadline()).await;
        let away = UnixMillis(id.unix_millis()).since(start);
        assert!(
            away < Duration::from_secs(600) && id.unix_millis() >= start.0,
            "{id}"
        );
    }
    node.shutdown().await;
}

/// I1 on a full disk: what is new is refused with what to do, nothing that was acknowledged is lost, and it ends by itself.
#[tokio::test]
async fn a_full_disk_refuses_proposals_and_ends_with_room() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new();
    let on = |disk: &FaultyDisk| -> Option<Arc<dyn Disk>> { Some(Arc::new(disk.clone())) };
    let node = leads(alone_on(dir.path(), WallClock::system(), on(&disk)).await).await;
    let mut models = 0;
    let mut propose = async || {
        let model = Command::CreateModel {
            name: format!("m{models}").parse().unwrap(),
            description: String::new(),
            tags: BTreeMap::new(),
            placement: types::model::Placement::default(),
        };
        let actor = "spiffe://regent.local/user/admin".parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(40);
        let id = node.own_request_id(deadline).await;
        let answer = node.propose(actor, id, model, deadline).await?;
        answer.outcome.as_ref().unwrap();
        models += 1;
        Ok(answer)
    };
    propose().await.unwrap();
    disk.set_capacity(Some(disk.used() + 1_000));
    let refused: ProposeError = loop {
        if let Err(refused) = propose().await {
            break refused;
        }
    };
    let text = refused.to_string();
    assert!(
        matches!(
            refused,
            ProposeError::DiskFull {
                free_bytes: 1_000,
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(
        text.starts_with(
            "the disk of c0 is full: 1000 bytes are free for /disk and 8388608 are needed; free some"
        ),
        "{text}"
    );
    assert_eq!(refused.to_refusal().reason.to_string(), "DISK_FULL");
    assert!(refused.to_refusal().reason.retryable() && refused.to_refusal().reason.surely_no_effect());
    disk.set_capacity(None);
    while propose().await.is_err() {
        tokio::task::yield_now().await;
    }
    node.shutdown().await;
    let node = alone_on(dir.path(), WallClock::system(), on(&disk.copy())).await;
    let revision = loop {
        if let Ok(revision) = node.linearize(Instant::now() + Duration::from_secs(40)).await {
            break revision;
        }
        tokio::task::yield_now().await;
    };
    node.wait_applied(revision, Instant::now() + Duration::from_secs(40))
        .await
        .unwrap();
    let there = |n: u64| node.read(|state| state.model(&format!("m{n}").parse().unwrap()).is_some());
    assert!(models > 1 && (0..models).all(there), "{models}");
    node.shutdown().await;
}

/// Raft takes no notice of one while it looks at another, and whoever wrote the second counts on its log being let go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raft_knows_of_every_snapshot_that_was_taken() {
    let dir = TempDir::new().unwrap();
    let node = leading(dir.path()).await;
    for _ in 0..20 {
        let (raft, entry) = (node.raft(), EntryBytes(codec::encode_entry(&raise(0)).into()));
        let (first, written, second) = tokio::join!(
            node.take_snapshot(),
            raft.client_write(entry),
            node.take_snapshot()
        );
        written.unwrap();
        drop((first.unwrap(), second.unwrap()));
        assert_eq!(node.status().snapshot, node.store().covered());
    }
    node.shutdown().await;
}

/// A question to it may be under way, and goes on with the next connection.
#[tokio::test]
async fn a_member_that_was_taken_out_is_connected_to_no_more() {
    let dir = TempDir::new().unwrap();
    let node = alone(dir.path()).await;
    let connections = node.connections();
    let (away, stays, comes) = (peer("c1", 1), peer("c2", 2), peer("c3", 3));
    let members = |peers: &[(u64, &Peer)]| {
        let nodes: BTreeMap<u64, Peer> = peers.iter().map(|(id, p)| (*id, (*p).clone())).collect();
        Membership::new(vec![nodes.keys().copied().collect()], nodes).unwrap()
    };
    let reaches = |id| connections.client(id, Lane::Heartbeat).is_ok();
    connections.learn(&members(&[(1, &away), (2, &stays)]));
    assert!(reaches(1) && reaches(2));
    // It is on its way in, and no member yet.
    connections.learn_one(3, &comes);
    connections.learn(&members(&[(2, &stays)]));
    assert!(!reaches(1) && reaches(2) && reaches(3));
    // It asks to be taken in again.
    connections.learn_one(1, &away);
    assert!(reaches(1));
    node.shutdown().await;
}
