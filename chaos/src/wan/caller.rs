//! Which process is at the other end of a connection within this machine: the kernel's table of sockets names the socket by
//! its inode, and the process that has it open is looked for among those that were placed.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use super::Place;

/// The kernel's table of TCP sockets over IPv4.
const TABLE: &str = "/proc/net/tcp";
/// Looks for a caller: a process calls for the first time tens of milliseconds after its start, and is placed at once.
const LOOKS: u32 = 10;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(10);

/// Who stands where.
#[derive(Debug, Default)]
pub struct Callers(BTreeMap<u32, Place>);

impl Callers {
    /// Places a process, and forgets those that have ended.
    pub(super) fn place(&mut self, pid: u32, place: Place) {
        self.0
            .retain(|pid, _| fs::exists(format!("/proc/{pid}")).unwrap_or(true));
        self.0.insert(pid, place);
    }

    /// Where the process stands that has this socket open.
    fn holder_of(&self, inode: u64) -> Option<Place> {
        let name = format!("socket:[{inode}]");
        let mut all = self.0.iter();
        all.find(|(pid, _)| has_open(**pid, &name))
            .map(|(_, place)| *place)
    }
}

/// Where the caller from `peer` to `ours` stands; none if nobody who was placed is there.
pub(super) async fn find(callers: &RwLock<Callers>, peer: SocketAddr, ours: SocketAddr) -> Option<Place> {
    for _ in 0..LOOKS {
        let found = look(callers, peer, ours);
        if found.is_some() {
            return found;
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

/// `/proc` never waits for a disk, and a look takes about a millisecond.
fn look(callers: &RwLock<Callers>, peer: SocketAddr, ours: SocketAddr) -> Option<Place> {
    let inode = inode_in(&fs::read_to_string(TABLE).ok()?, peer, ours)?;
    callers
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .holder_of(inode)
}

fn has_open(pid: u32, name: &str) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    open.flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == name))
}

/// The inode of the socket that is connected from `local` to `remote`, as a table in the format of [`TABLE`] says. A socket that
/// nobody has open any more has none.
pub fn inode_in(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (in_table(local)?, in_table(remote)?);
    let mut rows = table.lines().map(|line| line.split_ascii_whitespace());
    rows.find_map(|mut columns| {
        let is_it = columns.nth(1)? == local && columns.next()? == remote;
        // Behind the two addresses: state, queues, timer, retransmissions, user, timeout.
        let inode: u64 = columns.nth(6).filter(|_| is_it)?.parse().ok()?;
        (inode != 0).then_some(inode)
    })
}

/// An address as the table has it: the four bytes as a number of this machine, then the port, in hexadecimal digits.
fn in_table(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(v4) = address else {
        return None;
    };
    let bytes = u32::from_ne_bytes(v4.ip().octets());
    Some(format!("{bytes:08X}:{:04X}", v4.port()))
}
