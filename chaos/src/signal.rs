//! What is done to a run: signals that reach no other one, and the wait until the kernel says that they took hold.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{io::Interest, io::unix::AsyncFd, time::Instant};

use crate::{
    error::ChaosError,
    process::{ProcessRef, ProcessState},
};

/// How often `/proc` is read while a state is awaited that the kernel announces to nobody.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

impl ProcessRef {
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
