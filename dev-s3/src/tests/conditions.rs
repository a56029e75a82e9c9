//! Conditional writes and what is visible when.

use super::{
    BUCKET, Endpoint, POINTER,
    client::{Answer, open, request},
    pointer,
};

async fn put(endpoint: &Endpoint, key: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    request(
        endpoint.address,
        "PUT",
        &format!("/{BUCKET}/{key}"),
        headers,
        body,
    )
    .await
}

async fn get(endpoint: &Endpoint, key: &str, headers: &[(&str, &str)]) -> Answer {
    request(endpoint.address, "GET", &format!("/{BUCKET}/{key}"), headers, b"").await
}

#[tokio::test]
async fn a_put_whose_body_was_half_sent_loses_to_a_later_writer() {
    let endpoint = Endpoint::start().await;
    let first = put(&endpoint, POINTER, &[("if-none-match", "*")], &pointer(1, "a", 1)).await;
    assert_eq!(first.status, 200);
    let stale = pointer(1, "a", 2);
    let etag = format!("\"{}\"", first.etag());
    let condition = [("if-match", etag.as_str())];
    let path = format!("/{BUCKET}/{POINTER}");
    let mut paused = open(endpoint.address, "PUT", &path, &condition, stale.len()).await;
    paused.send(&stale[..20]).await;
    let later = put(&endpoint, POINTER, &condition, &pointer(2, "b", 1)).await;
    assert_eq!(later.status, 200);
    paused.send(&stale[20..]).await;
    assert_eq!(paused.answer().await.status, 412);
    assert_eq!(get(&endpoint, POINTER, &[]).await.body, pointer(2, "b", 1));
    endpoint.stop().await;
}

#[tokio::test]
async fn a_body_with_a_wrong_checksum_never_becomes_visible() {
    let endpoint = Endpoint::start().await;
    let wrong = [
        (
            "x-amz-checksum-sha256",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ),
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-checksum-crc32c", "AAAAAA=="),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
        ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    for header in wrong {
        let answer = put(&endpoint, "k", &[header], b"body").await;
        assert_eq!(
            (answer.status, answer.xml("Code").as_str()),
            (400, "BadDigest"),
            "{header:?}"
        );
        assert_eq!(get(&endpoint, "k", &[]).await.status, 404, "{header:?}");
    }
    endpoint.stop().await;
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_a_body_leaves_nothing() {
    let endpoint = Endpoint::start().await;
    let mut cut = open(endpoint.address, "PUT", &format!("/{BUCKET}/k"), &[], 100).await;
    cut.send(b"half").await;
    drop(cut);
    // The stop waits for the request to end, so nothing can appear afterwards.
    let endpoint = Endpoint::start_over(endpoint.stop().await).await;
    assert_eq!(get(&endpoint, "k", &[]).await.status, 404);
    endpoint.stop().await;
}

#[tokio::test]
async fn reads_honour_their_conditions() {
    let endpoint = Endpoint::start().await;
    let etag = format!("\"{}\"", put(&endpoint, "k", &[], b"0123456789").await.etag());
    let check = async |headers: &[(&str, &str)], status: u16, body: &[u8]| {
        let answer = get(&endpoint, "k", headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
        if status < 300 {
            assert_eq!(answer.body, body, "{headers:?}");
        }
    };
    check(&[("if-match", &etag)], 200, b"0123456789").await;
    check(&[("if-match", "\"x\"")], 412, b"").await;
    check(&[("if-none-match", &etag)], 304, b"").await;
    check(&[("if-none-match", "\"x\"")], 200, b"0123456789").await;
    check(
        &[("if-unmodified-since", "Mon, 01 Jan 2001 00:00:00 GMT")],
        412,
        b"",
    )
    .await;
    check(
        &[("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")],
        304,
        b"",
    )
    .await;
    check(&[("range", "bytes=2-4")], 206, b"234").await;
    check(&[("range", "bytes=-3")], 206, b"789").await;
    check(&[("range", "bytes=8-100")], 206, b"89").await;
    check(&[("range", "bytes=10-")], 416, b"").await;
    endpoint.stop().await;
}

#[tokio::test]
async fn a_delete_honours_its_condition() {
    let endpoint = Endpoint::start().await;
    let etag = format!("\"{}\"", put(&endpoint, "k", &[], b"1").await.etag());
    let path = format!("/{BUCKET}/k");
    let stale = request(endpoint.address, "DELETE", &path, &[("if-match", "\"x\"")], b"").await;
    assert_eq!(stale.status, 412);
    assert_eq!(get(&endpoint, "k", &[]).await.status, 200);
    let good = request(endpoint.address, "DELETE", &path, &[("if-match", &etag)], b"").await;
    assert_eq!(good.status, 204);
    assert_eq!(get(&endpoint, "k", &[]).await.status, 404);
    endpoint.stop().await;
}

#[tokio::test]
async fn a_wrong_secret_and_an_unsigned_request_are_refused() {
    let endpoint = Endpoint::start().await;
    let mut config = super::config(&endpoint.dir);
    config.credentials.secret_key = "another".into();
    let dir = endpoint.stop().await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let (ready, address) = tokio::sync::oneshot::channel();
    let server = tokio::spawn(crate::run(config, shutdown.clone(), |address| {
        ready.send(address).unwrap()
    }));
    let answer = request(address.await.unwrap(), "PUT", &format!("/{BUCKET}/k"), &[], b"1").await;
    assert_eq!(
        (answer.status, answer.xml("Code").as_str()),
        (403, "SignatureDoesNotMatch")
    );
    shutdown.cancel();
    server.await.unwrap().unwrap();
    drop(dir);
}
