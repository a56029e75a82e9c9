//! A cluster that this program founds, starts and hurts itself: configs as an operator would write them, on one machine, with or
//! without distances between its regions.
//!
//! What is killed stays dead until it is started again, unlike in [`crate::cluster`], where `regent dev` starts it. Over relays
//! every process is known to the others by the address of a relay, and no config says how fast elections are.
//! Absent on purpose: any wait for all that may be well in a cluster; that is `crate::whole`.
//! Invariant: at most one run of each process, and none that outlives this value.

mod certs;
mod disks;
mod files;

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use chaos::{ChaosError, Distances, Part, Place, ProcessName, ProcessRef, Processes, Run, Wan};
use client::{Client, Context, TlsFiles};
use serde::Deserialize;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use types::{
    RegionId, RoleName,
    planted::{self, Bug},
    region::Health,
};

use crate::{network::Network, shim::Shim};

pub(crate) use disks::SmallDisk;
pub(crate) use files::BUCKET;
use files::Files;

/// How long a process may take from its start to its `listen.json`.
const LISTEN_LIMIT: Duration = Duration::from_secs(60);
/// How long one may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// How long it may take until a cluster that was founded is of use, and how often it is asked meanwhile.
const READY_LIMIT: Duration = Duration::from_secs(120);
const READY_LOOK: Duration = Duration::from_millis(100);
/// Between two looks for a file that nothing announces.
const LOOK: Duration = Duration::from_millis(10);

/// What a world is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The executable under test.
    pub(crate) regent: PathBuf,
    /// Where everything of it stands.
    pub(crate) dir: PathBuf,
    /// The regions; the first founds the cluster.
    pub(crate) regions: Vec<RegionId>,
    /// What is between them.
    pub(crate) net: Net,
    /// The bug that every process of the executable has, if it is built for that.
    pub(crate) bug: Option<Bug>,
    /// Each coordinator's data directory is a small file system of its own.
    pub(crate) has_small_disks: bool,
    /// Something stands before libc in every coordinator and agent ([`crate::shim`]).
    pub(crate) has_shims: bool,
    /// Logs stand on disks that forget at a kill what was not synced, by this seed; a release has no code for them.
    pub(crate) forgets: Option<u64>,
}

/// What is between regions.
#[derive(Clone, Debug)]
pub(crate) enum Net {
    /// Nothing: all on 127.0.0.1, with the timings of elections that `regent dev` has.
    Loopback,
    /// A relay before each process, and timings that the coordinators derive from the distances. No privilege needed.
    Relays(Distances),
    /// A network namespace for each, and a switch that loses packets by this seed; timings as `regent dev` has them.
    Namespaces {
        /// How far they are from each other.
        distances: Distances,
        /// Repeats what is lost.
        seed: u64,
    },
}

/// The same, while it stands.
#[derive(Debug)]
enum Between {
    Nothing,
    Relays(Wan),
    Network(Network),
}

/// The cluster.
#[derive(Debug)]
pub(crate) struct World {
    plan: Plan,
    files: Files,
    between: Between,
    shims: BTreeMap<ProcessName, Shim>,
    disks: BTreeMap<ProcessName, SmallDisk>,
    running: Mutex<BTreeMap<ProcessName, Running>>,
}

#[derive(Debug)]
struct Running {
    process: ProcessRef,
    child: Child,
}

/// The ports of a process, as it wrote them down.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Listen {
    api: Option<SocketAddr>,
    raft: Option<SocketAddr>,
    agent: Option<SocketAddr>,
    inference: Option<SocketAddr>,
    s3: Option<SocketAddr>,
}

impl World {
    /// Founds the cluster and starts every process of it. They find each other by themselves.
    pub(crate) async fn found(plan: Plan) -> anyhow::Result<Self> {
        let count = plan.regions.len();
        let between = match plan.net.clone() {
            Net::Loopback => Between::Nothing,
            Net::Relays(distances) => Between::Relays(Wan::new(distances)),
            Net::Namespaces { distances, seed } => {
                Between::Network(Network::new(count, distances, seed).await?)
            }
        };
        let host = |at| match &between {
            Between::Nothing => Ok(Ipv4Addr::LOCALHOST),
            Between::Relays(_) => Ok(relay_host(at)),
            Between::Network(network) => network.address(at),
        };
        let hosts = (0..count).map(host).collect::<anyhow::Result<Vec<_>>>()?;
        let files = Files::write(&plan, &hosts)?;
        let shims = if plan.has_shims {
            shims(&plan)?
        } else {
            BTreeMap::new()
        };
        let disks = if plan.has_small_disks {
            disks(&plan, &files)?
        } else {
            BTreeMap::new()
        };
        let world = Self {
            plan,
            files,
            between,
            shims,
            disks,
            running: Mutex::default(),
        };
        world.place(std::process::id(), Place::Everywhere);
        for part in [Part::Store, Part::Coordinator, Part::Agent] {
            for region in world.plan.regions.clone() {
                Box::pin(world.start_first(&ProcessName { region, part })).await?;
            }
        }
        fs::write(world.context_file(), toml::to_string(&world.context()?)?)?;
        Ok(world)
    }

