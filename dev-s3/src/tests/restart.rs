//! What is there after a start over an old directory.

use std::fs;

use tempfile::TempDir;

use super::{BUCKET, Endpoint, client::request};
use crate::{Error, access_log_path, object_path, store::Store};

#[tokio::test]
async fn objects_and_their_conditions_outlive_the_process() {
    // Its own directory around the store's: what others leave beside it says nothing.
    let around = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start_over(TempDir::new_in(around.path()).unwrap()).await;
    let mut etags = Vec::new();
    for key in ["a", "a/b", "a/b/c", "../../x", "sp%20ace"] {
        let path = format!("/{BUCKET}/{key}");
        let answer = request(
            endpoint.address,
            "PUT",
            &path,
            &[("content-type", "text/x")],
            key.as_bytes(),
        )
        .await;
        etags.push((path, key, format!("\"{}\"", answer.etag())));
    }
    let endpoint = Endpoint::start_over(endpoint.stop().await).await;
    for (path, key, etag) in &etags {
        let answer = request(endpoint.address, "GET", path, &[("if-match", etag)], b"").await;
        assert_eq!(
            (answer.status, answer.body.as_slice()),
            (200, key.as_bytes()),
            "{path}"
        );
        assert_eq!(answer.headers["content-type"], "text/x");
        assert_eq!(
            request(endpoint.address, "PUT", path, &[("if-none-match", "*")], b"")
                .await
                .status,
            412
        );
    }
    assert_eq!(
        fs::read_dir(around.path()).unwrap().count(),
        1,
        "nothing beside the store"
    );
    endpoint.stop().await;
}

#[test]
fn a_start_sweeps_bodies_that_were_arriving() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let stray = dir.path().join("tmp").join("half-sent");
    fs::write(&stray, b"half").unwrap();
    drop(Store::open(dir.path()).unwrap());
    assert!(!stray.exists());
}

#[test]
fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let _owner = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_object_is_named_at_start() {
    let endpoint = Endpoint::start().await;
    request(endpoint.address, "PUT", &format!("/{BUCKET}/k"), &[], b"body").await;
    let dir = endpoint.stop().await;
    let path = object_path(dir.path(), BUCKET, "k");
    fs::write(&path, b"cut").unwrap();
    let text = Store::open(dir.path()).unwrap_err().to_string();
    assert!(
        text.contains(&path.display().to_string()) && text.contains("move it away"),
        "{text}"
    );
    assert!(access_log_path(dir.path()).exists());
}
