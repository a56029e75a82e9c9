//! The store by itself: openraft's own suite, what a crash leaves on disk, and the steps of a join.

pub(crate) mod alone;
mod full;

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
    storage::{IOFlushed, RaftLogStorage as _, RaftSnapshotBuilder as _, RaftStateMachine as _},
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

fn peer(name: &str, port: u16) -> Peer {
    Peer {
        node: node(name),
        raft_endpoint: format!("https://127.0.0.1:{port}"),
        ..Peer::default()
    }
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

/// Writes entries 0 to 9 and a vote, and closes.
async fn written() -> (TempDir, Arc<Identity>) {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    let (mut log, closed) = open_log(dir.path(), &identity);
    log.save_vote(&vote(4, true)).await.unwrap();
    for index in 0..10 {
        append(&mut log, vec![blank(4, index)]).await;
    }
    drop(log);
    // The sender is dropped, never used: the error says that the files are closed.
    closed.await.unwrap_err();
    (dir, identity)
}

/// The segment that holds something, and where its last byte is.
fn segment(dir: &Path) -> (PathBuf, Vec<u8>, usize) {
    let path = dir.join("log/000000000001.seg");
    let bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    (path, bytes, end)
}

#[tokio::test]
async fn acknowledged_entries_and_votes_are_there_after_a_restart() {
    let (dir, identity) = written().await;
    // Half of a write that a crash cut short.
    let (path, mut bytes, end) = segment(dir.path());
    let begins = (end + 1).next_multiple_of(8);
    bytes[begins..begins + 6].copy_from_slice(b"RGfr\x07\x07");
    fs::write(path, bytes).unwrap();
    let (mut log, _) = open_log(dir.path(), &identity);
    let left = log.try_get_log_entries(0..).await.unwrap();
    assert_eq!(
        left.iter().map(|e| e.log_id.index()).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    assert_eq!(log.read_vote().await.unwrap(), Some(vote(4, true)));
    append(&mut log, vec![blank(5, 10)]).await;
}

/// The last one, too: the log said behind it that it was durable when it closed.
#[tokio::test]
async fn damage_in_the_log_is_refused_with_file_byte_and_the_way_back() {
    let (dir, identity) = written().await;
    let (path, bytes, end) = segment(dir.path());
    for at in (5_000..end - 60).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        fs::write(&path, damaged).unwrap();
        let opened = LogStore::open(Arc::new(RealDisk::new(dir.path().join("log"))), identity.clone());
        let Err(error) = opened else { continue };
        let said = StartError::from(error).to_string();
        assert!(said.contains("000000000001.seg is damaged: at byte "), "{said}");
        assert!(
            said.contains("was expected") && said.contains("never start"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_log_of_the_former_format_is_refused_with_the_way_out() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    let former = dir.path().join("log/r-00_000_000_000_000_000_000.wal");
    fs::create_dir_all(dir.path().join("log")).unwrap();
    fs::write(&former, b"").unwrap();
    let opened = LogStore::open(Arc::new(RealDisk::new(dir.path().join("log"))), identity);
    let said = StartError::from(opened.err().unwrap()).to_string();
    assert!(said.contains(&former.display().to_string()), "{said}");
    assert!(
        said.contains("earlier format") && said.contains("go on with the build that wrote it"),
        "{said}"
    );
}

#[tokio::test]
async fn what_apply_asks_for_comes_in_pieces_and_whole() {
    let (dir, identity) = written().await;
    let (mut log, _) = open_log(dir.path(), &identity);
    let large = |index| LogEntry {
        payload: EntryPayload::Normal(EntryBytes(vec![7; 1 << 20].into())),
        ..blank(4, index)
    };
    // More than one piece, and more than is kept in memory.
    for index in 10..40 {
        append(&mut log, vec![large(index)]).await;
    }
    let entries: Vec<_> = log.entries_stream(3..40).await.collect().await;
    let indexes: Vec<_> = entries.into_iter().map(|e| e.unwrap().log_id.index()).collect();
    assert_eq!(indexes, (3..40).collect::<Vec<_>>());
    let sent = log.limited_get_log_entries(9, 40).await.unwrap();
    assert!(sent.len() > 1 && sent.len() < 20, "{}", sent.len());
    assert_eq!(log.limited_get_log_entries(39, 40).await.unwrap(), [large(39)]);
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(log_id(2, index)),
        ..SnapshotMeta::default()
    }
}

/// I1: a name on a file whose bytes are not on the disk is a snapshot that a crash makes unreadable, and the log before it
/// is gone by then.
#[test]
fn a_files_bytes_are_synced_before_it_gets_its_name_and_the_name_after() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    let snapshots = SnapshotDir::open(dir.path()).unwrap();
    journal::take();
    drop(write(&snapshots, 7));
    let named = |temporary: &str| {
        [
            format!("sync {temporary}"),
            format!("rename {temporary}"),
            format!("sync {folder}"),
        ]
    };
    assert_eq!(
        journal::take(),
        named("incoming-0.tmp"),
        "one that was built here"
    );
    let mut incoming = snapshots.receive().unwrap();
    incoming.write(b"from the wire").unwrap();
    drop(snapshots.adopt(&meta(9), incoming.finish().unwrap()).unwrap());
    assert_eq!(journal::take(), named("incoming-1.tmp"), "one that was received");
    files::replace(&dir.path().join("node.json"), b"{}").unwrap();
    assert_eq!(journal::take(), named("node.json.tmp"), "a small file");
}

/// The log forgets the entries of a snapshot, and nothing else could write their lines again.
#[test]
fn the_lines_of_the_door_are_durable_before_the_snapshot_is() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    let store = open_store(identity).unwrap();
    journal::take();
    drop(store.write_snapshot().unwrap());
    assert_eq!(
        journal::take(),
        [
            "sync registry-door.jsonl",
            "sync incoming-0.tmp",
            "rename incoming-0.tmp",
            "sync snapshots"
        ]
    );
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

/// A state's snapshot, as it comes from a leader.
fn snapshot_of(state: &ControlState, store: &Store) -> (SnapshotMeta, SnapshotFile) {
    let elsewhere = TempDir::new().unwrap();
    let written = SnapshotDir::open(elsewhere.path()).unwrap();
    let meta = meta(7);
    let written = written.write(&meta, state, || Ok(())).unwrap();
    let mut incoming = store.snapshots().receive().unwrap();
    incoming.write(&fs::read(written.path()).unwrap()).unwrap();
    (meta, incoming.finish().unwrap())
}

/// As above: the log forgets its entries behind a leader's snapshot, too.
#[test]
fn the_lines_of_the_door_are_durable_before_a_leaders_snapshot_is_taken_over() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    identity.learn_cluster(ClusterId::from_u128(5)).unwrap();
    let store = open_store(identity).unwrap();
    let (meta, snapshot) = snapshot_of(&founded(ClusterId::from_u128(5)), &store);
    journal::take();
    store.install(&meta, snapshot).unwrap();
    assert_eq!(
        journal::take(),
        [
            "sync registry-door.jsonl",
            "rename incoming-0.tmp",
            "sync snapshots"
        ]
    );
    assert_eq!(store.applied().last, meta.last_log_id);
}

#[tokio::test]
async fn a_snapshot_of_another_cluster_is_refused() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    identity.learn_cluster(ClusterId::from_u128(5)).unwrap();
    let mut machine = StateMachine(open_store(identity.clone()).unwrap());
    let (meta, snapshot) = snapshot_of(&founded(ClusterId::from_u128(6)), &machine.0);
    let refused = machine.install_snapshot(&meta, snapshot).await.unwrap_err();
    assert!(refused.to_string().contains("belongs to cluster"), "{refused}");
    assert_eq!(machine.0.applied().last, None);
    assert!(machine.0.snapshots().newest().unwrap().is_none());
    assert_eq!(identity.cluster_id(), Some(ClusterId::from_u128(5)));
}

