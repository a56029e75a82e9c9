//! How the parts of an agent are put together and started.

use std::{future::Future, sync::Arc};

use client::{CaVerifier, Client};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use types::{Holder, NodeIncarnation, region::Endpoints};
use uuid::Uuid;

use super::{Agent, AgentBuilder, AgentError};
use crate::{
    attach::Attach,
    board::Board,
    config::{AgentConfig, BadConfig, ConfigError},
    confirmations::Confirmations,
    control::Control,
    databases::Databases,
    desired::LocalWishes,
    disk::Disk,
    door::Door,
    doors::Reach,
    doubts::Doubts,
    follow,
    grpc::{self, AgentApi},
    hosted::{self, Hosting},
    http::{self, HttpLimits, HttpState, Shared},
    identity,
    listen::{Addresses, Listeners},
    metrics::Metrics,
    pointer_room::PointerRoom,
    pointers::Pointers,
    probes,
    raise::Raiser,
    rebind::Rebinder,
    reconcile::Limits,
    replicate::Replicator,
    roles::Roles,
    servers::{Bounds, serve_grpc, serve_http},
    serving::Serving,
    session::SessionKeeper,
    steps::Steps,
    stores::{ConfiguredStores, Stores},
    view::View,
    worker::{Parts, Worker},
};

impl Agent {
    /// Starts every part over what was opened and bound.
    pub(super) fn assemble(
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
        let databases = databases(&config, &metrics)?;
        let door = Door::new(
            disk.floors,
            disk.door_log,
            Arc::new(client.clone()),
            metrics.clone(),
        );
        let bound = door.lineage().borrow().as_ref().map(|lineage| lineage.cluster);
        if let Some(cluster) = bound {
            client.belong_to(cluster);
        }
        let reach = Reach {
            stores: stores.clone(),
            databases: databases.clone(),
            lineage: door.lineage(),
        };
        let serving = Serving::new(config.limits.inference_queue, metrics.clone());
        let roles = Roles::new(client.clone(), reach.clone(), metrics.clone());
        let (board, board_seen) = watch::channel(Board::new(me.clone()));
        let (wishes, wishes_seen) = watch::channel(LocalWishes {
            pins: disk.pins.all().clone(),
            ..LocalWishes::default()
        });
        let (view, view_seen) = watch::channel(Arc::new(View::default()));
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());
        let control: Arc<dyn Control> = Arc::new(client.clone());
        let replicator = Replicator {
            region: me.region.clone(),
            control: Arc::clone(&control),
            stores: stores.clone(),
            cache: disk.cache,
            doubts: Doubts::default(),
            limits: artifact_store::transfer::TransferLimits::default(),
            metrics: metrics.clone(),
            stop: stop.clone(),
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
        let pins = Arc::new(std::sync::Mutex::new(disk.pins));
        let pointers = Pointers::new(
            view_seen.clone(),
            stores.clone(),
            Confirmations::new(door.clone()),
        );
        let api = AgentApi::new(grpc::Parts {
            board: board_seen.clone(),
            roles: roles.clone(),
            door: door.clone(),
            pointers: pointers.clone(),
            serving: serving.clone(),
            wishes: wishes.clone(),
            pins: Arc::clone(&pins),
            pointer_room: PointerRoom::new(me.region.clone()),
        });
        let rebinder = Rebinder {
            client: client.clone(),
            door: door.clone(),
            ca: CaVerifier::load(&config.tls.ca_file).map_err(|e| AgentError::Identity(e.message))?,
            board: board.clone(),
            metrics: metrics.clone(),
        };
        let tls = identity::server_tls(&config.tls).map_err(AgentError::Identity)?;
        let http_client = probes::client().map_err(AgentError::Probes)?;
        let worker = Worker::new(
            Parts {
                me: me.clone(),
                view: view_seen.clone(),
                wishes: wishes_seen,
                unwish: wishes,
                pins,
                serving: serving.clone(),
                replicator,
                library: disk.library,
                loader,
                catalog: disk.catalog,
                databases: databases.bindings(),
                roles: roles.clone(),
                raiser: Raiser::new(me.region.clone(), reach),
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
        let session = SessionKeeper {
            client: client.clone(),
            endpoints,
            zone: config.zone.clone(),
            board: board.clone(),
            serving: serving.clone(),
        };
        let offered = hosted::wanted(&config.services, &me, &config.host());
        let hosting = Hosting::new(me.clone(), offered, client.clone(), view_seen.clone());
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
        tasks.spawn(session.run(close.clone()));
        tasks.spawn(infallible(attach.run(stop.clone())));
        tasks.spawn(infallible(hosting.run(stop.clone())));
        tasks.spawn(infallible(databases.run(board.clone(), stop.clone())));
        tasks.spawn(infallible(probes::run(http_client, board, metrics, stop.clone())));
        let rebinding = rebinder.run(stop.clone());
        tasks.spawn(async move { rebinding.await.map_err(AgentError::Floors) });
        let following = follow::run(client, door, view, stop.clone());
        tasks.spawn(async move { following.await.map_err(AgentError::Floors) });
        tasks.spawn(serve_grpc(listeners.agent, tls, api, close.clone()));
        let routes = http::router(http.clone());
        let bounds = Bounds::default();
        tasks.spawn(infallible(serve_http(
            listeners.inference,
            routes,
            bounds,
            close.clone(),
        )));
        let routes = http::observe_router(http);
        tasks.spawn(infallible(serve_http(
            listeners.metrics,
            routes,
            bounds,
            close.clone(),
        )));
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

fn databases(config: &AgentConfig, metrics: &Metrics) -> Result<Databases, AgentError> {
    Databases::new(&config.postgres, metrics.clone())
        .map_err(|problem| ConfigError::Invalid(BadConfig { path: None, problem }).into())
}

fn endpoints(config: &AgentConfig, addresses: Addresses) -> Endpoints {
    Endpoints {
        agent: format!("https://{}:{}", config.host(), addresses.agent.port()),
        inference: format!("http://{}", addresses.inference),
        ..Endpoints::default()
    }
}

/// So many bodies of the largest size are in hand at once, or more smaller ones: 64 MiB, if nothing else is configured.
const BODIES_AT_ONCE: usize = 8;

fn http_limits(config: &AgentConfig) -> HttpLimits {
    let body_max = usize::try_from(config.limits.body_max.0.0).unwrap_or(usize::MAX);
    HttpLimits {
        body_max,
        bodies_max: body_max.saturating_mul(BODIES_AT_ONCE),
        timeout: config.limits.request_timeout,
        timeout_max: config.limits.request_timeout_max,
    }
}

async fn infallible(work: impl Future<Output = ()>) -> Result<(), AgentError> {
    work.await;
    Ok(())
}
