//! What is left of the log after a crash, and what is said of damage.

use super::*;

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
