//! What leaders send, on its way into the log: what is there already, what fits, and what outlives its stream.

use futures::{poll, stream};
use openraft::{
    async_runtime::WatchReceiver as _,
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use proto::raft_v1::{self as pb, raft_service_client::RaftServiceClient};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server, server::TcpIncoming};
use wal::faulty::FaultyDisk;

use super::{
    alone::{alone, alone_on},
    full::{Answers, PATIENCE, command, fill, message, takes, wait_for_disk, with_20_mib},
    *,
};
use crate::raft::{RaftNode, WallClock, convert, room::Passed};

/// So many of these, the first one at `from`.
fn commands(from: u64, count: u64, bytes: usize) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        entries: (from..from + count).map(|index| command(index, bytes)).collect(),
        ..message(command(from, 0))
    }
}

/// What the next leader sends, which knows nothing of this follower: entries that are here already, and then its first one.
#[tokio::test]
async fn a_full_disk_has_room_for_entries_that_are_on_it() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new();
    let node = alone_on(dir.path(), WallClock::system(), Some(Arc::new(disk.clone()))).await;
    takes(&node, blank(1, 0)).await;
    fill(&node, &disk).await;
    let mut next = 1;
    while node.takes_proposals() {
        takes(&node, command(next, 64 << 10)).await;
        next += 1;
    }
    let mut probe = commands(next / 2, next - next / 2, 64 << 10);
    probe.vote = vote(2, true);
    assert!(probe.entries.len() > 16, "{next}: more than what is left");
    let pass = node.pass(&mut probe).await.unwrap();
    assert!(!pass.is_cut());
    let taken = timeout(PATIENCE, node.raft().append_entries(probe)).await;
    assert_eq!(taken.unwrap().unwrap(), AppendEntriesResponse::Success);
    drop(pass);
    assert!(!node.refuses_entries());
    // One more than is here is left out, and what is here is answered.
    let mut probe = commands(next - 2, 3, 64 << 10);
    let pass = node.pass(&mut probe).await.unwrap();
    assert!(pass.is_cut() && probe.entries.len() == 2, "{probe}");
    assert!(node.refuses_entries());
    // Another leader's entry in the place of one is none that is here.
    let mut other = message(command(next - 1, 64 << 10));
    other.entries[0].log_id = log_id(2, next - 1);
    assert!(node.pass(&mut other).await.is_err());
    takes(&node, blank(2, next)).await;
    node.shutdown().await;
}

/// A batch that will never fit as a whole, as its leader will never send another one.
#[tokio::test]
async fn of_a_batch_that_does_not_fit_the_beginning_is_taken_and_nothing_behind_it() {
    let dir = TempDir::new().unwrap();
    let node = with_20_mib(&dir).await;
    let sent = [commands(1, 30, 1 << 20), commands(31, 1, 0)];
    let (raft, passed) = (node.raft(), Passed::default());
    let messages = node.let_through(stream::iter(sent), passed.clone());
    let (to_leader, mut answers) = mpsc::channel(64);
    let all = async {
        crate::raft::room::follow(raft.stream_append(messages), passed, to_leader).await;
        let answer = answers.recv().await.unwrap().unwrap().unwrap();
        (answer.unwrap(), answers.recv().await.is_none())
    };
    let (upto, is_all) = timeout(PATIENCE, all).await.unwrap();
    assert!(is_all);
    assert!((1..30).contains(&upto.index()), "{upto}");
    let last = node.raft().metrics().borrow_watched().last_log_index;
    assert_eq!(last, Some(upto.index()));
    assert_eq!(node.sent().passing(), wal::Passing::default());
    node.shutdown().await;
}

#[tokio::test]
async fn a_batch_is_cut_to_all_that_fits() {
    let dir = TempDir::new().unwrap();
    let node = with_20_mib(&dir).await;
    for (count, bytes) in [(64, 1 << 20), (61, 700 << 10)] {
        let mut sent = commands(1, count, bytes);
        let pass = timeout(PATIENCE, node.pass(&mut sent)).await.unwrap().unwrap();
        let cut = sent.entries.len();
        assert!(pass.is_cut() && node.sent().passing().entries == cut);
        let fits = |count: usize| node.room().takes(wal::Passing::default(), &vec![bytes; count]);
        assert!(fits(cut) && !fits(cut + 1), "{cut} of {count}");
    }
    node.shutdown().await;
}

