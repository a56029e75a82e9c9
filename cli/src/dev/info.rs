//! What callers may know of a cluster's processes: where their files stand, where they listen, their current runs.

use std::path::PathBuf;

use chaos::{Part, ProcessName, ProcessRef};
use types::RegionId;

use crate::{
    dev::{
        cluster::{DevCluster, name},
        listen::Listen,
    },
    error::Failure,
};

/// A process of a region, as it stands on disk, and its current run.
#[derive(Clone, Debug)]
pub(crate) struct ProcessInfo {
    /// Which process.
    pub(crate) name: ProcessName,
    /// Its run; none while it is down.
    pub(crate) run: Option<ProcessRef>,
    /// Its config.
    pub(crate) config: PathBuf,
    /// Its data directory.
    pub(crate) data_dir: PathBuf,
    /// stdout and stderr of all its runs.
    pub(crate) log: PathBuf,
    /// Where it listens; empty before its first start.
    pub(crate) listen: Listen,
}

/// The processes of one region.
#[derive(Clone, Debug)]
pub(crate) struct RegionProcesses {
    /// The Raft voter with the API.
    pub(crate) coordinator: ProcessInfo,
    /// The node agent.
    pub(crate) agent: ProcessInfo,
    /// The object store's endpoint.
    pub(crate) s3: ProcessInfo,
}

impl DevCluster {
    /// Everything about one region's processes.
    pub(crate) fn region(&self, region: &RegionId) -> Result<RegionProcesses, Failure> {
        Ok(RegionProcesses {
            coordinator: self.process(&name(region, Part::Coordinator))?,
            agent: self.process(&name(region, Part::Agent))?,
            s3: self.process(&name(region, Part::Store))?,
        })
    }

    /// Everything about one process.
    pub(crate) fn process(&self, name: &ProcessName) -> Result<ProcessInfo, Failure> {
        let layout = self.layout();
        Ok(ProcessInfo {
            name: name.clone(),
            run: self.run_of(name),
            config: layout.config(name),
            data_dir: layout.data(name),
            log: layout.log(name),
            listen: self.listen(name)?,
        })
    }
}
