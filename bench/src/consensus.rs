//! `consensus`: three coordinators beside three members of etcd, in turns, on one disk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{
    certs::Ca,
    etcd::{self, Etcd},
    keys::Keys,
    load::{self, Cell, Measured, Pace, Work},
    machine::Machine,
    process,
    regent::Regent,
    report::Report,
    rows::{Round, Rounds, rows},
    system::{CLIENTS_PER_PROCESS, System},
};

/// Part of the slower system's throughput at which latency is measured: both sustain it, and neither waits in a queue.
const OPEN_LOOP_SHARE: f64 = 0.5;

/// Closed-loop cells: throughput and CPU.
const CLOSED: &[(&str, Work, usize)] = &[
    ("put_1", Work::Put, 1),
    ("put_64", Work::Put, 64),
    ("put_256", Work::Put, 256),
    ("read_1", Work::Read, 1),
    ("read_64", Work::Read, 64),
    ("read_256", Work::Read, 256),
];
/// The names of all closed-loop cells.
pub fn cells() -> impl Iterator<Item = &'static str> {
    CLOSED.iter().map(|(name, ..)| *name)
}

/// Those whose latency is measured too.
const OPEN: &[&str] = &["put_1", "put_64", "put_256", "read_64"];

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct Options {
    /// How `regent` is run; it takes `coordinator --config FILE`.
    pub regent: PathBuf,
    /// What the table calls it.
    pub regent_name: String,
    /// Whom it is compared with.
    pub peer: Peer,
    /// Closed-loop cells to run, with the latencies that belong to them; empty: all.
    pub cells: Vec<String>,
    /// Where data goes; removed afterwards.
    pub dir: PathBuf,
    /// Rounds, each with clusters of its own.
    pub rounds: usize,
    /// Time of each cell.
    pub cell: Duration,
    /// Keys.
    pub keys: usize,
}

/// Whom Regent is compared with.
#[derive(Clone, Debug)]
pub enum Peer {
    /// etcd, by this executable.
    Etcd(PathBuf),
    /// Another build of Regent: what a change is worth is seen in one run, too.
    Regent(PathBuf),
}

impl Peer {
    async fn name(&self) -> anyhow::Result<String> {
        match self {
            Self::Etcd(path) => etcd::version(path).await,
            Self::Regent(path) => Ok(format!("regent at {}", path.display())),
        }
    }
}

/// Measures, and says what was measured.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&options.dir)
        .with_context(|| format!("cannot make {}", options.dir.display()))?;
    let peer = options.peer.name().await?;
    let machine = Machine::look(&options.dir, options.regent_name.clone(), peer.clone())?;
    let mut rounds = Rounds::default();
    for number in 1..=options.rounds {
        eprintln!("round {number} of {}", options.rounds);
        let dir = tempfile::Builder::new()
            .prefix("consensus-")
            .tempdir_in(&options.dir)?;
        let (ours, peer) = round(options, dir.path(), number).await?;
        rounds.ours.push(ours);
        rounds.peer.push(peer);
    }
    Ok(Report {
        machine,
        rows: rows(&rounds, &peer),
        notes: notes(options),
    })
}

async fn round(options: &Options, dir: &Path, number: usize) -> anyhow::Result<(Round, Round)> {
    let ca = Ca::create(&dir.join("certs"))?;
    let client = ca.issue("client", "spiffe://regent.local/user/bench")?;
    let own = |name: &str| -> anyhow::Result<PathBuf> {
        let own = dir.join(name);
        std::fs::create_dir(&own)?;
        Ok(own)
    };
    let ours = Regent::start("regent", &options.regent, &own("ours")?, &ca, &client).await?;
    match &options.peer {
        Peer::Etcd(path) => {
            let peer = Etcd::start(path, &own("peer")?, &ca, &client).await?;
            in_turns(options, ours, peer, number).await
        }
        Peer::Regent(path) => {
            let peer = Regent::start("peer", path, &own("peer")?, &ca, &client).await?;
            in_turns(options, ours, peer, number).await
        }
    }
}

async fn in_turns<A: System, B: System>(
    options: &Options,
    ours: A,
    peer: B,
    number: usize,
) -> anyhow::Result<(Round, Round)> {
    let (ours, peer) = (Side::new(ours, options), Side::new(peer, options));
    let measured = both(options, &ours, &peer, number).await?;
    ours.system.stop().await?;
    peer.system.stop().await?;
    Ok(measured)
}

