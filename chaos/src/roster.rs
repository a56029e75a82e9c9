//! The processes of a cluster as a file, written by whoever starts them (`regent dev`), read by whoever hurts them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};

use crate::{
    error::ChaosError,
    execute::{Processes, Run},
    fault::ProcessName,
    process::ProcessRef,
};

/// How long the supervisor has to start an ended process again.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often the file is read while a new run is awaited.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The file's content: every process that runs, as far as its supervisor lived to say so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// The processes.
    pub processes: Vec<Entry>,
}

/// One process of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Which process.
    pub name: ProcessName,
    /// Its run.
    pub run: ProcessRef,
}

impl Roster {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, ChaosError> {
        let failed = |why: String| ChaosError::Roster {
            path: path.to_owned(),
            why,
        };
        let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        serde_json::from_str(&text).map_err(|e| failed(e.to_string()))
    }

    /// The runs that have not ended.
    pub fn alive(&self) -> Vec<Run> {
        let alive = self.processes.iter().filter(|e| e.run.is_alive());
        alive
            .map(|e| Run {
                name: e.name.clone(),
                process: e.run,
            })
            .collect()
    }
}

/// The processes of another program's cluster. That program supervises them: `start` waits until it has.
#[derive(Clone, Debug)]
pub struct Supervised {
    path: PathBuf,
}

impl Supervised {
    /// The cluster whose roster stands at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn run_of(&self, name: &ProcessName) -> Option<ProcessRef> {
        let runs = self.running();
        runs.into_iter().find(|r| &r.name == name).map(|r| r.process)
    }
}

impl Processes for Supervised {
    fn running(&self) -> Vec<Run> {
        Roster::read(&self.path).map(|r| r.alive()).unwrap_or_default()
    }

    async fn start(&self, name: &ProcessName) -> Result<ProcessRef, ChaosError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(run) = self.run_of(name) {
                return Ok(run);
            }
            if Instant::now() >= deadline {
                let why = format!("no new run in {} within {START_LIMIT:?}", self.path.display());
                return Err(ChaosError::Start {
                    name: name.clone(),
                    why,
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
