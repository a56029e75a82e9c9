//! The store by itself: openraft's own suite, what a crash leaves on disk, and the steps of a join.

pub(crate) mod alone;
mod full;
mod log;
mod passing;
mod replica;
mod snapshots;
mod standing;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use openraft::{
    EntryPayload, RaftLogReader as _, RaftMetrics, ServerState, StorageError,
    impls::leader_id_std::LeaderId,
    storage::{IOFlushed, RaftLogStorage as _, RaftStateMachine as _},
    testing::log::{StoreBuilder, Suite},
    type_config::TypeConfigExt as _,
    vote::RaftVote as _,
};
use state::{Command, ControlState, Entry, codec, features::SUPPORTED};
use tempfile::TempDir;
use tokio::sync::oneshot;
use types::{ClusterId, DiskId, NodeId, RequestId, Revision, UnixMillis, role::TimingPolicy};
use wal::disk::RealDisk;

use super::{
    config::RaftLimits,
    error::{JoinError, StartError},
    files::{self, journal},
    identity::Identity,
    log_store::LogStore,
    membership::{JoinStep, next_step, successor},
    publish::{Published, Publisher},
    snapshot::{SnapshotDir, SnapshotFile},
    state_machine::{StateMachine, Store},
    types::{EntryBytes, LogEntry, Membership, Peer, SnapshotMeta, TypeConfig, Vote, log_id, raft_id},
    view::{Leadership, Member, next_leadership},
};
use crate::door_log::{self, DoorLog};

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
        let machine = StateMachine(open_store(identity.clone()).unwrap());
        let (log, _) = open_log(dir.path(), &identity);
        Ok((dir, log, machine))
    }
}

fn open_store(identity: Arc<Identity>) -> Result<Arc<Store>, StartError> {
    Store::open(identity, RaftLimits::default().growth(), SUPPORTED)
}

fn open_log(dir: &Path, identity: &Arc<Identity>) -> (LogStore, oneshot::Receiver<()>) {
    let log = dir.join("log");
    fs::create_dir_all(&log).unwrap();
    LogStore::open(Arc::new(RealDisk::new(log)), identity.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_does_what_openraft_demands() {
    Suite::test_all(OnDisk).await.unwrap();
}

fn vote(term: u64, committed: bool) -> Vote {
    let leader = LeaderId { term, voted_for: 3 };
    Vote::from_leader_id(leader, committed)
}

fn blank(term: u64, index: u64) -> LogEntry {
    LogEntry {
        log_id: log_id(term, index),
        payload: EntryPayload::Blank,
    }
}

async fn append(log: &mut LogStore, entries: Vec<LogEntry>) {
    let (flushed, done) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(flushed)).await.unwrap();
    done.await.unwrap().unwrap();
}

fn founding(cluster_id: ClusterId) -> Entry {
    Entry {
        proposed_at: UnixMillis(1),
        request_id: RequestId::from_u128(0x0000_0000_0001_7000_8000_0000_0000_0001),
        actor: "spiffe://regent.local/region/r1/coordinator/c1".parse().unwrap(),
        command: Command::InitCluster {
            cluster_id,
            generation: 1,
            timing: TimingPolicy::fast(),
        },
        expects: state::Expects::default(),
    }
}

/// A state that a cluster's first entry began.
fn founded(cluster_id: ClusterId) -> ControlState {
    let mut state = ControlState::new();
    state.apply(Revision(1), &founding(cluster_id)).outcome.unwrap();
    state
}

fn raise(level: u32) -> Entry {
    Entry {
        proposed_at: UnixMillis(2),
        request_id: RequestId::from_u128(0x0000_0000_0002_7000_8000_0000_0000_0001),
        actor: "spiffe://regent.local/region/r1/coordinator/c1".parse().unwrap(),
        command: Command::SetFeatureLevel { level },
        expects: state::Expects::default(),
    }
}

/// Both levels, and the remedy.
fn says_upgrade(text: &str) {
    let words = format!(
        "feature level {}, and this build knows levels up to {SUPPORTED}: upgrade this coordinator",
        SUPPORTED + 1
    );
    assert!(text.contains(&words), "{text}");
}

fn peer(name: &str, port: u16) -> Peer {
    Peer {
        node: node(name),
        raft_endpoint: format!("https://127.0.0.1:{port}"),
        ..Peer::default()
    }
}

fn step(revision: u64) -> Published {
    Published::Applied {
        revision: Revision(revision),
        events: [].into(),
    }
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(log_id(2, index)),
        ..SnapshotMeta::default()
    }
}
