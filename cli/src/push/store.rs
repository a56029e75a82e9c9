//! The source region's object store: opened by the registry's binding and the context's keys, filled with what it lacks.

use std::{path::Path, time::Duration};

use artifact_store::{
    ArtifactStore, Deadlines, ErrorKind, FsStore, PutError, S3Config, S3Store, StoreError, Upload,
    transfer::{self, TransferError},
};
use client::{Client, Context};
use futures::{StreamExt as _, TryStreamExt as _};
use types::RegionId;

use super::{progress::Bar, scan::LocalFile};
use crate::{error::Failure, exit::Exit};

/// Opens the store of a region.
pub(super) async fn open(
    client: &Client,
    context: &Context,
    region: &RegionId,
    timeout: Duration,
) -> Result<Box<dyn ArtifactStore>, Failure> {
    let deadlines = deadlines(timeout);
    let record = client.get_region(region).await?;
    let binding = record.store.ok_or_else(|| {
        Failure::new(Exit::Unavailable, format!("{region} has no object store yet"))
            .remedy("wait until an agent of the region has attached one (`regent region list`)")
    })?;
    if let Some(path) = binding.endpoint.strip_prefix("file://") {
        let root = Path::new(path).join(&binding.bucket);
        let store = FsStore::open(region.as_str(), &root, deadlines).await;
        return Ok(Box::new(store.map_err(|e| failed(&e))?));
    }
    let keys = context.store_credentials(region).ok_or_else(|| {
        Failure::usage(format!("the context has no keys for the store of {region}"))
            .remedy("add [store] with access_key_file and secret_key_file to the context")
    })?;
    let config = S3Config {
        name: region.to_string(),
        endpoint: binding.endpoint,
        region: region.to_string(),
        bucket: binding.bucket,
        access_key: key(&keys.access_key_file)?,
        secret_key: key(&keys.secret_key_file)?,
        deadlines,
    };
    Ok(Box::new(S3Store::new(&config)))
}

/// A request that moves little data ends with `--timeout`; a part of a file, which moves some, is not held to it.
fn deadlines(timeout: Duration) -> Deadlines {
    let usual = Deadlines::default();
    Deadlines {
        call: usual.call.min(timeout),
        ..usual
    }
}

fn key(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read the key", path, e))?;
    Ok(text.trim().to_owned())
}

/// Uploads every file that the store does not hold intact. Files of the same content are one object.
pub(super) async fn upload(store: &dyn ArtifactStore, files: &[LocalFile], bar: &Bar) -> Result<(), Failure> {
    for file in files {
        bar.about(file.artifact.path.as_str());
        let sent = send(store, file, bar).await;
        sent.map_err(|f| f.while_doing(format!("uploading {}", file.artifact.path)))?;
    }
    bar.done();
    Ok(())
}

async fn send(store: &dyn ArtifactStore, file: &LocalFile, bar: &Bar) -> Result<(), Failure> {
    if holds(store, file).await? {
        bar.add(file.artifact.size.0);
        return Ok(());
    }
    put(store, file, bar).await
}

/// Whether the store has the object, read back and hashed. A damaged one is replaced.
async fn holds(store: &dyn ArtifactStore, file: &LocalFile) -> Result<bool, Failure> {
    match transfer::verify_object(store, &object(file)).await {
        Ok(()) => Ok(true),
        Err(TransferError::Damaged(_)) => Ok(false),
        Err(TransferError::Store(e)) if e.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(&error)),
    }
}

fn object(file: &LocalFile) -> transfer::Artifact {
    transfer::Artifact {
        digest: file.artifact.digest,
        size: file.artifact.size,
    }
}

async fn put(store: &dyn ArtifactStore, file: &LocalFile, bar: &Bar) -> Result<(), Failure> {
    let opened = tokio::fs::File::open(&file.path).await;
    let opened = opened.map_err(|e| Failure::file("read", &file.path, e))?;
    let mut upload = Upload::of_reader(opened, file.artifact.size, file.artifact.digest);
    let moved = bar.clone();
    upload.body = upload
        .body
        .inspect_ok(move |bytes| moved.add(bytes.len() as u64))
        .boxed();
    match store.put_stream(&object(file).key(), upload).await {
        Ok(_) => Ok(()),
        // It may have happened, and the key names the bytes: looking again decides.
        Err(PutError::Unknown(_) | PutError::Conflict { .. }) if holds(store, file).await? => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}

/// The error's own text names store, key and remedy; what the SDK says below it is for the log.
fn failed(error: &(dyn std::error::Error + 'static)) -> Failure {
    if let Some(source) = error.source() {
        tracing::info!("{error}: {source}");
    }
    let transient = |e: &StoreError| e.kind.transient();
    let store = error.downcast_ref::<StoreError>().map(transient);
    let transfer = error.downcast_ref::<TransferError>().map(|e| match e {
        TransferError::Store(e) => transient(e),
        TransferError::Unknown(_) | TransferError::Busy { .. } => true,
        TransferError::Damaged(_) | TransferError::Cache { .. } => false,
    });
    let put = error.downcast_ref::<PutError>().map(|e| match e {
        PutError::Failed(e) => transient(e),
        PutError::Unknown(_) | PutError::Conflict { .. } => true,
        PutError::PreconditionFailed { .. } => false,
    });
    let exit = match store.or(transfer).or(put) {
        Some(true) => Exit::Unavailable,
        Some(false) | None => Exit::Error,
    };
    Failure::new(exit, error)
}
