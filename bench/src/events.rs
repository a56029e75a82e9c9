//! What a cluster said had happened during a measurement, so that entries where none is allowed can be told apart.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use client::{
    Client,
    watch::{Change, StateWatch},
};
use tokio::task::JoinSet;

/// So many events are told of at most.
const KEPT: usize = 20;

/// One watch; it ends when this is dropped.
pub(crate) struct Events {
    /// Keeps the watch going.
    _task: JoinSet<()>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Events {
    /// Begins with what happens from now on. `patience` is the silence after which another coordinator is asked.
    pub(crate) async fn follow(client: Client, patience: Duration) -> Self {
        let mut state = StateWatch::new(client, patience);
        // The first change is the whole state.
        state.next().await;
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let (mut task, kept) = (JoinSet::new(), Arc::clone(&seen));
        task.spawn(async move {
            loop {
                if let Change::Events { revision, events } = state.next().await {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = KEPT.saturating_sub(kept.len());
                    let told = events.into_iter().take(room);
                    kept.extend(told.map(|e| format!("revision {revision}: {}: {:?}", e.kind, e.resource)));
                }
            }
        });
        Self { _task: task, seen }
    }

    /// The first events since it began, a line each.
    pub(crate) fn told(self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
