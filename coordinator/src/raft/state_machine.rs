//! The adapter around [`state::ControlState`]: decode, apply, answer, publish, snapshot.
//!
//! Absent on purpose: rules; when to take a snapshot ([`super::compaction`]). A user's error is an answer; an `Err` from
//! here means that this replica cannot go on (an entry that cannot be decoded, a failed disk, a broken invariant), and
//! stops the node.
//! Invariant: every responder is answered exactly once, after its entry's events were published.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{Stream, StreamExt as _};
use openraft::{
    EntryPayload, OptionalSend,
    storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine},
};
use policy::compaction::{Growth, GrowthBounds};
use state::{ControlState, StateHash, TooNew, codec};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, Notify, watch};
use types::Revision;

use super::{
    compaction::Log,
    error::StartError,
    hashes::Hashes,
    identity::Identity,
    publish::{Published, Publisher},
    snapshot::{Incoming, SnapshotDir, SnapshotFile},
    suspicion::Suspicion,
    types::{Answer, LogEntry, LogId, Proposed, SnapshotMeta, StoredMembership, TypeConfig},
};
use crate::door_log::{self, DoorLog};

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// What has been applied: the state and how far it stands. A clone costs next to nothing, and sees nothing of what comes
/// after.
#[derive(Clone, Debug)]
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

    /// Applies the next entry, which has this command, and nothing else: no event, no line of the door, no answer.
    pub(crate) fn take(
        &mut self,
        entry: &LogEntry,
        command: Option<&codec::ReadEntry>,
    ) -> Option<state::Applied> {
        self.last = Some(entry.log_id);
        if let EntryPayload::Membership(membership) = &entry.payload {
            self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
        }
        let revision = Revision(entry.log_id.index());
        command.map(|command| self.state.apply_read(revision, command))
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
    /// Up to which feature level this node's build knows the rules.
    supported_level: u32,
    /// It is to be closed: what writes gives up.
    closing: AtomicBool,
    hashes: Mutex<Hashes>,
    log: Mutex<Log>,
    due: Notify,
    /// Whoever writes a snapshot of this node's own holds it, until Raft has taken note of it.
    taking: AsyncMutex<()>,
    /// Whoever applies holds it; and whoever replaces a state that is not the log's.
    applying: AsyncMutex<()>,
    suspicion: Suspicion,
    /// What this build met and does not know; nothing is applied from then on.
    too_new: OnceLock<TooNew>,
    /// It applies nothing and has no state: entries only count, and snapshots stay the bytes that they are.
    witness: bool,
}

impl Store {
    /// Loads the newest snapshot of the data directory; a damaged one is an error, because the log behind it is gone.
    /// So is one whose rules a build that knows levels up to `supported_level` does not know. A witness only makes sure that it is
    /// whole.
    pub(crate) fn open(
        identity: Arc<Identity>,
        bounds: GrowthBounds,
        supported_level: u32,
    ) -> Result<Arc<Self>, StartError> {
        let dir = identity.dir().join("snapshots");
        let snapshots =
            SnapshotDir::open(&dir, identity.boots()).map_err(data_dir(&dir, "cannot open the snapshots"))?;
        let door_path = identity.dir().join(door_log::FILE_NAME);
        let door = DoorLog::open(&door_path).map_err(|e| no_door_log(&door_path, e))?;
        let newest = snapshots.newest().map_err(|(path, e)| damaged(&path, &e))?;
        let snapshot_bytes = newest.as_ref().map_or(0, SnapshotFile::size);
        let witness = identity.is_witness();
        let applied = match newest {
            Some(file) if witness => kept(&file).map_err(|e| damaged(file.path(), &e))?,
            Some(mut file) => load(&mut file, supported_level).map_err(|e| not_loaded(file.path(), &e))?,
            None => without_state(None, StoredMembership::default()),
        };
        let revision = applied.revision();
        let suspicion = Suspicion::open(identity.dir());
        let suspicion =
            suspicion.map_err(data_dir(identity.dir(), "cannot read what it says of its state"))?;
        Ok(Arc::new(Self {
            snapshot: Mutex::new(applied.last.is_some().then(|| applied.meta())),
            applied: RwLock::new(applied),
            snapshots,
            door: Mutex::new(door),
            identity,
            publisher: Publisher::new(revision),
            progress: watch::Sender::new(revision),
            supported_level,
            closing: AtomicBool::new(false),
            hashes: Mutex::default(),
            log: Mutex::new(Log::new(bounds, snapshot_bytes)),
            due: Notify::new(),
            taking: AsyncMutex::default(),
            applying: AsyncMutex::default(),
            suspicion,
            too_new: OnceLock::new(),
            witness,
        }))
    }