    /// The first start of a process: its ports become known, and its relays are opened.
    async fn start_first(&self, name: &ProcessName) -> anyhow::Result<()> {
        let known = self.known()?;
        self.files.write_config(name, &known)?;
        Box::pin(self.spawn(name)).await?;
        let listen = self.wait_listening(name).await?;
        let at = self.index_of(&name.region)?;
        let wan = match (&self.between, listen.s3) {
            (Between::Relays(wan), _) => wan,
            (Between::Network(network), Some(store)) => return network.show(at, store).await,
            (Between::Network(_) | Between::Nothing, _) => return Ok(()),
        };
        let Listen {
            api,
            raft,
            agent,
            inference,
            s3,
        } = listen;
        for address in [api, raft, agent, inference, s3].into_iter().flatten() {
            let relay = SocketAddr::from((relay_host(at), address.port()));
            wan.open(relay, address, at).await?;
        }
        Ok(())
    }

    async fn wait_listening(&self, name: &ProcessName) -> anyhow::Result<Listen> {
        let deadline = Instant::now() + LISTEN_LIMIT;
        loop {
            if let Some(listen) = self.listen(name)? {
                return Ok(listen);
            }
            if self.run_of(name).is_none() || Instant::now() >= deadline {
                bail!("{name} does not listen; see {}", self.files.log(name).display());
            }
            sleep(LOOK).await;
        }
    }

