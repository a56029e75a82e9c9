//! The one place where an object changes: judge, change, record, under the key's lock.

use std::sync::Arc;

use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use crate::{
    access_log::{AccessLine, Current},
    conditions::{WriteCondition, text},
    directory::TempFile,
    fence_view::FenceView,
    meta::ObjectMeta,
    receive::disk,
    store::{Bucket, Store},
};

/// Who wants to change what, under which condition.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) method: &'static str,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) key: String,
    pub(crate) condition: WriteCondition,
    pub(crate) sent: Option<FenceView>,
    pub(crate) access_key: String,
}

/// The change itself.
#[derive(Debug)]
pub(crate) enum Change {
    /// A sealed, synced file takes the key.
    Put(TempFile, Arc<ObjectMeta>),
    /// The key becomes free.
    Delete,
}

impl Store {
    /// Judges the attempt against what stands there *now*, and carries it out. The step runs to its end even when
    /// the client goes away.
    pub(crate) async fn commit(self: &Arc<Self>, attempt: Attempt, change: Change) -> S3Result<()> {
        let guard = self.key_locks.lock(&attempt.bucket.name, &attempt.key).await;
        let store = Arc::clone(self);
        let step = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            store.commit_locked(&attempt, change)
        });
        step.await.map_err(S3Error::internal_error)?
    }

    /// Records an attempt that is refused whatever stands there, and gives the refusal back.
    pub(crate) async fn refuse(&self, attempt: Attempt, error: S3Error) -> S3Error {
        let _guard = self.key_locks.lock(&attempt.bucket.name, &attempt.key).await;
        let current = attempt.bucket.find(&attempt.key).await.ok();
        match self.record(&attempt, current.as_deref(), Err(&error)) {
            Ok(()) => error,
            Err(error) => error,
        }
    }

    fn commit_locked(&self, attempt: &Attempt, change: Change) -> S3Result<()> {
        self.log.check_usable()?;
        let current = attempt.bucket.get(&attempt.key)?;
        let outcome = attempt.apply(current.as_deref(), change);
        if outcome
            .as_ref()
            .is_err_and(|error| *error.code() == S3ErrorCode::InternalError)
        {
            self.log.stop();
        }
        let verdict = outcome.as_ref().map(Option::as_deref);
        self.record(attempt, current.as_deref(), verdict)?;
        outcome.map(|_| ())
    }

    fn record(
        &self,
        attempt: &Attempt,
        current: Option<&ObjectMeta>,
        verdict: Result<Option<&ObjectMeta>, &S3Error>,
    ) -> S3Result<()> {
        self.log.append(attempt.line(current, verdict)).map_err(disk)
    }
}

impl Attempt {
    fn apply(&self, current: Option<&ObjectMeta>, change: Change) -> S3Result<Option<Arc<ObjectMeta>>> {
        match change {
            Change::Put(temp, meta) => {
                self.condition.check_put(current)?;
                temp.publish(&self.bucket.path_of(&self.key))
                    .map_err(missing_bucket)?;
                self.bucket.record(&self.key, Some(Arc::clone(&meta)));
                Ok(Some(meta))
            }
            Change::Delete => {
                self.condition.check_delete(current)?;
                if current.is_some() {
                    self.bucket.remove_file(&self.key).map_err(disk)?;
                    self.bucket.record(&self.key, None);
                }
                Ok(None)
            }
        }
    }

    fn line(
        &self,
        current: Option<&ObjectMeta>,
        verdict: Result<Option<&ObjectMeta>, &S3Error>,
    ) -> AccessLine {
        let success = if self.method == "DELETE" { 204 } else { 200 };
        let status = verdict.map_or_else(
            |error| error.status_code().map_or(500, |s| s.as_u16()),
            |_| success,
        );
        AccessLine {
            seq: 0,
            unix_micros: 0,
            method: self.method.to_owned(),
            bucket: self.bucket.name.clone(),
            key: self.key.clone(),
            if_match: text(self.condition.if_match.as_ref()),
            if_none_match: text(self.condition.if_none_match.as_ref()),
            sent: self.sent.clone(),
            current: current.map(Current::of),
            status,
            error: verdict.err().map(|error| error.code().as_str().to_owned()),
            etag: verdict.ok().flatten().map(|meta| meta.etag.clone()),
            access_key: self.access_key.clone(),
            recovered: false,
        }
    }
}

/// A bucket that was removed while the body arrived.
fn missing_bucket(error: std::io::Error) -> S3Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => s3_error!(NoSuchBucket),
        _ => S3Error::with_source(S3ErrorCode::InternalError, Box::new(error)),
    }
}
