//! Who listens on a port, by the kernel's own tables. A connection that succeeds says only that somebody does.

use std::{collections::BTreeSet, fs};

/// The state `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Whether this process, which must be the caller's own or a child of its user, listens on the port.
pub(crate) fn listens(pid: u32, port: u16) -> bool {
    let own = sockets_of(pid);
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let tables = tables.into_iter().flatten();
    tables
        .flat_map(|text| listeners(&text, port))
        .any(|inode| own.contains(&inode))
}

/// Inodes of the sockets that listen on the port, whoever has them.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let local_end = format!(":{port:04X}");
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let matching = rows.filter(|row| row.len() > 9 && row[1].ends_with(&local_end) && row[3] == LISTEN);
    matching.map(|row| row[9].to_owned()).collect()
}

/// Inodes of the sockets that the process has open; none if it has ended.
fn sockets_of(pid: u32) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return BTreeSet::new();
    };
    let targets = entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |target: std::path::PathBuf| {
        let text = target.to_string_lossy().into_owned();
        Some(text.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    targets.filter_map(inode).collect()
}
