//! The jobs in hand, each known by name until it ends, however it ends.
//!
//! Absent on purpose: which jobs run, and what follows. Invariant: a job counts as running until its own task ended, so
//! that another's panic has nobody start it a second time.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
};

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    jobs::{JobError, Success},
    observed::Job,
};

/// What came of a job; none if it was stopped.
type Outcome = Option<Result<Success, JobError>>;

/// The jobs in hand.
#[derive(Default)]
pub(crate) struct Running {
    tasks: JoinSet<Outcome>,
    jobs: HashMap<Id, Job>,
}

impl Running {
    /// Starts a job, until it ends or `stop`.
    pub(crate) fn start(
        &mut self,
        job: Job,
        stop: CancellationToken,
        work: impl Future<Output = Result<Success, JobError>> + Send + 'static,
    ) {
        let task = self
            .tasks
            .spawn(async move { stop.run_until_cancelled_owned(work).await });
        self.jobs.insert(task.id(), job);
    }

    /// All jobs in hand.
    pub(crate) fn all(&self) -> BTreeSet<Job> {
        self.jobs.values().cloned().collect()
    }

    /// The next job that ends; none if there is none. A panic is a failure of the job that panicked, and of no other.
    pub(crate) async fn ended(&mut self) -> Option<(Job, Outcome)> {
        loop {
            let (id, outcome) = match self.tasks.join_next_with_id().await? {
                Ok((id, outcome)) => (id, outcome),
                Err(error) => {
                    tracing::error!(%error, "a job panicked");
                    (error.id(), Some(Err(JobError::Failed(error.to_string()))))
                }
            };
            if let Some(job) = self.jobs.remove(&id) {
                return Some((job, outcome));
            }
        }
    }
}
