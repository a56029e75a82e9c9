//! The coordinators of a cluster as processes of ours: started, killed all at once, and asked what their disks lost.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use chaos::{ProcessRef, ProcessState};
use client::Context;
use tokio::process::{Child, Command};

use super::Unsynced;
use crate::cluster::Cluster;

/// What a log says when it finds that its last write was cut short.
const CUT: &str = "the log ended in a write that a crash cut short";

/// Bytes that a kill loses, and un-synced ones that it does not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AtRisk {
    pub(super) lost: u64,
    pub(super) kept: u64,
}

/// One coordinator.
struct Node {
    config: PathBuf,
    log: PathBuf,
    /// Where its disk says what a kill would lose.
    record: PathBuf,
    child: Option<Child>,
}

/// All of them.
pub(super) struct Nodes {
    regent: PathBuf,
    nodes: Vec<Node>,
}

impl Nodes {
    /// Founds a cluster below `dir`, and stops it again. Snapshots are taken every so many entries.
    pub(super) async fn found(
        regent: &Path,
        dir: &Path,
        snapshot_after: u64,
    ) -> anyhow::Result<(Self, Context)> {
        let cluster = Cluster::start(regent, dir).await?;
        let (context, root) = (cluster.context()?, cluster.dir().to_owned());
        cluster.stop().await?;
        let mut nodes = Vec::new();
        for region in fs::read_dir(root.join("regions"))? {
            nodes.push(node(&region?.path().join("coordinator"), snapshot_after)?);
        }
        nodes.sort_by(|a, b| a.config.cmp(&b.config));
        let regent = regent.to_owned();
        Ok((Self { regent, nodes }, context))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Starts all of them, on disks that treat un-synced bytes like this.
    pub(super) fn start(&mut self, unsynced: Unsynced, seed: u64) -> anyhow::Result<()> {
        for (n, node) in (0_u64..).zip(&mut self.nodes) {
            // What an earlier run said is not what this one says.
            let _ = fs::remove_file(&node.record);
            let log = OpenOptions::new().create(true).append(true).open(&node.log)?;
            let mut command = Command::new(&self.regent);
            command.arg("coordinator").arg("--config").arg(&node.config);
            command.args(["--die-with", &std::process::id().to_string()]);
            let seed = seed.wrapping_add(n);
            match unsynced {
                Unsynced::Kept => {}
                Unsynced::Dropped => drop(command.env("REGENT_PLANTED_LOG_DISK", format!("drop:{seed}"))),
                Unsynced::Torn => drop(command.env("REGENT_PLANTED_LOG_DISK", format!("tear:{seed}"))),
            }
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            node.child = Some(command.kill_on_drop(true).spawn()?);
        }
        Ok(())
    }

    /// SIGKILL to all, one right after the other in this order. An error names one that had ended by itself.
    pub(super) async fn kill(&mut self, order: &[usize]) -> anyhow::Result<()> {
        for n in order {
            let node = self.nodes.get_mut(*n).context("no such node")?;
            let child = node.child.as_mut().context("it was not started")?;
            if let Some(status) = child.try_wait()? {
                bail!(
                    "a coordinator ended by itself ({status}); see {}",
                    node.log.display()
                );
            }
            child.start_kill()?;
        }
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                child.wait().await?;
            }
        }
        Ok(())
    }

    /// Stops all of them (SIGSTOP) in the middle of whatever they do.
    pub(super) async fn freeze(&self) -> anyhow::Result<()> {
        let all: Vec<ProcessRef> = self.processes()?;
        all.iter().try_for_each(ProcessRef::pause)?;
        while all.iter().any(|process| process.state() == ProcessState::Running) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Lets them go on.
    pub(super) fn thaw(&self) -> anyhow::Result<()> {
        Ok(self.processes()?.iter().try_for_each(ProcessRef::resume)?)
    }

    fn processes(&self) -> anyhow::Result<Vec<ProcessRef>> {
        let one = |node: &Node| {
            let pid = node.child.as_ref().and_then(Child::id);
            let pid = pid.with_context(|| format!("it does not run; see {}", node.log.display()))?;
            Ok(ProcessRef::of(pid)?)
        };
        self.nodes.iter().map(one).collect()
    }

    /// What all disks together would lose now, or lost at the kill. An error where they are not of the kind that loses.
    pub(super) fn at_risk(&self) -> anyhow::Result<AtRisk> {
        let mut sum = AtRisk::default();
        for node in &self.nodes {
            let one = node.at_risk()?;
            sum.lost += one.lost;
            sum.kept += one.kept;
        }
        Ok(sum)
    }

    /// Torn tails that logs said they had cut, so far.
    pub(super) fn tails_cut(&self) -> anyhow::Result<usize> {
        let mut cut = 0;
        for node in &self.nodes {
            let text = fs::read(&node.log)?;
            cut += String::from_utf8_lossy(&text).matches(CUT).count();
        }
        Ok(cut)
    }
}

impl Node {
    fn at_risk(&self) -> anyhow::Result<AtRisk> {
        let bytes = fs::read(&self.record).with_context(|| {
            format!(
                "{} is not there: this executable has no disk that loses anything; build it with debug assertions",
                self.record.display()
            )
        })?;
        let (lost, kept) = bytes.split_at_checked(8).context("the record is cut")?;
        Ok(AtRisk {
            lost: u64::from_le_bytes(lost.try_into()?),
            kept: u64::from_le_bytes(kept.try_into()?),
        })
    }
}

/// The config that `regent dev` wrote, with snapshots so often that logs are purged between the crashes.
fn node(dir: &Path, snapshot_after: u64) -> anyhow::Result<Node> {
    let text = fs::read_to_string(dir.join("config.toml"))?;
    let mut table: toml::Table = text.parse()?;
    let raft = table.entry("raft").or_insert_with(|| toml::Table::new().into());
    let raft = raft.as_table_mut().context("raft is no table")?;
    raft.insert("snapshot_after".to_owned(), i64::try_from(snapshot_after)?.into());
    raft.insert("logs_kept".to_owned(), i64::try_from(snapshot_after / 4)?.into());
    let data: PathBuf = table
        .get("data_dir")
        .and_then(|d| d.as_str())
        .context("data_dir is missing")?
        .into();
    let config = dir.join("crash.toml");
    fs::write(&config, table.to_string())?;
    let log = dir.join("crash.log");
    File::create(&log)?;
    Ok(Node {
        config,
        log,
        record: data.join("unsynced"),
        child: None,
    })
}
