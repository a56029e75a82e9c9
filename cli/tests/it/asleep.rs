//! Processes that are stopped in the middle of things.

use chaos::{ProcessRef, ProcessState};
use rustix::process::Signal;

use crate::{dev::Dev, harness::until};

/// A process that gets no processor time while this lives.
pub(crate) struct Asleep<'a> {
    dev: &'a Dev,
    pid: u32,
}

impl<'a> Asleep<'a> {
    pub(crate) fn of(dev: &'a Dev, region: &str, part: &str) -> Self {
        let pid = dev.pid_of(region, part);
        let process = ProcessRef::of(pid).unwrap();
        dev.signal(pid, Signal::STOP);
        until("the process sleeps", || process.state() == ProcessState::Stopped);
        Self { dev, pid }
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.dev.signal(self.pid, Signal::CONT);
    }
}
