//! A data directory of which a new cluster begins, from a state of an old one (L19).
//!
//! The new cluster has one voter, another id and another generation. Everything is written beside its place, synced, and then
//! takes its place by one rename: what a crash leaves behind is never started.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::CaKey;
use openraft::storage::RaftLogStorage as _;
use state::{ControlState, recovery::Recovery};
use types::{
    ClusterId, DiskId, NodeId, Rebind, RegionId, Revision, SignedRebind, UnixMillis, region::NodeKind,
};
use uuid::Uuid;

use super::{
    OfflineError, file,
    inspect::{Inspection, describe, load},
};
use crate::raft::{
    convert,
    error::StartError,
    files,
    identity::Identity,
    open_log,
    snapshot::SnapshotDir,
    types::{LogId, Membership, Peer, SnapshotMeta, StoredMembership, log_id, raft_id, term_of},
};

/// Who founds the new cluster, and what must be above what.
#[derive(Clone, Debug)]
pub struct NewCluster {
    /// The coordinator that founds it.
    pub node: NodeId,
    /// Its region.
    pub region: RegionId,
    /// Where clients reach it, `https://host:port`, as far as it is known; it tells anew when it starts.
    pub api_endpoint: String,
    /// Where other coordinators reach it.
    pub raft_endpoint: String,
    /// Its epochs' generation; none: the one above the highest that was found.
    pub generation: Option<u32>,
    /// The longest TTL that may have been granted and is not in the state.
    pub outstanding_ttl: Duration,
    /// More clusters that this one supersedes, which the state that it goes on from does not name.
    pub supersedes: Vec<ClusterId>,
    /// Signs that it supersedes the old one; none: that is to be signed later, and doors stay where they are until it is.
    pub ca_key: Option<CaKey>,
    /// Wall clock of now.
    pub at: UnixMillis,
    /// What happens, for people.
    pub reason: String,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Founded {
    /// From what it goes on.
    pub from: Inspection,
    /// Its name.
    pub cluster_id: ClusterId,
    /// Generation of its epochs.
    pub generation: u32,
    /// The revision at which it begins.
    pub revision: Revision,
    /// How long its first leader waits before it grants a lease, without the drift that is added.
    pub waits: Duration,
    /// That it goes on from the old one: signed, or to be signed.
    pub rebinds: Vec<SignedRebind>,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// That directory's id.
    pub disk: Option<DiskId>,
}

/// Makes a data directory of a new cluster from a snapshot file. There must be nothing at `data_dir`, or an empty directory.
pub async fn restore(path: &Path, data_dir: &Path, new: &NewCluster) -> Result<Founded, OfflineError> {
    let data_dir = &free(data_dir)?;
    let (loaded, size) = load(path)?;
    let sha256 = super::inspect::digest_of(path)?;
    let from = describe(&loaded.meta, &loaded.state, size, sha256);
    let planned = Planned::from(&loaded.state, loaded.meta.last_log_id.as_ref(), new)?;
    let disk = planned.put_in_place(data_dir, new).await?;
    Ok(planned.founded(from, data_dir, disk))
}

/// As [`restore`], from a state in memory that entries alone have made: for programs that measure a cluster whose history would
/// take hours.
pub async fn restore_state(
    state: &ControlState,
    data_dir: &Path,
    new: &NewCluster,
) -> Result<(), OfflineError> {
    let data_dir = &free(data_dir)?;
    let last = log_id(1, state.revision().0);
    let planned = Planned::from(state, Some(&last), new)?;
    planned.put_in_place(data_dir, new).await.map(drop)
}

/// Where a data directory is to be made, with a name of its own; nothing is there.
fn free(data_dir: &Path) -> Result<PathBuf, OfflineError> {
    let data_dir = std::path::absolute(data_dir).map_err(file(data_dir, "find"))?;
    check_empty(&data_dir)?;
    Ok(data_dir)
}

/// A new cluster before it is written down.
pub(super) struct Planned {
    state: ControlState,
    last: LogId,
    cluster_id: ClusterId,
    generation: u32,
    rebinds: Vec<SignedRebind>,
}

impl Planned {
    /// What a new cluster goes on from, at the entry after `last`.
    pub(super) fn from(
        state: &ControlState,
        last: Option<&LogId>,
        new: &NewCluster,
    ) -> Result<Self, OfflineError> {
        check_node(state, new)?;
        let (term, index) = last.map_or((0, 0), |id| (term_of(id), id.index()));
        let last = log_id(term + 1, index + 1);
        let cluster_id = ClusterId::from_u128(Uuid::now_v7().as_u128());
        let above = state.highest_generation().saturating_add(1);
        let generation = new.generation.unwrap_or(above);
        let rebinds = rebinds(state, new, cluster_id, generation)?;
        let state = state.recovered(&Recovery {
            cluster_id,
            generation,
            founder: new.node.clone(),
            revision: Revision(last.index()),
            at: new.at,
            outstanding_ttl: new.outstanding_ttl,
            rebinds: rebinds.clone(),
            reason: new.reason.clone(),
        })?;
        Ok(Self {
            state,
            last,
            cluster_id,
            generation,
            rebinds,
        })
    }