    fn listen(&self, name: &ProcessName) -> anyhow::Result<Option<Listen>> {
        match fs::read(self.files.data(name).join("listen.json")) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What every other process is told of those that have listened once.
    fn known(&self) -> anyhow::Result<files::Known> {
        let mut known = files::Known::default();
        for (at, region) in self.plan.regions.iter().enumerate() {
            let host = self.files.host(at);
            let port = |part, pick: fn(&Listen) -> Option<SocketAddr>| {
                let region = region.clone();
                let listen = self.listen(&ProcessName { region, part })?;
                anyhow::Ok(listen.as_ref().and_then(pick).map(|address| address.port()))
            };
            let api = port(Part::Coordinator, |l| l.api)?;
            known
                .apis
                .extend(api.map(|port| format!("https://{host}:{port}")));
            if let Some(port) = port(Part::Store, |l| l.s3)? {
                known
                    .stores
                    .insert(region.clone(), format!("http://{host}:{port}"));
            }
            if let Some(port) = port(Part::Agent, |l| l.agent)? {
                known
                    .agents
                    .insert(region.clone(), format!("https://{host}:{port}"));
            }
        }
        Ok(known)
    }

    async fn spawn(&self, name: &ProcessName) -> anyhow::Result<ProcessRef> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.files.log(name))?;
        let subcommand = match name.part {
            Part::Coordinator => "coordinator",
            Part::Agent => "agent",
            Part::Store => "dev-s3",
        };
        let mut command = Command::new(&self.plan.regent);
        command
            .arg(subcommand)
            .arg("--config")
            .arg(self.files.config(name));
        command.args(["--die-with", &std::process::id().to_string()]);
        command.stdout(log.try_clone()?).stderr(log);
        if let Some(seed) = self.plan.forgets.filter(|_| name.part == Part::Coordinator) {
            command.env("REGENT_PLANTED_LOG_DISK", format!("drop:{seed}"));
        }
        if let Some(shim) = self.shims.get(name) {
            shim.attach(&mut command);
        }
        let (process, child) = self.spawn_in(command, &name.region).await?;
        self.running().insert(name.clone(), Running { process, child });
        Ok(process)
    }

    /// Starts a program that stands in a region, far from the others; it ends with what is returned.
    pub(crate) async fn spawn_in(
        &self,
        mut command: Command,
        region: &RegionId,
    ) -> anyhow::Result<(ProcessRef, Child)> {
        let at = self.index_of(region)?;
        command.process_group(0).kill_on_drop(true);
        self.plant(&mut command);
        let what = format!("could not start {:?}", command.as_std());
        let child = match &self.between {
            Between::Network(network) => network.spawn(at, command).await.context(what)?,
            Between::Nothing | Between::Relays(_) => command.spawn().context(what)?,
        };
        let process = ProcessRef::of(child.id().context("it ended at once")?)?;
        self.place(process.pid, Place::Region(at));
        Ok((process, child))
    }

    fn plant(&self, command: &mut Command) {
        match self.plan.bug {
            Some(bug) => command.env(planted::VARIABLE, bug.as_str()),
            None => command.env_remove(planted::VARIABLE),
        };
    }

    fn place(&self, pid: u32, place: Place) {
        if let Between::Relays(wan) = &self.between {
            wan.place(pid, place);
        }
    }

    fn index_of(&self, region: &RegionId) -> anyhow::Result<usize> {
        let at = self.plan.regions.iter().position(|r| r == region);
        at.with_context(|| format!("there is no region {region}"))
    }

    /// SIGTERM to a process, and another run of it once it has ended, as it should: by itself and well.
    pub(crate) async fn restart(&self, name: &ProcessName) -> anyhow::Result<()> {
        let one = self.running().remove(name);
        let mut one = one.with_context(|| format!("{name} does not run"))?;
        one.process.terminate()?;
        let ended = timeout(STOP_LIMIT, one.child.wait()).await;
        let status = ended.with_context(|| format!("{name} does not end within {STOP_LIMIT:?}"))??;
        if !status.success() {
            bail!(
                "{name} was asked to stop and ended with {status}; see {}",
                self.files.log(name).display()
            );
        }
        Box::pin(self.spawn(name)).await.map(drop)
    }

    /// The file system of a coordinator, if it has one of its own.
    pub(crate) fn disk(&self, name: &ProcessName) -> Option<&SmallDisk> {
        self.disks.get(name)
    }

    /// What stands before libc in a process, if that was asked for.
    pub(crate) fn shim(&self, name: &ProcessName) -> Option<&Shim> {
        self.shims.get(name)
    }

    /// The regions; the first founded the cluster.
    pub(crate) fn regions(&self) -> &[RegionId] {
        &self.plan.regions
    }

    /// The executable under test.
    pub(crate) fn regent(&self) -> &Path {
        &self.plan.regent
    }

    /// Where everything of it stands.
    pub(crate) fn dir(&self) -> &Path {
        &self.plan.dir
    }

    fn context_file(&self) -> PathBuf {
        self.plan.dir.join("context.toml")
    }

    /// How clients reach it; from this program over no distance.
    pub(crate) fn context(&self) -> anyhow::Result<Context> {
        Ok(Context {
            endpoints: self.known()?.apis,
            tls: self.files.admin(),
            store: Some(self.files.keys()),
            stores: BTreeMap::new(),
        })
    }

    /// A client as the user `admin`.
    pub(crate) fn admin(&self) -> anyhow::Result<Client> {
        Ok(Client::new(self.context()?.client_config())?)
    }

    /// A client as the user `admin` that asks the coordinator of this region first; no answer counts that comes later than `deadline`.
    pub(crate) fn admin_near(&self, region: usize, deadline: Duration) -> anyhow::Result<Client> {
        let mut config = self.context()?.client_config();
        let endpoints = config.endpoints.len().max(1);
        config.endpoints.rotate_left(region % endpoints);
        config.deadline = deadline;
        config.attempt_timeout = deadline / 2;
        Ok(Client::new(config)?)
    }

    /// A client as a region's agent; no answer counts that comes later than `deadline`.
    pub(crate) fn client_as(&self, region: &RegionId, deadline: Duration) -> anyhow::Result<Client> {
        let mut config = self.context()?.client_config();
        config.tls = self.agent_identity(region);
        config.deadline = deadline;
        config.attempt_timeout = deadline / 2;
        Ok(Client::new(config)?)
    }

    /// Waits until every region is healthy with its store, and somebody holds the role.
    pub(crate) async fn wait_ready(&self) -> anyhow::Result<()> {
        let client = self.admin()?;
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let regions = client.list_regions().await.unwrap_or_default();
            let fit = |r: &&types::region::RegionRecord| r.health == Health::Healthy && r.store.is_some();
            let held = client.get_role(&RoleName::global()).await;
            let is_held = held.is_ok_and(|(role, _)| role.holder.is_some());
            if is_held && regions.iter().filter(fit).count() == self.plan.regions.len() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the cluster is not ready after {READY_LIMIT:?}; see {}",
                    self.dir().display()
                );
            }
            sleep(READY_LOOK).await;
        }
    }

    /// The record that a region's store keeps of what it was asked to do.
    pub(crate) fn store_record(&self, region: &RegionId) -> PathBuf {
        let (region, part) = (region.clone(), Part::Store);
        self.files
            .data(&ProcessName { region, part })
            .join("access.jsonl")
    }

    /// Its network of namespaces, if that is what is between its regions.
    pub(crate) const fn network(&self) -> Option<&Network> {
        match &self.between {
            Between::Network(network) => Some(network),
            Between::Nothing | Between::Relays(_) => None,
        }
    }

    /// The identity of a region's agent, for its writers.
    pub(crate) fn agent_identity(&self, region: &RegionId) -> TlsFiles {
        self.files.agent(region)
    }

    /// gRPC of each region's agent. Ports are kept over restarts.
    pub(crate) fn agents(&self) -> anyhow::Result<BTreeMap<RegionId, String>> {
        Ok(self.known()?.agents)
    }

    /// The object store of each region.
    pub(crate) fn stores(&self) -> anyhow::Result<BTreeMap<RegionId, String>> {
        Ok(self.known()?.stores)
    }

    /// Pushes a model directory, and waits for its copies.
    pub(crate) async fn push(&self, name: &str, model: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(&self.plan.regent);
        command.args(["model", "push", "--name", name, "--wait-copies", "all"]);
        command.arg("--context").arg(self.context_file()).arg(model);
        self.plant(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.kill_on_drop(true).spawn()?;
        self.place(child.id().context("it ended at once")?, Place::Everywhere);
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("pushing {} failed: {why}", model.display());
        }
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<ProcessName, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_of(&self, name: &ProcessName) -> Option<ProcessRef> {
        let process = self.running().get(name).map(|r| r.process);
        process.filter(ProcessRef::is_alive)
    }

    /// SIGTERM to all of them, agents first, so that they can say goodbye.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let mut running = std::mem::take(&mut *self.running());
        for part in [Part::Agent, Part::Coordinator, Part::Store] {
            let of_part: Vec<_> = running.extract_if(.., |name, _| name.part == part).collect();
            for (_, one) in of_part.iter().filter(|(_, one)| one.process.is_alive()) {
                one.process.terminate()?;
            }
            for (name, mut one) in of_part {
                let ended = timeout(STOP_LIMIT, one.child.wait()).await;
                ended.with_context(|| format!("{name} does not end within {STOP_LIMIT:?}"))??;
            }
        }
        match self.between {
            Between::Nothing => {}
            Between::Relays(wan) => wan.close().await,
            Between::Network(network) => network.close().await,
        }
        Ok(())
    }
}

