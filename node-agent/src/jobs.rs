//! The futures behind jobs: what each kind of work calls, and how it can end.
//!
//! Absent on purpose: when they run, and when again ([`crate::worker`]).

use std::{io, sync::Arc, time::Duration};

use types::{Digest, Revision, VersionKey, model::VersionRecord};

use crate::{
    desired::{Copy, Desired},
    library::Library,
    observed::Job,
    serving::{LoadModel, Serving},
    worker::Parts,
};

/// Time for the first inference of a version that was just loaded.
const WARM_LIMIT: Duration = Duration::from_secs(30);

/// The revision that committed the success, for work that is reported.
pub(crate) type Success = Option<Revision>;

/// Why a job did not succeed.
pub(crate) enum JobError {
    /// Worth another try.
    Failed(String),
    /// A cached file is not what it was: fetch it again.
    Damaged(String),
    /// The version itself cannot be served, here or anywhere; tried again all the same, ever later.
    Unservable(String),
}

/// A job on its way.
pub(crate) type Work = std::pin::Pin<Box<dyn Future<Output = Result<Success, JobError>> + Send>>;

fn failed(error: crate::replicate::WorkError) -> JobError {
    JobError::Failed(error.to_string())
}

impl Parts {
    /// The future of a job; none if what it needs is gone from the desired state.
    pub(crate) fn work(&self, job: &Job, desired: &Desired, tries: u32) -> Option<Work> {
        let replicator = self.replicator.clone();
        let stores = desired.stores.clone();
        match job {
            Job::Verify(key) => {
                let record = Arc::clone(desired.verify.get(key)?);
                Some(Box::pin(async move {
                    replicator
                        .verify_upload(&record, &stores)
                        .await
                        .map(Some)
                        .map_err(failed)
                }))
            }
            Job::Copy(key) => {
                let Copy { record, sources, .. } = desired.copy.get(key)?.clone();
                Some(Box::pin(async move {
                    replicator
                        .copy(&record, &sources, tries, &stores)
                        .await
                        .map(Some)
                        .map_err(failed)
                }))
            }
            Job::Fetch(key) => {
                let Copy { record, sources, .. } = desired.cache.get(key)?.clone();
                Some(Box::pin(async move {
                    replicator
                        .fetch(&record, &sources, &stores)
                        .await
                        .map(|()| None)
                        .map_err(failed)
                }))
            }
            Job::Recheck(key) => {
                let Copy { record, verified, .. } = desired.cache.get(key)?.clone();
                let attempt = verified?;
                Some(Box::pin(async move {
                    replicator
                        .recheck(&record, attempt, &stores)
                        .await
                        .map_err(failed)
                }))
            }
            Job::Load(key) => {
                let record = Arc::clone(&desired.cache.get(key)?.record);
                let parts = (self.library.clone(), Arc::clone(&self.loader));
                let serving = self.serving.clone();
                Some(Box::pin(load(record, parts.0, parts.1, serving)))
            }
            Job::Evict(key) => {
                let (key, digests) = (key.clone(), desired.gone.get(key)?.clone());
                Some(Box::pin(evict(key, digests, self.library.clone())))
            }
            Job::Unload(key) => {
                let (key, limit) = (key.clone(), self.drain_timeout);
                let serving = self.serving.clone();
                Some(Box::pin(async move {
                    serving.stop(&key, limit).await;
                    tracing::info!(%key, "version unloaded");
                    Ok(None)
                }))
            }
        }
    }
}

/// Off the disk: the directory and the files of its own.
async fn evict(key: VersionKey, digests: Vec<Digest>, library: Library) -> Result<Success, JobError> {
    let removed = tokio::task::spawn_blocking(move || library.evict(&key, &digests));
    let removed = removed.await.map_err(|e| JobError::Failed(e.to_string()))?;
    removed
        .map(|()| None)
        .map_err(|e| JobError::Failed(e.to_string()))
}

/// From the cache into memory: directory, engine, self-test.
async fn load(
    record: Arc<VersionRecord>,
    library: Library,
    loader: Arc<dyn LoadModel>,
    serving: Serving,
) -> Result<Success, JobError> {
    let key = record.key.clone();
    let read = tokio::task::spawn_blocking(move || {
        let damaged = |e: io::Error| JobError::Damaged(e.to_string());
        let dir = library.assemble(&record).map_err(damaged)?;
        // What the disk holds by now, not what was once written: damaged weights may load, and answer nonsense.
        let is_whole = library.scrub(&record);
        if !is_whole.map_err(|e| JobError::Failed(format!("its files cannot be read: {e}")))? {
            let text = "a file on this node's disk is damaged; it is fetched again";
            return Err(JobError::Damaged(text.to_owned()));
        }
        loader
            .load(&dir)
            .map_err(|error| job_error(error.kind.is_of_the_model(), &error))
    });
    let engine = read.await.map_err(|e| JobError::Failed(e.to_string()))??;
    let started = serving.start(key, engine, WARM_LIMIT).await;
    started
        .map(|()| None)
        .map_err(|e| job_error(e.is_of_the_model(), &e))
}

fn job_error(is_of_the_model: bool, error: &dyn std::error::Error) -> JobError {
    let text = error.to_string();
    if is_of_the_model {
        JobError::Unservable(text)
    } else {
        JobError::Failed(text)
    }
}
