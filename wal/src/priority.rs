//! The writer's thread goes first, where the system lets it.
//!
//! A thread that sleeps in `fdatasync` on a busy machine waits for the scheduler's next tick when it wakes, 4 ms instead of
//! a tenth of one. A higher priority shortens that. It needs the right to it (CAP_SYS_NICE, or a limit on nice that allows it);
//! without, everything works as it does, slower under load.

use rustix::process::setpriority_process;

/// What the writer asks for: well above everything ordinary, below what the system keeps for itself.
const NICE: i32 = -15;

/// Raises the priority of the calling thread: on Linux nice values belong to threads.
pub(crate) fn raise() {
    // Refused is the ordinary case, and nothing depends on it.
    let _ = setpriority_process(None, NICE);
}
