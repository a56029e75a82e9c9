//! The agent as a whole: what is started, in which order, and how it ends.
//!
//! Absent on purpose: work. Invariants: everything that is started here is awaited here; nothing that can be refused at
//! start is left for later.

mod assemble;

use std::{fs, future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use client::{Client, ClientConfig, guard::BootInstant};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use types::{FencingToken, Holder, NodeId, NodeIncarnation, RoleName, reason::Refusal};

use crate::{
    board::Board,
    config::{AgentConfig, BadConfig, ConfigError},
    disk::Disk,
    floors::FloorsError,
    identity,
    listen::{self, Addresses, ListenError},
    pointers::Pointers,
    roles::Roles,
    serving::{BuiltinEngines, LoadModel, Serving},
    stores::OpenStore,
};

/// What the end takes beyond the drain timeout, should the drain use all of it: sessions and listeners close.
const ENDING: Duration = Duration::from_secs(2);

/// Why an agent did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error("data directory {}: {error}; check that it is writable by this user and on a healthy disk", path.display())]
    DataDir {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another agent runs on the data directory.
    #[error("data directory {} is in use by another agent; stop it, or choose another directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The certificate, its key or the CA cannot be used.
    #[error("{0}")]
    Identity(String),
    /// A port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A fencing floor cannot be kept.
    #[error(transparent)]
    Floors(#[from] FloorsError),
    /// Other regions cannot be probed from here.
    #[error("no HTTP client for probes: {0}; check this machine's TLS set-up and its limits")]
    Probes(reqwest::Error),
    /// Another process runs as this node.
    #[error(
        "another process took over as node {node}: it is run {current}, and this one is {shown}; give each process a certificate and a name of its own, or stop the other one"
    )]
    Superseded {
        /// The node that both are.
        node: NodeId,
        /// This run.
        shown: NodeIncarnation,
        /// The run that the cluster knows now.
        current: String,
    },
    /// A listener failed.
    #[error("{name} stopped: {error}")]
    Server {
        /// Which.
        name: &'static str,
        /// What it said.
        error: String,
    },
}

/// Runs an agent until `shutdown` is cancelled, then drains and ends it.
///
/// # Errors
/// Why it did not start, or had to stop by itself.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
    let agent = Agent::builder(config).start().await?;
    agent.run_until(shutdown.cancelled_owned()).await
}

/// Settings of an agent inside another program.
pub struct AgentBuilder {
    config: AgentConfig,
    loader: Arc<dyn LoadModel>,
    opener: Option<Arc<dyn OpenStore>>,
}

impl AgentBuilder {
    /// Loads models by something else than the built-in engines.
    #[must_use]
    pub fn loader(mut self, loader: Arc<dyn LoadModel>) -> Self {
        self.loader = loader;
        self
    }

    /// Opens stores by something else than the config's credentials.
    #[must_use]
    pub fn open_stores_by(mut self, opener: Arc<dyn OpenStore>) -> Self {
        self.opener = Some(opener);
        self
    }

    /// Checks the config, takes the data directory and the ports, and starts. It serves at once what the last run
    /// served, and learns the rest from the coordinators.
    ///
    /// # Errors
    /// Names the value at fault and the remedy; nothing keeps running then.
    pub async fn start(self) -> Result<Agent, AgentError> {
        self.config
            .validate()
            .map_err(|problem| ConfigError::Invalid(BadConfig { path: None, problem }))?;
        // Before anything is made on the disk.
        identity::check(&self.config).map_err(AgentError::Identity)?;
        let disk = Disk::open(&self.config)?;
        let client = connect(&self.config)?;
        let listeners = listen::bind(&self.config).await?;
        Agent::assemble(self, disk, client, listeners)
    }
}

/// A running agent. Dropping it without [`Agent::shutdown`] ends its tasks without a drain.
pub struct Agent {
    addresses: Addresses,
    me: Holder,
    serving: Serving,
    roles: Roles,
    pointers: Pointers,
    board: watch::Receiver<Board>,
    drain_timeout: Duration,
    /// Ends reconciling, sessions and steps.
    stop: CancellationToken,
    /// Ends the listeners, after the drain.
    close: CancellationToken,
    tasks: JoinSet<Result<(), AgentError>>,
    _lock: fs::File,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
        self.close.cancel();
    }
}

impl Agent {
    /// An agent with this config.
    pub fn builder(config: AgentConfig) -> AgentBuilder {
        AgentBuilder {
            config,
            loader: Arc::new(BuiltinEngines::default()),
            opener: None,
        }
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// This run of this node.
    pub fn holder(&self) -> &Holder {
        &self.me
    }

    /// Models in memory; an embedding program asks them without HTTP.
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// How the node stands, as it changes.
    pub fn board(&self) -> watch::Receiver<Board> {
        self.board.clone()
    }

    /// The token of a role that this agent holds now, and until when the caller may act under it.
    ///
    /// # Errors
    /// LEASE_LOST while the role is not held here.
    pub fn token(&self, role: &RoleName) -> Result<(FencingToken, BootInstant), Refusal> {
        self.roles.token(role)
    }

    /// The roles, for guarded writes of the embedding program.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Readers of the roles' pointers, for the embedding program.
    pub fn pointers(&self) -> &Pointers {
        &self.pointers
    }

    /// Runs until `shutdown` is ready or a part fails, then ends everything.
    ///
    /// # Errors
    /// The part that failed.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let failed = tokio::select! {
            () = shutdown => Ok(()),
            failed = self.first_failure() => failed,
        };
        let ended = self.shutdown().await;
        failed.and(ended)
    }

    /// Takes nothing new, answers what was taken within the drain timeout, releases leases, and ends.
    ///
    /// # Errors
    /// The first part that failed while ending.
    pub async fn shutdown(mut self) -> Result<(), AgentError> {
        tracing::info!(node = %self.me.node, "agent stops");
        self.serving.refuse_all();
        self.stop.cancel();
        let deadline = Instant::now() + self.drain_timeout + ENDING;
        self.serving.stop_all(self.drain_timeout).await;
        self.close.cancel();
        let mut result = Ok(());
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                let ended = flatten(ended);
                if result.is_ok() {
                    result = ended;
                }
            }
        };
        if timeout_at(deadline, all).await.is_err() {
            tracing::warn!("a part of the agent did not end in time");
        }
        result
    }

    /// Waits for the first part that ends with an error; parts that ended well are no reason to stop.
    async fn first_failure(&mut self) -> Result<(), AgentError> {
        while let Some(ended) = self.tasks.join_next().await {
            flatten(ended)?;
        }
        Ok(())
    }
}

fn connect(config: &AgentConfig) -> Result<Client, AgentError> {
    let settings = ClientConfig::new(config.coordinators.clone(), config.tls.clone());
    Client::new(settings).map_err(|refusal| AgentError::Identity(refusal.message))
}

fn flatten(ended: Result<Result<(), AgentError>, tokio::task::JoinError>) -> Result<(), AgentError> {
    ended.unwrap_or_else(|error| {
        Err(AgentError::Server {
            name: "a task of the agent",
            error: error.to_string(),
        })
    })
}
