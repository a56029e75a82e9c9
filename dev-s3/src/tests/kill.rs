//! `kill -9` of a real process while it takes writes: what it answered is there, and what it did not is whole or absent.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    BUCKET, Endpoint, POINTER,
    client::{open, request, try_request},
    log::assert_commit_order,
    pointer,
};
use crate::{access_log::read, access_log_path, run};

/// Tells this test binary that it is the server.
const DIRECTORY: &str = "DEV_S3_KILL_TEST_DIRECTORY";

/// Runs only as the child of the test below; by itself it has nothing to do.
#[tokio::test]
async fn server_of_the_kill_test() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let credentials = crate::Credentials {
        access_key: "access".into(),
        secret_key: "secret".into(),
    };
    let config = crate::Config {
        buckets: vec![BUCKET.into()],
        ..crate::Config::new(directory, credentials)
    };
    run(config, CancellationToken::new(), |address| {
        println!("ready {address}")
    })
    .await
    .unwrap();
}

fn spawn(dir: &TempDir) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::kill::server_of_the_kill_test", "--nocapture"])
        .env(DIRECTORY, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .find_map(|line| Some(line.unwrap().split_once("ready ")?.1.parse().unwrap()))
        .unwrap();
    (child, address)
}

/// Writes new keys, and the pointer in between, until the server is gone. Sends every acknowledged (key, ETag).
async fn write(address: SocketAddr, writer: u32, acknowledged: mpsc::UnboundedSender<(String, String)>) {
    for n in 0.. {
        let key = if n % 2 == 0 {
            format!("k/{writer}/{n}")
        } else {
            POINTER.to_owned()
        };
        let body = pointer(n + 1, "a", writer * 1_000_000 + n);
        let Some(answer) = try_request(address, "PUT", &format!("/{BUCKET}/{key}"), &[], &body).await else {
            return;
        };
        assert_eq!(answer.status, 200);
        if acknowledged.send((key, answer.etag().to_owned())).is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_kill_9_and_half_a_body_does_not() {
    let mut dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for round in 0..3 {
        let (mut child, address) = spawn(&dir);
        let mut half = open(address, "PUT", &format!("/{BUCKET}/half"), &[], 1 << 20).await;
        half.send(&[1; 4096]).await;
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let writers: Vec<_> = (0..4)
            .map(|w| tokio::spawn(write(address, round * 10 + w, sender.clone())))
            .collect();
        drop(sender);
        for _ in 0..60 {
            all.push(receiver.recv().await.unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for writer in writers {
            writer.await.unwrap();
        }
        while let Some(more) = receiver.recv().await {
            all.push(more);
        }
        dir = check(dir, &all).await;
    }
}

async fn check(dir: TempDir, acknowledged: &[(String, String)]) -> TempDir {
    let endpoint = Endpoint::start_over(dir).await;
    for (key, etag) in acknowledged.iter().filter(|(key, _)| key != POINTER) {
        let answer = request(endpoint.address, "HEAD", &format!("/{BUCKET}/{key}"), &[], b"").await;
        assert_eq!((answer.status, answer.etag()), (200, etag.as_str()), "{key}");
    }
    assert_eq!(
        request(endpoint.address, "GET", &format!("/{BUCKET}/half"), &[], b"")
            .await
            .status,
        404
    );
    let stands = request(
        endpoint.address,
        "HEAD",
        &format!("/{BUCKET}/{POINTER}"),
        &[],
        b"",
    )
    .await;
    assert_eq!(
        std::fs::read_dir(endpoint.dir.path().join("tmp"))
            .unwrap()
            .count(),
        0
    );
    let lines = read(&access_log_path(endpoint.dir.path())).unwrap();
    assert!(
        lines.iter().map(|line| line.seq).eq(1..=lines.len() as u64),
        "numbers go on without a gap"
    );
    for (key, etag) in acknowledged {
        assert!(
            lines
                .iter()
                .any(|l| l.accepted() && l.key == *key && l.etag.as_ref() == Some(etag)),
            "{key}"
        );
    }
    let of_pointer: Vec<_> = lines.iter().filter(|line| line.key == POINTER).collect();
    assert_commit_order(of_pointer.iter().copied());
    assert_eq!(of_pointer.last().unwrap().etag.as_deref(), Some(stands.etag()));
    endpoint.stop().await
}
