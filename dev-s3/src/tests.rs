//! The endpoint over real connections, signed by hand so that a request can stop half way.

mod client;
mod conditions;
mod kill;
mod log;
mod multipart;
mod restart;
mod start;
mod taken;

use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{Config, Credentials, Error, run};

pub(crate) const BUCKET: &str = "bucket";
pub(crate) const POINTER: &str = "regent/pointers/primaries.global";

/// An endpoint in this process.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) dir: TempDir,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

pub(crate) fn config(dir: &TempDir) -> Config {
    let credentials = Credentials {
        access_key: "access".into(),
        secret_key: "secret".into(),
    };
    Config {
        buckets: vec![BUCKET.into()],
        ..Config::new(dir.path(), credentials)
    }
}

impl Endpoint {
    pub(crate) async fn start() -> Self {
        Self::start_over(TempDir::new().unwrap()).await
    }

    pub(crate) async fn start_over(dir: TempDir) -> Self {
        let (ready, address) = oneshot::channel();
        let shutdown = CancellationToken::new();
        let config = config(&dir);
        let task = tokio::spawn(run(config, shutdown.clone(), |address| {
            ready.send(address).unwrap()
        }));
        Self {
            address: address.await.unwrap(),
            dir,
            shutdown,
            task,
        }
    }

    /// Ends in order; the directory stays.
    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.dir
    }
}

/// A pointer body as `artifact-store` writes it, as far as this crate reads it.
pub(crate) fn pointer(counter: u32, node: &str, nonce: u32) -> Vec<u8> {
    let epoch = types::Epoch::new(1, counter);
    let text = format!(
        r#"{{"version":1,"cluster_id":"00000000-0000-0000-0000-00000000000a","role":"primaries/global",
        "epoch":"{epoch}","sequence":{nonce},"nonce":"n{nonce}","tombstone":false,"holder":{{"region":"us-west-2",
        "node":"{node}","incarnation":"00000000-0000-0000-0000-00000000000b"}}}}"#
    );
    text.into_bytes()
}
