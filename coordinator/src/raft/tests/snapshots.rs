//! Snapshots: durable before the log forgets, whole or refused, and of every format that ever was.

use super::*;

/// I1: a name on a file whose bytes are not on the disk is a snapshot that a crash makes unreadable, and the log before it
/// is gone by then.
#[test]
fn a_files_bytes_are_synced_before_it_gets_its_name_and_the_name_after() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    let snapshots = SnapshotDir::open(dir.path(), 1).unwrap();
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
        named("incoming-1-0.tmp"),
        "one that was built here"
    );
    let mut incoming = snapshots.receive().unwrap();
    incoming.write(b"from the wire").unwrap();
    drop(snapshots.adopt(&meta(9), incoming.finish().unwrap()).unwrap());
    assert_eq!(
        journal::take(),
        named("incoming-1-1.tmp"),
        "one that was received"
    );
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
            "sync incoming-1-0.tmp",
            "rename incoming-1-0.tmp",
            "sync snapshots"
        ]
    );
}

/// A state's snapshot, as it comes from a leader.
fn snapshot_of(state: &ControlState, store: &Store) -> (SnapshotMeta, SnapshotFile) {
    let elsewhere = TempDir::new().unwrap();
    let written = SnapshotDir::open(elsewhere.path(), 1).unwrap();
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
            "rename incoming-1-0.tmp",
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
        let snapshots = SnapshotDir::open(dir.path(), 1).unwrap();
        drop(write(&snapshots, 7));
        let file = snapshots.write(&meta(12), state, || Ok(())).unwrap();
        let loaded = file.load().unwrap();
        assert_eq!((&loaded.meta, &loaded.state), (&meta(12), state));
        // One that was cut off while it came is forgotten; the old one went when the new one had its name.
        let mut half = snapshots.receive().unwrap();
        half.write(b"RGNT").unwrap();
        let snapshots = SnapshotDir::open(dir.path(), 2).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // Where whoever received it only ends now, it takes nothing of the next run away.
        let next = [(); 3].map(|()| snapshots.receive().unwrap());
        drop(half);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1 + next.len());
        drop(next);
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
            let written = SnapshotDir::open(dir.path(), 1).unwrap();
            let written = written.write(&meta(7), state, || Ok(())).unwrap();
            fs::copy(written.path(), &path).unwrap();
        }
        let dir = TempDir::new().unwrap();
        let snapshots = SnapshotDir::open(dir.path(), 1).unwrap();
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
        let snapshots = SnapshotDir::open(dir.path(), 1).unwrap();
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
    std::os::unix::fs::symlink("/dev/full", folder.join("incoming-1-0.tmp")).unwrap();
    let error = store.write_snapshot().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    assert!(store.snapshots().newest().unwrap().is_none());
    drop(store.write_snapshot().unwrap());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

/// One is built while another is received, and a follower asks for the newest meanwhile: each finds a whole one.
#[test]
fn snapshots_are_named_removed_and_read_at_the_same_time() {
    let dir = TempDir::new().unwrap();
    let snapshots = SnapshotDir::open(dir.path(), 1).unwrap();
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
    machine
        .apply(futures::stream::iter([
            Ok((blank(1, 0), None)),
            Ok((blank(1, 1), None)),
        ]))
        .await
        .unwrap();
    machine.0.write_snapshot().unwrap();
    let older = SnapshotMeta {
        last_log_id: Some(log_id(1, 0)),
        ..SnapshotMeta::default()
    };
    let written = machine
        .0
        .snapshots()
        .write(&older, &ControlState::new(), || Ok(()));
    drop(written.unwrap());
    let current = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(log_id(1, 1)));
    assert_eq!(current.snapshot.load().unwrap().meta, current.meta);
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
    says_upgrade(&machine.0.too_new().unwrap());
    assert_eq!(machine.0.applied().last, None);
    let written = SnapshotDir::open(&dir.path().join("snapshots"), 1).unwrap();
    written.write(&meta, &state, || Ok(())).unwrap();
    let refused = open_store(identity).unwrap_err();
    assert!(matches!(refused, StartError::TooOld { .. }), "{refused:?}");
    says_upgrade(&refused.to_string());
}