/// Writes a snapshot of some state.
fn write(snapshots: &SnapshotDir, index: u64) -> SnapshotFile {
    let state = founded(ClusterId::from_u128(5));
    snapshots.write(&meta(index), &state, || Ok(())).unwrap()
}

/// States whose snapshots are of each layout.
fn each_layout() -> [ControlState; 2] {
    let older = founded(ClusterId::from_u128(5));
    let mut framed = older.clone();
    framed.apply(Revision(2), &raise(2)).outcome.unwrap();
    [older, framed]
}

#[test]
fn a_snapshot_comes_back_whole_or_not_at_all() {
    for (state, begins) in each_layout().iter().zip([b"RGNTRAFT", b"RGNTSNAP"]) {
        let dir = TempDir::new().unwrap();
        let snapshots = SnapshotDir::open(dir.path()).unwrap();
        drop(write(&snapshots, 7));
        let file = snapshots.write(&meta(12), state, || Ok(())).unwrap();
        let loaded = file.load().unwrap();
        assert_eq!((&loaded.meta, &loaded.state), (&meta(12), state));
        // One that was cut off while it came is forgotten; the old one went when the new one had its name.
        let mut half = snapshots.receive().unwrap();
        half.write(b"RGNT").unwrap();
        std::mem::forget(half);
        let snapshots = SnapshotDir::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let newest = snapshots.newest().unwrap().unwrap();
        let bytes = fs::read(newest.path()).unwrap();
        assert!(bytes.starts_with(begins));
        assert_eq!(newest.digest().unwrap()[..], bytes[bytes.len() - 32..]);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            fs::write(newest.path(), &bad).unwrap();
            let error = snapshots.newest().unwrap().unwrap().load().unwrap_err();
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::InvalidData,
                "byte {at}: {error}"
            );
        }
        fs::write(newest.path(), &bytes[..bytes.len() - 1]).unwrap();
        assert!(snapshots.newest().unwrap().unwrap().load().is_err());
    }
}

