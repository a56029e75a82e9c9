//! The coordinator: a Raft node and the API that stands before it.
//!
//! Starts with [`Config`], ends with [`run`]. A change comes in at `api`, is put into the log by [`propose`], applied by
//! crate `state`, and goes out through [`watch_hub`]. Leader-only loops ([`health::monitor`], [`failover::driver`]) look at
//! state and sessions, ask crate `policy`, and propose what it says.
//!
//! Absent on purpose: rules (crates `state` and `policy`), artifact bytes, and effects on anything outside.
//! Invariants: a method that the table in [`authz`] does not list is refused; a lease is granted only as [`leases`] says.
//!
//! Reading order: [`config`], [`server`](crate::run), [`identity`], [`authz`], [`api`], [`sessions`], [`watch_hub`],
//! [`leases`], [`health`], [`failover`], then [`raft`], [`propose`], [`read`], [`door_log`].

#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod api;
pub mod authz;
pub mod config;
pub mod door_log;
pub mod error;
mod exposition;
pub mod failover;
mod features;
mod freshness;
mod gather;
pub mod health;
pub mod identity;
mod join;
mod lead;
pub mod leases;
pub mod listen;
mod loops;
pub mod metrics;
mod planted;
pub mod propose;
pub mod raft;
pub mod read;
mod rounds;
mod server;
pub mod sessions;
pub mod tls;
pub mod watch_hub;
mod witness;

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::{NodeIncarnation, Principal};

use crate::{
    api::Api,
    leases::{Leases, Renewals},
    listen::{ListenFile, Sockets},
    loops::Loops,
    raft::{RaftConfig, RaftNode},
    sessions::Sessions,
    tls::Tls,
    watch_hub::WatchHub,
};
pub use crate::{
    config::Config,
    error::{BadSetting, ConfigError, ConfigFault, RunError},
    raft::offline,
};

/// How long a leader that stops waits for another one.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long open calls may take to end after they were told to.
const DRAIN: Duration = Duration::from_secs(3);
/// How often a node confirms how fresh its state is, for the age of stale reads (I2).
const FRESHNESS: Duration = Duration::from_secs(1);

/// Runs a coordinator until `shutdown`: opens the log, serves, founds or joins the cluster; at the end hands leadership
/// over, lets open calls end, and closes the log.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    Coordinator::start(config).await?.run(shutdown).await
}

/// A coordinator whose ports are bound and whose log is open, and that serves nobody yet.
pub struct Coordinator {
    config: Config,
    tls: Tls,
    raft: RaftNode,
    sockets: Sockets,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator")
            .field("bound", &self.sockets.bound)
            .finish_non_exhaustive()
    }
}

impl Coordinator {
    /// Checks config and certificates, binds the ports, opens the log.
    pub async fn start(config: Config) -> Result<Self, RunError> {
        config.validate()?;
        let tls = Tls::load(&config.tls)?;
        check_identity(&config, &tls)?;
        check_way_in(&config)?;
        std::fs::create_dir_all(&config.data_dir).map_err(|source| raft::StartError::DataDir {
            path: config.data_dir.clone(),
            doing: "make it",
            source,
        })?;
        let sockets = listen::bind(&config)?;
        let log_disk = planted::log_disk(&config.data_dir)?;
        let node = raft_config(&config, &sockets.bound)?;
        let raft = RaftNode::start(node, Arc::new(tls.clone()), log_disk).await?;
        Ok(Self {
            config,
            tls,
            raft,
            sockets,
        })
    }

    /// Where it listens.
    pub fn listens(&self) -> &ListenFile {
        &self.sockets.bound
    }

    /// Where clients reach it.
    pub fn api_endpoint(&self) -> &str {
        &self.raft.own_peer().api_endpoint
    }

    /// Serves until `shutdown`, or until something stops by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        if self.config.witness {
            return self.run_witness(shutdown).await;
        }
        let stop = CancellationToken::new();
        let stop_raft = CancellationToken::new();
        let applied = self.raft.subscribe();
        let hub = WatchHub::new(applied.after());
        let (leases, renewals) = Leases::new(self.raft.clone());
        let sessions = Sessions::default();
        let api = Api::new(self.raft.clone(), hub.clone(), sessions, leases, stop.clone());
        let reporter = tonic_health::server::HealthReporter::new();

        let mut loops = Loops::default();
        loops.spawn("the watch hub", hub.run(applied, stop_raft.clone()));
        let reporting = server::report_health(self.raft.clone(), reporter.clone(), stop.clone());
        loops.spawn("the report of the own health", reporting);
        let (fresh, end) = (Arc::clone(&api), stop.clone());
        loops.spawn("the freshness of reads", async move {
            fresh.keep_fresh(FRESHNESS, end).await;
        });
        spawn_leader_loops(&mut loops, &api, renewals, &stop);
        if let Some(listener) = self.sockets.metrics {
            let seen = exposition::Seen {
                raft: self.raft.clone(),
                sessions: api.sessions.clone(),
            };
            let metrics = exposition::serve(seen, listener, stop.clone());
            loops.spawn("the metrics server", metrics);
        }
        let mut parts: JoinSet<Result<(), RunError>> = JoinSet::new();
        let (raft, tls, listener) = (self.raft.clone(), self.tls.clone(), self.sockets.raft);
        let end = stop_raft.clone();
        parts.spawn(async move { server::serve_raft(raft, &tls, listener, end).await });
        let (shared, tls, listener) = (Arc::clone(&api), self.tls.clone(), self.sockets.api);
        let end = stop.clone();
        parts.spawn(async move { server::serve_api(shared, &tls, listener, reporter, end).await });
        let joiner = join::Joiner {
            raft: self.raft.clone(),
            api: Some(Arc::clone(&api)),
            tls: self.tls,
            incarnation: NodeIncarnation::from_u128(uuid::Uuid::now_v7().as_u128()),
            zone: self.config.zone.clone(),
            found: self.config.founds_if_nobody_did()?,
            seeds: self.config.join,
        };
        let end = stop.clone();
        parts.spawn(async move { joiner.run(end).await.map_err(RunError::Join) });
        info!(endpoint = %self.raft.own_peer().api_endpoint, "coordinator serves");

        until_the_end(self.raft, parts, loops, (stop, stop_raft), &shutdown).await
    }
}