/// A system and its keys.
struct Side<S> {
    system: S,
    keys: Arc<Keys>,
}

impl<S: System> Side<S> {
    fn new(system: S, options: &Options) -> Self {
        let keys = Arc::new(Keys::new(options.keys));
        Self { system, keys }
    }

    async fn cell(&self, cell: Cell) -> anyhow::Result<Measured> {
        self.system.tidy_up().await?;
        let measured = load::run(&self.system, &self.keys, cell).await?;
        eprintln!(
            "  {:7} {:?} {:3} {:?}: {:7.0}/s {:6.1} us/op p50 {:?} p99 {:?}",
            self.system.name(),
            cell.work,
            cell.clients,
            cell.pace,
            measured.throughput,
            measured.cpu * 1e6,
            measured.p50,
            measured.p99
        );
        Ok(measured)
    }
}

/// Both do each cell before either does the next one; who begins changes from cell to cell.
async fn both<A: System, B: System>(
    options: &Options,
    ours: &Side<A>,
    peer: &Side<B>,
    number: usize,
) -> anyhow::Result<(Round, Round)> {
    load::fill(&ours.system, &ours.keys).await?;
    load::fill(&peer.system, &peer.keys).await?;
    let (mut a, mut b) = (Round::default(), Round::default());
    a.idle_cpu = load::idle(&ours.system, options.cell).await?;
    b.idle_cpu = load::idle(&peer.system, options.cell).await?;
    let mut turn = number;
    let wanted = |name: &str| options.cells.is_empty() || options.cells.iter().any(|cell| cell == name);
    for &(name, work, clients) in CLOSED.iter().filter(|(name, ..)| wanted(name)) {
        let cell = Cell {
            work,
            clients,
            pace: Pace::Closed,
            length: options.cell,
        };
        turn += 1;
        let (x, y) = pair(ours, peer, cell, turn).await?;
        a.closed.push((name, x));
        b.closed.push((name, y));
        if OPEN.contains(&name) {
            let rate = x.throughput.min(y.throughput) * OPEN_LOOP_SHARE;
            let pace = Pace::Open(rate);
            let (x, y) = pair(ours, peer, Cell { pace, ..cell }, turn).await?;
            a.open.push((name, x));
            b.open.push((name, y));
        }
    }
    a.resident_mib = process::resident_mib(ours.system.servers())?;
    b.resident_mib = process::resident_mib(peer.system.servers())?;
    load::verify(&ours.system, &ours.keys).await?;
    load::verify(&peer.system, &peer.keys).await?;
    ensure!(
        ours.keys.acknowledged() > 0 && peer.keys.acknowledged() > 0,
        "nothing was written"
    );
    Ok((a, b))
}

async fn pair<A: System, B: System>(
    ours: &Side<A>,
    peer: &Side<B>,
    cell: Cell,
    turn: usize,
) -> anyhow::Result<(Measured, Measured)> {
    if turn.is_multiple_of(2) {
        let x = ours.cell(cell).await?;
        Ok((x, peer.cell(cell).await?))
    } else {
        let y = peer.cell(cell).await?;
        Ok((ours.cell(cell).await?, y))
    }
}

fn notes(options: &Options) -> Vec<String> {
    let seconds = options.cell.as_secs_f64();
    vec![
        format!(
            "medians of {} rounds, each with fresh clusters of three on one disk; cells of {seconds} s, in turns; values of \
             256 bytes under {} keys",
            options.rounds, options.keys
        ),
        "every value that was read is checked; after each round every key is read and must hold its last acknowledged write"
            .to_owned(),
        "put: SetModelTags of one model (a change of the registry with its request id, checked by the state machine, \
         remembered, and sent to watchers), beside etcd's Put; read: GetModel, beside Range; both linearizable"
            .to_owned(),
        format!(
            "TLS 1.3 with certificates of both ends, clients and peers, in both; {CLIENTS_PER_PROCESS} clients share one \
             connection to each member; a client takes the members in turn, except that a Regent client sends its changes to \
             the leader, as crate client does; etcd forwards them by itself"
        ),
        "etcd's history is compacted before each cell, which is counted in neither system".to_owned(),
        format!(
            "latencies: open-loop, from the intended send time, at {OPEN_LOOP_SHARE} of the slower system's throughput in \
             the same round; throughput and CPU: closed-loop"
        ),
        "put_64, put_256, read_64: ours and peer are throughput; ratio = max(min(cpu/2, throughput/1.3), throughput/2) of the \
         two ratios below"
            .to_owned(),
    ]
}