/// The files that each layout began with: a coordinator of any later release starts from them.
#[test]
fn snapshots_of_each_layout_are_read_for_ever() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    for (state, name) in each_layout().iter().zip(["snapshot-v1.snap", "snapshot-v2.snap"]) {
        let path = folder.join(name);
        if !path.exists() && std::env::var_os("REGENT_UPDATE").is_some() {
            let dir = TempDir::new().unwrap();
            let written = SnapshotDir::open(dir.path()).unwrap();
            let written = written.write(&meta(7), state, || Ok(())).unwrap();
            fs::copy(written.path(), &path).unwrap();
        }
        let dir = TempDir::new().unwrap();
        let snapshots = SnapshotDir::open(dir.path()).unwrap();
        fs::copy(
            &path,
            dir.path()
                .join("snapshot-00000000000000000007-00000000000000000002.snap"),
        )
        .unwrap();
        let loaded = snapshots.newest().unwrap().unwrap().load().unwrap();
        assert_eq!((&loaded.meta, &loaded.state), (&meta(7), state), "{name}");
    }
}

/// What comes over the wire is looked at before Raft is told of it: a damaged one stops no node.
#[test]
fn a_snapshot_that_was_changed_on_its_way_is_seen_when_it_has_come() {
    for state in each_layout() {
        let dir = TempDir::new().unwrap();
        let snapshots = SnapshotDir::open(dir.path()).unwrap();
        let bytes = fs::read(snapshots.write(&meta(7), &state, || Ok(())).unwrap().path()).unwrap();
        let arrives = |bytes: &[u8], part: usize| {
            let mut incoming = snapshots.receive().unwrap();
            bytes.chunks(part).for_each(|part| incoming.write(part).unwrap());
            incoming.is_whole()
        };
        for part in [1, 31, 32, 33, bytes.len()] {
            assert!(arrives(&bytes, part), "in parts of {part}");
            for at in (0..bytes.len()).step_by(7) {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                assert!(!arrives(&bad, part), "byte {at}");
            }
            assert!(!arrives(&bytes[..bytes.len() - 1], part));
            assert!(!arrives(&bytes[..20], part));
        }
    }
}

