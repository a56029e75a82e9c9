//! Whose data directory this is: the lock, and `node.json`.
//!
//! Invariant: a directory serves one process at a time, one node for ever, and one cluster once it has seen it. Whoever writes there
//! holds its lock until that has ended, however long the disk takes; but for snapshots that are still coming in, which count for nothing.

#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use types::{ClusterId, DiskId, NodeId};
use uuid::Uuid;

use super::{config::RaftTiming, error::StartError, files, types::raft_id};

/// The only layout so far; a directory with another is refused.
const FORMAT: u32 = 1;

/// `node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NodeFile {
    format: u32,
    node: NodeId,
    raft_id: u64,
    /// Set by a leader that found this node to be new, or by the log.
    cluster_id: Option<ClusterId>,
    /// Whether a vote was written to the log, which comes before anything that this node acknowledges. Every version
    /// that did not write this down learned of its cluster from the log.
    #[serde(default = "yes")]
    log_begun: bool,
    /// Made with the directory, or at the first start by a version that knows of ids.
    #[serde(default)]
    disk_id: Option<DiskId>,
    /// Starts of this directory, this one included.
    boots: u64,
    /// Whether it is a witness's, which has no state.
    #[serde(default, skip_serializing_if = "is_false")]
    witness: bool,
    /// By which election timing it went last, in milliseconds: heartbeat, least and longest election timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timing: Option<[u64; 3]>,
    /// Why the cluster turned this directory away, for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turned_away: Option<String>,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A locked data directory of a known node.
#[derive(Debug)]
pub(crate) struct Identity {
    dir: PathBuf,
    file: Mutex<NodeFile>,
    /// Held while `node.json` is written.
    writing: Mutex<()>,
    /// None once the node has stopped; and what ends when nobody holds the lock any more.
    lock: Mutex<Option<(Arc<DirLock>, oneshot::Receiver<()>)>>,
}

/// The lock of a data directory, which goes with the last who holds it; the kernel takes it from a process that dies.
#[derive(Debug)]
pub(crate) struct DirLock {
    /// Closed before whoever waits for that is told.
    _file: File,
    _gone: oneshot::Sender<()>,
}

impl Identity {
    /// Creates or opens `dir`, locks it, checks that it is `node`'s, gives it an id where it has none, and counts this start.
    pub(crate) fn open(dir: &Path, node: &NodeId) -> Result<Self, StartError> {
        Self::open_as(dir, node, None)
    }

    /// The same for a node that says whether it is a witness: what a directory was made for counts as soon as somebody may
    /// count on what is in it.
    pub(crate) fn open_as(dir: &Path, node: &NodeId, witness: Option<bool>) -> Result<Self, StartError> {
        fs::create_dir_all(dir).map_err(data_dir(dir, "cannot create it"))?;
        let (gone, is_gone) = oneshot::channel();
        let lock = DirLock {
            _file: lock(dir)?,
            _gone: gone,
        };
        let path = dir.join("node.json");
        let mut file = match fs::read(&path) {
            Ok(bytes) => parse(&path, &bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => NodeFile {
                format: FORMAT,
                node: node.clone(),
                raft_id: raft_id(node),
                cluster_id: None,
                log_begun: false,
                disk_id: None,
                boots: 0,
                witness: false,
                timing: None,
                turned_away: None,
            },
            Err(e) => return Err(data_dir(&path, "cannot read it")(e)),
        };
        check_owner(dir, node, &file)?;
        check_not_turned_away(dir, &file)?;
        if let Some(witness) = witness {
            check_kind(dir, &file, witness)?;
            file.witness = witness;
        }
        file.boots += 1;
        let fresh = || DiskId::from_u128(Uuid::now_v7().as_u128());
        file.disk_id.get_or_insert_with(fresh);
        write(&path, &file).map_err(data_dir(&path, "cannot write it"))?;
        Ok(Self {
            dir: dir.to_owned(),
            file: Mutex::new(file),
            writing: Mutex::new(()),
            lock: Mutex::new(Some((Arc::new(lock), is_gone))),
        })
    }

    /// Whether it is a witness's.
    pub(crate) fn is_witness(&self) -> bool {
        self.file().witness
    }

    pub(crate) fn cluster_id(&self) -> Option<ClusterId> {
        self.file().cluster_id
    }

    /// Whose it is.
    pub(crate) fn node(&self) -> NodeId {
        self.file().node.clone()
    }

    /// Which of all directories under this node's name it is.
    pub(crate) fn disk_id(&self) -> Option<DiskId> {
        self.file().disk_id
    }

    /// Remembers the cluster for ever; an error if the directory has seen another. Who calls it knows that this node
    /// is new to the cluster, or has the cluster's log: from then on it may store and vote.
    pub(crate) fn learn_cluster(&self, cluster_id: ClusterId) -> io::Result<()> {
        match self.cluster_id() {
            Some(known) if known != cluster_id => Err(io::Error::other(format!(
                "the log names cluster {cluster_id}, but data directory {} belongs to cluster {known}",
                self.dir.display()
            ))),
            _ => self.change(|file| file.cluster_id = Some(cluster_id)),
        }
    }

    /// By which election timing this node went last; `None` where it never changed, or what stands there makes no sense.
    pub(crate) fn timing(&self) -> Option<RaftTiming> {
        let [heartbeat, election_min, election_max] = self.file().timing?.map(Duration::from_millis);
        let timing = RaftTiming {
            heartbeat,
            election_min,
            election_max,
        };
        timing.validate().is_ok().then_some(timing)
    }

    /// Remembers by which one it goes from now on.
    pub(crate) fn remember_timing(&self, timing: &RaftTiming) -> io::Result<()> {
        let all = [timing.heartbeat, timing.election_min, timing.election_max];
        let millis = all.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        self.change(|file| file.timing = Some(millis))
    }

    /// Starts of this directory, this one included.
    pub(crate) fn boots(&self) -> u64 {
        self.file().boots
    }

    /// Remembers that the cluster does not take this directory any more; no start of it gets further than that.
    pub(crate) fn turn_away(&self, why: &str) -> io::Result<()> {
        self.change(|file| file.turned_away = Some(why.to_owned()))
    }

    /// Remembers that the log holds what this node must not forget.
    pub(crate) fn begin_log(&self) -> io::Result<()> {
        self.change(|file| file.log_begun = true)
    }

    /// Whether an empty log is one that was lost: what this node voted and acknowledged is gone with it.
    pub(crate) fn misses_its_log(&self) -> bool {
        let file = self.file();
        file.log_begun && file.cluster_id.is_some()
    }

    fn file(&self) -> MutexGuard<'_, NodeFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known in memory is on disk. Whoever looks, or has nothing to change, waits for no disk: Raft and every call from
    /// another coordinator do.
    fn change(&self, f: impl Fn(&mut NodeFile)) -> io::Result<()> {
        let changed = || {
            let known = self.file();
            let mut changed = known.clone();
            f(&mut changed);
            (changed != *known).then_some(changed)
        };
        if changed().is_none() {
            return Ok(());
        }
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = changed() {
            let _locked = self.hold()?;
            write(&self.dir.join("node.json"), &changed)?;
            *self.file() = changed;
        }
        Ok(())
    }

    /// For whoever writes in the directory, until that has ended; an error once the node has stopped.
    pub(crate) fn hold(&self) -> io::Result<Arc<DirLock>> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let held = lock.as_ref().map(|(lock, _)| Arc::clone(lock));
        held.ok_or_else(|| io::Error::other("the node has stopped; its files are closed"))
    }

