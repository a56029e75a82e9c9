//! Objects whose files somebody deletes under the running endpoint.

use std::fs;

use super::{BUCKET, Endpoint, client::request};
use crate::object_path;

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
