//! `regent cluster snapshot …`: saving what is committed, and what a saved file holds.
//!
//! Invariant: a file has its final name only once its bytes are durable, and were read back and are whole.

#[cfg(feature = "server")]
mod offline;
mod part;

use std::path::Path;

use client::calls::SnapshotDownload;
use serde_json::{Value, json};
use tokio::time::timeout;
use types::{ByteCount, Reason, reason::Refusal};

#[cfg(feature = "server")]
use self::offline::described;
#[cfg(feature = "server")]
pub(super) use self::offline::{ca_key, described_state, failed, follow, founding, roles};
use self::part::Part;
use super::super::{reader, tell};
use crate::{
    args::{SaveArgs, Shared, SnapshotCommand},
    error::Failure,
    exit::Exit,
    output::size,
    push::progress::Bar,
};

/// Runs one.
pub(super) async fn run(command: SnapshotCommand, shared: &Shared) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Save(args) => save(&args, shared).await,
        #[cfg(feature = "server")]
        SnapshotCommand::Inspect(args) => offline::inspect(&args.file, shared.output),
        #[cfg(feature = "server")]
        SnapshotCommand::Restore(args) => offline::restore(&args, shared.output).await,
    }
}

async fn save(args: &SaveArgs, shared: &Shared) -> Result<(), Failure> {
    check_free(args)?;
    let client = reader(shared, &args.read)?;
    let all = async {
        let mut download = client.save_snapshot(shared.timeout).await?;
        let part = fetch(&mut download, &args.file).await?;
        Ok::<_, Failure>((download, part))
    };
    let late = |_| {
        let text = format!("the snapshot was not there after {:?}", args.wait_timeout);
        Failure::new(Exit::Unavailable, text).remedy("--wait-timeout grants more time")
    };
    let (download, part) = timeout(args.wait_timeout, all).await.map_err(late)??;
    let sha256 = part.sync()?;
    let document = verified(&download, &part, &sha256, &args.file)?;
    part.name(&args.file)?;
    tell(&client, shared.output, document, || {
        text(&download, &sha256, &args.file)
    })
}

fn check_free(args: &SaveArgs) -> Result<(), Failure> {
    if args.replace || !args.file.exists() {
        return Ok(());
    }
    let text = format!("{} is there already", args.file.display());
    Err(Failure::new(Exit::Precondition, text)
        .because(Reason::AlreadyExists)
        .with("file", args.file.display())
        .remedy("name another file, or replace this one with --replace"))
}

/// All bytes, beside the file's place; no more and no fewer than were announced.
async fn fetch(download: &mut SnapshotDownload, file: &Path) -> Result<Part, Failure> {
    let total = download.saved.size_bytes;
    let mut part = Part::create(file)?;
    let bar = Bar::bytes(total);
    bar.about(&format!("{} → {}", download.saved.node, file.display()));
    while let Some(bytes) = download.next().await? {
        bar.add(bytes.len() as u64);
        part.write(&bytes)?;
        if part.size() > total {
            break;
        }
    }
    bar.done();
    if part.size() != total {
        let text = format!("the snapshot broke off: {} of {total} bytes came", part.size());
        return Err(Refusal::new(Reason::Unreachable, text).into());
    }
    Ok(part)
}

/// What the file on disk says, which must be what the coordinator said.
#[cfg(feature = "server")]
fn verified(download: &SnapshotDownload, part: &Part, sha256: &str, file: &Path) -> Result<Value, Failure> {
    let found = coordinator::offline::inspect(part.path()).map_err(|e| failed(&e))?;
    let saved = &download.saved;
    let announced = (saved.state_hash.as_str(), download.header.revision, sha256);
    let read = (found.state_hash.to_string(), found.revision, found.sha256.hex());
    if (read.0.as_str(), read.1, read.2.as_str()) != announced {
        return Err(changed_on_its_way(file));
    }
    let mut document = described(&found, file);
    document["saved_by"] = json!(saved.node);
    Ok(document)
}

/// Without the code that reads states: that its bytes are those that were sent.
#[cfg(not(feature = "server"))]
fn verified(download: &SnapshotDownload, part: &Part, sha256: &str, file: &Path) -> Result<Value, Failure> {
    let saved = &download.saved;
    if part.digest()? != saved.sha256 {
        return Err(changed_on_its_way(file));
    }
    Ok(json!({
        "file": file.display().to_string(),
        "size_bytes": saved.size_bytes,
        "sha256": sha256,
        "cluster_id": download.header.cluster_id,
        "generation": saved.generation,
        "feature_level": saved.feature_level,
        "revision": download.header.revision,
        "term": saved.term,
        "state_hash": saved.state_hash,
        "saved_by": saved.node,
    }))
}

fn changed_on_its_way(file: &Path) -> Failure {
    let text = "what was written is not what the coordinator sent";
    Failure::other(text)
        .because(Reason::DigestMismatch)
        .with("file", file.display())
        .remedy("save it again; if it stays so, look at this machine's disk and memory")
}

fn text(download: &SnapshotDownload, sha256: &str, file: &Path) -> String {
    let saved = &download.saved;
    format!(
        "saved {} ({}): cluster {} up to revision {}, by {}\nsha256 {sha256}",
        file.display(),
        size(ByteCount(saved.size_bytes)),
        download.header.cluster_id,
        download.header.revision,
        saved.node,
    )
}
