//! Applying entries: what stops a replica, and who hears of what was applied.

use super::*;

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

/// Readers of long lists and writers of snapshots look at a view.
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
    let (view, copy) = (machine.0.view(), machine.0.view().state);
    machine
        .apply(futures::stream::iter([Ok((entry(2, &raise(1)), None))]))
        .await
        .unwrap();
    assert_eq!((view.revision(), &view.state), (Revision(1), &copy));
    assert_eq!(machine.0.view().state.features().level(), 1);
}

/// Raft ends without waiting for a snapshot that it asked for: the next run must not find it appear in its directory.
#[tokio::test]
async fn a_stopped_node_changes_no_file() {
    let dir = TempDir::new().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), &node("c0")).unwrap());
    let mut machine = StateMachine(open_store(identity.clone()).unwrap());
    let entries = || futures::stream::iter([Ok((blank(1, 0), None))]);
    machine.apply(entries()).await.unwrap();
    identity.unlock().await;
    assert!(machine.0.write_snapshot().is_err());
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
    assert_eq!(machine.0.too_new(), None);
    says_upgrade(&machine.apply(entries).await.unwrap_err().to_string());
    says_upgrade(&machine.0.too_new().unwrap());
    let applied = machine.0.applied();
    assert_eq!(
        (applied.last, applied.state.features().level()),
        (Some(log_id(1, 1)), 0)
    );
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
