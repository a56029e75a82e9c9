//! Objects whose files, or whose bucket's directory, somebody takes away under the running endpoint, and brings back.

use std::{fs, path::PathBuf, sync::Arc};

use s3s::S3ErrorCode;

use super::{
    BUCKET, Endpoint,
    client::{Answer, request},
};
use crate::{
    meta::{META_VERSION, ObjectMeta},
    object_path,
    store::Store,
};

/// An endpoint with an object `k`, whose file is gone.
async fn without_its_file() -> Endpoint {
    let endpoint = Endpoint::start().await;
    let put = request(endpoint.address, "PUT", &path("k"), &[], b"body").await;
    assert_eq!(put.status, 200);
    fs::remove_file(object_path(endpoint.dir.path(), BUCKET, "k")).unwrap();
    endpoint
}

fn path(key: &str) -> String {
    format!("/{BUCKET}/{key}")
}

/// A call of `k` answers `expected`; then the key is free, and the endpoint still takes writes.
async fn check(method: &str, headers: &[(&str, &str)], expected: u16) {
    let endpoint = without_its_file().await;
    let case = format!("{method} {headers:?}");
    let to = path(if headers.iter().any(|(name, _)| *name == "x-amz-copy-source") {
        "copy"
    } else {
        "k"
    });
    let answer = request(endpoint.address, method, &to, headers, b"").await;
    assert_eq!(answer.status, expected, "{case}: {}", answer.text());
    if method == "GET" {
        assert_eq!(answer.xml("Code"), "NoSuchKey");
    }
    let listed = request(
        endpoint.address,
        "GET",
        &format!("/{BUCKET}?list-type=2"),
        &[],
        b"",
    )
    .await;
    assert_eq!(listed.text().contains("<Key>k</Key>"), expected == 200, "{case}");
    let again = request(endpoint.address, "PUT", &path("k"), &[], b"again").await;
    assert_eq!(again.status, 200, "{case}: {}", again.text());
    let read = request(endpoint.address, "GET", &path("k"), &[], b"").await;
    assert_eq!(
        (read.status, read.body.as_slice()),
        (200, b"again".as_slice()),
        "{case}"
    );
    endpoint.stop().await;
}

#[tokio::test]
async fn an_object_whose_file_was_deleted_is_gone_and_can_be_put_anew() {
    check("GET", &[], 404).await;
    check("GET", &[("range", "bytes=0-1")], 404).await;
    check("HEAD", &[], 404).await;
    check("PUT", &[("if-none-match", "*")], 200).await;
    check("PUT", &[("if-match", "*")], 404).await;
    check("PUT", &[("x-amz-copy-source", "/bucket/k")], 404).await;
    check("DELETE", &[], 204).await;
}

/// An endpoint with an object `k`, and where its bucket is.
async fn with_an_object() -> (Endpoint, PathBuf) {
    let endpoint = Endpoint::start().await;
    assert_eq!(call(&endpoint, "PUT", &[], b"body").await.status, 200);
    let directory = object_path(endpoint.dir.path(), BUCKET, "k");
    (endpoint, directory.parent().unwrap().to_owned())
}

/// A call of `k`.
async fn call(endpoint: &Endpoint, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    request(endpoint.address, method, &path("k"), headers, body).await
}

/// It is there, nobody may take its key for free, and the endpoint takes writes.
async fn stands(endpoint: &Endpoint) {
    let free = [("if-none-match", "*")];
    assert_eq!(call(endpoint, "PUT", &free, b"other").await.status, 412);
    let read = call(endpoint, "GET", &[], b"").await;
    assert_eq!((read.status, read.body.as_slice()), (200, b"body".as_slice()));
    assert_eq!(call(endpoint, "HEAD", &[], b"").await.status, 200);
    let other = request(endpoint.address, "PUT", &path("other"), &free, b"x").await;
    assert_eq!(other.status, 200, "{}", other.text());
}

#[tokio::test]
async fn a_bucket_whose_directory_is_away_for_a_moment_forgets_nothing() {
    let (endpoint, directory) = with_an_object().await;
    let away = endpoint.dir.path().join("away");
    fs::rename(&directory, &away).unwrap();
    let free = [("if-none-match", "*")];
    for (method, headers) in [("GET", &[][..]), ("HEAD", &[]), ("PUT", &free), ("DELETE", &[])] {
        let answer = call(&endpoint, method, headers, b"").await;
        assert_eq!(answer.status, 500, "{method}: {}", answer.text());
    }
    fs::rename(&away, &directory).unwrap();
    stands(&endpoint).await;
    assert_eq!(call(&endpoint, "DELETE", &[], b"").await.status, 204);
    endpoint.stop().await;
}

#[tokio::test]
async fn a_file_that_is_brought_back_is_the_object_again() {
    let (endpoint, directory) = with_an_object().await;
    let (file, away) = (
        object_path(endpoint.dir.path(), BUCKET, "k"),
        endpoint.dir.path().join("away"),
    );
    fs::rename(&file, &away).unwrap();
    assert_eq!(call(&endpoint, "GET", &[], b"").await.status, 404);
    fs::rename(&away, &file).unwrap();
    stands(&endpoint).await;
    assert_eq!(call(&endpoint, "DELETE", &[], b"").await.status, 204);
    assert!(!file.exists() && directory.exists());
    // What nobody can read is no free key.
    fs::write(&file, b"cut").unwrap();
    let free = [("if-none-match", "*")];
    assert_eq!(call(&endpoint, "PUT", &free, b"x").await.status, 500);
    assert_eq!(fs::read(&file).unwrap(), b"cut");
    endpoint.stop().await;
}

#[test]
fn a_bucket_that_was_removed_is_not_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create_bucket(BUCKET).unwrap();
    let bucket = store.bucket(BUCKET).unwrap();
    store.delete_bucket(BUCKET).unwrap();
    let error = bucket.get("k").unwrap_err();
    assert_eq!(*error.code(), S3ErrorCode::NoSuchBucket);
}

/// Somebody saw that the file was gone, and another one was put before they said so.
#[test]
fn what_was_put_meanwhile_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.create_bucket(BUCKET).unwrap();
    let bucket = store.bucket(BUCKET).unwrap();
    let (gone, put) = (Arc::new(meta()), Arc::new(meta()));
    bucket.record("k", Some(gone.clone()));
    bucket.record("k", Some(Arc::clone(&put)));
    bucket.forget(&gone);
    assert!(bucket.all().iter().any(|meta| Arc::ptr_eq(meta, &put)));
    bucket.forget(&put);
    assert!(bucket.all().is_empty());
}

fn meta() -> ObjectMeta {
    ObjectMeta {
        version: META_VERSION,
        key: "k".into(),
        size: 0,
        etag: "e".into(),
        modified_micros: 0,
        headers: Default::default(),
        checksums: Default::default(),
        parts: None,
        fence: None,
    }
}
