//! The S3 back end against two servers that were written independently of each other: dev-s3 and moto.
//!
//! Where they differ, the check says which of them follows AWS.

mod moto;
mod wire;

use std::{net::SocketAddr, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{
    ArtifactStore, Deadlines, ErrorKind, PutError, S3Config, S3Store,
    conformance::{Known, check_store, key, leave_behind},
};

pub(super) const BUCKET: &str = "artifacts";

pub(super) fn config(endpoint: &str, bucket: &str) -> S3Config {
    S3Config {
        name: "s3".into(),
        endpoint: endpoint.into(),
        region: "us-east-1".into(),
        bucket: bucket.into(),
        access_key: "access".into(),
        secret_key: "secret".into(),
        deadlines: Deadlines::default(),
    }
}

/// A dev-s3 in this process.
pub(super) struct DevS3 {
    pub(super) endpoint: String,
    pub(super) dir: tempfile::TempDir,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), dev_s3::Error>>,
}

impl DevS3 {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credentials = dev_s3::Credentials {
            access_key: "access".into(),
            secret_key: "secret".into(),
        };
        let config = dev_s3::Config {
            buckets: vec![BUCKET.into()],
            ..dev_s3::Config::new(dir.path(), credentials)
        };
        let (ready, address) = tokio::sync::oneshot::channel::<SocketAddr>();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(dev_s3::run(config, shutdown.clone(), |address| {
            ready.send(address).unwrap()
        }));
        let endpoint = format!("http://{}", address.await.unwrap());
        Self {
            endpoint,
            dir,
            shutdown,
            task,
        }
    }

    pub(super) fn store(&self) -> Arc<S3Store> {
        Arc::new(S3Store::new(&config(&self.endpoint, BUCKET)))
    }

    pub(super) async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.dir
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_s3_conforms() {
    let server = DevS3::start().await;
    check_store(server.store(), Known::AsAws).await;
    server.stop().await;
}

