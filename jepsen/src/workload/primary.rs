//! Workload `primary`: find out who holds the role, and write under its token through the doors, blind to its lease.
//!
//! A writer per region and door acts as that region's agent, with the last token that the agent gave it, so that many
//! of its writes are stale as soon as the role has moved; a watcher per region asks the agent again and again.
//! Absent on purpose: the object stores' pointers, which have writers of their own (`pointers`).

use std::{collections::BTreeMap, time::Duration};

use client::{AgentClient, Client, guard::BootInstant, retry::mint_request_id};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use types::{FencingToken, ModelName, ModelVersion, RegionId, RoleName, VersionKey, reason::Refusal};

use crate::{
    cluster::Cluster,
    history::{Action, History, What},
    outcome,
};

/// The name in a verdict.
pub(crate) const NAME: &str = "primary";
/// The model whose tag is written, and whose version agents are told to serve.
pub(crate) const MODEL: &str = "jepsen.digits";
/// After this an operation's outcome is unknown.
const DEADLINE: Duration = Duration::from_secs(2);
/// Between the beginnings of two operations of one client.
const INTERVAL: Duration = Duration::from_millis(50);

/// One client: its number, and its history.
struct Process {
    number: u32,
    op: u64,
    history: History,
    stop: CancellationToken,
}

impl Process {
    fn begin(&mut self, action: Action) {
        self.op += 1;
        self.history.record(self.number, self.op, What::Invoke { action });
    }
    fn end(&self, what: What) {
        self.history.record(self.number, self.op, what);
    }
    /// Whether there is time for another operation.
    async fn next(&self, ticks: &mut tokio::time::Interval) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            _ = ticks.tick() => true,
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Starts every client; they end with `stop`.
pub(crate) async fn start(
    cluster: &Cluster,
    history: &History,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<()>> {
    let agents = cluster.agents().await?;
    let model = ModelName::new(MODEL)?;
    let mut numbers = 0u32..;
    let mut process = || Process {
        number: numbers.next().unwrap_or(u32::MAX - 1),
        op: 0,
        history: history.clone(),
        stop: stop.clone(),
    };
    let mut tasks = JoinSet::new();
    for (region, endpoint) in &agents {
        let identity = cluster.agent_identity(region);
        let own = AgentClient::new(endpoint, &identity, DEADLINE)?;
        let (keep, token) = watch::channel(None);
        tasks.spawn(watch_token(process(), region.clone(), own, keep));
        let registry = Registry {
            client: cluster.client_as(region, DEADLINE)?,
            model: model.clone(),
        };
        tasks.spawn(write(process(), "registry".to_owned(), registry, token.clone()));
        for (at, endpoint) in &agents {
            let door = AgentDoor {
                client: AgentClient::new(endpoint, &identity, DEADLINE)?,
                version: VersionKey {
                    model: model.clone(),
                    version: ModelVersion(1),
                },
            };
            tasks.spawn(write(process(), format!("agent/{at}"), door, token.clone()));
        }
    }
    Ok(tasks)
}

/// Keeps the last token that the agent gave, whatever became of it since.
async fn watch_token(
    mut process: Process,
    region: RegionId,
    agent: AgentClient,
    keep: watch::Sender<Option<FencingToken>>,
) {
    let mut ticks = ticks();
    while process.next(&mut ticks).await {
        process.begin(Action::Token {
            region: region.to_string(),
        });
        let asked = BootInstant::now();
        match agent.token(&RoleName::global()).await {
            Ok((token, valid_until)) => {
                // The check counts it from the operation's beginning, which was earlier.
                let left = valid_until.since(asked);
                process.end(What::Ok {
                    lease_left_millis: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
                    token: Some((token.epoch, token.holder.clone())),
                });
                keep.send_replace(Some(token));
            }
            Err(refusal) => process.end(outcome::of_refusal(&refusal)),
        }
    }
}

/// A door as its client sees it.
trait Door: Send {
    fn write(&self, op: u64, token: &FencingToken) -> impl Future<Output = Result<(), Refusal>> + Send;
}

struct Registry {
    client: Client,
    model: ModelName,
}

impl Door for Registry {
    async fn write(&self, op: u64, token: &FencingToken) -> Result<(), Refusal> {
        let set = BTreeMap::from([("jepsen.op".to_owned(), op.to_string())]);
        let id = mint_request_id();
        let answer = self
            .client
            .set_model_tags_as(id, &self.model, set, Vec::new(), None, Some(token));
        answer.await.map(drop)
    }
}

struct AgentDoor {
    client: AgentClient,
    version: VersionKey,
}

impl Door for AgentDoor {
    async fn write(&self, _op: u64, token: &FencingToken) -> Result<(), Refusal> {
        self.client.serve_version(token, &self.version).await.map(drop)
    }
}

/// Writes at one door for as long as there is time.
async fn write(
    mut process: Process,
    name: String,
    door: impl Door,
    token: watch::Receiver<Option<FencingToken>>,
) {
    let mut ticks = ticks();
    while process.next(&mut ticks).await {
        let shown = token.borrow().clone();
        let Some(shown) = shown else { continue };
        process.begin(Action::Write {
            door: name.clone(),
            epoch: shown.epoch,
            holder: shown.holder.clone(),
        });
        let end = match door.write(process.op, &shown).await {
            Ok(()) => What::Ok {
                lease_left_millis: None,
                token: None,
            },
            Err(refusal) => outcome::of_refusal(&refusal),
        };
        process.end(end);
    }
}
