//! The state machine as one openraft node holds it, so that another one starts only when nothing of the former can apply an
//! entry any more.
//!
//! openraft's state machine task outlives its core: it ends what it has begun. Absent on purpose: anything of its own.

use std::{io, sync::Arc};

use futures::Stream;
use openraft::{
    OptionalSend,
    alias::SnapshotOf,
    storage::{EntryResponder, RaftStateMachine},
};
use tokio::sync::oneshot;

use super::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig};

/// A state machine that says when the last hold on it is gone.
#[derive(Debug)]
pub(crate) struct Held<S> {
    machine: S,
    _last: Arc<oneshot::Sender<()>>,
}

impl<S> Held<S> {
    /// The state machine, and what ends once nobody holds it.
    pub(crate) fn new(machine: S) -> (Self, oneshot::Receiver<()>) {
        let (last, released) = oneshot::channel();
        let _last = Arc::new(last);
        (Self { machine, _last }, released)
    }
}

impl<S: RaftStateMachine<TypeConfig>> RaftStateMachine<TypeConfig> for Held<S> {
    type SnapshotData = S::SnapshotData;
    type SnapshotBuilder = S::SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.machine.applied_state().await
    }
    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        self.machine.apply(entries).await
    }
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<S::SnapshotBuilder> {
        self.machine.try_create_snapshot_builder(force).await
    }
    async fn get_snapshot_builder(&mut self) -> S::SnapshotBuilder {
        self.machine.get_snapshot_builder().await
    }
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: S::SnapshotData) -> io::Result<()> {
        self.machine.install_snapshot(meta, snapshot).await
    }
    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, S::SnapshotData>>> {
        self.machine.get_current_snapshot().await
    }
}
