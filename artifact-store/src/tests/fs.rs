//! The store in a directory.

use std::{fs, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream};

use crate::{
    ArtifactStore, Condition, Deadlines, ErrorKind, FsStore, PutError, Upload,
    conformance::{Known, check_store, key, noise},
};

async fn open(dir: &tempfile::TempDir) -> FsStore {
    FsStore::open("fs", dir.path(), Deadlines::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_directory_conforms() {
    let dir = tempfile::tempdir().unwrap();
    check_store(Arc::new(open(&dir).await), Known::AsAws).await;
}

#[tokio::test]
async fn two_owners_of_one_directory_race_as_one() {
    // Two stores have no memory in common: what they agree by is the lock file, as two processes do.
    let dir = tempfile::tempdir().unwrap();
    let stores = [open(&dir).await, open(&dir).await];
    for n in 0..20 {
        let name = key(&format!("race/{n}"));
        let writes =
            (0..8u8).map(|w| stores[usize::from(w) % 2].put_if(&name, vec![w].into(), Condition::Absent));
        let outcomes = futures::future::join_all(writes).await;
        assert_eq!(
            outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
            1,
            "{outcomes:?}"
        );
    }
}

#[tokio::test]
async fn a_writer_that_died_leaves_nothing_and_a_living_one_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir).await);
    let stray = dir.path().join("tmp").join("stray");
    fs::write(&stray, b"half").unwrap();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (arrived, at_gate) = tokio::sync::oneshot::channel();
    let body = Bytes::from_static(b"body");
    let rest = body.clone();
    let mut upload = Upload::of_bytes(body);
    upload.body = stream::once(async move {
        arrived.send(()).unwrap();
        receiver.await.unwrap();
        Ok(rest)
    })
    .boxed();
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.put_stream(&key("k"), upload).await }
    });
    at_gate.await.unwrap();
    let other = open(&dir).await;
    assert!(!stray.exists());
    sender.send(()).unwrap();
    writer.await.unwrap().unwrap();
    assert_eq!(other.get_range(&key("k"), 0..4).await.unwrap(), "body");
}

#[tokio::test]
async fn a_file_that_the_store_did_not_write_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    store.put(&key("a/b"), noise(100)).await.unwrap();
    let path = dir.path().join("objects/a/b@");
    fs::write(&path, b"cut").unwrap();
    let error = store.head(&key("a/b")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Disk);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains(&path.display().to_string()), "{source}");
}

#[tokio::test]
async fn a_part_too_long_for_a_file_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(&dir)
        .await
        .put(&key(&"x".repeat(300)), Bytes::new())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, PutError::Failed(e) if matches!(e.kind, ErrorKind::BadKey { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, b"").unwrap();
    let error = FsStore::open("local", &path, Deadlines::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&path.display().to_string()) && error.contains("readable and writable"),
        "{error}"
    );
}
