//! A client in a region, as a process of its own: it asks its region's agent for the token of a role, and writes to the registry
//! under it while it is good, and never after.
//!
//! `jepsen writer --config FILE`, started by trials. A line on stdout for each token and each write; it ends with its stdin.
//! Absent on purpose: writes under an old token, which are [`super::stale`]'s.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use client::{AgentClient, Client, ClientConfig, TlsFiles, calls::ChangeOptions, guard::BootInstant};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use types::{Epoch, FencingToken, ModelName, RoleName};

/// Between the beginnings of two writes, and of two questions for the token.
const INTERVAL: Duration = Duration::from_millis(10);
/// Writes without an answer yet: over the longest distances one takes half a second.
const IN_FLIGHT: usize = 64;
/// How long the own region's agent may take.
const AGENT_LIMIT: Duration = Duration::from_secs(1);
/// Between two calls that keep the way to the leader known.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Lines that wait to be written; a reader that stands still holds the writes up.
const LINES: usize = 256;

/// What a writer is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    /// The role that it writes under.
    pub(crate) role: RoleName,
    /// The model whose tag it sets.
    pub(crate) model: ModelName,
    /// The tag: each writer has its own.
    pub(crate) tag: String,
    /// APIs of the coordinators, the nearest first.
    pub(crate) coordinators: Vec<String>,
    /// gRPC of its region's agent.
    pub(crate) agent: String,
    /// The identity of that agent.
    pub(crate) tls: TlsFiles,
    /// For how long it asks for the token: what a write takes.
    pub(crate) token_for: Duration,
}

/// What a writer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// Its agent gave it a token that it had not had.
    Token {
        /// Since boot.
        at: Duration,
        /// Since 1970, by this machine's clock: for what other programs wrote down.
        wall: Duration,
        /// Whose time has begun.
        epoch: Epoch,
    },
    /// A write ended.
    Write {
        /// Since boot.
        begun: Duration,
        /// Since boot.
        ended: Duration,
        /// Under which it was.
        epoch: Epoch,
        /// It was taken.
        accepted: bool,
        /// Why it was not, or what is not known of it.
        reason: String,
    },
}

/// A moment since boot.
pub(crate) fn since_boot(moment: BootInstant) -> Duration {
    moment.since(BootInstant::from_boot(Duration::ZERO))
}

type Held = Option<(FencingToken, BootInstant)>;

/// The process: until its stdin ends.
pub(crate) async fn run(config: &Path) -> anyhow::Result<()> {
    let config: Config = serde_json::from_slice(&std::fs::read(config)?)?;
    let client = Client::new(ClientConfig::new(config.coordinators.clone(), config.tls.clone()))?;
    let agent = AgentClient::new(&config.agent, &config.tls, AGENT_LIMIT)?;
    let (lines, written) = mpsc::channel(LINES);
    let (keep, held) = watch::channel(None);
    let work = async {
        tokio::join!(
            keep_token(&agent, &config, &keep, &lines),
            keep_writing(&client, &config, held, &lines),
            keep_alive(&client, &config.model),
            print(written),
        )
    };
    tokio::select! {
        _ = work => {}
        () = stdin_ends() => {}
    }
    Ok(())
}

/// Whoever started this process holds the other end, and so ends it also by its own death.
async fn stdin_ends() {
    let (ended, end) = oneshot::channel();
    // It waits where nothing can wake it, so it is left to the process's end.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}

async fn print(mut lines: mpsc::Receiver<Line>) {
    while let Some(line) = lines.recv().await {
        let text = serde_json::to_string(&line).unwrap_or_default();
        // Nobody reads any more: the end of stdin follows.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}

/// Asks for the token again and again, and keeps the last one: it is good until its time is over, also while its agent
/// gives no more.
async fn keep_token(
    agent: &AgentClient,
    config: &Config,
    keep: &watch::Sender<Held>,
    lines: &mpsc::Sender<Line>,
) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Ok((token, until)) = agent.token_for(&config.role, config.token_for).await else {
            continue;
        };
        let epoch = token.epoch;
        let before = keep.send_replace(Some((token, until)));
        if before.is_none_or(|(before, _)| before.epoch != epoch) {
            let line = Line::Token {
                at: since_boot(BootInstant::now()),
                wall: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
                epoch,
            };
            let _ = lines.send(line).await;
        }
    }
}

async fn keep_writing(
    client: &Client,
    config: &Config,
    mut held: watch::Receiver<Held>,
    lines: &mpsc::Sender<Line>,
) {
    let mut writes = JoinSet::new();
    let mut epoch = None;
    let mut number = 0_u64;
    loop {
        // A new epoch is written under at once, as by somebody who waited for it.
        let now = held.borrow_and_update().clone();
        let good = now.filter(|(_, until)| *until > BootInstant::now());
        if let Some((token, until)) = good.filter(|_| writes.len() < IN_FLIGHT) {
            epoch = Some(token.epoch);
            number += 1;
            let (client, config, lines) = (client.clone(), config.clone(), lines.clone());
            writes.spawn(async move {
                let line = write(&client, &config, &token, until, number).await;
                let _ = lines.send(line).await;
            });
        }
        let turn = Instant::now() + INTERVAL;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(turn) => break,
                _ = writes.join_next(), if !writes.is_empty() => {}
                changed = held.changed() => {
                    let new = held.borrow_and_update().as_ref().map(|(token, _)| token.epoch);
                    if changed.is_err() || new != epoch {
                        break;
                    }
                }
            }
        }
    }
}

/// One write, given up when the token's time is over (L5).
async fn write(
    client: &Client,
    config: &Config,
    token: &FencingToken,
    until: BootInstant,
    number: u64,
) -> Line {
    let begun = BootInstant::now();
    let left = until.since(begun);
    let client = client.with_deadline(left);
    let tags = BTreeMap::from([(config.tag.clone(), number.to_string())]);
    let write = client.set_model_tags(&config.model, tags, Vec::new(), None, Some(token));
    let answer = timeout(left, Box::pin(write)).await;
    let reason = match &answer {
        Ok(Ok(_)) => String::new(),
        Ok(Err(refusal)) => format!("{}: {}", refusal.reason, refusal.message),
        Err(_) => "the token's time is over".to_owned(),
    };
    Line::Write {
        begun: since_boot(begun),
        ended: since_boot(BootInstant::now()),
        epoch: token.epoch,
        accepted: matches!(answer, Ok(Ok(_))),
        reason,
    }
}

/// A program at work has a connection to the leader. This one only looks whether it could write, which without a token it
/// may not.
async fn keep_alive(client: &Client, model: &ModelName) {
    let asked = client.with_change_options(ChangeOptions {
        validate_only: true,
        ..ChangeOptions::default()
    });
    let mut ticks = interval(KEEP_ALIVE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let nothing = asked.set_model_tags(model, BTreeMap::new(), Vec::new(), None, None);
        // What it answers is of no interest, only who did.
        let _ = Box::pin(nothing).await;
    }
}

/// Where a writer's config stands.
pub(crate) fn config_in(dir: &Path) -> PathBuf {
    dir.join("writer.json")
}
