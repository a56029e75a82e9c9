//! `moto_server` from PyPI: the second opinion on S3's semantics.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use super::{BUCKET, config};
use crate::{
    ArtifactStore, ErrorKind, PutError, S3Store,
    conformance::{Known, check_store, key, noise},
};

/// The server, ended with the test.
pub(super) struct Moto {
    pub(super) endpoint: String,
    child: Child,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts moto, or says why there is none. `REGENT_REQUIRE_TOOLS=1` makes that a failure.
pub(super) fn start() -> Option<Moto> {
    let command = Command::new("moto_server")
        .args(["-H", "127.0.0.1", "-p", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let missing = |why: String| {
        assert!(
            std::env::var("REGENT_REQUIRE_TOOLS").as_deref() != Ok("1"),
            "{why}"
        );
        println!("skipped: {why}");
        None
    };
    let Ok(mut child) = command else {
        return missing("moto_server not found".into());
    };
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() == 0 {
            return missing(format!("moto_server ended at once: {said}"));
        }
        if let Some((_, endpoint)) = line.split_once("Running on ") {
            let endpoint = endpoint.trim().to_owned();
            // Its log must be read, or it stops when the pipe is full.
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
            return Some(Moto { endpoint, child });
        }
        said.push_str(&line);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moto_conforms() {
    let Some(moto) = start() else { return };
    let store = S3Store::new(&config(&moto.endpoint, BUCKET));
    let missing = store.get(&key("k")).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NoSuchBucket);
    store.create_bucket().await.unwrap();
    store.create_bucket().await.unwrap();
    if !answers_complete_as_s3_does(&store).await {
        skip(
            "this moto_server answers CompleteMultipartUpload with another root element than S3: install 5.2.5",
        );
        return;
    }
    check_store(Arc::new(store), Known::CompleteIsNotGuarded).await;
}

/// A tool that is missing or too old is a failure where tools are required.
fn skip(why: &str) {
    assert!(
        std::env::var("REGENT_REQUIRE_TOOLS").as_deref() != Ok("1"),
        "{why}"
    );
    println!("skipped: {why}");
}

/// moto before 5.2.5 does not, and no SDK can read it; our back end then says that the outcome is unknown.
async fn answers_complete_as_s3_does(store: &S3Store) -> bool {
    let body = noise((8 << 20) + 1);
    match store.put(&key("version"), body).await {
        Ok(_) => true,
        Err(PutError::Unknown(_)) => false,
        Err(error) => panic!("{error:?}"),
    }
}
