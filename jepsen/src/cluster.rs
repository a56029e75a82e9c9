//! `regent dev` as the system under test: built if need be, started, asked, stopped.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use chaos::ProcessRef;
use client::{Client, Context, TlsFiles};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use types::{
    RegionId, RoleName,
    region::{Health, NodeKind},
};

/// Regions of the cluster.
const REGIONS: usize = 3;
/// How long it may take until every region is healthy and somebody holds the role.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// How long it may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// How the executable under test is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// As people get it.
    Release,
    /// With what tests plant, which no release has.
    WithDebugAssertions,
}

/// Builds the executable of this checkout, and says where it is.
pub(crate) async fn build(build: Build) -> anyhow::Result<PathBuf> {
    let (profile, folder) = match build {
        Build::Release => ("release", "release"),
        Build::WithDebugAssertions => ("dev", "debug"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--profile", profile, "-p", "cli"])
        .current_dir(root)
        .status()
        .await?;
    if !status.success() {
        bail!("regent could not be built: {status}");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(root.join(target).join(folder).join("regent"))
}

/// A cluster in a directory.
#[derive(Debug)]
pub(crate) struct Cluster {
    regent: PathBuf,
    dir: PathBuf,
    child: Child,
}

impl Cluster {
    /// Starts it and waits until it is fit for use.
    pub(crate) async fn start(regent: &Path, dir: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(dir.join("dev.log"))?;
        let child = Command::new(regent)
            .args(["dev", "--timing", "fast", "--regions"])
            .arg(REGIONS.to_string())
            .arg("--dir")
            .arg(dir.join("cluster"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not start {}", regent.display()))?;
        let mut cluster = Self {
            regent: regent.to_owned(),
            dir: dir.join("cluster"),
            child,
        };
        cluster.wait_ready(dir).await?;
        Ok(cluster)
    }

    async fn wait_ready(&mut self, dir: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "`regent dev` ended ({status}); see {}",
                    dir.join("dev.log").display()
                );
            }
            if self.is_ready().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the cluster is not ready after {READY_LIMIT:?}; see {}",
                    dir.join("dev.log").display()
                );
            }
            sleep(LOOK).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let Ok(client) = self.admin() else {
            return false;
        };
        let regions = client.list_regions().await.unwrap_or_default();
        let healthy = regions
            .iter()
            .filter(|r| r.health == Health::Healthy && r.store.is_some());
        let held = client.get_role(&RoleName::global()).await;
        healthy.count() == REGIONS && held.is_ok_and(|(role, _)| role.holder.is_some())
    }

    /// Where everything of it stands.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The executable under test.
    pub(crate) fn regent(&self) -> &Path {
        &self.regent
    }

    /// How clients reach it.
    pub(crate) fn context(&self) -> anyhow::Result<Context> {
        Ok(Context::load(&self.dir.join("context.toml"))?)
    }

    /// A client as the user `admin`.
    pub(crate) fn admin(&self) -> anyhow::Result<Client> {
        let mut config = self.context()?.client_config();
        config.deadline = Duration::from_secs(5);
        Ok(Client::new(config)?)
    }

    /// The identity of a region's agent, for its writers.
    pub(crate) fn agent_identity(&self, region: &RegionId) -> TlsFiles {
        let certs = self.dir.join("certs");
        TlsFiles {
            ca_file: certs.join("ca.pem"),
            cert_file: certs.join(format!("{region}-agent.pem")),
            key_file: certs.join(format!("{region}-agent.key")),
        }
    }

    /// How many regions there are.
    pub(crate) const fn regions(&self) -> usize {
        REGIONS
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

    /// gRPC of each region's agent. Ports are kept over restarts.
    pub(crate) async fn agents(&self) -> anyhow::Result<Vec<(RegionId, String)>> {
        let nodes = self.admin()?.list_nodes(None).await?;
        let agents = nodes.into_iter().filter(|n| n.kind == NodeKind::Agent);
        Ok(agents.map(|n| (n.region, n.endpoints.agent)).collect())
    }

    /// Where `regent dev` keeps the list of its processes.
    pub(crate) fn roster(&self) -> PathBuf {
        self.dir.join("processes.json")
    }

    /// Pushes a model directory, and waits for its copies.
    pub(crate) async fn push(&self, name: &str, model: &Path) -> anyhow::Result<()> {
        let output = Command::new(&self.regent)
            .args([
                "model",
                "push",
                "--name",
                name,
                "--wait-copies",
                "all",
                "--context",
            ])
            .arg(self.dir.join("context.toml"))
            .arg(model)
            .output()
            .await?;
        if !output.status.success() {
            bail!(
                "pushing {} failed: {}",
                model.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// SIGTERM, as ctrl-c would be.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id() {
            ProcessRef::of(pid)?.terminate()?;
        }
        timeout(STOP_LIMIT, self.child.wait())
            .await
            .with_context(|| format!("`regent dev` does not end within {STOP_LIMIT:?}"))??;
        Ok(())
    }
}
