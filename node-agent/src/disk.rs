//! What one agent keeps in its data directory, opened and locked at start.

use std::fs;

use artifact_store::cache::LocalCache;
use rustix::fs::{FlockOperation, flock};

use crate::{
    agent::AgentError,
    catalog::Catalog,
    config::AgentConfig,
    door_log::{self, DoorLog},
    floors::Floors,
    library::Library,
    pins::Pins,
};

/// Everything of this agent that is on disk.
pub(crate) struct Disk {
    pub(crate) lock: fs::File,
    pub(crate) cache: LocalCache,
    pub(crate) library: Library,
    pub(crate) catalog: Catalog,
    pub(crate) floors: Floors,
    pub(crate) pins: Pins,
    pub(crate) door_log: DoorLog,
}

impl Disk {
    /// Takes the directory for this process and opens what is in it.
    pub(crate) fn open(config: &AgentConfig) -> Result<Self, AgentError> {
        let dir = &config.data_dir;
        let at = |name: &str| {
            let path = dir.join(name);
            move |error| AgentError::DataDir { path, error }
        };
        fs::create_dir_all(dir).map_err(at(""))?;
        let lock = fs::File::create(dir.join("lock")).map_err(at("lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(AgentError::Locked { path: dir.clone() }),
            Err(error) => return Err(at("lock")(error.into())),
        }
        let cache = LocalCache::open(&dir.join("cache")).map_err(at("cache"))?;
        Ok(Self {
            lock,
            library: Library::open(&dir.join("models"), cache.clone()).map_err(at("models"))?,
            cache,
            catalog: Catalog::open(&dir.join("catalog")).map_err(at("catalog"))?,
            floors: Floors::open(&dir.join("floors.json"))?,
            pins: Pins::open(&dir.join("pins.json")).map_err(at("pins.json"))?,
            door_log: DoorLog::open(&door_log::path_in(dir)).map_err(at(door_log::FILE_NAME))?,
        })
    }
}