/// A full disk is no reason to stop, and leaves nothing behind.
#[test]
fn a_snapshot_for_which_there_is_no_room_leaves_everything_as_it_was() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    let store = open_store(identity).unwrap();
    let folder = dir.path().join("snapshots");
    // Whatever is written here meets a full disk.
    std::os::unix::fs::symlink("/dev/full", folder.join("incoming-0.tmp")).unwrap();
    let error = store.write_snapshot().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    assert!(store.snapshots().newest().unwrap().is_none());
    drop(store.write_snapshot().unwrap());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

/// Voters that have applied the same log have the same hashes to compare.
#[tokio::test]
async fn the_hash_of_every_thousandth_revision_is_kept() {
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let dir = TempDir::new().unwrap();
        let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
        let mut machine = StateMachine(open_store(identity).unwrap());
        let founding = LogEntry {
            payload: EntryPayload::Normal(EntryBytes(
                codec::encode_entry(&founding(ClusterId::from_u128(5))).into(),
            )),
            ..blank(1, 1)
        };
        let entries = std::iter::once(founding).chain((2..=2_001).map(|index| blank(1, index)));
        let entries = futures::stream::iter(entries.map(|e| Ok((e, None))));
        machine.apply(entries).await.unwrap();
        let expected = machine.0.view().state.state_hash();
        assert_eq!(
            machine.0.hashes(),
            [(Revision(1_000), expected), (Revision(2_000), expected)]
        );
        hashes.push(machine.0.hashes());
    }
    assert_eq!(hashes[0], hashes[1]);
}

/// Readers of long lists and builders of snapshots look at a view.
#[tokio::test]
async fn a_view_sees_nothing_of_what_comes_after_it() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    let mut machine = StateMachine(open_store(identity).unwrap());
    let entry = |index, entry: &Entry| LogEntry {
        payload: EntryPayload::Normal(EntryBytes(codec::encode_entry(entry).into())),
        ..blank(1, index)
    };
    let first = [Ok((entry(1, &founding(ClusterId::from_u128(5))), None))];
    machine.apply(futures::stream::iter(first)).await.unwrap();
    let mut builder = machine.get_snapshot_builder().await;
    let (view, copy) = (machine.0.view(), machine.0.view().state);
    machine
        .apply(futures::stream::iter([Ok((entry(2, &raise(1)), None))]))
        .await
        .unwrap();
    assert_eq!((view.revision(), &view.state), (Revision(1), &copy));
    assert_eq!(machine.0.view().state.features().level(), 1);
    let built = builder.build_snapshot().await.unwrap();
    assert_eq!(built.snapshot.load().unwrap().state, copy);
}

/// One is built while another is received, and a follower asks for the newest meanwhile: each finds a whole one.
#[test]
fn snapshots_are_named_removed_and_read_at_the_same_time() {
    let dir = TempDir::new().unwrap();
    let snapshots = SnapshotDir::open(dir.path()).unwrap();
    drop(write(&snapshots, 1));
    std::thread::scope(|scope| {
        for parity in [0, 1] {
            let snapshots = &snapshots;
            scope.spawn(move || {
                for index in 1..=100 {
                    drop(write(snapshots, 2 * index + parity));
                }
            });
        }
        for _ in 0..500 {
            snapshots.newest().unwrap().unwrap().load().unwrap();
        }
    });
    let last = snapshots.newest().unwrap().unwrap().load().unwrap();
    assert_eq!(last.meta, meta(201));
}

#[tokio::test]
async fn an_older_snapshot_never_replaces_a_newer_one() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    let mut machine = StateMachine(open_store(identity).unwrap());
    let mut early = machine.get_snapshot_builder().await;
    machine
        .apply(futures::stream::iter([
            Ok((blank(1, 0), None)),
            Ok((blank(1, 1), None)),
        ]))
        .await
        .unwrap();
    let mut late = machine.get_snapshot_builder().await;
    late.build_snapshot().await.unwrap();
    early.build_snapshot().await.unwrap();
    let current = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(log_id(1, 1)));
    assert_eq!(current.snapshot.load().unwrap().meta, current.meta);
}