#[tokio::test]
async fn a_missing_bucket_and_a_wrong_key_are_named() {
    let server = DevS3::start().await;
    let elsewhere = S3Store::new(&config(&server.endpoint, "elsewhere"));
    let error = elsewhere.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSuchBucket);
    assert!(error.to_string().contains("create the bucket"), "{error}");
    let put = elsewhere.put(&key("k"), "x".into()).await;
    assert!(
        matches!(&put, Err(PutError::Failed(e)) if e.kind == ErrorKind::NoSuchBucket),
        "{put:?}"
    );
    elsewhere.create_bucket().await.unwrap();
    elsewhere.create_bucket().await.unwrap();
    elsewhere.put(&key("k"), "x".into()).await.unwrap();
    let stranger = S3Store::new(&S3Config {
        secret_key: "wrong".into(),
        ..config(&server.endpoint, BUCKET)
    });
    assert_eq!(
        stranger.head(&key("k")).await.unwrap_err().kind,
        ErrorKind::Denied
    );
    let put = stranger.put(&key("k"), "x".into()).await;
    assert!(
        matches!(&put, Err(PutError::Failed(e)) if e.kind == ErrorKind::Denied),
        "{put:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_store_that_is_gone_leaves_writers_in_doubt() {
    let server = DevS3::start().await;
    let store = server.store();
    store.put(&key("k"), "x".into()).await.unwrap();
    server.stop().await;
    let put = store.put(&key("k"), "y".into()).await;
    assert!(
        matches!(&put, Err(PutError::Unknown(e)) if e.kind == ErrorKind::Unavailable),
        "{put:?}"
    );
    let read = store.get(&key("k")).await.unwrap_err();
    assert!(
        read.kind == ErrorKind::Unavailable && read.to_string().contains("its endpoint is right"),
        "{read}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let short = std::time::Duration::from_millis(50);
    let deadlines = Deadlines {
        call: short,
        part: short,
    };
    let store = S3Store::new(&S3Config {
        deadlines,
        ..config(&endpoint, BUCKET)
    });
    let put = store.put(&key("k"), "x".into()).await;
    assert!(
        matches!(&put, Err(PutError::Unknown(e)) if e.kind == ErrorKind::Deadline { after: short }),
        "{put:?}"
    );
    assert_eq!(
        store.head(&key("k")).await.unwrap_err().kind,
        ErrorKind::Deadline { after: short }
    );
}

#[tokio::test]
async fn the_access_log_names_what_a_pointer_write_showed() {
    use crate::pointer::{PointerChange, claim_pointer, write_pointer};
    let server = DevS3::start().await;
    let store = server.store();
    claim_pointer(&*store, &super::token(1, "a"), super::LIMIT)
        .await
        .unwrap();
    write_pointer(&*store, &super::token(2, "b"), &PointerChange::Tombstone)
        .await
        .unwrap();
    let dir = server.stop().await;
    let lines = dev_s3::access_log::read(&dev_s3::access_log_path(dir.path())).unwrap();
    let epochs: Vec<_> = lines
        .iter()
        .map(|line| (line.current_epoch(), line.sent_epoch()))
        .collect();
    let (one, two) = (types::Epoch::new(1, 1), types::Epoch::new(1, 2));
    assert_eq!(epochs, [(None, Some(one)), (Some(one), Some(two))]);
    assert_eq!(lines[0].if_none_match.as_deref(), Some("*"));
    assert_eq!(lines[1].if_match, lines[0].etag);
}

/// What was sent of it would be paid for until somebody looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_given_up_leaves_no_parts() {
    use crate::Upload;
    use futures::StreamExt as _;
    let server = DevS3::start().await;
    let store = server.store();
    let uploads = async || {
        let listed = store.sdk().list_multipart_uploads().bucket(BUCKET).send().await;
        listed.unwrap().uploads().len()
    };
    let (waits, at_the_gate) = tokio::sync::oneshot::channel();
    let start = futures::stream::iter([Ok(bytes::Bytes::from(vec![7; 9 << 20]))]);
    // Some of it is there, and the rest never comes.
    let rest = futures::stream::once(async move {
        waits.send(()).unwrap();
        std::future::pending().await
    });
    let upload = Upload {
        body: start.chain(rest).boxed(),
        size: types::ByteCount(30 << 20),
        ..Upload::of_bytes(bytes::Bytes::new())
    };
    let stop = upload.stop.clone();
    let key = key("given/up");
    let put = store.put_stream(&key, upload);
    let cancel = async {
        at_the_gate.await.unwrap();
        assert_eq!(uploads().await, 1);
        stop.cancel();
    };
    let (put, ()) = tokio::join!(put, cancel);
    let Err(PutError::Failed(error)) = put else {
        panic!("{put:?}")
    };
    assert!(format!("{error:?}").contains("given up"), "{error:?}");
    assert_eq!(uploads().await, 0);
    assert!(store.head(&key).await.unwrap().is_none());
    server.stop().await;
}

/// As those of a push that was killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_were_left_behind_are_aborted_once_they_are_old() {
    use types::time::{Clock as _, SystemClock};
    let server = DevS3::start().await;
    let store: Arc<dyn ArtifactStore> = server.store();
    let begun = SystemClock.now();
    for name in ["regent/artifacts/a", "regent/artifacts/b", "other"] {
        leave_behind(&store, name).await;
    }
    let before = begun.plus(std::time::Duration::from_secs(3600));
    let abort = async |before| store.abort_uploads(crate::keys::ARTIFACTS, before).await.unwrap();
    assert_eq!(abort(types::UnixMillis(begun.0 - 3_600_000)).await, 0);
    assert_eq!(abort(before).await, 2);
    assert_eq!(abort(before).await, 0);
    let sdk = server.store();
    let listed = sdk
        .sdk()
        .list_multipart_uploads()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    let keys: Vec<_> = listed
        .uploads()
        .iter()
        .filter_map(|upload| upload.key())
        .collect();
    assert_eq!(keys, ["other"]);
    server.stop().await;
}
