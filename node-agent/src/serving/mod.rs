//! Models in memory and who answers for a model's name.
//!
//! Absent on purpose: which versions ought to be here ([`crate::reconcile`]) and HTTP ([`crate::http`]).
//! Invariants: a version answers requests only after it answered its self-test; a switch or an unload drops no request
//! that was taken.

mod loaded;
mod resolve;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::{StreamExt as _, future::try_join_all, stream::FuturesUnordered};
use inference::{ActorOptions, Engine, InferError, LoadError, LoadOptions, ModelActor, Signature};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use types::{ModelName, ModelVersion, VersionKey};

pub use loaded::{Loaded, Ticket};

use crate::{metrics::Metrics, observed::Memory};

/// How a model directory becomes an engine. The default is [`inference::load`].
pub trait LoadModel: Send + Sync {
    /// Blocks for the length of the read.
    ///
    /// # Errors
    /// The first defect: file, what was found, remedy.
    fn load(&self, dir: &Path) -> Result<Arc<dyn Engine>, LoadError>;
}

/// Loads with the engines of this build.
#[derive(Clone, Debug, Default)]
pub struct BuiltinEngines(pub LoadOptions);

impl LoadModel for BuiltinEngines {
    fn load(&self, dir: &Path) -> Result<Arc<dyn Engine>, LoadError> {
        inference::load(dir, &self.0)
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ServeError {
    /// Nobody here knows the model.
    #[error("model {model:?} is unknown here; known are: {}", list(.known))]
    UnknownModel {
        /// As it was asked for.
        model: String,
        /// Models that are loaded.
        known: Vec<String>,
    },
    /// The model is known, and not this version of it.
    #[error("version {version} of {model} is not loaded here; loaded are: {}", list(.loaded))]
    UnknownVersion {
        /// The model.
        model: ModelName,
        /// As it was asked for.
        version: ModelVersion,
        /// Versions that are loaded.
        loaded: Vec<String>,
    },
    /// A copy is here or on its way, and not in memory yet.
    #[error("{model} is not loaded yet; try again in a moment")]
    NotReady {
        /// The model.
        model: ModelName,
    },
    /// The files are here, and no model.
    #[error(
        "{key} failed to load here: {why}; ask for a version that loads, or move the alias champion to one \
         (`regent model alias`); `regent model versions` lists them"
    )]
    NotLoadable {
        /// The version.
        key: VersionKey,
        /// What the last try said.
        why: String,
    },
    /// It is kept here, and nothing says that it shall answer.
    #[error(
        "{key} is not served: no alias names it; set one with `regent model alias`, or ask for a version that is loaded"
    )]
    NotServed {
        /// The version.
        key: VersionKey,
    },
    /// Somebody unloaded it here by hand, though an alias or a pin names it.
    #[error(
        "{key} was unloaded on this node by hand; POST /models/{key}/load here brings it back, other nodes answer meanwhile"
    )]
    PutAside {
        /// The version.
        key: VersionKey,
    },
    /// The model's name alone says no version.
    #[error(
        "{model} has no alias champion, so its name alone says no version; set one with `regent model alias`, or ask for \
         a version that is loaded: {}",
        list(.loaded)
    )]
    NoChampion {
        /// The model.
        model: ModelName,
        /// Versions that are loaded.
        loaded: Vec<String>,
    },
    /// The files do not come.
    #[error(
        "{key} failed to be copied into this region: {why}; `regent replication status` shows it and its next tries"
    )]
    NotCopied {
        /// The version.
        key: VersionKey,
        /// What the last try said.
        why: String,
    },
    /// The process is stopping.
    #[error("this agent is stopping; ask another region")]
    Stopping,
    /// The model said no.
    #[error(transparent)]
    Infer(#[from] InferError),
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Why a version did not come into memory.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It did not answer its self-test.
    #[error("{key} failed its self-test: {error}")]
    SelfTest {
        /// The version.
        key: VersionKey,
        /// What it said.
        error: InferError,
    },
    /// The system has no thread to give.
    #[error("no thread for {key}: {error}")]
    Thread {
        /// The version.
        key: VersionKey,
        /// What the system said.
        error: std::io::Error,
    },
}

