//! Going on from one survivor's data directory, after the majority of its cluster is lost for good (L19).
//!
//! The whole log is taken in, also what no leader ever said was committed: whoever was told that such an entry stands would miss
//! it, and nobody was told that it does not. The old directory is kept, under another name; the new one takes its place by one
//! exchange of names.
//! Invariant: until that exchange the old directory is a member's as before.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use openraft::{EntryPayload, RaftLogReader as _, storage::RaftLogStorage as _};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use state::{ControlState, codec, features::SUPPORTED};
use tracing::warn;
use types::{ClusterId, Digest, NodeId, Revision};

use super::{
    Founded, Inspection, NewCluster, OfflineError, file,
    inspect::describe,
    refound::{Planned, beside},
    unread,
};
use crate::raft::{
    SNAPSHOT_IS_MISSING,
    error::StartError,
    files,
    identity::{self, Identity},
    log_store::LogStore,
    memory::Memory,
    open_log,
    snapshot::SnapshotDir,
    types::{LogEntry, LogId, SnapshotMeta, StoredMembership},
};

/// Entries read at once.
const ENTRIES: u64 = 256;
/// Ports that were picked once, and that other configs name.
const LISTEN: &str = "listen.json";

/// A survivor's data directory, locked, with everything in it read. Nothing was changed but the count of its starts.
pub struct Survivor {
    identity: Arc<Identity>,
    dir: PathBuf,
    state: ControlState,
    meta: SnapshotMeta,
    committed: Option<LogId>,
    others: Vec<Other>,
}

/// Another member, as far as the survivor remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Who.
    pub node: NodeId,
    /// Where its Raft port was.
    pub raft_endpoint: String,
    /// Whether it voted.
    pub voter: bool,
    /// The highest entry that it is known to have stored; what is above the survivor's own log is lost.
    pub stored: Option<Revision>,
}

/// What is known of a survivor, and of what is lost.
#[derive(Clone, Debug)]
pub struct Standing {
    /// All of its log, as if it were a snapshot; it has neither a size nor a digest of its own.
    pub at: Inspection,
    /// Up to here it knew entries to be committed. What follows may never have been.
    pub committed: Revision,
    /// The other members.
    pub others: Vec<Other>,
}

impl std::fmt::Debug for Survivor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Survivor")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Survivor {
    /// Locks and reads the directory of a coordinator that does not run.
    pub async fn open(data_dir: &Path, node: &NodeId) -> Result<Self, OfflineError> {
        if !data_dir.join("node.json").exists() {
            let missing = io::Error::new(io::ErrorKind::NotFound, "no coordinator ever ran on it");
            return Err(file(data_dir, "recover from")(missing));
        }
        let data_dir = &fs::canonicalize(data_dir).map_err(file(data_dir, "find"))?;
        let identity = Arc::new(Identity::open(data_dir, node)?);
        let (mut state, mut meta) = newest_snapshot(data_dir)?;
        let (mut log, closed) = open_log(&identity, None)?;
        let committed = read_log(&mut log, data_dir, &mut state, &mut meta).await?;
        drop(log);
        // It ends when the files are closed.
        let _ = closed.await;
        let others = others(data_dir, node, &meta)?;
        Ok(Self {
            identity,
            dir: data_dir.to_owned(),
            state,
            committed,
            meta,
            others,
        })
    }

    /// What there is, and what is known to be lost.
    pub fn standing(&self) -> Standing {
        Standing {
            at: describe(&self.meta, &self.state, 0, Digest::of(b"")),
            committed: Revision(self.committed.as_ref().map_or(0, LogId::index)),
            others: self.others.clone(),
        }
    }

    /// Puts the directory of a new cluster in the place of the old one, which is kept. Its path comes second.
    pub async fn recover(self, new: &NewCluster) -> Result<(Founded, PathBuf), OfflineError> {
        let planned = Planned::from(&self.state, self.meta.last_log_id.as_ref(), new)?;
        let kept = self.kept_as(self.state.cluster().map(|c| c.cluster_id))?;
        let building = beside(&self.dir, "new");
        let disk = planned.build(&building, new).await?;
        self.keep_ports(&building)?;
        let exchanged = renameat_with(CWD, &building, CWD, &self.dir, RenameFlags::EXCHANGE);
        exchanged.map_err(|e| file(&self.dir, "put the new directory in the place of")(e.into()))?;
        files::rename(&building, &kept).map_err(file(&building, "keep"))?;
        let from = self.standing().at;
        self.identity.unlock().await;
        Ok((planned.founded(from, &self.dir, disk), kept))
    }

    /// Ends a recovery that a crash cut off between its two renames: this directory is the new cluster's already, and what lies
    /// where that was built is the old one. Its path from now on; none where there is nothing to end, and nothing was changed.
    pub fn finish(&self) -> Result<Option<PathBuf>, OfflineError> {
        let left = beside(&self.dir, "new");
        let Some(old) = identity::cluster_of(&left).filter(|old| self.goes_on_from(*old)) else {
            return Ok(None);
        };
        let kept = self.kept_as(Some(old))?;
        files::rename(&left, &kept).map_err(file(&left, "keep"))?;
        Ok(Some(kept))
    }

    /// Whether the cluster of this directory was made from that one. A directory that was built and never took its place is of a
    /// cluster that this one knows nothing of.
    fn goes_on_from(&self, old: ClusterId) -> bool {
        self.state.cluster().is_some_and(|own| {
            let statements = own.rebinds.iter().map(|rebind| rebind.statement);
            let mut own_ones = statements.filter(|said| said.cluster == own.cluster_id);
            own_ones.any(|said| said.supersedes == old)
        })
    }

    /// Where the directory of `old` is to be kept; an error if something is there.
    fn kept_as(&self, old: Option<ClusterId>) -> Result<PathBuf, OfflineError> {
        let kept = beside(&self.dir, &kept_name(old));
        match kept.exists() {
            true => Err(OfflineError::LeftOver { path: kept }),
            false => Ok(kept),
        }
    }

    /// Others were told where this coordinator listens.
    fn keep_ports(&self, building: &Path) -> Result<(), OfflineError> {
        let own = self.dir.join(LISTEN);
        let kept = match fs::read(&own) {
            Ok(bytes) => files::replace(&building.join(LISTEN), &bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        };
        kept.map_err(file(&own, "copy"))
    }
}

