//! The lowest epoch that this agent's door still accepts, per cluster and role, on disk with fsync (L13).
//!
//! Absent on purpose: who may raise a floor; that is the door's to say. Never in sled: its flush is no fsync.
//! Invariant: a floor in memory is on disk, and it never sinks, also not over a restart.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use policy::fence::{Floor, raise};
use serde::{Deserialize, Serialize};
use types::{ClusterId, Epoch, Holder, RoleName, SignedRebind};

use crate::durable;

/// The version of the file where the agent belongs to the cluster that it first spoke to, and knows of no other.
const VERSION_FIRST: u32 = 1;
/// The version with clusters that ended, and the statements by which they did. An older release does not read it, and must not: it
/// would go back.
const VERSION_FOLLOWED: u32 = 2;

/// The floors of one agent, for the one cluster that it is bound to; and where it came from.
#[derive(Debug)]
pub struct Floors {
    path: PathBuf,
    cluster_id: Option<ClusterId>,
    floors: BTreeMap<RoleName, Floor>,
    lineage: Followed,
}

/// How an agent came to its cluster. Everything in it is kept for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Clusters that this agent left, with the floors that it had there.
    pub closed: BTreeMap<ClusterId, BTreeMap<RoleName, Floor>>,
    /// Statements that the CA signed; each was verified before it came here.
    pub statements: Vec<SignedRebind>,
}

/// Why floors cannot be read, kept or bound.
#[derive(Debug, thiserror::Error)]
pub enum FloorsError {
    /// The disk failed. Nothing was raised.
    #[error("fencing floors {}: {error}; check the disk and the permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is not what this code wrote. It must not be deleted: that would forget what is fenced.
    #[error("fencing floors {}: {problem}; restore the file, or upgrade this process", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The coordinators are of another cluster than the one that this door is bound to (L19).
    #[error(
        "this agent is bound to cluster {bound}, and the coordinators are of cluster {shown}; it follows by a statement that the CA signed alone: `regent cluster rebind`"
    )]
    OtherCluster {
        /// The cluster on disk.
        bound: ClusterId,
        /// The cluster of the coordinators.
        shown: ClusterId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    cluster_id: Option<ClusterId>,
    floors: Vec<Row>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    closed: Vec<Closed>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rebinds: Vec<SignedRebind>,
}

/// A cluster that was left.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closed {
    cluster_id: ClusterId,
    floors: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    role: RoleName,
    epoch: Epoch,
    holder: Option<Holder>,
}

impl Floors {
    /// Reads the file; none yet means no floors and no cluster.
    ///
    /// # Errors
    /// A file that cannot be read or understood is an error: guessing would open the door.
    pub fn open(path: &Path) -> Result<Self, FloorsError> {
        let io = |error| FloorsError::Io {
            path: path.to_owned(),
            error,
        };
        let mut floors = Self {
            path: path.to_owned(),
            cluster_id: None,
            floors: BTreeMap::new(),
            lineage: Followed::default(),
        };
        if let Some(bytes) = durable::read(path).map_err(io)? {
            floors.take(&bytes)?;
        }
        Ok(floors)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), FloorsError> {
        let malformed = |problem: String| FloorsError::Malformed {
            path: self.path.clone(),
            problem,
        };
        let file: File = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
        if !(VERSION_FIRST..=VERSION_FOLLOWED).contains(&file.version) {
            return Err(malformed(format!(
                "version {} is none of those that this release reads, {VERSION_FIRST} and {VERSION_FOLLOWED}",
                file.version
            )));
        }
        let is_empty = file.floors.is_empty() && file.closed.is_empty() && file.rebinds.is_empty();
        let cluster_id = match (file.cluster_id, is_empty) {
            (Some(id), _) => id,
            (None, true) => return Ok(()),
            (None, false) => return Err(malformed("floors without a cluster id".to_owned())),
        };
        self.cluster_id = Some(cluster_id);
        self.floors = read_rows(cluster_id, file.floors);
        let closed = file.closed.into_iter();
        self.lineage = Followed {
            closed: closed
                .map(|c| (c.cluster_id, read_rows(c.cluster_id, c.floors)))
                .collect(),
            statements: file.rebinds,
        };
        Ok(())
    }

