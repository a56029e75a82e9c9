//! What callers may know of a cluster's processes: where they listen, and their current runs.

use chaos::{Part, ProcessName, ProcessRef};
use types::RegionId;

use crate::{
    dev::{
        cluster::{DevCluster, name},
        listen::Listen,
    },
    error::Failure,
};

/// A process of a region: where it listens, and its current run. Its files are where [`Layout`](super::layout::Layout) says.
#[derive(Clone, Debug)]
pub(crate) struct ProcessInfo {
    /// Its run; none while it is down.
    pub(crate) run: Option<ProcessRef>,
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
        Ok(ProcessInfo {
            run: self.run_of(name),
            listen: self.listen(name)?,
        })
    }
}
