//! Uploads in parts.

use super::{
    BUCKET, Endpoint,
    client::{Answer, request},
};

const PART: usize = 5 * 1024 * 1024;

async fn begin(endpoint: &Endpoint) -> String {
    request(
        endpoint.address,
        "POST",
        &format!("/{BUCKET}/k?uploads"),
        &[],
        b"",
    )
    .await
    .xml("UploadId")
}

async fn part(endpoint: &Endpoint, id: &str, number: u32, body: &[u8]) -> String {
    let path = format!("/{BUCKET}/k?partNumber={number}&uploadId={id}");
    request(endpoint.address, "PUT", &path, &[], body)
        .await
        .etag()
        .to_owned()
}

async fn complete(endpoint: &Endpoint, id: &str, headers: &[(&str, &str)], parts: &[(u32, &str)]) -> Answer {
    let parts: String = parts
        .iter()
        .map(|(n, etag)| format!("<Part><PartNumber>{n}</PartNumber><ETag>\"{etag}\"</ETag></Part>"))
        .collect();
    let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let path = format!("/{BUCKET}/k?uploadId={id}");
    request(endpoint.address, "POST", &path, headers, body.as_bytes()).await
}

async fn get(endpoint: &Endpoint) -> Answer {
    request(endpoint.address, "GET", &format!("/{BUCKET}/k"), &[], b"").await
}

#[tokio::test]
async fn parts_become_one_object_at_complete_and_not_before() {
    let endpoint = Endpoint::start().await;
    let id = begin(&endpoint).await;
    let (first, second) = (vec![1; PART], vec![2; 3]);
    let (one, two) = (
        part(&endpoint, &id, 1, &first).await,
        part(&endpoint, &id, 2, &second).await,
    );
    assert_eq!(get(&endpoint).await.status, 404);
    // A restart keeps the upload.
    let endpoint = Endpoint::start_over(endpoint.stop().await).await;
    let listed = request(endpoint.address, "GET", &format!("/{BUCKET}?uploads"), &[], b"").await;
    assert_eq!(listed.xml("UploadId"), id);
    let answer = complete(&endpoint, &id, &[], &[(1, &one), (2, &two)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.xml("ETag").contains("-2"));
    assert_eq!(get(&endpoint).await.body, [first, second].concat());
    assert_eq!(
        complete(&endpoint, &id, &[], &[(1, &one)]).await.xml("Code"),
        "NoSuchUpload"
    );
    endpoint.stop().await;
}

#[tokio::test]
async fn complete_refuses_wrong_parts_and_keeps_the_upload() {
    let endpoint = Endpoint::start().await;
    let id = begin(&endpoint).await;
    let (one, two) = (
        part(&endpoint, &id, 1, b"small").await,
        part(&endpoint, &id, 2, b"last").await,
    );
    let check = async |parts: &[(u32, &str)], code: &str| {
        assert_eq!(complete(&endpoint, &id, &[], parts).await.xml("Code"), code);
        assert_eq!(get(&endpoint).await.status, 404);
    };
    check(&[(1, &two), (2, &one)], "InvalidPart").await;
    check(&[(2, &two), (1, &one)], "InvalidPartOrder").await;
    check(&[(1, &one), (3, &two)], "InvalidPart").await;
    check(&[(1, &one), (2, &two)], "EntityTooSmall").await;
    assert_eq!(complete(&endpoint, &id, &[], &[(1, &one)]).await.status, 200);
    endpoint.stop().await;
}

#[tokio::test]
async fn of_two_completes_that_want_a_free_key_one_wins() {
    let endpoint = Endpoint::start().await;
    let (a, b) = (begin(&endpoint).await, begin(&endpoint).await);
    let (part_a, part_b) = (
        part(&endpoint, &a, 1, b"a").await,
        part(&endpoint, &b, 1, b"b").await,
    );
    let (parts_a, parts_b) = ([(1, part_a.as_str())], [(1, part_b.as_str())]);
    let (first, second) = tokio::join!(
        complete(&endpoint, &a, &[("if-none-match", "*")], &parts_a),
        complete(&endpoint, &b, &[("if-none-match", "*")], &parts_b),
    );
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    endpoint.stop().await;
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let endpoint = Endpoint::start().await;
    let id = begin(&endpoint).await;
    let one = part(&endpoint, &id, 1, b"a").await;
    let path = format!("/{BUCKET}/k?uploadId={id}");
    assert_eq!(
        request(endpoint.address, "GET", &path, &[], b"")
            .await
            .xml("PartNumber"),
        "1"
    );
    assert_eq!(
        request(endpoint.address, "DELETE", &path, &[], b"").await.status,
        204
    );
    assert_eq!(
        complete(&endpoint, &id, &[], &[(1, &one)]).await.xml("Code"),
        "NoSuchUpload"
    );
    assert_eq!(
        request(
            endpoint.address,
            "DELETE",
            &format!("/{BUCKET}/k?uploadId=..%2F.."),
            &[],
            b""
        )
        .await
        .status,
        404
    );
    endpoint.stop().await;
}
