//! The source region's object store: opened by the registry's binding and the context's keys, filled with what it lacks.

use std::{path::Path, time::Duration};

use artifact_store::{
    ArtifactStore, Deadlines, ErrorKind, FsStore, PutError, S3Config, S3Store, StoreError, Upload,
    transfer::{self, TransferError},
};
use client::{Client, Context};
use futures::{StreamExt as _, TryStreamExt as _};
use types::{Reason, RegionId};

use super::{progress::Bar, scan::LocalFile, wait::Limit};
use crate::{error::Failure, exit::Exit};

/// Opens the store of a region.
pub(super) async fn open(
    client: &Client,
    context: &Context,
    region: &RegionId,
    timeout: Duration,
    limit: Limit,
) -> Result<Box<dyn ArtifactStore>, Failure> {
    let deadlines = deadlines(timeout);
    let record = limit.insist(async || client.get_region(region).await).await?;
    let binding = record.store.ok_or_else(|| {
        Failure::new(Exit::Unavailable, format!("{region} has no object store yet"))
            .because(Reason::NotServing)
            .with("region", region)
            .remedy("wait until an agent of the region has attached one (`regent region list`)")
    })?;
    if let Some(path) = binding.endpoint.strip_prefix("file://") {
        let root = Path::new(path).join(&binding.bucket);
        let store = FsStore::open(region.as_str(), &root, deadlines).await;
        return Ok(Box::new(store.map_err(|e| store_failed(&e))?));
    }
    let keys = context.store_credentials(region).ok_or_else(|| {
        Failure::usage(format!("the context has no keys for the store of {region}"))
            .with("region", region)
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
        Err(error) => Err(transfer_failed(&error)),
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
        Err(error) => Err(put_failed(&error)),
    }
}

/// What the SDK says below an error is for the log.
fn log_source(error: &dyn std::error::Error) {
    if let Some(source) = error.source() {
        tracing::info!("{error}: {source}");
    }
}

/// A store that failed or refused, in parts: what happened, what to do, and both for programs.
fn store_failed(error: &StoreError) -> Failure {
    log_source(error);
    let (operation, key, store, kind) = (error.operation, &error.key, &error.store, &error.kind);
    let reason = reason_of(kind);
    let failure = Failure::new(
        reason.map_or(Exit::Error, Exit::of),
        format!("{operation} {key} at store {store}: {kind}"),
    );
    let failure = failure
        .remedy(kind.remedy())
        .with("store", store)
        .with("key", key);
    match reason {
        Some(reason) => failure.because(reason),
        None => failure,
    }
}

fn reason_of(kind: &ErrorKind) -> Option<Reason> {
    match kind {
        ErrorKind::Deadline { .. } | ErrorKind::Unavailable => Some(Reason::Unreachable),
        ErrorKind::Denied => Some(Reason::PermissionDenied),
        ErrorKind::DigestMismatch { .. } | ErrorKind::SizeMismatch { .. } => Some(Reason::DigestMismatch),
        ErrorKind::NotFound
        | ErrorKind::NoSuchBucket
        | ErrorKind::BadKey { .. }
        | ErrorKind::OutOfRange
        | ErrorKind::Refused { .. }
        | ErrorKind::Disk
        | ErrorKind::BodyFailed => None,
    }
}

fn transfer_failed(error: &TransferError) -> Failure {
    match error {
        TransferError::Damaged(error) | TransferError::Store(error) => store_failed(error),
        TransferError::Unknown(_) | TransferError::Busy { .. } => {
            log_source(error);
            Failure::new(Exit::Unavailable, error)
        }
        TransferError::Cache { .. } => {
            log_source(error);
            Failure::other(error)
        }
    }
}

fn put_failed(error: &PutError) -> Failure {
    let (message, store, key) = match error {
        PutError::Failed(error) => return store_failed(error),
        PutError::Unknown(error) => {
            log_source(error);
            ("the write may or may not have happened", &error.store, &error.key)
        }
        PutError::Conflict { store, key } => ("another write is under way", store, key),
        PutError::PreconditionFailed { store, key } => ("it is not as the write expected it", store, key),
    };
    Failure::new(
        Exit::Unavailable,
        format!("put {key} at store {store}: {message}"),
    )
    .remedy("push the same directory again: it goes on with what is there")
    .with("store", store)
    .with("key", key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> StoreError {
        StoreError::new("eu-west-1", "get", "artifacts/a", kind)
    }

    /// The message says what happened, the remedy what to do, and neither says both.
    fn check_parts(failure: &Failure, exit: Exit, reason: Option<Reason>) {
        let (message, remedy) = (&failure.message, &failure.remedy);
        assert!(
            !remedy.is_empty() && !message.contains(remedy.as_str()),
            "{failure}"
        );
        assert_eq!((failure.exit, failure.reason), (exit, reason), "{failure}");
        let operands = &failure.to_json()["error"]["operands"];
        assert_eq!(operands["store"], "eu-west-1", "{operands}");
        assert_eq!(operands["key"], "artifacts/a", "{operands}");
    }

    #[test]
    fn a_store_that_fails_is_told_in_parts() {
        let after = Duration::from_secs(3);
        let checked = |kind, exit, reason| check_parts(&store_failed(&error(kind)), exit, reason);
        checked(
            ErrorKind::Deadline { after },
            Exit::Unavailable,
            Some(Reason::Unreachable),
        );
        checked(ErrorKind::Denied, Exit::Denied, Some(Reason::PermissionDenied));
        checked(ErrorKind::NoSuchBucket, Exit::Error, None);
    }

    #[test]
    fn a_transfer_is_told_as_its_store_is() {
        let failed = TransferError::Store(error(ErrorKind::Unavailable));
        check_parts(
            &transfer_failed(&failed),
            Exit::Unavailable,
            Some(Reason::Unreachable),
        );
        let unknown = PutError::Unknown(error(ErrorKind::Unavailable));
        check_parts(
            &put_failed(&unknown),
            Exit::Unavailable,
            Some(Reason::Unreachable),
        );
    }
}
