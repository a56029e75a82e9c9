//! Which process is at the other end of a connection within this machine: the kernel's table of sockets names the socket by
//! its inode, and the process that has it open is looked for among those that were placed.
//!
//! A look reads the whole table and what every placed process has open, which takes some ten milliseconds of a processor with a thousand
//! sockets. So one look answers all who wait for one, and none is made on a thread that carries bytes: calls come in bursts, and what they
//! cost here would be taken for distance.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::Place;

/// The kernel's table of TCP sockets over IPv4.
const TABLE: &str = "/proc/net/tcp";
/// Looks for a caller: a process calls for the first time tens of milliseconds after its start, and is placed at once.
const LOOKS: u32 = 10;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(10);
/// Calls that wait for a look at once; more wait to be asked for.
pub(super) const WAITING: usize = 1024;

/// Who stands where.
#[derive(Debug, Default)]
pub(super) struct Callers(RwLock<BTreeMap<u32, Place>>);

impl Callers {
    /// Places a process, and forgets those that have ended.
    pub(super) fn place(&self, pid: u32, place: Place) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|pid, _| fs::exists(format!("/proc/{pid}")).unwrap_or(true));
        all.insert(pid, place);
    }

    /// Where the processes stand that have these sockets open; none where nobody does who was placed.
    fn of(&self, ends: &[Ends]) -> Vec<Option<Place>> {
        let Ok(table) = fs::read_to_string(TABLE) else {
            return vec![None; ends.len()];
        };
        let inodes = inodes_in(&table, ends);
        let placed = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut holders: HashMap<u64, Option<Place>> =
            inodes.iter().flatten().map(|inode| (*inode, None)).collect();
        for (pid, place) in placed {
            for inode in sockets_of(pid) {
                holders.entry(inode).and_modify(|holder| *holder = Some(place));
            }
        }
        let holder = |inode: Option<u64>| holders.get(&inode?).copied().flatten();
        inodes.into_iter().map(holder).collect()
    }
}

/// Where a connection ends: at the socket that is looked for, and at the other one.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// A call, and who waits to hear from where it comes.
#[derive(Debug)]
pub(super) struct Question {
    ends: Ends,
    answer: oneshot::Sender<Option<Place>>,
    looks: u32,
}

/// Where the caller from `peer` to `ours` stands; none if nobody who was placed is there.
pub(super) async fn find(
    questions: &mpsc::Sender<Question>,
    peer: SocketAddr,
    ours: SocketAddr,
) -> Option<Place> {
    let (answer, answered) = oneshot::channel();
    let question = Question {
        ends: (peer, ours),
        answer,
        looks: 0,
    };
    questions.send(question).await.ok()?;
    answered.await.ok().flatten()
}

/// Looks for all who ask, until nobody can any more.
pub(super) async fn answer_all(
    mut questions: mpsc::Receiver<Question>,
    callers: Arc<Callers>,
    tasks: TaskTracker,
) {
    let mut waiting: Vec<Question> = Vec::new();
    loop {
        if waiting.is_empty() {
            match questions.recv().await {
                Some(question) => waiting.push(question),
                None => return,
            }
        }
        while waiting.len() < WAITING
            && let Ok(question) = questions.try_recv()
        {
            waiting.push(question);
        }
        let ends: Vec<Ends> = waiting.iter().map(|question| question.ends).collect();
        let callers = Arc::clone(&callers);
        // What a panic there says was said; nobody was found.
        let found = tasks.spawn_blocking(move || callers.of(&ends)).await;
        let mut found = found.unwrap_or_default().into_iter();
        let asked = std::mem::take(&mut waiting);
        for mut question in asked {
            question.looks += 1;
            match found.next().flatten() {
                None if question.looks < LOOKS => waiting.push(question),
                // Whoever asked may be gone.
                place => drop(question.answer.send(place)),
            }
        }
        if !waiting.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The inodes of the sockets that a process has open. One that ended has none.
fn sockets_of(pid: u32) -> impl Iterator<Item = u64> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"));
    let links = open.into_iter().flatten().flatten();
    links.filter_map(|fd| {
        let to = fs::read_link(fd.path()).ok()?;
        let inode = to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        inode.parse().ok()
    })
}

/// The inodes of the sockets with these ends, the local one first, as a table in the format of [`TABLE`] says. A socket that nobody has open any
/// more has none.
pub(super) fn inodes_in(table: &str, ends: &[Ends]) -> Vec<Option<u64>> {
    let mut inodes = vec![None; ends.len()];
    let names = ends.iter().enumerate().filter_map(|(at, (local, remote))| {
        let name = (in_table(*local)?, in_table(*remote)?);
        Some((name, at))
    });
    let wanted: HashMap<(String, String), usize> = names.collect();
    for row in table.lines() {
        let mut columns = row.split_ascii_whitespace().skip(1);
        let (Some(local), Some(remote)) = (columns.next(), columns.next()) else {
            continue;
        };
        let Some(at) = wanted.get(&(local.to_owned(), remote.to_owned())) else {
            continue;
        };
        // Behind the two addresses: state, queues, timer, retransmissions, user, timeout.
        let inode = columns.nth(6).and_then(|inode| inode.parse().ok());
        if let Some(found) = inode.filter(|inode| *inode != 0) {
            inodes[*at] = Some(found);
        }
    }
    inodes
}

/// An address as the table has it: the four bytes as a number of this machine, then the port, in hexadecimal digits.
fn in_table(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(v4) = address else {
        return None;
    };
    let bytes = u32::from_ne_bytes(v4.ip().octets());
    Some(format!("{bytes:08X}:{:04X}", v4.port()))
}
