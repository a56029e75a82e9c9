//! The agent as a whole: what is started, in which order, and how it ends.
//!
//! Absent on purpose: work. Invariants: everything that is started here is awaited here; nothing that can be refused at
//! start is left for later.

use std::{fs, future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use client::{Client, ClientConfig};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use types::{FencingToken, Holder, NodeIncarnation, RoleName, reason::Refusal, region::Endpoints};
use uuid::Uuid;

use crate::{
    attach::Attach,
    board::Board,
    config::{AgentConfig, ConfigError},
    control::Control,
    desired::LocalWishes,
    disk::Disk,
    door::Door,
    floors::FloorsError,
    follow,
    grpc::{self, AgentApi},
    http::{self, HttpLimits, HttpState, Shared},
    identity,
    listen::{self, Addresses, ListenError, Listeners},
    metrics::Metrics,
    pointers::Pointers,
    probes,
    raise::Raiser,
    reconcile::Limits,
    replicate::Replicator,
    roles::Roles,
    servers::{serve_grpc, serve_http},
    serving::{BuiltinEngines, LoadModel, Serving},
    session::SessionKeeper,
    steps::Steps,
    stores::{ConfiguredStores, OpenStore, Stores},
    view::View,
    worker::{Parts, Worker},
};

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
        self.config.validate().map_err(ConfigError::Invalid)?;
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

    /// The token of a role that this agent holds now, and how long its lease still holds.
    ///
    /// # Errors
    /// LEASE_LOST while the role is not held here.
    pub fn token(&self, role: &RoleName) -> Result<(FencingToken, Duration), Refusal> {
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
        if timeout(self.drain_timeout, all).await.is_err() {
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

    fn assemble(
        builder: AgentBuilder,
        disk: Disk,
        client: Client,
        listeners: Listeners,
    ) -> Result<Self, AgentError> {
        let AgentBuilder {
            config,
            loader,
            opener,
        } = builder;
        let opener = opener.unwrap_or_else(|| Arc::new(ConfiguredStores::new(&config)));
        let me = Holder {
            region: config.region.clone(),
            node: config.node.clone(),
            incarnation: NodeIncarnation::from_u128(Uuid::now_v7().as_u128()),
        };
        let metrics = Metrics::default();
        let stores = Stores::new(opener);
        let serving = Serving::new(config.limits.inference_queue, metrics.clone());
        let roles = Roles::new(client.clone(), stores.clone(), metrics.clone());
        let (board, board_seen) = watch::channel(Board::new(me.clone()));
        let (wishes, wishes_seen) = watch::channel(LocalWishes {
            pins: disk.pins.all().clone(),
            ..LocalWishes::default()
        });
        let (view, view_seen) = watch::channel(Arc::new(View::default()));
        let door = Door::new(
            disk.floors,
            disk.door_log,
            Arc::new(client.clone()),
            metrics.clone(),
        );
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());
        let control: Arc<dyn Control> = Arc::new(client.clone());
        let replicator = Replicator {
            region: me.region.clone(),
            control: Arc::clone(&control),
            stores: stores.clone(),
            cache: disk.cache,
            limits: artifact_store::transfer::TransferLimits::default(),
            metrics: metrics.clone(),
        };
        let steps = Steps::new(
            me.incarnation,
            control,
            roles.clone(),
            serving.clone(),
            board_seen.clone(),
        );
        let addresses = listeners.addresses;
        let endpoints = endpoints(&config, addresses);
        let http = HttpState::new(Shared {
            serving: serving.clone(),
            board: board_seen.clone(),
            wishes: wishes.clone(),
            metrics: metrics.clone(),
            limits: http_limits(&config),
        });
        let api = AgentApi::new(grpc::Parts {
            board: board_seen.clone(),
            roles: roles.clone(),
            door: door.clone(),
            serving: serving.clone(),
            wishes,
            pins: std::sync::Mutex::new(disk.pins),
        });
        let tls = identity::server_tls(&config.tls).map_err(AgentError::Identity)?;
        let worker = Worker::new(
            Parts {
                me: me.clone(),
                view: view_seen.clone(),
                wishes: wishes_seen,
                serving: serving.clone(),
                replicator,
                library: disk.library,
                loader,
                catalog: disk.catalog,
                roles: roles.clone(),
                raiser: Raiser::new(me.region.clone(), stores.clone()),
                steps,
                board: board.clone(),
                limits: Limits {
                    copies: config.limits.parallel_copies,
                    loads: config.limits.parallel_loads,
                },
                drain_timeout: config.limits.drain_timeout,
            },
            stop.clone(),
        );
        let pointers = Pointers::new(view_seen.clone(), stores.clone());
        let session = SessionKeeper {
            client: client.clone(),
            endpoints,
            board: board.clone(),
            serving: serving.clone(),
        };
        let attach = Attach {
            region: me.region.clone(),
            store: config.store.clone(),
            stores,
            client: client.clone(),
            view: view_seen,
        };

        let mut tasks = JoinSet::new();
        tasks.spawn(infallible(worker.run()));
        // Sessions end last of all, so that nobody takes a draining agent for a dead one.
        tasks.spawn(infallible(session.run(close.clone())));
        tasks.spawn(infallible(attach.run(stop.clone())));
        tasks.spawn(infallible(probes::run(board, metrics, stop.clone())));
        let following = follow::run(client, door, view, stop.clone());
        tasks.spawn(async move { following.await.map_err(AgentError::Floors) });
        tasks.spawn(serve_grpc(listeners.agent, tls, api, close.clone()));
        let routes = http::router(http.clone());
        tasks.spawn(serve_http(
            "inference HTTP",
            listeners.inference,
            routes,
            close.clone(),
        ));
        let routes = http::observe_router(http);
        tasks.spawn(serve_http("metrics", listeners.metrics, routes, close.clone()));
        tracing::info!(me = %me, agent = %addresses.agent, inference = %addresses.inference, "agent started");
        Ok(Self {
            addresses,
            me,
            serving,
            roles,
            pointers,
            board: board_seen,
            drain_timeout: config.limits.drain_timeout,
            stop,
            close,
            tasks,
            _lock: disk.lock,
        })
    }
}

fn connect(config: &AgentConfig) -> Result<Client, AgentError> {
    let settings = ClientConfig::new(config.coordinators.clone(), config.tls.clone());
    Client::new(settings).map_err(|refusal| AgentError::Identity(refusal.message))
}

fn endpoints(config: &AgentConfig, addresses: Addresses) -> Endpoints {
    Endpoints {
        agent: format!("https://{}:{}", config.host(), addresses.agent.port()),
        inference: format!("http://{}", addresses.inference),
        ..Endpoints::default()
    }
}

fn http_limits(config: &AgentConfig) -> HttpLimits {
    HttpLimits {
        body_max: usize::try_from(config.limits.body_max.0.0).unwrap_or(usize::MAX),
        timeout: config.limits.request_timeout,
        timeout_max: config.limits.request_timeout_max,
    }
}

async fn infallible(work: impl Future<Output = ()>) -> Result<(), AgentError> {
    work.await;
    Ok(())
}

fn flatten(ended: Result<Result<(), AgentError>, tokio::task::JoinError>) -> Result<(), AgentError> {
    ended.unwrap_or_else(|error| {
        Err(AgentError::Server {
            name: "a task of the agent",
            error: error.to_string(),
        })
    })
}
