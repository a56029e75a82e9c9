//! Who writes, and how what is there is listed.

use std::{collections::BTreeMap, time::Duration};

use client::Client;
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use types::{
    ByteCount, Digest, ModelName, RegionId, RequestId,
    model::{Artifact, ArtifactPath, VersionRecord},
    reason::Refusal,
};

use super::judge::{Found, Write};

/// Between two attempts at one write.
const PAUSE: Duration = Duration::from_millis(20);
/// The key under which a version carries its write's name.
const NAME: &str = "write";

/// Where it is written, and by whom.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    pub(crate) client: Client,
    pub(crate) model: ModelName,
    /// It has a store; nobody uploads anything.
    pub(crate) region: RegionId,
    /// The one file that each version announces.
    pub(crate) file: ArtifactPath,
}

/// Writers at work.
#[derive(Debug)]
pub(crate) struct Writers {
    /// How many writes were acknowledged so far.
    pub(crate) acknowledged: watch::Receiver<usize>,
    stop: CancellationToken,
    all: JoinSet<Result<Vec<Write>, Refusal>>,
}

impl Writers {
    /// Sets so many to work, each one write after the other.
    pub(crate) fn start(book: &Book, writers: usize) -> Self {
        let (count, acknowledged) = watch::channel(0);
        let stop = CancellationToken::new();
        let mut all = JoinSet::new();
        for writer in 0..writers {
            let (book, count, stop) = (book.clone(), count.clone(), stop.clone());
            all.spawn(async move { work(&book, writer, &count, &stop).await });
        }
        Self {
            acknowledged,
            stop,
            all,
        }
    }

    /// Ends them, and says what each wrote. An error is a refusal that no fault excuses.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Vec<Write>> {
        self.stop.cancel();
        let mut writes = Vec::new();
        while let Some(wrote) = self.all.join_next().await {
            writes.extend(wrote?.map_err(|refusal| anyhow::anyhow!("a write was refused: {refusal}"))?);
        }
        Ok(writes)
    }
}

async fn work(
    book: &Book,
    writer: usize,
    count: &watch::Sender<usize>,
    stop: &CancellationToken,
) -> Result<Vec<Write>, Refusal> {
    let mut writes = Vec::new();
    loop {
        let mut write = Write {
            name: format!("w{writer}-{}", writes.len()),
            request_id: client::retry::mint_request_id(),
            acknowledged: None,
        };
        let answer = stop
            .run_until_cancelled(book.insist(&write.name, write.request_id))
            .await;
        write.acknowledged = answer.transpose()?;
        let is_over = write.acknowledged.is_none();
        writes.push(write);
        if is_over {
            return Ok(writes);
        }
        count.send_modify(|n| *n += 1);
    }
}

impl Book {
    /// Asks for a write until it is acknowledged; says its number. An error is final.
    pub(crate) async fn insist(&self, name: &str, request_id: RequestId) -> Result<u64, Refusal> {
        loop {
            match Box::pin(self.ask(name, request_id)).await {
                Ok(version) => return Ok(version.key.version.0),
                Err(refusal) if refusal.reason.retryable() || !refusal.reason.surely_no_effect() => {
                    sleep(PAUSE).await;
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    async fn ask(&self, name: &str, request_id: RequestId) -> Result<VersionRecord, Refusal> {
        let client = self.client.with_request_id(request_id);
        announce(&client, &self.model, &self.region, &self.file, name).await
    }

    /// What is there, as a majority knows it.
    pub(crate) async fn list(&self) -> Result<Found, Refusal> {
        let mut found = Found::new();
        for version in self.client.list_versions(&self.model).await? {
            found
                .entry(name_of(&version).to_owned())
                .or_default()
                .push(version.key.version.0);
        }
        Ok(found)
    }
}

/// Announces a version that carries a name and has one file, which nobody uploads.
pub(crate) async fn announce(
    client: &Client,
    model: &ModelName,
    region: &RegionId,
    file: &ArtifactPath,
    name: &str,
) -> Result<VersionRecord, Refusal> {
    let artifact = Artifact {
        path: file.clone(),
        size: ByteCount(1),
        digest: Digest::of(name.as_bytes()),
        media_type: String::new(),
    };
    let metadata = BTreeMap::from([(NAME.to_owned(), name.to_owned())]);
    client
        .create_version(model, region, &[artifact], "load", metadata, &[])
        .await
}

/// The name that a version carries; empty where it carries none.
pub(crate) fn name_of(version: &VersionRecord) -> &str {
    version.metadata.get(NAME).map_or("", String::as_str)
}