/// Raft ends without waiting for a snapshot that it asked for: the next run must not find it appear in its directory.
#[tokio::test]
async fn a_stopped_node_changes_no_file() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    let mut machine = StateMachine(open_store(identity).unwrap());
    let entries = || futures::stream::iter([Ok((blank(1, 0), None))]);
    machine.apply(entries()).await.unwrap();
    let mut builder = machine.get_snapshot_builder().await;
    machine.0.close();
    assert!(builder.build_snapshot().await.is_err());
    assert!(machine.apply(entries()).await.is_err());
    let mut incoming = machine.0.snapshots().receive().unwrap();
    incoming.write(b"never read").unwrap();
    let received = incoming.finish().unwrap();
    assert!(machine.install_snapshot(&meta(9), received).await.is_err());
    assert!(machine.0.snapshots().newest().unwrap().is_none());
}

#[tokio::test]
async fn an_entry_that_cannot_be_decoded_stops_the_replica_and_says_why() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    let mut machine = StateMachine(open_store(identity).unwrap());
    let garbage = LogEntry {
        payload: EntryPayload::Normal(EntryBytes(b"\xff\xff".to_vec().into())),
        ..blank(1, 1)
    };
    let entries = futures::stream::iter([Ok((blank(1, 0), None)), Ok((garbage, None))]);
    let error = machine.apply(entries).await.unwrap_err().to_string();
    assert!(error.contains("entry r1 cannot be decoded"), "{error}");
    assert_eq!(machine.0.applied().last, Some(log_id(1, 0)));
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

#[tokio::test]
async fn a_level_above_the_builds_own_stops_the_replica_before_it_is_applied() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    let mut machine = StateMachine(open_store(identity).unwrap());
    let entry = |index, entry: &Entry| LogEntry {
        payload: EntryPayload::Normal(EntryBytes(codec::encode_entry(entry).into())),
        ..blank(1, index)
    };
    let entries = [
        entry(1, &founding(ClusterId::from_u128(5))),
        entry(2, &raise(SUPPORTED + 1)),
        blank(1, 3),
    ];
    let entries = futures::stream::iter(entries.map(|e| Ok((e, None))));
    says_upgrade(&machine.apply(entries).await.unwrap_err().to_string());
    let applied = machine.0.applied();
    assert_eq!(
        (applied.last, applied.state.features().level()),
        (Some(log_id(1, 1)), 0)
    );
}

/// Nor does it start on one that it took while it was of another build.
#[tokio::test]
async fn a_snapshot_above_the_builds_level_is_neither_taken_over_nor_started_from() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    identity.learn_cluster(ClusterId::from_u128(5)).unwrap();
    let mut machine = StateMachine(open_store(identity.clone()).unwrap());
    let mut state = ControlState::new();
    let entries = [founding(ClusterId::from_u128(5)), raise(SUPPORTED + 1)];
    for (at, entry) in (1..).zip(&entries) {
        state.apply(Revision(at), entry).outcome.unwrap();
    }
    let (meta, snapshot) = snapshot_of(&state, &machine.0);
    let refused = machine.install_snapshot(&meta, snapshot).await;
    says_upgrade(&refused.unwrap_err().to_string());
    assert_eq!(machine.0.applied().last, None);
    let written = SnapshotDir::open(&dir.path().join("snapshots")).unwrap();
    written.write(&meta, &state, || Ok(())).unwrap();
    let refused = open_store(identity).unwrap_err();
    assert!(matches!(refused, StartError::TooOld { .. }), "{refused:?}");
    says_upgrade(&refused.to_string());
}

