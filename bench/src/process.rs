//! A server as a child process: its log, what it has cost, its end.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::machine::{kib_of, stat_field};

/// Ticks of `/proc/PID/stat` in a second: what user space sees of the clock, the same on every Linux port of Rust.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a server may take to end in order.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Server {
    /// Starts it with the priority of this process; its output goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
        let pid = child.id().context("the server has ended at once")?;
        let log = log.to_owned();
        Ok(Self { child, pid, log })
    }

    /// An error with the end of its log if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!(
            "a server ended with {status}; the end of its log:\n{}",
            last.join("\n")
        )
    }

    /// CPU time of all of its threads so far, in seconds, in user space and in the kernel.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.proc("stat")?;
        let ticks = stat_field(&stat, 14).zip(stat_field(&stat, 15));
        let (user, system) = ticks.context("/proc/PID/stat is not as proc(5) says")?;
        #[expect(clippy::cast_precision_loss, reason = "ticks of minutes")]
        let ticks = (user + system) as f64;
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// Resident memory now, in MiB.
    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        #[expect(clippy::cast_precision_loss, reason = "KiB of one process")]
        let kib = kib_of(&self.proc("status")?, "VmRSS") as f64;
        Ok(kib / 1024.0)
    }

    /// The most memory that was resident at once so far, in MiB.
    pub fn peak_mib(&self) -> anyhow::Result<f64> {
        #[expect(clippy::cast_precision_loss, reason = "KiB of one process")]
        let kib = kib_of(&self.proc("status")?, "VmHWM") as f64;
        Ok(kib / 1024.0)
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    /// Asks it to end and waits; after ten seconds it is killed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // An error says that it has ended.
        let _ = kill_process(pid.context("a process id")?, Signal::TERM);
        if timeout(ENDS_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    /// Ends it as a loss of power would, as far as a process can: without a word.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// CPU seconds of all of them.
pub fn cpu_seconds(servers: &[Server]) -> anyhow::Result<f64> {
    servers.iter().map(Server::cpu_seconds).sum()
}

/// MiB of all of them.
pub fn resident_mib(servers: &[Server]) -> anyhow::Result<f64> {
    servers.iter().map(Server::resident_mib).sum()
}
