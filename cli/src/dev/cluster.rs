//! A whole cluster on this machine, as processes of this executable: `dev` runs one until ctrl-c, the demo hurts one.
//!
//! Absent on purpose: restarting what died (see `supervise`), and any talk to the cluster but the wait until it is
//! ready. Invariant: at most one run of each process, and none that outlives this value.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chaos::{ChaosError, Part, ProcessName, ProcessRef, Processes, Roster, Run, roster::Entry};
use client::context::StoreCredentials;
use tokio::time::Instant;
use types::RegionId;

use crate::{
    dev::{
        certs::{self, Certs},
        credentials, drain,
        files::{self, Access},
        layout::Layout,
        listen::{Listen, POLL_INTERVAL},
        lock::DirLock,
        ready, sockets,
        spawn::{Launch, Running, Spawner},
        spec::ClusterSpec,
    },
    error::Failure,
};

/// How long a process may take from its start to its `listen.json`.
const LISTEN_LIMIT: Duration = Duration::from_secs(30);
/// Lines of a log that stand in an error.
const LOG_LINES: usize = 12;

/// What may differ between `dev`, the demo and tests.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The executable whose subcommands are started.
    pub(crate) exe: PathBuf,
}

impl Options {
    /// This executable.
    pub(crate) fn current() -> Result<Self, Failure> {
        let exe = std::env::current_exe()
            .map_err(|e| Failure::other(format!("could not find the own executable: {e}")))?;
        Ok(Self { exe })
    }
}

/// A cluster on this machine. Cheap to clone; the processes end with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct DevCluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    spec: ClusterSpec,
    certs: Certs,
    store: StoreCredentials,
    options: Options,
    running: Mutex<BTreeMap<ProcessName, Running>>,
    /// The turn to start a process, and to write the files of the whole cluster.
    writing: tokio::sync::Mutex<()>,
    // Fields drop in order: the processes end before the lock is given back.
    spawner: Spawner,
    _lock: DirLock,
}

impl DevCluster {
    /// A new cluster in `dir`, which must not hold one; nothing runs yet.
    pub(crate) async fn create(dir: &Path, spec: ClusterSpec, options: Options) -> Result<Self, Failure> {
        let layout = open_dir(dir)?;
        let lock = DirLock::take(&layout).await?;
        if ClusterSpec::read(&layout)?.is_some() {
            return Err(Failure::other(format!(
                "{} holds a cluster already",
                layout.root().display()
            )));
        }
        spec.write(&layout)?;
        Self::with_lock(layout, spec, options, lock)
    }

    /// The cluster that `dir` holds, or a new one of `fresh`; nothing runs yet.
    pub(crate) async fn open(dir: &Path, fresh: ClusterSpec, options: Options) -> Result<Self, Failure> {
        let layout = open_dir(dir)?;
        let lock = DirLock::take(&layout).await?;
        let spec = match ClusterSpec::read(&layout)? {
            Some(spec) => spec,
            None => {
                fresh.write(&layout)?;
                fresh
            }
        };
        Self::with_lock(layout, spec, options, lock)
    }