#[test]
fn each_own_leadership_has_its_own_beginning() {
    let own = raft_id(&node("c0"));
    let metrics = |term: u64, state: ServerState, applied: Option<(u64, u64)>| RaftMetrics::<TypeConfig> {
        current_term: term,
        state,
        current_leader: (state == ServerState::Leader).then_some(own),
        last_applied: applied.map(|(term, index)| log_id(term, index)),
        ..RaftMetrics::new_initial(own)
    };
    let follows = next_leadership(
        &Leadership::default(),
        &metrics(3, ServerState::Follower, Some((2, 9))),
    );
    assert_eq!((follows.is_leader, follows.since), (false, None));
    let elected = next_leadership(&follows, &metrics(4, ServerState::Leader, Some((2, 9))));
    assert_eq!(
        (elected.is_leader, elected.since),
        (true, None),
        "no entry of its own term is applied yet"
    );
    let leads = next_leadership(&elected, &metrics(4, ServerState::Leader, Some((4, 10))));
    assert!(leads.since.is_some());
    let still = next_leadership(&leads, &metrics(4, ServerState::Leader, Some((4, 11))));
    assert_eq!(still.since, leads.since);
    // Lost and won again between two looks: another term, another beginning.
    let again = next_leadership(&still, &metrics(6, ServerState::Leader, Some((6, 12))));
    assert!(again.since > still.since);
    let lost = next_leadership(&again, &metrics(7, ServerState::Follower, Some((6, 12))));
    assert_eq!((lost.is_leader, lost.since, lost.term), (false, None, 7));
}

/// (name, votes, matched, silent for)
#[test]
fn leadership_is_handed_to_the_most_caught_up_voter_that_answers() {
    let chosen = |others: &[(&str, bool, u64, Option<u64>)]| {
        let member = |(name, voter, matched, silent_millis): &(&str, bool, u64, Option<u64>)| Member {
            raft_id: raft_id(&node(name)),
            peer: peer(name, 1),
            voter: *voter,
            leader: false,
            matched: Some(Revision(*matched)),
            silent_millis: *silent_millis,
        };
        let others = others.iter().map(member).collect();
        let chosen = successor(others, Duration::from_millis(500));
        chosen.map(|m| m.peer.node.to_string()).unwrap_or_default()
    };
    assert_eq!(chosen(&[]), "");
    assert_eq!(chosen(&[("b", false, 9, Some(1))]), "");
    assert_eq!(chosen(&[("b", true, 8, Some(1)), ("c", true, 9, Some(1))]), "c");
    assert_eq!(
        chosen(&[("b", true, 8, Some(499)), ("c", true, 9, Some(500))]),
        "b"
    );
    assert_eq!(chosen(&[("b", true, 9, Some(1)), ("c", true, 9, None)]), "b");
    assert_eq!(chosen(&[("b", true, 8, None), ("c", true, 9, None)]), "c");
}

/// Two directories under one name must not count as one voter; one of an older version has no id to compare.
#[test]
fn a_member_is_its_disk_as_far_as_that_is_known() {
    let on = |disk: Option<u128>, port| Peer {
        disk: disk.map(DiskId::from_u128),
        ..peer("a", port)
    };
    let step = |known: Option<u128>, who: Peer| {
        let peers = BTreeMap::from([(raft_id(&node("a")), on(known, 1))]);
        let membership = Membership::new(vec![peers.keys().copied().collect()], peers).unwrap();
        next_step(&membership, &who)
    };
    for (known, shown, expected) in [
        (None, None, JoinStep::Done),
        (Some(1), Some(1), JoinStep::Done),
        (Some(1), None, JoinStep::Done),
        (None, Some(1), JoinStep::UpdateEndpoints),
    ] {
        assert_eq!(step(known, on(shown, 1)), Ok(expected), "{known:?} {shown:?}");
        assert_eq!(
            step(known, on(shown, 2)),
            Ok(JoinStep::UpdateEndpoints),
            "{known:?} {shown:?}"
        );
    }
    assert_eq!(on(None, 2).after(&on(Some(1), 1)), on(Some(1), 2));
    for port in [1, 2] {
        let refused = step(Some(1), on(Some(2), port));
        assert!(matches!(refused, Err(JoinError::OtherDisk { .. })), "{refused:?}");
    }
}

