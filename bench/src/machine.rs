//! What the figures were measured on, and where nothing is measured: a file system in memory makes no write durable.

use std::{fs, path::Path};

use anyhow::{Context as _, bail};
use serde::Serialize;

/// File systems that keep nothing on a disk, by their magic numbers (statfs(2)).
const IN_MEMORY: &[(i64, &str)] = &[(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
/// Others that are worth a name.
const ON_DISK: &[(i64, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x794c_7630, "overlayfs"),
    (0x2fc1_2fc1, "zfs"),
];

/// Facts about machine and run.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cpus: usize,
    /// The first one's model.
    pub cpu_model: String,
    /// MiB of memory.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Where the data directories were.
    pub file_system: String,
    /// Nice value of clients and servers alike.
    pub nice: i64,
    /// Processes that were ready to run, as an average of the minute before: more than 0.5 was a busy machine.
    pub load_before: f64,
    /// What Regent was.
    pub regent: String,
    /// What the peer was.
    pub peer: String,
}

impl Machine {
    /// Reads them; `dir` is where the data goes.
    pub fn look(dir: &Path, regent: String, peer: String) -> anyhow::Result<Self> {
        let text = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let stat = text("/proc/self/stat")?;
        let load = text("/proc/loadavg")?;
        Ok(Self {
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cpu_model: value_of(&text("/proc/cpuinfo")?, "model name").unwrap_or_default(),
            memory_mib: kib_of(&text("/proc/meminfo")?, "MemTotal") / 1024,
            kernel: text("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: file_system(dir)?,
            nice: stat_field(&stat, 19).unwrap_or(0),
            load_before: load.split(' ').next().and_then(|l| l.parse().ok()).unwrap_or(0.0),
            regent,
            peer,
        })
    }
}

/// The name of the file system of `dir`; an error for one in memory.
pub fn file_system(dir: &Path) -> anyhow::Result<String> {
    let magic = rustix::fs::statfs(dir)
        .with_context(|| format!("cannot look at {}", dir.display()))?
        .f_type;
    name_of(magic).with_context(|| format!("--dir is {}", dir.display()))
}

fn name_of(magic: i64) -> anyhow::Result<String> {
    let named = |table: &[(i64, &'static str)]| table.iter().find(|(m, _)| *m == magic).map(|(_, n)| *n);
    if let Some(name) = named(IN_MEMORY) {
        bail!("{name} keeps nothing on a disk, so an fsync there costs nothing; name a directory on a disk");
    }
    Ok(named(ON_DISK).map_or_else(|| format!("{magic:#x}"), str::to_owned))
}

/// The value behind `key :` in a text of /proc.
pub(crate) fn value_of(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A value in KiB, as `/proc` writes memory; 0 where there is none.
pub(crate) fn kib_of(text: &str, key: &str) -> u64 {
    let value = value_of(text, key).unwrap_or_default();
    value.trim_end_matches(" kB").parse().unwrap_or(0)
}

/// A field of `/proc/PID/stat`, counted from 1 as proc(5) does. The second one is a name that may hold blanks.
pub(crate) fn stat_field(stat: &str, number: usize) -> Option<i64> {
    let behind_name = stat.rsplit_once(") ")?.1;
    behind_name.split(' ').nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_in_memory_is_refused() {
        let refused = name_of(0x0102_1994).unwrap_err().to_string();
        assert!(refused.starts_with("tmpfs"), "{refused}");
        assert_eq!(name_of(0xef53).unwrap(), "ext4");
        assert_eq!(name_of(0x77).unwrap(), "0x77");
    }

    #[test]
    fn a_process_is_read_also_where_its_name_holds_blanks() {
        let stat = "77 (tokio) rt) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 0 0 20 5 8 0 12345 0 0";
        assert_eq!(stat_field(stat, 14), Some(250));
        assert_eq!(stat_field(stat, 15), Some(50));
        assert_eq!(stat_field(stat, 19), Some(5));
        assert_eq!(stat_field(stat, 99), None);
        assert_eq!(stat_field("", 14), None);
    }

    #[test]
    fn memory_is_read_in_kib() {
        let status = "Name:\tregent\nVmRSS:\t  51200 kB\nThreads:\t4\n";
        assert_eq!(kib_of(status, "VmRSS"), 51_200);
        assert_eq!(kib_of(status, "VmSwap"), 0);
    }
}
