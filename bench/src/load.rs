//! Clients at work, and what it cost: closed-loop for throughput and CPU, open-loop for latency.
//!
//! Invariant: every answer is checked, and only what was acknowledged inside the measured window counts.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    keys::{Keys, value_of},
    pacer::Pacer,
    process,
    stats::percentile,
    system::{Session, System},
};

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Writes, each client to keys of its own.
    Put,
    /// Linearizable reads of any key.
    Read,
}

/// How fast they go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each client sends its next operation when it has the answer to the one before.
    Closed,
    /// So many operations a second by all clients together, whatever the answers.
    Open(f64),
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// What is done.
    pub work: Work,
    /// By how many clients.
    pub clients: usize,
    /// How fast.
    pub pace: Pace,
    /// For how long, after a sixth of it as a warm-up.
    pub length: Duration,
}

/// What a cell has shown.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Acknowledged operations a second.
    pub throughput: f64,
    /// Seconds of CPU of all servers for one operation.
    pub cpu: f64,
    /// Half of the operations took no longer.
    pub p50: Duration,
    /// 99 in 100 took no longer.
    pub p99: Duration,
}

#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    fn holds(&self, at: Instant) -> bool {
        (self.begin..self.end).contains(&at)
    }
}

/// Times at which a client sends.
enum Times {
    AtOnce { until: Instant },
    Intended(mpsc::Receiver<Instant>),
}

impl Times {
    async fn next(&mut self) -> Option<Instant> {
        match self {
            Self::AtOnce { until } => Some(Instant::now()).filter(|now| now < until),
            Self::Intended(times) => times.recv().await,
        }
    }

    /// What decides whether an operation lies in the window: when it was to begin, or when it ended.
    fn counted_at(&self, began: Instant, ended: Instant) -> Instant {
        match self {
            Self::AtOnce { .. } => ended,
            Self::Intended(_) => began,
        }
    }
}

/// Runs a cell.
pub async fn run<S: System>(system: &S, keys: &Arc<Keys>, cell: Cell) -> anyhow::Result<Measured> {
    let sessions = system.sessions(cell.clients).await?;
    let start = Instant::now() + Duration::from_millis(20);
    let begin = start + cell.length / 6;
    let window = Window {
        begin,
        end: begin + cell.length,
    };
    let (pacer, times) = times(cell, start, window.end);
    let mut clients = JoinSet::new();
    for (number, (session, times)) in sessions.into_iter().zip(times).enumerate() {
        let client = Client {
            session,
            keys: Arc::clone(keys),
            number,
            of: cell.clients,
        };
        clients.spawn(client.work(cell.work, times, window));
    }
    sleep_until(window.begin).await;
    let cpu_before = process::cpu_seconds(system.servers())?;
    sleep_until(window.end).await;
    let cpu = process::cpu_seconds(system.servers())? - cpu_before;
    let mut latencies = Vec::new();
    while let Some(done) = clients.join_next().await {
        let done = done.context("a client failed")?;
        latencies.extend(done.with_context(|| format!("{} {cell:?}", system.name()))?);
    }
    if let Some(Err(why)) = pacer.map(Pacer::finish) {
        bail!("{} {cell:?}: {why}", system.name());
    }
    measured(latencies, cpu, cell.length)
}

fn times(cell: Cell, start: Instant, end: Instant) -> (Option<Pacer>, Vec<Times>) {
    match cell.pace {
        Pace::Closed => {
            let all = (0..cell.clients).map(|_| Times::AtOnce { until: end }).collect();
            (None, all)
        }
        Pace::Open(rate) => {
            let (pacer, times) = Pacer::start(cell.clients, rate, start, end);
            (Some(pacer), times.into_iter().map(Times::Intended).collect())
        }
    }
}

fn measured(mut latencies: Vec<Duration>, cpu: f64, length: Duration) -> anyhow::Result<Measured> {
    ensure!(!latencies.is_empty(), "nothing was answered in {length:?}");
    latencies.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a count of operations")]
    let count = latencies.len() as f64;
    Ok(Measured {
        throughput: count / length.as_secs_f64(),
        cpu: cpu / count,
        p50: percentile(&latencies, 50).unwrap_or_default(),
        p99: percentile(&latencies, 99).unwrap_or_default(),
    })
}

/// CPU seconds that the servers take in a second in which nobody asks for anything.
pub async fn idle<S: System>(system: &S, length: Duration) -> anyhow::Result<f64> {
    let before = process::cpu_seconds(system.servers())?;
    sleep_until(Instant::now() + length).await;
    Ok((process::cpu_seconds(system.servers())? - before) / length.as_secs_f64())
}

struct Client<S> {
    session: S,
    keys: Arc<Keys>,
    number: usize,
    of: usize,
}

