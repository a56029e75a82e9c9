//! The executable under test, built if need be; and `regent dev`, for whoever needs a cluster founded and stopped.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use chaos::ProcessRef;
use client::{Client, Context};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use types::{RoleName, region::Health};

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
    /// With bugs to choose from besides (`types::planted`).
    WithBugs,
}

/// Builds the executable of this checkout, and says where it is.
pub(crate) async fn build(build: Build) -> anyhow::Result<PathBuf> {
    let (arguments, folder): (&[&str], _) = match build {
        Build::Release => (&["--profile", "release"], "release"),
        Build::WithDebugAssertions => (&["--profile", "dev"], "debug"),
        Build::WithBugs => (&["--profile", "planted", "--features", "planted"], "planted"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("no workspace")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "-p", "cli"])
        .args(arguments)
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

    /// How clients reach it.
    pub(crate) fn context(&self) -> anyhow::Result<Context> {
        Ok(Context::load(&self.dir.join("context.toml"))?)
    }

    fn admin(&self) -> anyhow::Result<Client> {
        let mut config = self.context()?.client_config();
        config.deadline = Duration::from_secs(5);
        Ok(Client::new(config)?)
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
