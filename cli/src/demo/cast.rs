//! The zombie writers as processes: started in groups of their own, so that what happens to a region spares its writer.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chaos::ProcessRef;
use client::Client;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use types::{RegionId, RoleName, VersionKey};

use super::{
    collect::Tail,
    doors::{Attempt, WriterLog},
    record::HalfPutSeen,
    zombie::{Said, StoreAddress, ZombieConfig},
};
use crate::{
    dev::{cluster::DevCluster, files},
    error::Failure,
};

/// How long a writer may take to end, and the caught one to speak.
const PATIENCE: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Debug)]
pub(super) struct Cast {
    zombies: Vec<Zombie>,
    dir: PathBuf,
}

#[derive(Debug)]
struct Zombie {
    region: RegionId,
    child: Child,
    tail: Tail,
}

impl Cast {
    /// Starts one per region.
    pub(super) async fn start(
        cluster: &DevCluster,
        client: &Client,
        role: &RoleName,
        version: &VersionKey,
    ) -> Result<Self, Failure> {
        let dir = cluster.layout().root().join("zombies");
        let template = template(cluster, client, role, version).await?;
        let mut cast = Self {
            zombies: Vec::new(),
            dir,
        };
        for region in cluster.regions() {
            let mut config = template.clone();
            config.region = region.clone();
            config.log = cast.file(region, "log.jsonl");
            config.hold = cast.file(region, "hold");
            config.tls = cluster.certs().agent(region);
            let path = cast.file(region, "config.toml");
            files::make_dir(&cast.dir.join(region.as_str()))?;
            config.write(&path)?;
            let output = cast.file(region, "output");
            let child = command(&path, &output)?.stdin(Stdio::null()).spawn();
            let child = child.map_err(|e| Failure::other(format!("could not start a writer: {e}")))?;
            let tail = Tail::new(region, &config.log);
            cast.zombies.push(Zombie {
                region: region.clone(),
                child,
                tail,
            });
        }
        Ok(cast)
    }

    fn file(&self, region: &RegionId, name: &str) -> PathBuf {
        self.dir.join(region.as_str()).join(name)
    }

    /// Takes in what the writers logged since.
    pub(super) fn refresh(&mut self) -> Result<(), Failure> {
        self.zombies.iter_mut().try_for_each(|z| z.tail.refresh())
    }

    /// Everything that they logged, as of the last refresh.
    pub(super) fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.zombies.iter().flat_map(|z| &z.tail.log.attempts)
    }

    /// The same, per writer.
    pub(super) fn logs(&self) -> Vec<WriterLog> {
        self.zombies.iter().map(|z| z.tail.log.clone()).collect()
    }

    /// How often a region's writer began to leave its own pointer alone.
    pub(super) fn held(&self, region: &RegionId) -> usize {
        let of_region = self.zombies.iter().find(|z| &z.region == region);
        of_region.map_or(0, |z| z.tail.held)
    }

    /// Makes a region's writer leave the pointer in its own store alone.
    pub(super) fn hold(&self, region: &RegionId) -> Result<(), Failure> {
        let file = self.file(region, "hold");
        std::fs::write(&file, b"").map_err(|e| Failure::file("write", &file, e))
    }

    /// Lets it go on.
    pub(super) fn let_go(&self, region: &RegionId) -> Result<(), Failure> {
        let file = self.file(region, "hold");
        std::fs::remove_file(&file).map_err(|e| Failure::file("remove", &file, e))
    }

    /// Catches a write of a region in the middle.
    pub(super) async fn half_put(&self, region: &RegionId) -> Result<HalfPut, Failure> {
        let config = self.file(region, "config.toml");
        let output = self.file(region, "half-put-output");
        HalfPut::start(&config, &output).await
    }

    /// SIGTERM: each ends the write that it has in hand.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        for zombie in &self.zombies {
            if let Some(process) = zombie.child.id().and_then(|pid| ProcessRef::of(pid).ok()) {
                // An error means that it has ended just now.
                let _ = process.terminate();
            }
        }
        for zombie in &mut self.zombies {
            if timeout(PATIENCE, zombie.child.wait()).await.is_err() {
                let region = &zombie.region;
                return Err(Failure::other(format!("the writer of {region} does not end")));
            }
        }
        self.refresh()
    }
}

