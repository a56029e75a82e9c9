//! The zombie writer: a process that goes on writing with the last token that its region's agent gave it, blind to the
//! lease, as the holder itself (its certificate, node and incarnation), so that only the epoch can refuse it.
//!
//! One task keeps the token, one task per door writes every 20 ms: the registry, every agent, every region's pointer.
//! The next write of a door begins when the one before has ended; ticks that were missed are skipped.
//! Absent on purpose: any look at the lease, at the role, or at what other processes know.

mod config;
mod doors;
mod half_put;
mod log;
mod pointer;

use std::time::Duration;

use client::AgentClient;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use types::FencingToken;

pub(crate) use config::{StoreAddress, ZombieConfig};
pub(crate) use half_put::Said;
pub(crate) use log::Line;

use self::{
    doors::{AgentDoor, Door, INTERVAL, RegistryDoor},
    log::LogHandle,
    pointer::PointerDoor,
};
use super::{doors::agent_door, micros::Micros};
use crate::{args::ZombieWriterArgs, error::Failure, shutdown};

/// A write that is not answered by then has an unknown outcome.
const DEADLINE: Duration = Duration::from_secs(1);
/// How often the agent is asked for its token.
const TOKEN_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the zombie writer until SIGTERM.
pub(crate) async fn run_zombie_writer(args: ZombieWriterArgs) -> Result<(), Failure> {
    args.die_with.map_or(Ok(()), shutdown::die_with)?;
    let config = ZombieConfig::load(&args.config)?;
    if args.half_put {
        return half_put::run(&config).await;
    }
    let stop = shutdown::on_signal()?;
    let (log, write_log) = log::open(&config.log)?;
    let (keep, token) = watch::channel(None);
    let mut tasks = JoinSet::new();
    spawn_doors(&mut tasks, &config, &log, &token, &stop)?;
    let agent = config.agents.get(&config.region);
    let agent = agent.ok_or_else(|| Failure::usage(format!("`agents` lacks {}", config.region)))?;
    let agent = AgentClient::new(agent, &config.tls, DEADLINE)?;
    tasks.spawn(keep_token(agent, config.clone(), keep, log, stop));
    let join = async { while tasks.join_next().await.is_some() {} };
    // The log ends when the last task has given its handle back.
    let ((), written) = tokio::join!(join, write_log);
    written
}

fn spawn_doors(
    tasks: &mut JoinSet<()>,
    config: &ZombieConfig,
    log: &LogHandle,
    token: &watch::Receiver<Option<FencingToken>>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let registry = RegistryDoor::new(config)?;
    tasks.spawn(keep_writing(registry, log.clone(), token.clone(), stop.clone()));
    for (region, endpoint) in &config.agents {
        let door = AgentDoor::new(agent_door(region), endpoint, config)?;
        tasks.spawn(keep_writing(door, log.clone(), token.clone(), stop.clone()));
    }
    for (region, address) in &config.stores {
        let door = PointerDoor::new(region, address, config, log)?;
        tasks.spawn(keep_writing(door, log.clone(), token.clone(), stop.clone()));
    }
    Ok(())
}

/// Asks the region's agent again and again, and keeps the last token that it gave.
async fn keep_token(
    agent: AgentClient,
    config: ZombieConfig,
    keep: watch::Sender<Option<FencingToken>>,
    log: LogHandle,
    stop: CancellationToken,
) {
    let mut ticks = interval(TOKEN_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while next(&mut ticks, &stop).await {
        let asked = match config.token_millis.map(Duration::from_millis) {
            Some(at_most) => agent.token_for(&config.role, at_most).await,
            None => agent.token(&config.role).await,
        };
        let Ok((token, _)) = asked else { continue };
        let new = keep.borrow().as_ref() != Some(&token);
        if new {
            let (at, epoch) = (Micros::now(), token.epoch);
            log.put(Line::Token { at, epoch }).await;
            keep.send_replace(Some(token));
        }
    }
}

/// Writes at one door, every tick, as soon as there is a token.
async fn keep_writing(
    mut door: impl Door,
    log: LogHandle,
    token: watch::Receiver<Option<FencingToken>>,
    stop: CancellationToken,
) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while next(&mut ticks, &stop).await {
        let shown = token.borrow().clone();
        let Some(shown) = shown else { continue };
        if let Some(attempt) = door.write(&shown).await {
            log.put(Line::Attempt(attempt)).await;
        }
    }
}

/// Whether a tick came before the end.
async fn next(ticks: &mut tokio::time::Interval, stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        _ = ticks.tick() => true,
    }
}