impl StartError {
    /// Whether another machine with the same files would say the same.
    pub(crate) const fn is_of_the_model(&self) -> bool {
        matches!(
            self,
            Self::SelfTest {
                error: InferError::Internal { .. } | InferError::Input(_),
                ..
            }
        )
    }
}

/// What belongs here and need not be loaded, for better answers to who asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Versions whose copies are wanted or here, and what the last try at one that failed said.
    pub versions: BTreeMap<VersionKey, Option<Trouble>>,
    /// The version that shall answer for its model's name.
    pub active: BTreeMap<ModelName, ModelVersion>,
}

/// Why a version is not where it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its files are here and do not load.
    Load(String),
    /// Its files could not be brought into the own region's store.
    Copy(String),
    /// Nothing names it: it is kept, and not loaded.
    Unserved,
    /// Somebody unloaded it here by hand.
    PutAside,
}

#[derive(Default)]
struct Table {
    loaded: BTreeMap<VersionKey, Arc<Loaded>>,
    draining: BTreeSet<VersionKey>,
    active: BTreeMap<ModelName, ModelVersion>,
    /// For better answers about what is not loaded.
    expected: Expected,
    stopping: bool,
}

/// All models in memory; clones share them.
#[derive(Clone)]
pub struct Serving {
    table: Arc<RwLock<Table>>,
    changed: watch::Sender<u64>,
    queue_bound: usize,
    metrics: Metrics,
}

impl Serving {
    /// Nothing is loaded yet.
    pub fn new(queue_bound: usize, metrics: Metrics) -> Self {
        Self {
            table: Arc::default(),
            changed: watch::Sender::new(0),
            queue_bound,
            metrics,
        }
    }