    /// Writes all of it beside its place, and then has it take that place.
    async fn put_in_place(&self, data_dir: &Path, new: &NewCluster) -> Result<Option<DiskId>, OfflineError> {
        let building = beside(data_dir, "new");
        let disk = self.build(&building, new).await?;
        files::rename(&building, data_dir).map_err(file(data_dir, "put in place"))?;
        Ok(disk)
    }

    /// Writes all of it into a directory that is made for it; what was written of one that failed is removed.
    pub(super) async fn build(&self, dir: &Path, new: &NewCluster) -> Result<Option<DiskId>, OfflineError> {
        if dir.exists() {
            return Err(OfflineError::LeftOver { path: dir.to_owned() });
        }
        let built = self.write(dir, new).await;
        if built.is_err() {
            // The error says what went wrong; what stays is told of by the next run.
            let _ = fs::remove_dir_all(dir);
        }
        built
    }

    async fn write(&self, dir: &Path, new: &NewCluster) -> Result<Option<DiskId>, OfflineError> {
        let identity = Arc::new(Identity::open(dir, &new.node)?);
        let named = identity.learn_cluster(self.cluster_id);
        named.map_err(file(dir, "name the cluster in"))?;
        let meta = self.meta(new, identity.disk_id())?;
        let path = dir.join("snapshots");
        let snapshots = SnapshotDir::open(&path, identity.boots()).map_err(file(&path, "make"))?;
        let written = snapshots.write(&meta, &self.state, || Ok(()));
        written.map_err(file(&path, "write the snapshot into"))?;
        self.begin_log(&identity).await?;
        files::sync_dir(dir).map_err(file(dir, "sync"))?;
        identity.unlock().await;
        Ok(identity.disk_id())
    }

    /// A log that ends where the snapshot does, with a vote of its term: a campaign goes on above both.
    async fn begin_log(&self, identity: &Arc<Identity>) -> Result<(), OfflineError> {
        let (mut log, closed) = open_log(identity, None)?;
        let vote = convert::own_vote(term_of(&self.last), raft_id(&identity.node()));
        let begun = async {
            log.purge(self.last).await?;
            // What comes before it is durable when it is.
            log.save_vote(&vote).await
        };
        let path = identity.dir().join("log");
        begun.await.map_err(file(&path, "begin the log in"))?;
        drop(log);
        // It ends when the files are closed.
        let _ = closed.await;
        files::sync_dir(&path).map_err(file(&path, "sync"))
    }

    fn meta(&self, new: &NewCluster, disk: Option<DiskId>) -> Result<SnapshotMeta, OfflineError> {
        let id = raft_id(&new.node);
        let peer = Peer {
            node: new.node.clone(),
            region: new.region.clone(),
            raft_endpoint: new.raft_endpoint.clone(),
            api_endpoint: new.api_endpoint.clone(),
            disk,
            witness: false,
        };
        let membership = Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, peer)]));
        let membership = membership.map_err(|e| StartError::Raft(e.to_string()))?;
        Ok(SnapshotMeta {
            last_log_id: Some(self.last),
            last_membership: StoredMembership::new(Some(self.last), membership),
        })
    }

    pub(super) fn founded(&self, from: Inspection, data_dir: &Path, disk: Option<DiskId>) -> Founded {
        Founded {
            from,
            cluster_id: self.cluster_id,
            generation: self.generation,
            revision: self.state.revision(),
            waits: self.state.longest_ttl(),
            rebinds: self.rebinds.clone(),
            data_dir: data_dir.to_owned(),
            disk,
        }
    }
}

/// That the new cluster goes on from the one of the state, and from those that only its operator knows of.
fn rebinds(
    state: &ControlState,
    new: &NewCluster,
    cluster: ClusterId,
    generation: u32,
) -> Result<Vec<SignedRebind>, OfflineError> {
    let own = state.cluster().map(|old| old.cluster_id);
    let olds: BTreeSet<ClusterId> = own.into_iter().chain(new.supersedes.iter().copied()).collect();
    let statements = olds.into_iter().map(|supersedes| Rebind {
        cluster,
        supersedes,
        generation,
    });
    let signed = statements.map(|statement| match &new.ca_key {
        Some(key) => key.sign(statement).map_err(OfflineError::Unsigned),
        None => Ok(SignedRebind {
            statement,
            signature: Vec::new(),
        }),
    });
    signed.collect()
}

/// A name in the same folder, for what is not in its place.
pub(super) fn beside(data_dir: &Path, what: &str) -> PathBuf {
    let mut name = data_dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}"));
    data_dir.with_file_name(name)
}

fn check_empty(dir: &Path) -> Result<(), OfflineError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(OfflineError::NotEmpty { path: dir.to_owned() }),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(file(dir, "look into")(e)),
    }
}

/// That the registry can take the founder in: a node never changes its region or its kind.
fn check_node(state: &ControlState, new: &NewCluster) -> Result<(), OfflineError> {
    let Some(known) = state.node(&new.node) else {
        return Ok(());
    };
    if known.kind == NodeKind::Coordinator && known.region == new.region {
        return Ok(());
    }
    Err(OfflineError::OtherNode {
        node: new.node.clone(),
        region: new.region.clone(),
        found: format!("{:?} of region {}", known.kind, known.region).to_lowercase(),
    })
}