    /// Gives up what takes long: a snapshot may be being written when Raft has ended already.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Changes files; an error once the directory may be another run's.
    fn while_open<T>(&self, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _locked = self.identity.hold()?;
        f()
    }

    fn goes_on(&self) -> io::Result<()> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(io::Error::other("the node is stopping"));
        }
        Ok(())
    }

    /// Readers see whole entries only. A poisoned lock means that apply panicked half-way: such a state is never read.
    pub(crate) fn applied(&self) -> RwLockReadGuard<'_, AppliedState> {
        self.applied
            .read()
            .expect("a state in which apply panicked must not be served")
    }

    /// What is applied now, for readers that take their time: it holds up nobody, and sees nothing of what comes after.
    pub(crate) fn view(&self) -> AppliedState {
        self.applied().clone()
    }

    /// The integrity hashes at the last round revisions that were applied here, oldest first.
    pub(crate) fn hashes(&self) -> Vec<(Revision, StateHash)> {
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.all()
    }

    /// The same, and the hash of now.
    pub(crate) fn hashes_and_now(&self) -> Vec<(Revision, StateHash)> {
        let mut all = self.hashes();
        let applied = self.applied();
        all.push((applied.revision(), applied.state.state_hash()));
        all
    }

    /// The revision applied last, as it grows.
    pub(crate) fn progress(&self) -> watch::Receiver<Revision> {
        self.progress.subscribe()
    }

    /// A temporary file for a snapshot that comes in. Until it is installed it keeps the directory from nobody.
    pub(crate) fn receive(&self) -> io::Result<Incoming> {
        self.while_open(|| self.snapshots.receive())
    }

    /// Those of its directory.
    #[cfg(test)]
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

    /// The state of a snapshot file, whosever it is.
    pub(crate) fn load(&self, file: &mut SnapshotFile) -> io::Result<AppliedState> {
        load(file, self.supported_level)
    }

    /// The command of an entry, if it has one.
    pub(crate) fn command_of(&self, entry: &LogEntry) -> io::Result<Option<codec::ReadEntry>> {
        let revision = Revision(entry.log_id.index());
        match &entry.payload {
            EntryPayload::Normal(bytes) => decode(revision, &bytes.0, self.supported_level).map(Some),
            EntryPayload::Blank | EntryPayload::Membership(_) => Ok(None),
        }
    }

    /// Applies one entry; everything but publishing.
    fn apply(&self, entry: &LogEntry) -> io::Result<Answer> {
        if self.witness {
            self.change(|at| at.take(entry, None));
            self.note(entry);
            return Ok(Answer::Nothing);
        }
        let revision = Revision(entry.log_id.index());
        let command = self.command_of(entry).inspect_err(|e| self.note_too_new(e))?;
        // Held over both, so that whoever syncs the door has the lines of every entry that it sees applied.
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let (applied, cluster) = self.change(|at| {
            let applied = at.take(entry, command.as_ref());
            (applied, at.state.cluster().map(|c| c.cluster_id))
        });
        self.note(entry);
        if let Some(cluster) = cluster {
            self.identity.learn_cluster(cluster)?;
        }
        let Some(applied) = applied else {
            return Ok(Answer::Nothing);
        };
        if let Some(record) = applied.door {
            door.append(revision, record)?;
        }
        Ok(Answer::Applied(Proposed {
            revision,
            outcome: applied.outcome,
            events: applied.events.into(),
        }))
    }

    /// openraft stops on it, and keeps only its text.
    fn note_too_new(&self, error: &io::Error) {
        let level = error.get_ref().and_then(|e| e.downcast_ref::<TooNew>());
        if let Some(level) = level {
            self.too_new.get_or_init(|| *level);
        }
    }

    /// Why nothing is applied any more, if that is for rules that this build does not know.
    pub(crate) fn too_new(&self) -> Option<String> {
        self.too_new.get().map(ToString::to_string)
    }

    /// What follows from the place and the size of an entry that was applied.
    fn note(&self, entry: &LogEntry) {
        let revision = Revision(entry.log_id.index());
        let bytes = match &entry.payload {
            EntryPayload::Normal(bytes) => bytes.0.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        };
        if !self.witness {
            let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
            hashes.note(revision, || self.applied().state.state_hash());
        }
        if self
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .grow(bytes)
        {
            self.due.notify_one();
        }
    }

    /// Waits until a snapshot is due.
    pub(crate) async fn due(&self) {
        while !self.log.lock().unwrap_or_else(PoisonError::into_inner).is_due() {
            self.due.notified().await;
        }
    }

    async fn publish(&self, revision: Revision, answer: &Answer) {
        let events = match answer {
            Answer::Nothing => [].into(),
            Answer::Applied(proposed) => proposed.events.clone(),
        };
        // The log begins at index 0 with the founding membership; revisions begin at 1. What comes of a state that is not
        // believed nobody hears; they list anew once it is. Nobody listens at a witness.
        if revision > Revision::default() && !self.suspicion.is_held() && !self.witness {
            self.publisher
                .publish(Published::Applied { revision, events })
                .await;
        }
        self.progress.send_replace(revision);
    }

    /// Writes a snapshot of what is applied now, if that is believed; what is applied meanwhile does not wait for it. Blocks. An
    /// error leaves the newest one as it was, and no file. The caller tells Raft of it.
    pub(crate) fn write_snapshot(&self) -> io::Result<SnapshotFile> {
        if self.witness {
            return Err(writes_none());
        }
        if let Some(why) = self.suspicion.why() {
            return Err(io::Error::other(why));
        }
        let (view, growth, door_sync) = self.look()?;
        self.write(&view, growth, door_sync)
    }

    /// Writes a snapshot of what is applied now for somebody to take away; this node's own stays as it is. Blocks.
    pub(crate) fn export(&self) -> io::Result<(AppliedState, SnapshotFile)> {
        let view = self.view();
        let written = self.while_open(|| {
            self.snapshots
                .export(&view.meta(), &view.state, || self.goes_on())
        })?;
        Ok((view, written))
    }

    /// A view of now, how the log stands there, and what makes the door's lines up to there durable.
    fn look(&self) -> io::Result<(AppliedState, Growth, impl FnOnce() -> io::Result<()> + use<>)> {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.view();
        let growth = self.log.lock().unwrap_or_else(PoisonError::into_inner).growth();
        Ok((view, growth, door.begin_sync()?))
    }

    /// The log may forget the entries of a snapshot, and the lines of the door with them: so those are durable first.
    fn write(
        &self,
        view: &AppliedState,
        growth: Growth,
        door_sync: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<SnapshotFile> {
        let meta = view.meta();
        let snapshot = self.while_open(|| {
            door_sync()?;
            self.snapshots.write(&meta, &view.state, || self.goes_on())
        })?;
        self.remember_snapshot(&meta);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.covered(growth, snapshot.size());
        Ok(snapshot)
    }

    /// The newest snapshot, unless it is older than `index`. Blocks.
    pub(crate) fn newest_from(&self, index: u64) -> io::Result<Option<SnapshotFile>> {
        let covers = |meta: SnapshotMeta| meta.last_log_id.is_some_and(|last| last.index() >= index);
        if !self.newest_snapshot().is_some_and(covers) {
            return Ok(None);
        }
        self.snapshots.newest().map_err(|(_, e)| e)
    }

    /// A snapshot that came from a leader, and what it covers: what is damaged is found here. Blocks while it is read, which a
    /// witness leaves to others.
    pub(crate) fn read_incoming(&self, file: SnapshotFile) -> io::Result<(SnapshotMeta, SnapshotFile)> {
        if self.witness {
            return Ok((file.meta()?, file));
        }
        file.read_ahead()
    }

    /// Of a witness: keeps another voter's snapshot as its own, so that the log before it can go. What it covers was applied
    /// here. The caller tells Raft of it. Blocks.
    pub(crate) fn keep(&self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<SnapshotFile> {
        let snapshot = self.while_open(|| self.snapshots.adopt(meta, snapshot))?;
        self.remember_snapshot(meta);
        let covered = meta.last_log_id.as_ref().map_or(0, LogId::index);
        let rest = self.applied().revision().0.saturating_sub(covered);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.covered_but(rest, snapshot.size());
        Ok(snapshot)
    }

    /// How far the newest snapshot reaches; 0 where there is none.
    pub(crate) fn covered(&self) -> Revision {
        let newest = self.newest_snapshot().and_then(|meta| meta.last_log_id);
        Revision(newest.as_ref().map_or(0, LogId::index))
    }

    /// Takes over a leader's snapshot; blocks while it is read. The old state goes when its last reader lets it go.
    pub(crate) fn install(&self, meta: &SnapshotMeta, mut snapshot: SnapshotFile) -> io::Result<Revision> {
        let applied = match self.witness {
            true => without_state(meta.last_log_id, meta.last_membership.clone()),
            false => self.load(&mut snapshot).inspect_err(|e| self.note_too_new(e))?,
        };
        let bytes = snapshot.size();
        self.while_open(|| {
            if let Some(cluster) = applied.state.cluster() {
                self.identity.learn_cluster(cluster.cluster_id)?;
            }
            // The log forgets its entries behind this one, too.
            self.door(DoorLog::sync)?;
            self.snapshots.adopt(meta, snapshot)
        })?;
        self.remember_snapshot(meta);
        let revision = applied.revision();
        let replaced = self.change(|at| std::mem::replace(at, applied));
        drop(replaced);
        self.forget_hashes();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let all = log.growth();
        log.covered(all, bytes);
        Ok(revision)
    }

    /// One snapshot at a time is written and told of: Raft takes no notice of one while it looks at another.
    pub(crate) async fn take_turns(&self) -> AsyncMutexGuard<'_, ()> {
        self.taking.lock().await
    }

    /// Whether what is applied here is to be believed.
    pub(crate) fn suspicion(&self) -> &Suspicion {
        &self.suspicion
    }

    /// Nothing is applied while it is held.
    pub(crate) async fn hold_apply(&self) -> AsyncMutexGuard<'_, ()> {
        self.applying.lock().await
    }

    /// Puts the right state in the place of one that was found wrong: on disk first. The caller holds apply back. Blocks.
    pub(crate) fn replace(&self, right: AppliedState) -> io::Result<()> {
        let (revision, applied) = (right.revision(), self.applied().revision());
        if revision != applied {
            let problem = format!("the other state stands at {revision}, this one at {applied}");
            return Err(io::Error::other(problem));
        }
        let meta = right.meta();
        let growth = self.log.lock().unwrap_or_else(PoisonError::into_inner).growth();
        let snapshot = self.while_open(|| {
            self.door(DoorLog::sync)?;
            self.snapshots.write(&meta, &right.state, || self.goes_on())
        })?;
        self.remember_snapshot(&meta);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.covered(growth, snapshot.size());
        drop(log);
        let replaced = self.change(|at| std::mem::replace(at, right));
        drop(replaced);
        self.forget_hashes();
        Ok(())
    }

    /// The state is wrong: [`Suspicion::convict`].
    pub(crate) fn convict(&self, why: &str) -> (bool, io::Result<()>) {
        let locked = self.identity.hold();
        locked.map_or_else(|e| (false, Err(e)), |_locked| self.suspicion.convict(why))
    }

    /// The state is the log's. Watchers list anew: what they were told may be wrong, and lately they were told nothing.
    pub(crate) async fn believe_again(&self) -> io::Result<()> {
        let _still = self.hold_apply().await;
        self.while_open(|| self.suspicion.lift())?;
        let revision = self.applied().revision();
        self.publisher.publish(Published::Reset { revision }).await;
        Ok(())
    }

    /// Puts another state in the place of the right one, for tests of what finds it. No release build has it.
    #[cfg(debug_assertions)]
    pub(crate) fn tamper(&self, with: impl FnOnce(&ControlState) -> ControlState) {
        self.change(|at| at.state = with(&at.state));
    }

    fn forget_hashes(&self) {
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.forget();
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

/// What a witness knows: how far the log is applied, and who the members are.
fn without_state(last: Option<LogId>, membership: StoredMembership) -> AppliedState {
    AppliedState {
        state: ControlState::new(),
        last,
        membership,
    }
}

/// What a witness needs of the snapshot that it keeps.
fn kept(file: &SnapshotFile) -> io::Result<AppliedState> {
    file.check_whole()?;
    let meta = file.meta()?;
    Ok(without_state(meta.last_log_id, meta.last_membership))
}

fn writes_none() -> io::Error {
    io::Error::other("a witness has no state, and writes no snapshots")
}

fn load(file: &mut SnapshotFile, supported_level: u32) -> io::Result<AppliedState> {
    let loaded = file.take()?;
    loaded.state.check_features(supported_level).map_err(too_new)?;
    Ok(AppliedState {
        state: loaded.state,
        last: loaded.meta.last_log_id,
        membership: loaded.meta.last_membership,
    })
}

fn decode(revision: Revision, bytes: &[u8], supported_level: u32) -> io::Result<codec::ReadEntry> {
    let entry = codec::read_entry(bytes).map_err(|e| {
        let text = format!(
            "entry {revision} cannot be decoded, so this replica cannot follow; run the version that wrote it: {e}"
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    entry.entry().check_features(supported_level).map_err(too_new)?;
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
            let _applying = self.0.applying.lock().await;
            let answer = self.0.while_open(|| self.0.apply(&entry))?;
            self.0.publish(Revision(entry.log_id.index()), &answer).await;
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        self.0.while_open(|| self.0.door(DoorLog::flush))
    }

    /// What openraft asks for is what was written last: it asks when it is told that there is one. Where there is none, as
    /// when somebody else told it, it has to do without. It forces only where a log was purged and there is no snapshot, as its
    /// suite of tests does; no node starts on such a directory (`check_snapshot_is_there`).
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        if force {
            return Some(self.get_snapshot_builder().await);
        }
        let newest = self.get_current_snapshot().await;
        newest.transpose().map(SnapshotBuilder::new)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let store = self.0.clone();
        let written = tokio::task::spawn_blocking(move || store.write_snapshot()).await;
        let written = written.map_err(io::Error::other).flatten();
        SnapshotBuilder::new(written.and_then(as_snapshot))
    }

    /// Reads go on meanwhile: they see the old state until the new one is whole.
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let _applying = self.0.applying.lock().await;
        let (store, meta) = (self.0.clone(), meta.clone());
        let install = move || store.install(&meta, snapshot);
        let installed = tokio::task::spawn_blocking(install).await;
        let revision = installed.map_err(io::Error::other)??;
        self.0.publisher.publish(Published::Reset { revision }).await;
        self.0.progress.send_replace(revision);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let newest = self.0.snapshots.newest().map_err(|(_, e)| e)?;
        newest.map(as_snapshot).transpose()
    }
}

/// A file with what it covers, which only the file knows for sure: a newer one may have taken its place meanwhile.
fn as_snapshot(snapshot: SnapshotFile) -> io::Result<Snapshot> {
    let meta = snapshot.meta()?;
    Ok(Snapshot { meta, snapshot })
}

/// A snapshot on its way to openraft; handed out once.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder(Option<io::Result<Snapshot>>);

impl SnapshotBuilder {
    fn new(snapshot: io::Result<Snapshot>) -> Self {
        Self(Some(snapshot))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let again = || io::Error::other("a builder builds once");
        self.0.take().ok_or_else(again)?
    }
}