/// Whatever the disk has room for: it is in memory until then.
#[tokio::test]
async fn what_waits_in_memory_has_a_bound() {
    let dir = TempDir::new().unwrap();
    let node = alone(dir.path()).await;
    takes(&node, blank(1, 0)).await;
    let bound = node.room().queue_bytes();
    let mut large = message(command(1, 1 << 20));
    let mut passed = Vec::new();
    for _ in 0..bound >> 20 {
        passed.push(node.pass(&mut large).await.unwrap());
    }
    let mut waits = Box::pin(node.pass(&mut large));
    assert!(poll!(&mut waits).is_pending());
    // What elects does not wait.
    let mut elects = message(blank(2, 1));
    drop(timeout(PATIENCE, node.pass(&mut elects)).await.unwrap().unwrap());
    passed.pop();
    drop(timeout(PATIENCE, waits).await.unwrap().unwrap());
    drop(passed);
    // A single one may be larger than all that may wait.
    let mut larger = commands(1, 24, 1 << 20);
    let pass = timeout(PATIENCE, node.pass(&mut larger)).await.unwrap().unwrap();
    assert!(!pass.is_cut());
    node.shutdown().await;
}

/// A member whose Raft waits for room on its disk, and its leader.
struct Full {
    _dir: TempDir,
    disk: FaultyDisk,
    node: RaftNode,
    leader: RaftServiceClient<Channel>,
    served: CancellationToken,
    held: tokio::task::JoinHandle<Answers>,
}

impl Full {
    async fn begin() -> Self {
        let dir = TempDir::new().unwrap();
        let disk = FaultyDisk::new();
        let node = alone_on(dir.path(), WallClock::system(), Some(Arc::new(disk.clone()))).await;
        node.enter_cluster(ClusterId::from_u128(7)).unwrap();
        let (served, leader) = serve(&node).await;
        takes(&node, blank(1, 0)).await;
        fill(&node, &disk).await;
        let held = wait_for_disk(&node).await;
        Self {
            _dir: dir,
            disk,
            node,
            leader,
            served,
            held,
        }
    }

    async fn end(self) {
        self.disk.set_capacity(None);
        self.held.await.unwrap();
        self.served.cancel();
        self.node.shutdown().await;
    }
}

/// It is still on its way into the log, whoever waits for the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_let_through_outlives_its_stream() {
    let mut full = Full::begin().await;
    let node = full.node.clone();
    // More than one after the other could be under way by chance.
    for count in 1..=8 {
        // What changes members passes at once, full or not.
        let change = LogEntry {
            payload: EntryPayload::Membership(Membership::default()),
            ..blank(1, 40)
        };
        let sent = convert::append_out(&message(change), Some(route(&node)));
        let gives_up = CancellationToken::new();
        let requests = stream::iter([sent]).chain(stream::pending());
        let requests = requests.take_until(gives_up.clone().cancelled_owned());
        let answers = full.leader.stream_append(requests).await.unwrap().into_inner();
        // Its leader gives up, and begins another.
        is_passing(&node, count).await;
        drop(answers);
        gives_up.cancel();
    }
    full.disk.set_capacity(None);
    is_passing(&node, 0).await;
    full.end().await;
}

/// Nobody waits for it any more, and its leader sends the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_was_given_up_leaves_nothing_behind_on_a_disk_that_hangs() {
    let mut full = Full::begin().await;
    let node = full.node.clone();
    let tasks = node.inner.tasks.len();
    for _ in 0..8 {
        let heartbeat = AppendEntriesRequest {
            entries: Vec::new(),
            ..message(blank(1, 40))
        };
        let before = node.hearing().last();
        let arrives = async {
            while node.hearing().last() == before {
                tokio::task::yield_now().await;
            }
        };
        let sent = full
            .leader
            .append(convert::append_out(&heartbeat, Some(route(&node))));
        tokio::select! {
            answer = sent => panic!("{answer:?} from a node that waits for its disk"),
            arrived = timeout(PATIENCE, arrives) => arrived.unwrap(),
        }
    }
    assert_eq!(node.inner.tasks.len(), tasks);
    full.end().await;
}

async fn is_passing(node: &RaftNode, count: usize) {
    let until = tokio::time::Instant::now() + PATIENCE;
    let passing = async {
        while node.sent().passing().entries != count {
            tokio::task::yield_now().await;
        }
    };
    timeout_at(until, passing).await.unwrap();
}

fn route(to: &RaftNode) -> pb::Route {
    pb::Route {
        from: raft_id(&node("c3")),
        to: to.own_id(),
        cluster_id: to.cluster_id().unwrap().to_bytes().to_vec(),
        remembered: Some(pb::Remembered::default()),
        ..pb::Route::default()
    }
}

/// The node's port, and c3, which calls it.
async fn serve(node: &RaftNode) -> (CancellationToken, RaftServiceClient<Channel>) {
    let c3 = "spiffe://regent.local/region/r1/coordinator/c3";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let end = CancellationToken::new();
    let service = node.service(Arc::new(move |_| Ok(c3.parse().unwrap())));
    let server = Server::builder().add_service(service);
    let ended = end.clone().cancelled_owned();
    tokio::spawn(server.serve_with_incoming_shutdown(TcpIncoming::from(listener), ended));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    (end, RaftServiceClient::new(endpoint.connect().await.unwrap()))
}