    /// Changes whenever something was loaded, switched or let go.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn read<T>(&self, f: impl FnOnce(&Table) -> T) -> T {
        // Nothing in the guarded sections can leave the table half changed.
        f(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Table) -> T) -> T {
        let result = {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            let result = f(&mut table);
            self.metrics.loaded(table.loaded.len());
            result
        };
        self.changed.send_modify(|n| *n += 1);
        result
    }

    /// Starts a version: its thread, then one real inference, and only then its name.
    ///
    /// # Errors
    /// It did not answer in time, or there is no thread; it is gone then.
    pub async fn start(
        &self,
        key: VersionKey,
        engine: Arc<dyn Engine>,
        limit: Duration,
    ) -> Result<(), StartError> {
        let options = ActorOptions {
            name: key.to_string(),
            queue_bound: self.queue_bound,
        };
        let actor = ModelActor::start(engine, &options).map_err(|error| StartError::Thread {
            key: key.clone(),
            error,
        })?;
        let loaded = Arc::new(Loaded {
            key,
            actor,
            requests: TaskTracker::new(),
        });
        if let Err(error) = loaded.self_test(limit).await {
            let key = loaded.key.clone();
            return Err(StartError::SelfTest { key, error });
        }
        self.write(|table| table.loaded.insert(loaded.key.clone(), Arc::clone(&loaded)));
        Ok(())
    }

    /// Counts versions that should be in memory and are not: those that do not load, and those on their way.
    pub fn count_unloaded(&self, failed: usize, waiting: usize) {
        self.metrics.unloaded(failed, waiting);
    }

    /// Lets a version answer for its model's name; false if it is not loaded.
    pub fn activate(&self, model: &ModelName, version: ModelVersion) -> bool {
        let key = VersionKey {
            model: model.clone(),
            version,
        };
        self.write(|table| {
            let loaded = table.loaded.contains_key(&key);
            if loaded {
                table.active.insert(model.clone(), version);
            }
            loaded
        })
    }

    /// Leaves a model's name without an answer.
    pub fn deactivate(&self, model: &ModelName) {
        self.write(|table| table.active.remove(model));
    }

    /// Takes a version out: no new requests, then what it took is answered, at most for `limit`.
    pub async fn stop(&self, key: &VersionKey, limit: Duration) {
        let taken = self.write(|table| {
            let taken = table.loaded.remove(key);
            if taken.is_some() {
                table.draining.insert(key.clone());
            }
            taken
        });
        let Some(loaded) = taken else { return };
        let drained = async {
            // First those that were given the version and have not asked it yet, then its queue.
            loaded.requests.close();
            loaded.requests.wait().await;
            loaded.actor.drain().await;
        };
        if tokio::time::timeout(limit, drained).await.is_err() {
            tracing::warn!(%key, ?limit, "requests were still running when the drain ended");
        }
        drop(loaded);
        self.write(|table| table.draining.remove(key));
    }

    /// Waits until a loaded version's thread ends by itself, which only a defect of its engine can cause, and takes the
    /// version out: nobody would ever answer for it.
    pub async fn lost(&self) -> VersionKey {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            // Not the versions themselves: one that is unloaded must go at once.
            let ends = self.read(|table| {
                let end = |loaded: &Arc<Loaded>| {
                    let (key, ended) = (loaded.key.clone(), loaded.actor.ended());
                    Box::pin(async move {
                        ended.await;
                        key
                    })
                };
                table.loaded.values().map(end).collect::<FuturesUnordered<_>>()
            });
            let mut ends = ends.chain(futures::stream::pending());
            let ended = tokio::select! {
                Some(key) = ends.next() => key,
                _ = changes.changed() => continue,
            };
            if self.take_ended(&ended) {
                return ended;
            }
        }
    }

    /// Takes a version out if its thread ended; not one that was loaded anew meanwhile.
    fn take_ended(&self, key: &VersionKey) -> bool {
        self.write(|table| {
            let ended = table.loaded.get(key).is_some_and(|l| l.actor.is_ended());
            if ended {
                table.loaded.remove(key);
                if table.active.get(&key.model) == Some(&key.version) {
                    table.active.remove(&key.model);
                }
            }
            ended
        })
    }

    /// Refuses every request from now on.
    pub fn refuse_all(&self) {
        self.write(|table| table.stopping = true);
    }

    /// Whether requests are refused because the process stops.
    pub fn is_stopping(&self) -> bool {
        self.read(|table| table.stopping)
    }

    /// Drains every version.
    pub async fn stop_all(&self, limit: Duration) {
        let keys = self.read(|table| table.loaded.keys().cloned().collect::<Vec<_>>());
        futures::future::join_all(keys.iter().map(|key| self.stop(key, limit))).await;
    }

    /// Says what belongs here.
    pub fn expect(&self, expected: Expected) {
        if self.read(|table| table.expected != expected) {
            self.write(|table| table.expected = expected);
        }
    }

    /// What is in memory.
    pub fn memory(&self) -> BTreeMap<VersionKey, Memory> {
        self.read(|table| {
            let draining = table.draining.iter().map(|k| (k.clone(), Memory::Draining));
            let loaded = table.loaded.keys().map(|k| (k.clone(), Memory::Loaded));
            draining.chain(loaded).collect()
        })
    }

    /// Active versions.
    pub fn active(&self) -> BTreeMap<ModelName, ModelVersion> {
        self.read(|table| table.active.clone())
    }

    /// Whether a version answers requests.
    pub fn is_loaded(&self, key: &VersionKey) -> bool {
        self.read(|table| table.loaded.contains_key(key))
    }

    /// Every loaded version with its signature, and whether it is its model's active one.
    pub fn describe(&self) -> Vec<(VersionKey, Signature, bool)> {
        self.read(|table| {
            let rows = table.loaded.values().map(|l| {
                let active = table.active.get(&l.key.model) == Some(&l.key.version);
                (l.key.clone(), l.signature().clone(), active)
            });
            rows.collect()
        })
    }

    /// The version that answers: the one named, or the model's active one.
    ///
    /// # Errors
    /// What is known and loaded instead.
    pub fn resolve(&self, model: &str, version: Option<ModelVersion>) -> Result<Ticket, ServeError> {
        self.read(|table| table.resolve(model, version))
    }

    /// One real inference of every loaded version, all at once: `limit` is for all of them.
    ///
    /// # Errors
    /// A version that failed, and how.
    pub async fn self_test(&self, limit: Duration) -> Result<usize, String> {
        let all = self.read(|table| table.loaded.values().cloned().collect::<Vec<_>>());
        let test = |loaded: &Arc<Loaded>| {
            let loaded = Arc::clone(loaded);
            async move {
                let tested = loaded.self_test(limit).await;
                tested.map_err(|error| format!("{} failed its self-test: {error}", loaded.key))
            }
        };
        try_join_all(all.iter().map(test)).await?;
        Ok(all.len())
    }
}