impl<S: Session> Client<S> {
    async fn work(mut self, work: Work, mut times: Times, window: Window) -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        let mut step = 0;
        while let Some(began) = times.next().await {
            match work {
                Work::Put => self.put(self.own_key(step)).await?,
                Work::Read => self.read(self.any_key(step)).await?,
            }
            step += 1;
            let ended = Instant::now();
            if window.holds(times.counted_at(began, ended)) {
                latencies.push(ended - began);
            }
        }
        Ok(latencies)
    }

    /// Every `of`-th key is this client's.
    fn own_key(&self, step: usize) -> usize {
        let own = (self.keys.count() - self.number).div_ceil(self.of);
        self.number + scattered(step) % own * self.of
    }

    fn any_key(&self, step: usize) -> usize {
        scattered(step * self.of + self.number) % self.keys.count()
    }

    async fn put(&mut self, key: usize) -> anyhow::Result<()> {
        let write = self.keys.next_write(key);
        self.session.put(key, &value_of(key, write)).await?;
        self.keys.acknowledge(key, write);
        Ok(())
    }

    async fn read(&mut self, key: usize) -> anyhow::Result<()> {
        let value = self.session.get(key).await?;
        self.keys.check(key, &value).map_err(anyhow::Error::msg)
    }
}

/// Some other number for each, the same in every run.
fn scattered(step: usize) -> usize {
    step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

/// Clients that make and check the keys.
const FILLERS: usize = 64;

/// What is done once with every key.
#[derive(Clone, Copy)]
enum Once {
    Make,
    Verify,
}

/// Makes every key.
pub async fn fill<S: System>(system: &S, keys: &Arc<Keys>) -> anyhow::Result<()> {
    let made = all_keys(system, keys, Once::Make).await;
    made.with_context(|| format!("{} does not make the keys", system.name()))
}

/// Reads every key: whether it holds its last acknowledged write.
pub async fn verify<S: System>(system: &S, keys: &Arc<Keys>) -> anyhow::Result<()> {
    let read = all_keys(system, keys, Once::Verify).await;
    read.with_context(|| format!("{} lost a write", system.name()))
}

async fn all_keys<S: System>(system: &S, keys: &Arc<Keys>, what: Once) -> anyhow::Result<()> {
    let mut clients = JoinSet::new();
    for (number, session) in system.sessions(FILLERS).await?.into_iter().enumerate() {
        let client = Client {
            session,
            keys: Arc::clone(keys),
            number,
            of: FILLERS,
        };
        clients.spawn(client.own_keys(what));
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}

impl<S: Session> Client<S> {
    async fn own_keys(mut self, what: Once) -> anyhow::Result<()> {
        for key in (self.number..self.keys.count()).step_by(self.of) {
            match what {
                Once::Make => self.make(key).await?,
                Once::Verify => self.read(key).await?,
            }
        }
        Ok(())
    }

    async fn make(&mut self, key: usize) -> anyhow::Result<()> {
        let write = self.keys.next_write(key);
        self.session.create(key, &value_of(key, write)).await?;
        self.keys.acknowledge(key, write);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::system::Failed;

    struct Nobody;

    impl Session for Nobody {
        async fn create(&mut self, _: usize, _: &str) -> Result<(), Failed> {
            Ok(())
        }
        async fn put(&mut self, _: usize, _: &str) -> Result<(), Failed> {
            Ok(())
        }
        async fn get(&mut self, _: usize) -> Result<String, Failed> {
            Err(Failed("nothing is here".to_owned()))
        }
    }

    fn client(number: usize, of: usize, keys: usize) -> Client<Nobody> {
        Client {
            session: Nobody,
            keys: Arc::new(Keys::new(keys)),
            number,
            of,
        }
    }

    #[test]
    fn no_two_clients_write_one_key() {
        let mut seen = BTreeSet::new();
        for number in 0..7 {
            let client = client(number, 7, 100);
            let own: BTreeSet<usize> = (0..1000).map(|step| client.own_key(step)).collect();
            assert!(own.iter().all(|key| *key < 100));
            assert!(own.len() > 10, "{own:?}");
            for key in own {
                assert!(seen.insert(key), "{key} of {number}");
            }
        }
    }

    #[tokio::test]
    async fn a_wrong_answer_fails_its_cell() {
        let window = Window {
            begin: Instant::now(),
            end: Instant::now() + Duration::from_secs(60),
        };
        let times = Times::AtOnce { until: window.end };
        let failed = client(0, 1, 10).work(Work::Read, times, window).await;
        assert_eq!(failed.unwrap_err().to_string(), "nothing is here");
    }

    #[tokio::test]
    async fn a_late_operation_counts_from_its_intended_time() {
        let (sender, receiver) = mpsc::channel(4);
        let now = Instant::now();
        let late = Duration::from_secs(3);
        // Before the window, in it and three seconds late, after it.
        for at in [now - late * 2, now - late, now + late] {
            sender.send(at).await.unwrap();
        }
        drop(sender);
        let window = Window {
            begin: now - late,
            end: now,
        };
        let client = client(0, 1, 10);
        let latencies = client
            .work(Work::Put, Times::Intended(receiver), window)
            .await
            .unwrap();
        assert_eq!(latencies.len(), 1);
        assert!(latencies[0] >= late, "{latencies:?}");
    }
}