/// What all writers' configs have in common; the first region's stands for the rest.
async fn template(
    cluster: &DevCluster,
    client: &Client,
    role: &RoleName,
    version: &VersionKey,
) -> Result<ZombieConfig, Failure> {
    let mut agents = BTreeMap::new();
    for region in cluster.regions() {
        let url = cluster.region(region)?.agent.listen.agent_url();
        let url = url.ok_or_else(|| Failure::other(format!("the agent of {region} does not listen")))?;
        agents.insert(region.clone(), url);
    }
    let stores = client.list_regions().await?.into_iter().filter_map(|record| {
        let store = record.store?;
        let address = StoreAddress {
            endpoint: store.endpoint,
            bucket: store.bucket,
        };
        Some((record.region, address))
    });
    let region = cluster.regions().first().cloned();
    let region = region.ok_or_else(|| Failure::other("a cluster without regions"))?;
    Ok(ZombieConfig {
        tls: cluster.certs().agent(&region),
        region,
        role: role.clone(),
        version: version.clone(),
        coordinators: cluster.context()?.endpoints,
        token_millis: None,
        log: PathBuf::new(),
        hold: PathBuf::new(),
        keys: cluster.store_credentials().clone(),
        agents,
        stores: stores.collect(),
    })
}

fn command(config: &Path, output: &Path) -> Result<Command, Failure> {
    let exe = std::env::current_exe()
        .map_err(|e| Failure::other(format!("could not find the own executable: {e}")))?;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(output)
        .map_err(|e| Failure::file("open", output, e))?;
    let clone = file.try_clone().map_err(|e| Failure::file("open", output, e))?;
    let mut command = Command::new(exe);
    command
        .arg("zombie-writer")
        .arg("--config")
        .arg(config)
        // The kernel follows the thread that starts a child: the story runs on the main thread, which lives longest.
        .args(["--die-with", &std::process::id().to_string()])
        .stdout(clone)
        .stderr(file)
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}

/// A write in flight.
#[derive(Debug)]
pub(super) struct HalfPut {
    child: Child,
    /// Its process, to be paused with its holder.
    pub(super) process: ProcessRef,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Where its errors are.
    output: PathBuf,
    /// What it said.
    pub(super) seen: HalfPutSeen,
}

impl HalfPut {
    async fn start(config: &Path, output: &Path) -> Result<Self, Failure> {
        let failed = |why: &str| Failure::other(format!("could not catch a write half-way: {why}"));
        let mut child = command(config, output)?
            .arg("--half-put")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(&e.to_string()))?;
        let process = child.id().and_then(|pid| ProcessRef::of(pid).ok());
        let process = process.ok_or_else(|| failed("it ended at once"))?;
        let stdin = child.stdin.take().ok_or_else(|| failed("no stdin"))?;
        let stdout = child.stdout.take().ok_or_else(|| failed("no stdout"))?;
        let mut lines = BufReader::new(stdout).lines();
        let Said::Half {
            at,
            door,
            id,
            shown,
            if_match,
        } = said(&mut lines, output).await?
        else {
            return Err(failed("it said something else"));
        };
        let seen = HalfPutSeen {
            door,
            id,
            shown,
            if_match,
            half_sent: at,
            answered: None,
            status: None,
        };
        Ok(Self {
            child,
            process,
            stdin,
            lines,
            output: output.to_owned(),
            seen,
        })
    }

    /// Tells it to send the rest, and waits for the store's answer.
    pub(super) async fn finish(mut self) -> Result<HalfPutSeen, Failure> {
        let go = self.stdin.write_all(b"go on\n").await;
        go.map_err(|e| Failure::other(format!("could not speak to the writer: {e}")))?;
        if let Said::Answered { at, status } = said(&mut self.lines, &self.output).await? {
            self.seen.answered = Some(at);
            self.seen.status = Some(status);
        }
        // It has said all that it knows; its exit code adds nothing.
        let _ = timeout(PATIENCE, self.child.wait()).await;
        Ok(self.seen)
    }
}

async fn said(lines: &mut Lines<BufReader<ChildStdout>>, output: &Path) -> Result<Said, Failure> {
    let line = timeout(PATIENCE, lines.next_line()).await;
    let line = line.map_err(|_| Failure::other("the half-way writer says nothing"))?;
    let line = line.map_err(|e| Failure::other(format!("could not hear the half-way writer: {e}")))?;
    let line = line.ok_or_else(|| ended_early(output))?;
    serde_json::from_str(&line).map_err(|e| Failure::other(format!("the half-way writer said {line:?}: {e}")))
}

/// Why it ended stands in its output, if it said so.
fn ended_early(output: &Path) -> Failure {
    let why = std::fs::read_to_string(output).unwrap_or_default();
    let why = why.trim().trim_start_matches("error: ");
    let why = if why.is_empty() { "it did not say why" } else { why };
    Failure::other(format!("the half-way writer ended early: {why}"))
}