    fn with_lock(
        layout: Layout,
        spec: ClusterSpec,
        options: Options,
        lock: DirLock,
    ) -> Result<Self, Failure> {
        let certs = certs::issue(&layout, &spec.regions)?;
        let store = credentials::issue(&layout)?;
        let inner = Inner {
            layout,
            spec,
            certs,
            store,
            options,
            running: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            spawner: Spawner::new()?,
            _lock: lock,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The regions; the first one bootstrapped the cluster.
    pub(crate) fn regions(&self) -> &[RegionId] {
        &self.inner.spec.regions
    }
    /// What it is made of.
    pub(super) fn spec(&self) -> &ClusterSpec {
        &self.inner.spec
    }
    /// Where its files stand.
    pub(crate) fn layout(&self) -> &Layout {
        &self.inner.layout
    }
    /// The executable whose subcommands are its processes.
    pub(super) fn exe(&self) -> &Path {
        &self.inner.options.exe
    }
    /// Its certificates.
    pub(crate) fn certs(&self) -> &Certs {
        &self.inner.certs
    }
    /// The key pair of its object stores.
    pub(crate) fn store_credentials(&self) -> &StoreCredentials {
        &self.inner.store
    }
    /// Waits until every region is registered and healthy and somebody holds `primaries/global`.
    pub(crate) async fn wait_ready(&self, limit: Duration) -> Result<(), Failure> {
        let client = client::Client::new(self.context()?.client_config())?;
        ready::wait_ready(&client, self.regions(), limit).await
    }

    /// Starts what does not run of a region.
    pub(crate) async fn start_region(&self, region: &RegionId) -> Result<(), Failure> {
        for part in Part::ALL {
            self.start(&name(region, part)).await?;
        }
        Ok(())
    }

    /// Starts one process and waits until it listens. A process that runs is left alone.
    pub(crate) async fn start(&self, name: &ProcessName) -> Result<ProcessRef, Failure> {
        if let Some(run) = self.run_of(name) {
            return Ok(run);
        }
        let running = self.spawn(name).await?;
        self.wait_listening(name, &running).await?;
        let _turn = self.inner.writing.lock().await;
        self.write_context()?;
        Ok(running.process)
    }

    /// One start at a time, so that two callers never make two runs of one process.
    async fn spawn(&self, name: &ProcessName) -> Result<Running, Failure> {
        let _turn = self.inner.writing.lock().await;
        if let Some(running) = self.running().get(name).filter(|r| r.exit_status().is_none()) {
            return Ok(running.clone());
        }
        self.write_config(name)?;
        let running = self.inner.spawner.start(name, self.launch(name)).await?;
        self.running().insert(name.clone(), running.clone());
        self.replace_roster()?;
        Ok(running)
    }

    /// Carries faults out on this cluster's processes.
    pub(crate) fn injector(&self) -> chaos::Injector<DevCluster> {
        chaos::Injector::new(self.clone())
    }

    /// Every process, whether it runs or not.
    pub(crate) fn names(&self) -> Vec<ProcessName> {
        let of_region = |region: &RegionId| Part::ALL.map(|part| name(region, part));
        self.regions().iter().flat_map(of_region).collect()
    }

    /// Waits until a process that was started has ended; at once if it does not run.
    pub(crate) async fn ended(&self, name: &ProcessName) -> Option<ExitStatus> {
        let running = self.running().get(name).cloned();
        match running {
            Some(running) => running.ended().await,
            None => None,
        }
    }

    /// The last lines that a process wrote.
    pub(crate) fn log_tail(&self, name: &ProcessName) -> String {
        files::tail(&self.layout().log(name), LOG_LINES)
    }

    /// Ends all of them within some seconds. Agents go first, so that they can say goodbye.
    pub(crate) async fn stop_all(&self) -> Result<(), Failure> {
        let began = Instant::now();
        for part in [Part::Agent, Part::Coordinator, Part::Store] {
            drain::stop(&self.running_of(part), began).await;
        }
        self.write_roster().await
    }

    fn running_of(&self, part: Part) -> Vec<(ProcessName, Running)> {
        let running = self.running();
        let of_part = running.iter().filter(|(name, _)| name.part == part);
        of_part.map(|(name, run)| (name.clone(), run.clone())).collect()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<ProcessName, Running>> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn run_of(&self, name: &ProcessName) -> Option<ProcessRef> {
        let running = self.running();
        running
            .get(name)
            .filter(|r| r.exit_status().is_none())
            .map(|r| r.process)
            .filter(ProcessRef::is_alive)
    }

    pub(super) fn listen(&self, name: &ProcessName) -> Result<Listen, Failure> {
        Ok(Listen::read(&self.layout().listen(name))?.unwrap_or_default())
    }

    fn launch(&self, name: &ProcessName) -> Launch {
        Launch {
            exe: self.inner.options.exe.clone(),
            subcommand: match name.part {
                Part::Coordinator => "coordinator",
                Part::Agent => "agent",
                Part::Store => "dev-s3",
            },
            config: self.layout().config(name),
            log: self.layout().log(name),
        }
    }

    /// Whoever hurts processes by this file must not meet strangers: what has ended is not in it.
    pub(super) async fn write_roster(&self) -> Result<(), Failure> {
        let _turn = self.inner.writing.lock().await;
        self.replace_roster()
    }

    /// For whoever has the turn: an older roster never comes after a newer one.
    fn replace_roster(&self) -> Result<(), Failure> {
        let running = self.running();
        let entry = |(name, running): (&ProcessName, &Running)| Entry {
            name: name.clone(),
            run: running.process,
        };
        let roster = Roster {
            processes: running
                .iter()
                .filter(|(_, running)| running.exit_status().is_none())
                .map(entry)
                .collect(),
        };
        drop(running);
        let text = serde_json::to_vec_pretty(&roster).map_err(Failure::other)?;
        files::write(&self.layout().roster(), &text, Access::Public)
    }

    /// Waits until the process listens where its `listen.json` says. That it is this process and no stranger on a kept
    /// port is read from the kernel.
    async fn wait_listening(&self, name: &ProcessName, running: &Running) -> Result<(), Failure> {
        let listening = async {
            loop {
                let address = Listen::read(&self.layout().listen(name))?.and_then(|l| l.main(name.part));
                match address {
                    Some(address) if sockets::listens(running.process.pid, address.port()) => return Ok(()),
                    Some(_) | None => tokio::time::sleep(POLL_INTERVAL).await,
                }
            }
        };
        tokio::select! {
            biased;
            listening = listening => listening,
            _ = running.ended() => Err(self.start_failed(name, "ended")),
            () = tokio::time::sleep(LISTEN_LIMIT) => Err(self.start_failed(name, "does not listen")),
        }
    }

    fn start_failed(&self, name: &ProcessName, what: &str) -> Failure {
        let log = self.layout().log(name);
        Failure::other(format!(
            "{name} {what} after its start; the end of {}:",
            log.display()
        ))
        .remedy(self.log_tail(name).replace('\n', "\n  "))
    }
}

impl Processes for DevCluster {
    fn running(&self) -> Vec<Run> {
        let named = self.names().into_iter();
        named
            .filter_map(|name| {
                let process = self.run_of(&name)?;
                Some(Run { name, process })
            })
            .collect()
    }

    async fn start(&self, name: &ProcessName) -> Result<ProcessRef, ChaosError> {
        let started = DevCluster::start(self, name).await;
        started.map_err(|failure| ChaosError::Start {
            name: name.clone(),
            why: failure.to_string(),
        })
    }
}

pub(super) fn name(region: &RegionId, part: Part) -> ProcessName {
    ProcessName {
        region: region.clone(),
        part,
    }
}

fn open_dir(dir: &Path) -> Result<Layout, Failure> {
    let layout = Layout::new(dir).map_err(|e| Failure::file("use the directory", dir, e))?;
    files::make_dir(layout.root())
        .map_err(|f| f.remedy("name a directory that you may write to with --dir"))?;
    Ok(layout)
}