    /// The cluster that this door is bound to; none before the first contact.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
    }

    /// The floor of a role.
    pub fn get(&self, role: &RoleName) -> Option<&Floor> {
        self.floors.get(role)
    }

    /// All floors.
    pub fn all(&self) -> impl Iterator<Item = &Floor> {
        self.floors.values()
    }

    /// Binds to a cluster at the first contact, and refuses any other from then on.
    ///
    /// # Errors
    /// Another cluster, or a failing disk.
    pub fn bind(&mut self, cluster_id: ClusterId) -> Result<(), FloorsError> {
        match self.cluster_id {
            Some(bound) if bound == cluster_id => Ok(()),
            Some(bound) => Err(FloorsError::OtherCluster {
                bound,
                shown: cluster_id,
            }),
            None => {
                self.write(cluster_id, &self.floors, &self.lineage)?;
                self.cluster_id = Some(cluster_id);
                Ok(())
            }
        }
    }

    /// Takes over what coordinators confirmed; on disk before it counts. Blocks for two flushes if anything rose.
    ///
    /// # Errors
    /// A floor of another cluster, or a failing disk; nothing is raised then.
    pub fn raise(&mut self, confirmed: impl IntoIterator<Item = Floor>) -> Result<bool, FloorsError> {
        let mut raised = self.floors.clone();
        let mut cluster_id = self.cluster_id;
        for floor in confirmed {
            match cluster_id {
                Some(bound) if bound != floor.cluster_id => {
                    return Err(FloorsError::OtherCluster {
                        bound,
                        shown: floor.cluster_id,
                    });
                }
                _ => cluster_id = Some(floor.cluster_id),
            }
            let role = floor.role.clone();
            let old = raised.remove(&role);
            raised.insert(role, raise(old, floor));
        }
        let Some(cluster_id) = cluster_id.filter(|_| raised != self.floors) else {
            return Ok(false);
        };
        self.write(cluster_id, &raised, &self.lineage)?;
        (self.cluster_id, self.floors) = (Some(cluster_id), raised);
        Ok(true)
    }

    /// How this agent came to its cluster.
    pub fn lineage(&self) -> &Followed {
        &self.lineage
    }

    /// The highest generation of an epoch that was accepted or shown here.
    pub fn generation(&self) -> u32 {
        let generations = self.floors.values().map(|floor| floor.epoch.generation());
        generations.max().unwrap_or_default()
    }

    /// Leaves the cluster for another one, which has no floors here yet; what was accepted of the old one is kept apart, for ever. On
    /// disk before it counts. Blocks for two flushes.
    ///
    /// # Errors
    /// A failing disk; this agent stays where it is then.
    pub fn follow(
        &mut self,
        cluster_id: ClusterId,
        statements: Vec<SignedRebind>,
    ) -> Result<(), FloorsError> {
        let mut lineage = Followed {
            statements,
            ..self.lineage.clone()
        };
        if let Some(left) = self.cluster_id {
            lineage.closed.insert(left, self.floors.clone());
        }
        self.write(cluster_id, &BTreeMap::new(), &lineage)?;
        self.cluster_id = Some(cluster_id);
        (self.floors, self.lineage) = (BTreeMap::new(), lineage);
        Ok(())
    }

    /// Keeps statements that lead to the cluster that this agent is bound to, or away from it.
    ///
    /// # Errors
    /// A failing disk; nothing is kept then.
    pub fn keep(&mut self, statements: Vec<SignedRebind>) -> Result<(), FloorsError> {
        let lineage = Followed {
            statements,
            ..self.lineage.clone()
        };
        if let Some(cluster_id) = self.cluster_id.filter(|_| lineage != self.lineage) {
            self.write(cluster_id, &self.floors, &lineage)?;
            self.lineage = lineage;
        }
        Ok(())
    }

    fn write(
        &self,
        cluster_id: ClusterId,
        floors: &BTreeMap<RoleName, Floor>,
        lineage: &Followed,
    ) -> Result<(), FloorsError> {
        let closed = lineage.closed.iter().map(|(cluster_id, floors)| Closed {
            cluster_id: *cluster_id,
            floors: rows(floors),
        });
        let file = File {
            version: match *lineage == Followed::default() {
                true => VERSION_FIRST,
                false => VERSION_FOLLOWED,
            },
            cluster_id: Some(cluster_id),
            floors: rows(floors),
            closed: closed.collect(),
            rebinds: lineage.statements.clone(),
        };
        let io = |error| FloorsError::Io {
            path: self.path.clone(),
            error,
        };
        let bytes = serde_json::to_vec_pretty(&file).map_err(|e| io(io::Error::other(e)))?;
        durable::write(&self.path, &bytes).map_err(io)
    }
}

fn rows(floors: &BTreeMap<RoleName, Floor>) -> Vec<Row> {
    let row = |floor: &Floor| Row {
        role: floor.role.clone(),
        epoch: floor.epoch,
        holder: floor.holder.clone(),
    };
    floors.values().map(row).collect()
}

fn read_rows(cluster_id: ClusterId, rows: Vec<Row>) -> BTreeMap<RoleName, Floor> {
    let floor = |row: Row| {
        let floor = Floor {
            cluster_id,
            role: row.role.clone(),
            epoch: row.epoch,
            holder: row.holder,
        };
        (row.role, floor)
    };
    rows.into_iter().map(floor).collect()
}
