//! What a snapshot file holds, read from it alone.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use state::{ControlState, StateHash, features::SUPPORTED, query::Counts};
use types::{ClusterId, Digest, Revision, UnixMillis, digest::DigestHasher, role::RoleRecord};

use super::{OfflineError, file, unread};
use crate::raft::{
    snapshot::{Loaded, SnapshotFile},
    types::{LogId, Peer, SnapshotMeta, term_of},
};

/// Read at once while a file is hashed.
const BUFFER_BYTES: usize = 1 << 20;

/// What a snapshot file holds. All of it was checked: frames, digests, the state's hash, its invariants, its feature level.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Its length.
    pub size: u64,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Whose state it is; none of a cluster that was not founded yet.
    pub cluster_id: Option<ClusterId>,
    /// Generation of its epochs: the highest in it.
    pub generation: u32,
    /// Which rules were on.
    pub feature_level: u32,
    /// Everything up to this revision is in it.
    pub revision: Revision,
    /// The term of the last entry.
    pub term: u64,
    /// State time.
    pub time: UnixMillis,
    /// Two replicas at one revision have the same.
    pub state_hash: StateHash,
    /// The coordinators, and whether each votes.
    pub members: Vec<(Peer, bool)>,
    /// How much there is.
    pub counts: Counts,
    /// The primary roles as they stood.
    pub roles: Vec<RoleRecord>,
}

/// Reads a snapshot file and checks all of it.
pub fn inspect(path: &Path) -> Result<Inspection, OfflineError> {
    let (loaded, size) = load(path)?;
    let sha256 = digest_of(path)?;
    Ok(describe(&loaded.meta, &loaded.state, size, sha256))
}

/// The state of a snapshot file, and the file's length.
pub(super) fn load(path: &Path) -> Result<(Loaded, u64), OfflineError> {
    let snapshot = SnapshotFile::open(path).map_err(file(path, "open"))?;
    let loaded = snapshot.load().map_err(|error| unread(path, error))?;
    let known = loaded.state.check_features(SUPPORTED);
    known.map_err(|too_new| OfflineError::TooNew {
        path: path.to_owned(),
        problem: too_new.to_string(),
    })?;
    Ok((loaded, snapshot.size()))
}

pub(super) fn describe(meta: &SnapshotMeta, state: &ControlState, size: u64, sha256: Digest) -> Inspection {
    let membership = meta.last_membership.membership();
    let voters: Vec<u64> = membership.voter_ids().collect();
    let mut members: Vec<(Peer, bool)> = membership
        .nodes()
        .map(|(id, peer)| (peer.clone(), voters.contains(id)))
        .collect();
    members.sort_by(|a, b| a.0.node.cmp(&b.0.node));
    let last = meta.last_log_id.as_ref();
    Inspection {
        size,
        sha256,
        cluster_id: state.cluster().map(|c| c.cluster_id),
        generation: state.highest_generation(),
        feature_level: state.features().level(),
        revision: Revision(last.map_or(0, LogId::index)),
        term: last.map_or(0, term_of),
        time: state.time(),
        state_hash: state.state_hash(),
        members,
        counts: state.counts(),
        roles: state.roles().cloned().collect(),
    }
}

/// SHA-256 of a whole file.
pub(super) fn digest_of(path: &Path) -> Result<Digest, OfflineError> {
    digest(path).map_err(file(path, "read"))
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = DigestHasher::new();
    let mut chunk = vec![0; BUFFER_BYTES];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(chunk.get(..count).unwrap_or_default());
    }
}
