//! The fault vocabulary that `regent dev`, the demo and jepsen share: what can be done to a cluster's processes, and
//! the proof that it was done.
//!
//! Reading order: [`fault`] (plain descriptions that stand in logs and schedules), [`process`] (one run of one process,
//! and what the kernel says about it), `signal` (what is done to it), [`execute`] (install, prove, heal, prove again), [`roster`] (the processes of a
//! cluster as a file that others read); apart from those, [`link`] (what a packet meets on its way; pure) and [`wan`] (round trips between processes of one machine).
//!
//! Absent on purpose: choosing faults (the callers' schedules do), any fault of disks, and of networks all but
//! distance (they come with their own tests).
//! Invariant: no signal ever goes to a process that is not the very run that was named: the start time is compared
//! after the kernel has pinned the process, so a pid that was used again is left alone.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod error;
pub mod execute;
pub mod fault;
pub mod link;
pub mod process;
pub mod roster;
mod signal;
pub mod wan;

pub use error::ChaosError;
pub use execute::{Injector, Installed, Processes, Proof, Run};
pub use fault::{Fault, Part, ProcessName, Target};
pub use process::{ProcessRef, ProcessState};
pub use roster::Roster;
pub use wan::{Distances, Place, Wan};

#[cfg(test)]
mod tests;