#[test]
fn a_joining_node_takes_one_step_at_a_time() {
    let ids: Vec<u64> = ["a", "b"].map(|n| raft_id(&node(n))).into();
    let membership = |voters: &[u64]| {
        let peers = BTreeMap::from([(ids[0], peer("a", 1)), (ids[1], peer("b", 2))]);
        Membership::new(vec![BTreeSet::from_iter(voters.iter().copied())], peers).unwrap()
    };
    let check = |voters: &[u64], who: Peer| next_step(&membership(voters), &who).unwrap();
    assert_eq!(check(&ids[..1], peer("c", 3)), JoinStep::AddLearner);
    assert_eq!(check(&ids[..1], peer("b", 2)), JoinStep::Promote);
    assert_eq!(check(&ids[..1], peer("b", 3)), JoinStep::UpdateEndpoints);
    assert_eq!(check(&ids, peer("b", 3)), JoinStep::UpdateEndpoints);
    assert_eq!(check(&ids, peer("b", 2)), JoinStep::Done);
    // A name that gives the id of another member.
    let taken = BTreeMap::from([(raft_id(&node("c")), peer("a", 1))]);
    let taken = Membership::new(vec![taken.keys().copied().collect()], taken).unwrap();
    let refused = next_step(&taken, &peer("c", 3)).unwrap_err().to_string();
    assert!(
        refused.contains("node c and member a have the same raft id"),
        "{refused}"
    );
}

#[test]
fn raft_ids_follow_from_names_alone() {
    // SHA-256 of "a" begins ca978112ca1bbdca; the top bit is cleared.
    assert_eq!(raft_id(&node("a")), 0x4a97_8112_ca1b_bdca);
}

fn step(revision: u64) -> Published {
    Published::Applied {
        revision: Revision(revision),
        events: [].into(),
    }
}

#[tokio::test]
async fn the_first_subscriber_gets_the_backlog_and_later_ones_start_now() {
    let publisher = Publisher::new(Revision(4));
    publisher.publish(step(5)).await;
    publisher.publish(step(6)).await;
    let mut first = publisher.subscribe();
    let mut second = publisher.subscribe();
    publisher.publish(step(7)).await;
    drop(publisher);
    assert_eq!((first.after(), second.after()), (Revision(4), Revision(6)));
    let mut seen = Vec::new();
    while let Some(Published::Applied { revision, .. }) = first.next().await {
        seen.push(revision.0);
    }
    assert_eq!(seen, [5, 6, 7]);
    assert!(matches!(
        second.next().await,
        Some(Published::Applied {
            revision: Revision(7),
            ..
        })
    ));
    assert!(second.next().await.is_none());
}

#[test]
fn the_door_log_cuts_a_torn_line_and_repeats_none() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(door_log::FILE_NAME);
    let record = || state::DoorRecord {
        role: types::RoleName::global(),
        shown: types::Epoch::new(1, 2),
        shown_holder: types::Holder {
            region: "r".parse().unwrap(),
            node: node("a"),
            incarnation: types::NodeIncarnation::from_u128(1),
        },
        current: types::Epoch::new(1, 3),
        holder: None,
        accepted: false,
        reason: Some(types::Reason::StaleEpoch),
    };
    let mut log = DoorLog::open(&path).unwrap();
    log.append(Revision(3), record()).unwrap();
    log.append(Revision(9), record()).unwrap();
    log.flush().unwrap();
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"{\"revision\":1")
        .unwrap();
    assert_eq!(door_log::read(&path).unwrap().len(), 2);
    let mut log = DoorLog::open(&path).unwrap();
    for revision in [3, 9, 12] {
        log.append(Revision(revision), record()).unwrap();
    }
    log.sync().unwrap();
    let lines = door_log::read(&path).unwrap();
    assert_eq!(lines.iter().map(|l| l.revision.0).collect::<Vec<_>>(), [3, 9, 12]);
    assert_eq!(lines[2].shown.to_string(), "g1.e2");
}
