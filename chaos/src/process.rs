//! One run of one process: who it is beyond its pid, what the kernel says about it, and signals that reach no other.

use std::{fmt, io, os::fd::OwnedFd, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::{io::Interest, io::unix::AsyncFd, time::Instant};

use crate::error::ChaosError;

/// How often `/proc` is read while a state is awaited that the kernel announces to nobody.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// One run of a process. A pid comes round again; pid and start time together do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRef {
    /// The process id.
    pub pid: u32,
    /// Start time in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
}

/// What a process does now, by `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// It runs, sleeps or waits for a disk.
    Running,
    /// Stopped by a signal: it executes nothing until SIGCONT.
    Stopped,
    /// It has ended (a zombie executes nothing any more), or its pid is another process's by now.
    Gone,
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProcessState::Running => "running",
            ProcessState::Stopped => "stopped",
            ProcessState::Gone => "gone",
        })
    }
}

impl fmt::Display for ProcessRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

impl ProcessRef {
    /// The run that has this pid now. Only for a pid that cannot be used again meanwhile: the caller's own, or that of
    /// a child that has not been waited for.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = read_stat(pid)?;
        Ok(Self {
            pid,
            start_ticks: stat.start_ticks,
        })
    }

    /// What this run does now.
    pub fn state(&self) -> ProcessState {
        match read_stat(self.pid) {
            Ok(stat) if stat.start_ticks == self.start_ticks => stat.state,
            Ok(_) | Err(_) => ProcessState::Gone,
        }
    }

    /// Whether it executes, or could after SIGCONT.
    pub fn is_alive(&self) -> bool {
        self.state() != ProcessState::Gone
    }

    /// SIGKILL. A run that is gone already is an error.
    pub fn kill(&self) -> Result<(), ChaosError> {
        self.signal(Signal::KILL, "SIGKILL")
    }
    /// SIGTERM: asks it to drain and end.
    pub fn terminate(&self) -> Result<(), ChaosError> {
        self.signal(Signal::TERM, "SIGTERM")
    }
    /// SIGSTOP.
    pub fn pause(&self) -> Result<(), ChaosError> {
        self.signal(Signal::STOP, "SIGSTOP")
    }
    /// SIGCONT.
    pub fn resume(&self) -> Result<(), ChaosError> {
        self.signal(Signal::CONT, "SIGCONT")
    }

    fn signal(&self, signal: Signal, name: &'static str) -> Result<(), ChaosError> {
        let send = || {
            let pinned = self.pin()?;
            pidfd_send_signal(&pinned, signal).map_err(io::Error::from)
        };
        send().map_err(|source| ChaosError::Signal {
            signal: name,
            process: *self,
            source,
        })
    }

    /// A descriptor that stays with this run. The start time is compared after the descriptor exists: from then on
    /// the pid cannot come to mean another process.
    fn pin(&self) -> io::Result<OwnedFd> {
        let no_such = || io::Error::from(io::ErrorKind::NotFound);
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pinned = pidfd_open(pid.ok_or_else(no_such)?, PidfdFlags::empty())?;
        if self.is_alive() {
            Ok(pinned)
        } else {
            Err(no_such())
        }
    }

    /// Waits until it has ended; the kernel tells, nothing polls.
    pub async fn wait_gone(&self, limit: Duration) -> Result<(), ChaosError> {
        let Ok(pinned) = self.pin() else {
            return Ok(());
        };
        match tokio::time::timeout(limit, readable(pinned)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) if !self.is_alive() => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.not_proved("gone", limit)),
        }
    }

    /// Waits until SIGSTOP has taken hold.
    pub async fn wait_stopped(&self, limit: Duration) -> Result<(), ChaosError> {
        self.wait_state("stopped", limit, |s| s == ProcessState::Stopped)
            .await
    }

    /// Waits until it runs: after SIGCONT, or after its start.
    pub async fn wait_running(&self, limit: Duration) -> Result<(), ChaosError> {
        self.wait_state("running", limit, |s| s == ProcessState::Running)
            .await
    }

    async fn wait_state(
        &self,
        expected: &'static str,
        limit: Duration,
        reached: impl Fn(ProcessState) -> bool,
    ) -> Result<(), ChaosError> {
        let deadline = Instant::now() + limit;
        while !reached(self.state()) {
            if Instant::now() >= deadline || !self.is_alive() {
                return Err(self.not_proved(expected, limit));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    fn not_proved(&self, expected: &'static str, waited: Duration) -> ChaosError {
        ChaosError::NotProved {
            process: *self,
            expected,
            seen: self.state().to_string(),
            waited,
        }
    }
}

/// A process's descriptor becomes readable when it ends.
#[expect(
    deprecated,
    reason = "what took its place is unsafe; an OwnedFd keeps its number until it is dropped, which is all that is asked"
)]
async fn readable(pinned: OwnedFd) -> io::Result<()> {
    let watched = AsyncFd::with_interest(pinned, Interest::READABLE)?;
    watched.readable().await.map(drop)
}

pub(crate) struct Stat {
    pub(crate) state: ProcessState,
    pub(crate) start_ticks: u64,
}

fn read_stat(pid: u32) -> io::Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The name of the program stands in parentheses and may hold anything, also parentheses and spaces; what counts
/// begins after the last one.
pub(crate) fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields 20 and 22 of the file; the pid and the name came before.
    let threads: u32 = fields.get(17)?.parse().ok()?;
    let start_ticks = fields.get(19)?.parse().ok()?;
    let state = match *fields.first()? {
        "T" | "t" => ProcessState::Stopped,
        // The first thread is a zombie as soon as it has ended; the others may still hold ports and locks.
        "Z" | "X" | "x" if threads <= 1 => ProcessState::Gone,
        _ => ProcessState::Running,
    };
    Some(Stat { state, start_ticks })
}
