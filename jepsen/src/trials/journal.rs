//! What the writers of all regions said, as it comes, for whoever waits for something of it.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use client::context::Context;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use types::{ModelName, RegionId, RoleName};

use super::writer::{self, Line};
use crate::world::World;

/// How long something that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A line and who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) region: RegionId,
    pub(super) line: Line,
}

/// A writer in every region. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Journal {
    said: watch::Sender<Vec<Said>>,
    readers: JoinSet<()>,
    writers: Vec<(Child, ChildStdin)>,
}

impl Journal {
    /// Starts a writer in each region.
    pub(super) async fn start(world: &World, model: &ModelName, token_for: Duration) -> anyhow::Result<Self> {
        let mut journal = Self {
            said: watch::Sender::default(),
            readers: JoinSet::new(),
            writers: Vec::new(),
        };
        let context = world.context()?;
        for (at, (region, agent)) in world.agents()?.into_iter().enumerate() {
            let dir = world.dir().join("writers").join(region.as_str());
            std::fs::create_dir_all(&dir)?;
            let config = writer::Config {
                role: RoleName::global(),
                model: model.clone(),
                tag: format!("trials.writer.{at}"),
                coordinators: nearest_first(world, &context, &region),
                agent,
                tls: world.agent_identity(&region),
                token_for,
            };
            std::fs::write(writer::config_in(&dir), serde_json::to_vec_pretty(&config)?)?;
            journal.add(world, region, &dir).await?;
        }
        Ok(journal)
    }

    async fn add(&mut self, world: &World, region: RegionId, dir: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("writer").arg("--config").arg(writer::config_in(dir));
        let errors = std::fs::File::create(dir.join("log"))?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let (_, mut child) = world.spawn_in(command, &region).await?;
        let stdin = child.stdin.take().context("a writer without stdin")?;
        let stdout = child.stdout.take().context("a writer without stdout")?;
        self.writers.push((child, stdin));
        let lines = BufReader::new(stdout).lines();
        self.readers.spawn(read(region, lines, self.said.clone()));
        Ok(())
    }

    /// Forgets what was said: nothing of a trial matters to the next.
    pub(super) fn forget(&self) {
        self.said.send_modify(Vec::clear);
    }

    /// All that was said since.
    pub(super) fn said(&self) -> Vec<Said> {
        self.said.borrow().clone()
    }

    /// Waits until something of it is found.
    pub(super) async fn find<T>(
        &self,
        what: &str,
        mut find: impl FnMut(&[Said]) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut said = self.said.subscribe();
        let found = async {
            loop {
                let found = find(&said.borrow_and_update());
                if let Some(found) = found {
                    return Some(found);
                }
                said.changed().await.ok()?;
            }
        };
        match timeout(PATIENCE, found).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) | Err(_) => {
                let last = self.said.borrow().last().cloned();
                bail!("waited {PATIENCE:?} for {what}; the writers said last: {last:?}")
            }
        }
    }

    /// Ends the writers and waits for them.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        for (mut child, stdin) in self.writers.drain(..) {
            drop(stdin);
            let ended = timeout(PATIENCE, child.wait()).await;
            ended.context("a writer does not end")??;
        }
        while self.readers.join_next().await.is_some() {}
        Ok(())
    }
}

fn nearest_first(world: &World, context: &Context, region: &RegionId) -> Vec<String> {
    let own = world.regions().iter().position(|r| r == region);
    let mut coordinators = context.endpoints.clone();
    coordinators.rotate_left(own.unwrap_or_default().min(context.endpoints.len()));
    coordinators
}

async fn read(region: RegionId, mut lines: Lines<BufReader<ChildStdout>>, said: watch::Sender<Vec<Said>>) {
    while let Ok(Some(text)) = lines.next_line().await {
        match serde_json::from_str(&text) {
            Ok(line) => said.send_modify(|all| {
                all.push(Said {
                    region: region.clone(),
                    line,
                });
            }),
            Err(error) => tracing::error!(%region, %error, text, "a writer said what nobody understands"),
        }
    }
}
