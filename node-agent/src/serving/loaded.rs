//! One version in memory, and the requests that were given it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use inference::{GenerateRequest, InferError, InferRequest, ModelActor, Output, Signature, TokenStream};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use types::VersionKey;

/// One version in memory.
pub struct Loaded {
    /// Which.
    pub key: VersionKey,
    pub(super) actor: ModelActor,
    /// Requests that were given this version and have no answer yet.
    pub(super) requests: TaskTracker,
}

/// A version that was given to a request: it is not unloaded before the request is done with it.
pub struct Ticket {
    pub(super) loaded: Arc<Loaded>,
    pub(super) _request: TaskTrackerToken,
}

impl std::ops::Deref for Ticket {
    type Target = Loaded;
    fn deref(&self) -> &Loaded {
        &self.loaded
    }
}

impl Loaded {
    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        self.actor.engine().signature()
    }

    /// Runs it once.
    ///
    /// # Errors
    /// Those of the model's actor.
    pub async fn infer(&self, request: InferRequest, deadline: Instant) -> Result<Output, InferError> {
        // The actor looks at the deadline when a request leaves the queue; a forward pass in hand is not interrupted,
        // so the wait for its answer is bounded here.
        let received = Instant::now();
        let left = deadline.saturating_duration_since(received);
        match tokio::time::timeout(left, self.actor.infer(request, deadline)).await {
            Ok(answer) => answer,
            Err(_) => Err(InferError::Deadline {
                waited: received.elapsed(),
                generated: 0,
            }),
        }
    }

    /// Starts a generation.
    ///
    /// # Errors
    /// Those of the model's actor.
    pub fn generate(&self, request: GenerateRequest, deadline: Instant) -> Result<TokenStream, InferError> {
        self.actor.generate(request, deadline)
    }

    pub(super) async fn self_test(&self, limit: Duration) -> Result<(), InferError> {
        let sample = InferRequest::sample(self.signature());
        self.infer(sample, Instant::now() + limit).await.map(drop)
    }
}
