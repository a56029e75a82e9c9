//! Workload `lists`: the versions of a model as a list that only grows; whoever announces one learns its number.
//!
//! A list takes a hundred appends, then the next begins: a read is the whole of it. At the end of the run each list is read once more.
//! Judged in `check::lists`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use client::Client;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use types::{ModelName, Reason, RegionId, model::ArtifactPath, reason::Refusal};

use super::process::{Process, Processes};
use crate::{
    history::{Action, Answer},
    load::writers::{announce, name_of},
    world::World,
};

/// Appends that a list takes, about.
const LENGTH: u64 = 100;
/// Clients of each region.
const CLIENTS: usize = 3;
/// After this an operation's outcome is unknown.
const DEADLINE: Duration = Duration::from_secs(2);
/// Between the beginnings of two operations of one client.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long all last reads may take, and how long one that was not answered waits for its next try.
const LAST_READS: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(100);

/// Starts every client; they end with the run.
pub(crate) fn start(
    world: &World,
    region: &RegionId,
    processes: &mut Processes,
    seed: u64,
) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let appends = Arc::new(AtomicU64::new(0));
    for near in 0..world.regions().len() {
        for _ in 0..CLIENTS {
            let random = StdRng::seed_from_u64(seed.wrapping_add(tasks.len() as u64));
            let lists = Lists::near(world, near, region)?;
            tasks.spawn(work(
                lists,
                processes.next(INTERVAL),
                Arc::clone(&appends),
                random,
            ));
        }
    }
    Ok(tasks)
}

/// Reads each of these lists once more, when nothing is hurt any more. That nobody answers for so long is a failure.
pub(crate) async fn read_all(
    world: &World,
    region: &RegionId,
    processes: &mut Processes,
    names: impl IntoIterator<Item = String>,
) -> anyhow::Result<()> {
    let lists = Lists::near(world, 0, region)?;
    let mut process = processes.next(INTERVAL);
    let deadline = Instant::now() + LAST_READS;
    for list in names {
        loop {
            process.begin(Action::Read { list: list.clone() });
            let answer = lists.read(&list).await;
            if process.end(answer).is_some() {
                break;
            }
            if Instant::now() >= deadline {
                anyhow::bail!("{list} could not be read within {LAST_READS:?} after the last fault");
            }
            sleep(AGAIN).await;
        }
    }
    Ok(())
}

struct Lists {
    client: Client,
    /// It has a store; nobody uploads anything.
    region: RegionId,
    /// The one file that each version announces.
    file: ArtifactPath,
}

async fn work(lists: Lists, mut process: Process, appends: Arc<AtomicU64>, mut random: StdRng) {
    while process.next().await {
        let answer = match random.random_bool(0.4) {
            true => {
                let list = name(appends.fetch_add(1, Ordering::Relaxed) / LENGTH);
                let element = process.unique();
                process.begin(Action::Append {
                    list: list.clone(),
                    element,
                });
                lists.append(&list, element).await
            }
            false => {
                // The one that grows, or the one before.
                let at = appends.load(Ordering::Relaxed) / LENGTH;
                let list = name(at.saturating_sub(random.random_range(0..2)));
                process.begin(Action::Read { list: list.clone() });
                lists.read(&list).await
            }
        };
        process.end(answer);
    }
}

fn name(at: u64) -> String {
    format!("jepsen.list-{at}")
}

impl Lists {
    fn near(world: &World, near: usize, region: &RegionId) -> anyhow::Result<Self> {
        Ok(Self {
            client: world.admin_near(near, DEADLINE)?,
            region: region.clone(),
            file: ArtifactPath::new("element")?,
        })
    }

    async fn append(&self, list: &str, element: u64) -> Result<Answer, Refusal> {
        let (model, name) = (model(list)?, element.to_string());
        let announced = announce(&self.client, &model, &self.region, &self.file, &name).await?;
        Ok(Answer::Placed {
            place: announced.key.version.0,
        })
    }

    /// A list of which there is nothing yet is empty.
    async fn read(&self, list: &str) -> Result<Answer, Refusal> {
        let found = match self.client.list_versions(&model(list)?).await {
            Err(refusal) if refusal.reason == Reason::ModelNotFound => Vec::new(),
            found => found?,
        };
        // One without a number is nobody's.
        let element = |version| name_of(version).parse().unwrap_or(u64::MAX);
        let elements = found
            .iter()
            .map(|version| (version.key.version.0, element(version)));
        Ok(Answer::Listed {
            elements: elements.collect(),
        })
    }
}

fn model(list: &str) -> Result<ModelName, Refusal> {
    ModelName::new(list).map_err(|e| Refusal::new(Reason::InvalidArgument, e.to_string()))
}