    /// Nobody begins to write after this. Another process, or another start in this one, may have the directory once all that was
    /// begun has ended, which this waits for.
    pub(crate) async fn unlock(&self) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((own, gone)) = lock {
            drop(own);
            // The sender is dropped, never used.
            let _ = gone.await;
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Whether a cluster has spoken to this directory, or it cannot tell; changes nothing, and a start says what is wrong with it.
/// One that was called new and no more is no member's, so nobody will.
pub(crate) fn may_be_a_members(dir: &Path) -> bool {
    let path = dir.join("node.json");
    match fs::read(&path) {
        Ok(bytes) => parse(&path, &bytes).map_or(true, |file| file.cluster_id.is_some() && file.log_begun),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// The cluster that a directory belongs to, as far as that can be read; changes nothing.
pub(crate) fn cluster_of(dir: &Path) -> Option<ClusterId> {
    let path = dir.join("node.json");
    parse(&path, &fs::read(&path).ok()?).ok()?.cluster_id
}

fn data_dir(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::DataDir {
        path: path.to_owned(),
        doing,
        source,
    }
}

fn lock(dir: &Path) -> Result<File, StartError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(data_dir(&path, "cannot open it"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::Locked { path: dir.to_owned() }),
        Err(e) => Err(data_dir(&path, "cannot lock it")(e.into())),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<NodeFile, StartError> {
    let damaged = |problem: String| StartError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let file: NodeFile = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    if file.format != FORMAT {
        return Err(damaged(format!("format {} where {FORMAT} is known", file.format)));
    }
    Ok(file)
}

fn check_owner(dir: &Path, node: &NodeId, file: &NodeFile) -> Result<(), StartError> {
    if &file.node == node {
        return Ok(());
    }
    Err(StartError::OtherNode {
        path: dir.to_owned(),
        found: file.node.clone(),
        expected: node.clone(),
    })
}

fn check_not_turned_away(dir: &Path, file: &NodeFile) -> Result<(), StartError> {
    match &file.turned_away {
        None => Ok(()),
        Some(why) => Err(StartError::TurnedAway {
            path: dir.to_owned(),
            why: why.clone(),
        }),
    }
}

/// A witness's log may begin behind a snapshot that it never read; and another's state is not kept up to date by a witness.
fn check_kind(dir: &Path, file: &NodeFile, witness: bool) -> Result<(), StartError> {
    let begun = file.log_begun || file.cluster_id.is_some();
    if file.witness == witness || !begun {
        return Ok(());
    }
    Err(StartError::OtherKind {
        path: dir.to_owned(),
        node: file.node.clone(),
        witness: file.witness,
    })
}

fn write(path: &Path, file: &NodeFile) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(file).map_err(io::Error::other)?;
    bytes.push(b'\n');
    files::replace(path, &bytes)
}
