//! Workload `primary`: find out who holds the role, and write under its token through the doors, blind to its lease.
//!
//! A writer per region and door acts as that region's agent, with the last token that the agent gave it, so that many
//! of its writes are stale as soon as the role has moved; a watcher per region asks the agent again and again.
//! Absent on purpose: the object stores' pointers, which have writers of their own (`pointers`).

use std::{collections::BTreeMap, time::Duration};

use client::{AgentClient, Client, guard::BootInstant, retry::mint_request_id};
use tokio::{sync::watch, task::JoinSet};
use types::{FencingToken, ModelName, ModelVersion, RegionId, RoleName, VersionKey, reason::Refusal};

use super::process::{Process, Processes};
use crate::{
    history::{Action, Answer},
    world::World,
};

/// The model whose tag is written, and whose version agents are told to serve.
pub(crate) const MODEL: &str = "jepsen.digits";
/// After this an operation's outcome is unknown.
const DEADLINE: Duration = Duration::from_secs(2);
/// Between the beginnings of two operations of one client.
const INTERVAL: Duration = Duration::from_millis(50);

/// Starts every client; they end with the run.
pub(crate) async fn start(world: &World, processes: &mut Processes) -> anyhow::Result<JoinSet<()>> {
    let agents = world.agents()?;
    let model = ModelName::new(MODEL)?;
    let mut process = || processes.next(INTERVAL);
    let mut tasks = JoinSet::new();
    for (region, endpoint) in &agents {
        let identity = world.agent_identity(region);
        let own = AgentClient::new(endpoint, &identity, DEADLINE)?;
        let (keep, token) = watch::channel(None);
        tasks.spawn(watch_token(process(), region.clone(), own, keep));
        let registry = Registry {
            client: world.client_as(region, DEADLINE)?,
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
    while process.next().await {
        process.begin(Action::Token {
            region: region.to_string(),
        });
        let asked = BootInstant::now();
        let answer = agent
            .token(&RoleName::global())
            .await
            .map(|(token, valid_until)| {
                // The check counts it from the operation's beginning, which was earlier.
                let left = valid_until.since(asked);
                let answer = Answer::Token {
                    epoch: token.epoch,
                    holder: token.holder.clone(),
                    lease_left_millis: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                };
                keep.send_replace(Some(token));
                answer
            });
        process.end(answer);
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
    while process.next().await {
        let shown = token.borrow().clone();
        let Some(shown) = shown else { continue };
        process.begin(Action::Write {
            door: name.clone(),
            epoch: shown.epoch,
            holder: shown.holder.clone(),
        });
        let answer = door.write(process.op(), &shown).await.map(|()| Answer::Done);
        process.end(answer);
    }
}
