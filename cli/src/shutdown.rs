//! When a process shall end: ctrl-c, SIGTERM, or the end of the parent that started it.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::Failure;

/// A token that ctrl-c and SIGTERM cancel. A second signal changes nothing: the drain has a bound of its own,
/// also where the log's disk is full.
pub(crate) fn on_signal() -> Result<CancellationToken, Failure> {
    let failed = |e: std::io::Error| Failure::other(format!("could not listen for signals: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    // Lives as long as the process: there is no end of signals to wait for.
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancel.cancel();
    });
    Ok(token)
}

/// Asks the kernel to kill this process when the parent's thread that started it ends, and makes sure that it has not
/// ended already: the order leaves no moment in which the parent could vanish unseen.
pub(crate) fn die_with(parent: u32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| Failure::other(format!("could not set the parent-death signal: {e}")))?;
    let now = getppid()
        .map(Pid::as_raw_nonzero)
        .and_then(|pid| u32::try_from(pid.get()).ok());
    if now == Some(parent) {
        Ok(())
    } else {
        Err(Failure::other(format!("the parent process {parent} has ended")))
    }
}
