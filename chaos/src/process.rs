//! One run of one process: who it is beyond its pid, and what the kernel says about it.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

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
