//! What the servers answer to requests that our back end never sends: the ground that the suite stands on.

use aws_sdk_s3::{Client, error::ProvideErrorMetadata as _, primitives::ByteStream};

use super::{BUCKET, DevS3, moto};
use crate::S3Store;

/// Whose answers are looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Server {
    DevS3,
    Moto,
}

async fn with_both(check: impl AsyncFn(Server, &Client)) {
    let server = DevS3::start().await;
    check(Server::DevS3, S3Store::sdk(&server.store())).await;
    server.stop().await;
    let Some(moto) = moto::start() else { return };
    let store = S3Store::new(&super::config(&moto.endpoint, BUCKET));
    store.create_bucket().await.unwrap();
    check(Server::Moto, S3Store::sdk(&store)).await;
}

async fn exists(client: &Client, key: &str) -> bool {
    client.head_object().bucket(BUCKET).key(key).send().await.is_ok()
}

#[tokio::test]
async fn a_wrong_checksum_is_refused_and_nothing_is_visible() {
    with_both(async |server, client| {
        let wrong = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let body = ByteStream::from_static(b"body");
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key("k")
            .checksum_sha256(wrong)
            .body(body)
            .send()
            .await;
        match server {
            // AWS refuses with BadDigest, and so does dev-s3.
            Server::DevS3 => {
                assert_eq!(put.unwrap_err().code(), Some("BadDigest"));
                assert!(!exists(client, "k").await);
            }
            // moto 5.2 does not look at the value; AWS would.
            Server::Moto => assert!(put.is_ok()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_conditional_put_on_a_missing_key_is_not_found() {
    with_both(async |server, client| {
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key("none")
            .if_match("\"x\"")
            .send()
            .await
            .unwrap_err();
        // Both follow AWS: 404, where 412 would be expected.
        let status = put.raw_response().unwrap().status().as_u16();
        assert_eq!((status, put.code()), (404, Some("NoSuchKey")), "{server:?}");
    })
    .await;
}

#[tokio::test]
async fn a_stale_delete_is_refused() {
    with_both(async |server, client| {
        client.put_object().bucket(BUCKET).key("d").send().await.unwrap();
        let delete = client
            .delete_object()
            .bucket(BUCKET)
            .key("d")
            .if_match("\"x\"")
            .send()
            .await
            .unwrap_err();
        // Both follow AWS.
        assert_eq!(
            delete.raw_response().unwrap().status().as_u16(),
            412,
            "{server:?}"
        );
        assert!(exists(client, "d").await);
    })
    .await;
}

#[tokio::test]
async fn reads_honour_their_conditions() {
    with_both(async |server, client| {
        let etag = client
            .put_object()
            .bucket(BUCKET)
            .key("r")
            .send()
            .await
            .unwrap()
            .e_tag
            .unwrap();
        let read = || client.get_object().bucket(BUCKET).key("r");
        let status = async |sent: Result<_, aws_sdk_s3::error::SdkError<_>>| match sent {
            Ok(_) => 200,
            Err(error) => error.raw_response().unwrap().status().as_u16(),
        };
        // Both follow AWS.
        assert_eq!(
            status(read().if_match(&etag).send().await).await,
            200,
            "{server:?}"
        );
        assert_eq!(
            status(read().if_match("\"x\"").send().await).await,
            412,
            "{server:?}"
        );
        assert_eq!(
            status(read().if_none_match(&etag).send().await).await,
            304,
            "{server:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn many_objects_are_deleted_and_copied_by_one_request() {
    use aws_sdk_s3::types::{Delete, ObjectIdentifier};
    with_both(async |server, client| {
        let put = client
            .put_object()
            .bucket(BUCKET)
            .key("one")
            .body(ByteStream::from_static(b"1"));
        put.metadata("kind", "test")
            .content_type("text/x")
            .send()
            .await
            .unwrap();
        let copy = client
            .copy_object()
            .bucket(BUCKET)
            .key("two/ä")
            .copy_source(format!("{BUCKET}/one"));
        copy.send().await.unwrap();
        let read = client
            .get_object()
            .bucket(BUCKET)
            .key("two/ä")
            .send()
            .await
            .unwrap();
        assert_eq!(read.metadata().unwrap()["kind"], "test", "{server:?}");
        assert_eq!(read.content_type(), Some("text/x"));
        assert_eq!(read.body.collect().await.unwrap().into_bytes(), "1");
        let name = |key: &str| ObjectIdentifier::builder().key(key).build().unwrap();
        let list = Delete::builder()
            .objects(name("one"))
            .objects(name("two/ä"))
            .objects(name("none"))
            .build()
            .unwrap();
        let deleted = client
            .delete_objects()
            .bucket(BUCKET)
            .delete(list)
            .send()
            .await
            .unwrap();
        assert_eq!(
            (deleted.deleted().len(), deleted.errors().len()),
            (3, 0),
            "{server:?}"
        );
        assert!(!exists(client, "one").await && !exists(client, "two/ä").await);
    })
    .await;
}

#[tokio::test]
async fn lists_roll_up_at_a_delimiter() {
    with_both(async |server, client| {
        for key in ["a", "a/b", "a/c", "b/d", "c"] {
            client.put_object().bucket(BUCKET).key(key).send().await.unwrap();
        }
        let (mut keys, mut prefixes, mut token) = (Vec::new(), Vec::new(), None);
        loop {
            let list = client.list_objects_v2().bucket(BUCKET).delimiter("/").max_keys(2);
            let page = list.set_continuation_token(token).send().await.unwrap();
            keys.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| object.key().map(str::to_owned)),
            );
            prefixes.extend(
                page.common_prefixes()
                    .iter()
                    .filter_map(|p| p.prefix().map(str::to_owned)),
            );
            token = page.next_continuation_token;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(
            (keys, prefixes),
            (vec!["a".into(), "c".into()], vec!["a/".to_owned(), "b/".into()]),
            "{server:?}"
        );
        let old = client
            .list_objects()
            .bucket(BUCKET)
            .prefix("a")
            .marker("a")
            .send()
            .await
            .unwrap();
        let keys: Vec<_> = old.contents().iter().filter_map(|object| object.key()).collect();
        assert_eq!(keys, ["a/b", "a/c"], "{server:?}");
    })
    .await;
}