/// One for each coordinator.
fn disks(plan: &Plan, files: &Files) -> anyhow::Result<BTreeMap<ProcessName, SmallDisk>> {
    let one = |region: &RegionId| {
        let name = ProcessName {
            region: region.clone(),
            part: Part::Coordinator,
        };
        let disk = SmallDisk::mount(&files.data(&name))?;
        Ok((name, disk))
    };
    plan.regions.iter().map(one).collect()
}

/// One for each process whose clocks and syncs matter.
fn shims(plan: &Plan) -> anyhow::Result<BTreeMap<ProcessName, Shim>> {
    let dir = plan.dir.join("shims");
    let names = plan.regions.iter().flat_map(|region| {
        [Part::Coordinator, Part::Agent].map(|part| ProcessName {
            region: region.clone(),
            part,
        })
    });
    names
        .map(|name| Shim::new(&dir, &name).map(|shim| (name, shim)))
        .collect()
}

/// The address by which others know the processes of a region: one of this machine's own, and another in each run, so that
/// two runs do not meet.
fn relay_host(region: usize) -> Ipv4Addr {
    let [run, ..] = std::process::id().to_le_bytes();
    let [region, ..] = region.to_le_bytes();
    Ipv4Addr::new(127, 77, run, region.saturating_add(1))
}

impl Processes for &World {
    fn running(&self) -> Vec<Run> {
        let running = World::running(self);
        let alive = running.iter().filter(|(_, one)| one.process.is_alive());
        alive
            .map(|(name, one)| Run {
                name: name.clone(),
                process: one.process,
            })
            .collect()
    }

    async fn start(&self, name: &ProcessName) -> Result<ProcessRef, ChaosError> {
        if let Some(process) = self.run_of(name) {
            return Ok(process);
        }
        Box::pin(self.spawn(name))
            .await
            .map_err(|error| ChaosError::Start {
                name: name.clone(),
                why: format!("{error:#}"),
            })
    }
}
