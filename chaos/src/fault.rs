//! Faults as plain data: what a schedule holds, what a log prints, what a rerun reads.

use std::fmt;

use serde::{Deserialize, Serialize};
use types::RegionId;

/// Which of a region's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The Raft voter with the API.
    Coordinator,
    /// The object store's endpoint.
    Store,
    /// The node agent.
    Agent,
}

impl Part {
    /// Every part, in the order in which a region starts: an agent needs the other two.
    pub const ALL: [Part; 3] = [Part::Coordinator, Part::Store, Part::Agent];

    /// The word for it, as in file names and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Part::Coordinator => "coordinator",
            Part::Store => "store",
            Part::Agent => "agent",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One process of a cluster, whatever its current run: `eu-west-1/agent`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessName {
    /// Its region.
    pub region: RegionId,
    /// What it does there.
    pub part: Part,
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.region, self.part)
    }
}

/// What a fault is done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "target", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// One process.
    Process {
        /// Its region.
        region: RegionId,
        /// What it does there.
        part: Part,
    },
    /// Every process of a region.
    Region {
        /// The region.
        region: RegionId,
    },
    /// Every process of the cluster, as a loss of power would.
    Everything,
}

impl Target {
    /// Whether the fault hits this process.
    pub fn covers(&self, name: &ProcessName) -> bool {
        match self {
            Target::Process { region, part } => &name.region == region && name.part == *part,
            Target::Region { region } => &name.region == region,
            Target::Everything => true,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Process { region, part } => write!(f, "{region}/{part}"),
            Target::Region { region } => write!(f, "{region}"),
            Target::Everything => f.write_str("everything"),
        }
    }
}

/// What is done, until it is healed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL: nothing is flushed, nothing is said. Healed by starting the processes again.
    Kill {
        /// Whom.
        #[serde(flatten)]
        target: Target,
    },
    /// SIGSTOP: the process neither answers nor notices that time passes. Healed by SIGCONT.
    Pause {
        /// Whom.
        #[serde(flatten)]
        target: Target,
    },
    /// SIGKILL, and a start at once: a crash with a supervisor. Heals by itself.
    Restart {
        /// Whom.
        #[serde(flatten)]
        target: Target,
    },
}

impl Fault {
    /// What the fault is done to.
    pub fn target(&self) -> &Target {
        match self {
            Fault::Kill { target } | Fault::Pause { target } | Fault::Restart { target } => target,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Fault::Kill { .. } => "kill",
            Fault::Pause { .. } => "pause",
            Fault::Restart { .. } => "restart",
        };
        write!(f, "{verb} {}", self.target())
    }
}
