//! The adapter around [`state::ControlState`]: decode, apply, answer, publish, snapshot.
//!
//! Absent on purpose: rules. A user's error is an answer; an `Err` from here means that this replica cannot go on (an
//! entry that cannot be decoded, a failed disk, a broken invariant), and stops the node.
//! Invariant: every responder is answered exactly once, after its entry's events were published.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::{
    EntryPayload, OptionalSend,
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use state::{ControlState, TooNew, codec};
use tokio::sync::watch;
use types::Revision;

use super::{
    error::StartError,
    identity::Identity,
    publish::{Published, Publisher},
    snapshot::{SnapshotDir, SnapshotFile},
    types::{Answer, LogEntry, LogId, Proposed, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::door_log::{self, DoorLog};

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// What has been applied: the state and how far it stands.
#[derive(Debug)]
pub(crate) struct AppliedState {
    pub(crate) state: ControlState,
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl AppliedState {
    pub(crate) fn revision(&self) -> Revision {
        Revision(self.last.as_ref().map_or(0, LogId::index))
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
        }
    }
}

/// Shared between the state machine, which alone writes, and readers.
#[derive(Debug)]
pub(crate) struct Store {
    applied: RwLock<AppliedState>,
    /// The newest snapshot's meta, if there is one.
    snapshot: Mutex<Option<SnapshotMeta>>,
    snapshots: Arc<SnapshotDir>,
    door: Mutex<DoorLog>,
    identity: Arc<Identity>,
    pub(crate) publisher: Publisher,
    progress: watch::Sender<Revision>,
    /// Whoever changes files holds it; true once the directory is given back.
    closed: RwLock<bool>,
}

impl Store {
    /// Loads the newest snapshot of the data directory; a damaged one is an error, because the log behind it is gone.
    pub(crate) fn open(identity: Arc<Identity>) -> Result<Arc<Self>, StartError> {
        let dir = identity.dir().join("snapshots");
        let snapshots = SnapshotDir::open(&dir).map_err(data_dir(&dir, "cannot open the snapshots"))?;
        let door_path = identity.dir().join(door_log::FILE_NAME);
        let door = DoorLog::open(&door_path).map_err(|e| no_door_log(&door_path, e))?;
        let newest = snapshots.newest().map_err(|(path, e)| damaged(&path, &e))?;
        let applied = match newest {
            Some(file) => load(&file).map_err(|e| not_loaded(file.path(), &e))?,
            None => AppliedState {
                state: ControlState::new(),
                last: None,
                membership: StoredMembership::default(),
            },
        };
        let revision = applied.revision();
        Ok(Arc::new(Self {
            snapshot: Mutex::new(applied.last.is_some().then(|| applied.meta())),
            applied: RwLock::new(applied),
            snapshots,
            door: Mutex::new(door),
            identity,
            publisher: Publisher::new(revision),
            progress: watch::Sender::new(revision),
            closed: RwLock::new(false),
        }))
    }

    /// Waits for the changes of files that are under way (a snapshot may be being written when Raft has ended already),
    /// and refuses later ones: the directory may be another run's from now on. Blocks.
    pub(crate) fn close(&self) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn while_open<T>(&self, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err(io::Error::other("the node has stopped; its files are closed"));
        }
        f()
    }

    /// Readers see whole entries only. A poisoned lock means that apply panicked half-way: such a state is never read.
    pub(crate) fn applied(&self) -> RwLockReadGuard<'_, AppliedState> {
        self.applied
            .read()
            .expect("a state in which apply panicked must not be served")
    }

    /// The revision applied last, as it grows.
    pub(crate) fn progress(&self) -> watch::Receiver<Revision> {
        self.progress.subscribe()
    }

    /// A temporary file for a snapshot from the leader.
    pub(crate) fn snapshots(&self) -> &Arc<SnapshotDir> {
        &self.snapshots
    }

    fn change<T>(&self, f: impl FnOnce(&mut AppliedState) -> T) -> T {
        let mut applied = self
            .applied
            .write()
            .expect("a state in which apply panicked must not be changed");
        f(&mut applied)
    }

    fn door<T>(&self, f: impl FnOnce(&mut DoorLog) -> io::Result<T>) -> io::Result<T> {
        f(&mut self.door.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies one entry; everything but publishing.
    fn apply(&self, entry: &LogEntry) -> io::Result<Answer> {
        let revision = Revision(entry.log_id.index());
        let command = match &entry.payload {
            EntryPayload::Normal(bytes) => Some(decode(revision, &bytes.0)?),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        let (applied, cluster) = self.change(|at| {
            at.last = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = &entry.payload {
                at.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
            }
            let applied = command.map(|command| at.state.apply(revision, &command));
            (applied, at.state.cluster().map(|c| c.cluster_id))
        });
        if let Some(cluster) = cluster {
            self.identity.learn_cluster(cluster)?;
        }
        let Some(applied) = applied else {
            return Ok(Answer::Nothing);
        };
        if let Some(record) = applied.door {
            self.door(|door| door.append(revision, record))?;
        }
        Ok(Answer::Applied(Proposed {
            revision,
            outcome: applied.outcome,
            events: applied.events.into(),
        }))
    }

    async fn publish(&self, revision: Revision, answer: &Answer) {
        let events = match answer {
            Answer::Nothing => [].into(),
            Answer::Applied(proposed) => proposed.events.clone(),
        };
        // The log begins at index 0 with the founding membership; revisions begin at 1.
        if revision > Revision::default() {
            self.publisher
                .publish(Published::Applied { revision, events })
                .await;
        }
        self.progress.send_replace(revision);
    }

    /// Writes a snapshot; the log may forget its entries afterwards, and the lines of the door with them: so those are
    /// durable first.
    pub(crate) fn write_snapshot(&self, meta: &SnapshotMeta, state: &[u8]) -> io::Result<SnapshotFile> {
        let snapshot = self.while_open(|| {
            self.door(DoorLog::sync)?;
            self.snapshots.write(meta, state)
        })?;
        self.remember_snapshot(meta);
        Ok(snapshot)
    }

    /// Keeps the newest: a snapshot that was built while a newer one was installed is of no use.
    fn remember_snapshot(&self, meta: &SnapshotMeta) {
        let mut newest = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.as_ref().is_none_or(|m| m.last_log_id < meta.last_log_id) {
            *newest = Some(meta.clone());
        }
    }

    fn newest_snapshot(&self) -> Option<SnapshotMeta> {
        self.snapshot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn data_dir(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::DataDir {
        path: path.to_owned(),
        doing,
        source,
    }
}

/// Lines that this version does not know are no fault of the disk.
fn no_door_log(path: &Path, error: io::Error) -> StartError {
    if error.kind() != io::ErrorKind::Unsupported {
        return data_dir(path, "cannot open the door log")(error);
    }
    StartError::OtherVersion {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}

fn damaged(path: &Path, error: &io::Error) -> StartError {
    StartError::Damaged {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}

/// One that is ahead of this build is no fault of the disk.
fn not_loaded(path: &Path, error: &io::Error) -> StartError {
    if error.kind() != io::ErrorKind::Unsupported {
        return damaged(path, error);
    }
    StartError::TooOld {
        path: path.to_owned(),
        problem: error.to_string(),
    }
}

/// This replica would go on wrongly, so it does not go on.
fn too_new(level: TooNew) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, level)
}

fn load(file: &SnapshotFile) -> io::Result<AppliedState> {
    let loaded = file.load()?;
    let state = codec::decode_snapshot(&loaded.state)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
    state.check_features().map_err(too_new)?;
    Ok(AppliedState {
        state,
        last: loaded.meta.last_log_id,
        membership: loaded.meta.last_membership,
    })
}

fn decode(revision: Revision, bytes: &[u8]) -> io::Result<state::Entry> {
    let entry = codec::decode_entry(bytes).map_err(|e| {
        let text = format!(
            "entry {revision} cannot be decoded, so this replica cannot follow; run the version that wrote it: {e}"
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    entry.check_features().map_err(too_new)?;
    Ok(entry)
}

/// The handle that openraft drives.
#[derive(Clone, Debug)]
pub(crate) struct StateMachine(pub(crate) Arc<Store>);

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.0.applied();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let answer = self.0.while_open(|| self.0.apply(&entry))?;
            self.0.publish(Revision(entry.log_id.index()), &answer).await;
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        self.0.while_open(|| self.0.door(DoorLog::flush))
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let applied = self.0.applied();
        SnapshotBuilder {
            store: self.0.clone(),
            meta: applied.meta(),
            state: codec::encode_snapshot(&applied.state).into(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let applied = load(&snapshot)?;
        self.0.while_open(|| {
            if let Some(cluster) = applied.state.cluster() {
                self.0.identity.learn_cluster(cluster.cluster_id)?;
            }
            // The log forgets its entries behind this one, too.
            self.0.door(DoorLog::sync)?;
            self.0.snapshots.adopt(meta, snapshot)
        })?;
        self.0.remember_snapshot(meta);
        let revision = applied.revision();
        self.0.change(|at| *at = applied);
        self.0.publisher.publish(Published::Reset { revision }).await;
        self.0.progress.send_replace(revision);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let Some(meta) = self.0.newest_snapshot() else {
            return Ok(None);
        };
        let newest = self.0.snapshots.newest().map_err(|(_, e)| e)?;
        Ok(newest.map(|snapshot| Snapshot { meta, snapshot }))
    }
}

/// A view of the state at one revision, on its way to disk.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder {
    store: Arc<Store>,
    meta: SnapshotMeta,
    state: Bytes,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (store, meta, state) = (self.store.clone(), self.meta.clone(), self.state.clone());
        let write = move || {
            let snapshot = store.write_snapshot(&meta, &state)?;
            Ok(Snapshot { meta, snapshot })
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(io::Error::other)?
    }
}