fn kept_name(cluster: Option<ClusterId>) -> String {
    cluster.map_or_else(|| "of-no-cluster".to_owned(), |id| format!("of-{id}"))
}

fn newest_snapshot(data_dir: &Path) -> Result<(ControlState, SnapshotMeta), OfflineError> {
    let dir = data_dir.join("snapshots");
    let snapshots = SnapshotDir::open(&dir, 0).map_err(file(&dir, "open"))?;
    let newest = snapshots.newest().map_err(|(path, e)| file(&path, "open")(e))?;
    let Some(newest) = newest else {
        let empty = SnapshotMeta {
            last_log_id: None,
            last_membership: StoredMembership::default(),
        };
        return Ok((ControlState::new(), empty));
    };
    let loaded = newest.load().map_err(|error| unread(newest.path(), error))?;
    check_features(newest.path(), loaded.state.check_features(SUPPORTED))?;
    Ok((loaded.state, loaded.meta))
}

fn check_features(path: &Path, known: Result<(), state::TooNew>) -> Result<(), OfflineError> {
    known.map_err(|too_new| OfflineError::TooNew {
        path: path.to_owned(),
        problem: too_new.to_string(),
    })
}

/// Applies what stands behind the snapshot, to the log's end. Answers up to where entries were known to be committed: whatever a
/// snapshot covers was.
async fn read_log(
    log: &mut LogStore,
    data_dir: &Path,
    state: &mut ControlState,
    meta: &mut SnapshotMeta,
) -> Result<Option<LogId>, OfflineError> {
    let path = data_dir.join("log");
    let covered = meta.last_log_id;
    let ends = log.get_log_state().await.map_err(file(&path, "read"))?;
    let committed = log.read_committed().await.map_err(file(&path, "read"))?;
    if ends.last_purged_log_id > covered {
        return Err(OfflineError::Damaged {
            path: data_dir.join("snapshots"),
            offset: None,
            problem: SNAPSHOT_IS_MISSING.to_owned(),
        });
    }
    let mut next = covered.as_ref().map_or(0, |id| id.index() + 1);
    let end = ends.last_log_id.as_ref().map_or(0, |id| id.index() + 1);
    while next < end {
        let upto = end.min(next + ENTRIES);
        let entries = log.try_get_log_entries(next..upto).await;
        let entries = entries.map_err(file(&path, "read"))?;
        if entries.is_empty() {
            let problem = format!("it has no entry {next}, and ends at {}", end - 1);
            return Err(OfflineError::Damaged {
                path,
                offset: None,
                problem,
            });
        }
        for entry in entries {
            next = entry.log_id.index() + 1;
            take_in(&path, state, meta, entry)?;
        }
    }
    Ok(committed.max(covered))
}

fn take_in(
    path: &Path,
    state: &mut ControlState,
    meta: &mut SnapshotMeta,
    entry: LogEntry,
) -> Result<(), OfflineError> {
    meta.last_log_id = Some(entry.log_id);
    match entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Membership(membership) => {
            meta.last_membership = StoredMembership::new(Some(entry.log_id), membership);
        }
        EntryPayload::Normal(bytes) => {
            let revision = Revision(entry.log_id.index());
            let read = codec::read_entry(&bytes.0).map_err(|e| OfflineError::Damaged {
                path: path.to_owned(),
                offset: None,
                problem: format!("entry {revision} cannot be decoded: {e}"),
            })?;
            check_features(path, read.entry().check_features(SUPPORTED))?;
            // Refusals are part of the history.
            drop(state.apply_read(revision, &read));
        }
    }
    Ok(())
}

fn others(data_dir: &Path, own: &NodeId, meta: &SnapshotMeta) -> Result<Vec<Other>, OfflineError> {
    let memory = match Memory::open(data_dir) {
        // It only tells what is lost, and there is nobody left who could take this node out.
        Err(error @ StartError::Forgot { .. }) => {
            warn!(%error, "what the other members had stored is not known");
            None
        }
        opened => Some(opened?),
    };
    let membership = meta.last_membership.membership();
    let voters: Vec<u64> = membership.voter_ids().collect();
    let other = |(id, peer): (&u64, &crate::raft::Peer)| Other {
        node: peer.node.clone(),
        raft_endpoint: peer.raft_endpoint.clone(),
        voter: voters.contains(id),
        stored: peer
            .disk
            .and_then(|disk| memory.as_ref()?.of(disk).stored)
            .map(|stored| Revision(stored.upto.index)),
    };
    let mut others: Vec<Other> = membership.nodes().map(other).collect();
    others.retain(|other| other.node != *own);
    others.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(others)
}