/// Waits for `shutdown`, or for what stops by itself; then ends everything in order: servers first, Raft after them.
async fn until_the_end(
    raft: RaftNode,
    mut parts: JoinSet<Result<(), RunError>>,
    mut loops: Loops,
    (stop, stop_raft): (CancellationToken, CancellationToken),
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let raft_ended = async {
        let cause = raft.stopped().await;
        let why = raft.turned_away().map(RunError::TurnedAway);
        why.or_else(|| raft.too_old().map(RunError::TooOld))
            .unwrap_or(RunError::Raft(cause))
    };
    let ended = wait(raft_ended, &mut parts, &mut loops, shutdown).await;
    hand_over(&raft).await;
    stop.cancel();
    let _ = tokio::time::timeout(DRAIN, async {
        while parts.len() > 1 && parts.join_next().await.is_some() {}
    })
    .await;
    raft.shutdown().await;
    stop_raft.cancel();
    if tokio::time::timeout(DRAIN, loops.ended()).await.is_err() {
        warn!("some loops did not end in time");
    }
    // What still runs are connections that did not end when told to; dropping their server closes them.
    parts.shutdown().await;
    ended
}

/// Waits for `shutdown`; an error says what stopped by itself.
async fn wait(
    raft_ended: impl Future<Output = RunError>,
    parts: &mut JoinSet<Result<(), RunError>>,
    loops: &mut Loops,
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let mut raft_ended = std::pin::pin!(raft_ended);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            error = &mut raft_ended => return Err(error),
            failed = loops.failed() => return Err(failed),
            part = parts.join_next() => match part {
                // The joiner ends once the cluster knows this run; the servers end only when told to.
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return Err(error),
                Some(Err(panicked)) => return Err(RunError::Raft(format!("a part of the server failed: {panicked}"))),
                None => return Err(RunError::Raft("every server has ended".to_owned())),
            },
        }
    }
}

fn spawn_leader_loops(loops: &mut Loops, api: &Arc<Api>, renewals: Renewals, stop: &CancellationToken) {
    loops.spawn("renewals", renewals.run(stop.clone()));
    loops.spawn("health", health::monitor::run(Arc::clone(api), stop.clone()));
    loops.spawn("failovers", failover::driver::run(Arc::clone(api), stop.clone()));
    loops.spawn("feature levels", features::run(Arc::clone(api), stop.clone()));
}

/// Another voter leads before this one stops: a hundred times shorter a gap than an election.
async fn hand_over(raft: &RaftNode) {
    if raft.leadership().borrow().is_leader
        && let Err(error) = raft.transfer_leadership(None, Instant::now() + HAND_OVER).await
    {
        info!(%error, "leadership was not handed over");
    }
}

fn check_identity(config: &Config, tls: &Tls) -> Result<(), RunError> {
    let expected = Principal::Coordinator {
        region: config.region.clone(),
        node: config.node.clone(),
    };
    if tls.principal() == &expected {
        return Ok(());
    }
    Err(RunError::Tls {
        key: "tls.cert_file",
        path: config.tls.cert_file.clone(),
        fault: BadSetting::new(
            format!("names {}, and this config needs {expected}", tls.principal()),
            "set node and region to what the certificate names, or name the certificate of this coordinator",
        ),
    })
}

/// A coordinator that no cluster knows of, and that may neither found nor ask for one, would wait for ever.
fn check_way_in(config: &Config) -> Result<(), BadSetting> {
    if config.bootstrap || !config.join.is_empty() || raft::may_be_a_members(&config.data_dir) {
        return Ok(());
    }
    let dir = config.data_dir.display();
    Err(BadSetting::new(
        format!("bootstrap is false, join is empty, and data directory {dir} was never taken into a cluster"),
        "set join to API endpoints of the cluster's coordinators, as https://host:port; or bootstrap = true in exactly one \
         config of a new cluster",
    ))
}

fn raft_config(config: &Config, bound: &ListenFile) -> Result<RaftConfig, RunError> {
    let port = |address: Option<std::net::SocketAddr>| address.map_or(0, |a| a.port());
    let timing = config.timing()?;
    Ok(RaftConfig {
        node: config.node.clone(),
        region: config.region.clone(),
        witness: config.witness,
        data_dir: config.data_dir.clone(),
        api_endpoint: config.endpoint(port(bound.api)),
        raft_endpoint: config.endpoint(port(bound.raft)),
        // With seeds the joiner asks them first.
        bootstrap: config.founds_unasked().then_some(timing),
        timing: config.raft_timing()?,
        timing_fixed: config.fixes_raft_timing(),
        limits: config.raft_limits(),
        clock: planted::wall_clock(&config.data_dir),
        supported_level: planted::supported_level()?,
    })
}
