//! What coordinators have had resident, as the kernel counts it.
//!
//! A process's peak ends with it: it is read when the cluster has formed, just before each act, and at the end, so that
//! also the one that an act kills was seen at its largest.

use super::stage::Stage;
use crate::error::Failure;

/// The most that each coordinator has had resident so far, in bytes; one that does not run has no entry.
pub(super) fn of_coordinators(stage: &Stage) -> Result<Vec<u64>, Failure> {
    let mut bytes = Vec::new();
    for region in stage.cluster.regions() {
        let run = stage.cluster.region(region)?.coordinator.run;
        let status = run.and_then(|run| std::fs::read_to_string(format!("/proc/{}/status", run.pid)).ok());
        bytes.extend(status.as_deref().and_then(peak));
    }
    Ok(bytes)
}

/// `VmHWM` of a `/proc/PID/status`, in bytes: the peak, because a moment's look may miss it.
fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
