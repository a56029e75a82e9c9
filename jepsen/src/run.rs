//! One run: a fresh cluster, a workload, a nemesis, a verdict.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use chaos::Distances;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use types::{RegionId, planted::Bug};

use crate::{
    check::{self, availability, pointers},
    edn,
    history::{self, Action, Answer, Event, History, Op, What},
    nemesis::{self, Nemesis},
    observer, page,
    verdict::{self, RunVerdict},
    workload::{
        Workload, lists,
        pointers::{self as writers, Writers},
        primary,
        process::Processes,
        registers,
        watches::Watches,
    },
    world::{self, Net, World},
};

/// After the last fault clients go on for this long: what comes back must still obey.
const AFTERMATH: Duration = Duration::from_secs(3);

/// A run of this length has time for a fault of every nemesis.
const LONG_ENOUGH: Duration = Duration::from_secs(20);

/// How the sentence ends by which a run is an anomaly that says nothing of Regent.
pub(crate) const VAIN: &str = "so the run proves nothing";

/// Changes that a run of this length makes, at the least.
const LEAST_CHANGES: usize = 100;

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The executable under test.
    pub(crate) regent: PathBuf,
    /// Who works.
    pub(crate) workload: Workload,
    /// Who hurts.
    pub(crate) nemesis: Nemesis,
    /// How many regions, 3 or 5.
    pub(crate) regions: usize,
    /// Whether there is a network of namespaces between the regions.
    pub(crate) has_network: bool,
    /// A bug that the executable is to have, if it is built for that.
    pub(crate) bug: Option<Bug>,
    /// Repeats the choices.
    pub(crate) seed: u64,
    /// How long clients work.
    pub(crate) duration: Duration,
    /// Where everything of it is kept; none: it is removed unless something was found or the harness failed.
    pub(crate) store: Option<PathBuf>,
}

impl Plan {
    /// Of its directory, where that is not named.
    pub(crate) fn name(&self) -> String {
        verdict::directory(self.workload.as_str(), self.nemesis.as_str(), self.seed)
    }

    /// What runs it again.
    fn command(&self) -> String {
        format!(
            "jepsen run --workload {} --nemesis {} --regions {} --seed {} --time {}",
            self.workload.as_str(),
            self.nemesis.as_str(),
            self.regions,
            self.seed,
            self.duration.as_secs()
        )
    }
}

/// The page, in the directory of its run.
pub(crate) const REPORT: &str = "report.html";

/// Runs it, and judges it.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<RunVerdict> {
    let (workload, nemesis) = (plan.workload.as_str(), plan.nemesis.as_str());
    let dir = directory(plan)?;
    tracing::info!(workload, nemesis, seed = plan.seed, dir = %dir.display(), "run begins");
    let path = dir.join("history.jsonl");
    let played = Box::pin(play(plan, &dir, &path))
        .await
        .with_context(|| format!("the run in {}", dir.display()))?;
    let history = history::read(&path)?;
    let ops = history::operations(&history);
    for (name, text) in edn::files(&ops) {
        std::fs::write(dir.join(name), text)?;
    }
    let judged = judge(plan, &history, &ops, played);
    let verdict = judged.with_context(|| format!("the history in {}", dir.display()))?;
    std::fs::write(dir.join("verdict.json"), serde_json::to_vec_pretty(&verdict)?)?;
    let page = page::of(&verdict, plan.command(), &history, &ops);
    std::fs::write(dir.join(REPORT), page.to_html())?;
    if !verdict.anomalies.is_empty() {
        tracing::error!(dir = %dir.display(), "anomalies found; everything is kept");
    } else if plan.store.is_none() {
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(verdict)
}

/// An empty directory for a run.
fn directory(plan: &Plan) -> anyhow::Result<PathBuf> {
    let dir = match &plan.store {
        Some(store) => store.clone(),
        None => {
            let (workload, nemesis) = (plan.workload.as_str(), plan.nemesis.as_str());
            let id = uuid::Uuid::now_v7();
            std::env::temp_dir().join(format!("regent-jepsen-{workload}-{nemesis}-{id}"))
        }
    };
    make_empty(&dir)?;
    Ok(dir)
}

/// Makes a directory, or takes one in which nothing is.
pub(crate) fn make_empty(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    if std::fs::read_dir(dir)?.next().is_some() {
        anyhow::bail!(
            "{} is not empty: an earlier run stands there; name another directory with --store, or remove it",
            dir.display()
        );
    }
    Ok(())
}

/// Of a run; the first three of them of most.
const REGIONS: [&str; 5] = [
    "us-west-2",
    "eu-west-1",
    "ap-southeast-1",
    "us-east-1",
    "eu-central-1",
];

/// Regions that are as far from each other as those of one continent.
const ROUND_TRIP: Duration = Duration::from_millis(10);

/// Where the run is played: over a network of namespaces where this user may have one, and else all on 127.0.0.1.
fn world_of(plan: &Plan, dir: &Path) -> anyhow::Result<world::Plan> {
    let regions = REGIONS.into_iter().take(plan.regions).map(RegionId::new);
    let regions = regions.collect::<Result<Vec<_>, _>>()?;
    let mut distances = Distances::none(regions.len());
    for (a, b) in (0..regions.len()).flat_map(|b| (0..b).map(move |a| (a, b))) {
        distances = distances.with(a, b, ROUND_TRIP);
    }
    let net = if plan.has_network {
        let seed = plan.seed;
        Net::Namespaces { distances, seed }
    } else {
        Net::Loopback
    };
    Ok(world::Plan {
        regent: plan.regent.clone(),
        dir: dir.join("cluster"),
        regions,
        net,
        bug: plan.bug,
        has_small_disks: plan.nemesis.is_of_mounts(),
        has_shims: plan.nemesis.is_of_shims(),
        forgets: Some(plan.seed),
    })
}

/// What a run has besides its history.
struct Played {
    /// Faults that took hold.
    faults: usize,
    /// What the stores' own records say of their pointers, of a workload that writes those.
    pointers: Option<pointers::Judged>,
}

async fn play(plan: &Plan, dir: &Path, path: &Path) -> anyhow::Result<Played> {
    let world = Box::pin(World::found(world_of(plan, dir)?)).await?;
    world.wait_ready().await?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
    let regions = world.regions().to_vec();
    let first = regions.first().context("a cluster without a region")?.clone();
    let history = History::create(path)?;
    let stop = CancellationToken::new();
    let mut processes = Processes::new(&history, &stop);
    let mut observers = observer::start(&world, &history, &stop)?;
    let mut pointers: Option<Writers> = None;
    let mut watches: Option<Watches> = None;
    let mut clients = match plan.workload {
        Workload::Primary => {
            world.push(primary::MODEL, &model).await?;
            pointers = Some(writers::start(&world).await?);
            primary::start(&world, &mut processes).await?
        }
        Workload::Registers | Workload::Watches => {
            for version in 1..=registers::VERSIONS {
                let files = dir.join("models").join(version.to_string());
                another_version(&model, &files, version)?;
                world.push(registers::MODEL, &files).await?;
            }
            if plan.workload == Workload::Watches {
                watches = Some(Watches::start(&world, &mut processes)?);
            }
            registers::start(&world, &mut processes, plan.seed)?
        }
        Workload::Lists => lists::start(&world, &first, &mut processes, plan.seed)?,
    };
    let end = Instant::now() + plan.duration;
    let hurt = nemesis::hurt(
        plan.nemesis,
        plan.seed,
        &world,
        nemesis::Aim::of(plan.workload),
        &regions,
        &history,
        end - AFTERMATH.min(plan.duration),
    );
    let faults = Box::pin(hurt).await;
    sleep_until(end).await;
    stop.cancel();
    while let Some(client) = clients.join_next().await {
        client.context("a client broke off")?;
    }
    while let Some(observer) = observers.join_next().await {
        observer.context("the observer broke off")?;
    }
    if plan.workload == Workload::Lists {
        let names = lists_of(&history::read(path)?);
        lists::read_all(&world, &first, &mut processes, names).await?;
    }
    if let Some(watches) = watches {
        watches.end_at(registers::last_change(&world).await?).await?;
    }
    let record = |region: &RegionId| (region.clone(), world.store_record(region));
    let records = regions.iter().map(record).collect();
    let pointers = match pointers {
        Some(writers) => {
            writers.stop().await?;
            world.stop().await?;
            Some(writers::judge(&records)?)
        }
        None => {
            world.stop().await?;
            None
        }
    };
    history.finish().context("the history has a hole")?;
    Ok(Played {
        faults: faults?,
        pointers,
    })
}

/// The same model in other files: those that a model has already are no new version of it.
fn another_version(model: &Path, dir: &Path, version: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    for file in std::fs::read_dir(model)? {
        let file = file?;
        std::fs::copy(file.path(), dir.join(file.file_name()))?;
    }
    let config = dir.join("config.json");
    let mut text = std::fs::read_to_string(&config)?;
    text.extend((0..version).map(|_| '\n'));
    std::fs::write(&config, text)?;
    Ok(())
}

/// The lists that somebody appended to.
fn lists_of(history: &[Event]) -> BTreeSet<String> {
    let lists = history.iter().filter_map(|event| match &event.what {
        What::Invoke {
            action: Action::Append { list, .. },
        } => Some(list.clone()),
        _ => None,
    });
    lists.collect()
}

fn judge(plan: &Plan, history: &[Event], ops: &[Op<'_>], played: Played) -> anyhow::Result<RunVerdict> {
    let Played { faults, pointers } = played;
    let mut anomalies = match plan.workload {
        Workload::Primary => check::fencing::check(history),
        Workload::Registers => check::registers::check(ops)?,
        Workload::Lists => check::lists::check(ops),
        Workload::Watches => {
            let mut anomalies = check::registers::check(ops)?;
            anomalies.extend(check::watches::check(history, ops));
            anomalies
        }
    };
    if let Some(pointers) = pointers {
        anomalies.extend(pointers.anomalies);
        let stale = pointers.stale_refused;
        tracing::info!(stale, "stale writes were refused at the stores' pointers");
    }
    if plan.duration >= LONG_ENOUGH {
        anomalies.extend(proves_nothing(faults, ops));
    }
    Ok(RunVerdict {
        workload: plan.workload.as_str().to_owned(),
        nemesis: plan.nemesis.as_str().to_owned(),
        seed: plan.seed,
        operations: ops.len(),
        faults,
        anomalies,
        longest_unavailable_seconds: longest_gap(ops, history.last().map(|event| event.at)),
        outages: availability::outages(history, ops, plan.workload != Workload::Primary),
    })
}

/// Why a run that is long enough says nothing, whatever was found: nothing was hurt, or there was next to nothing to be lost.
fn proves_nothing(faults: usize, ops: &[Op<'_>]) -> Vec<String> {
    let changes = ops.iter().filter(|op| changed(op)).count();
    let nothing = faults == 0;
    let little = changes < LEAST_CHANGES;
    [
        nothing.then(|| format!("no fault took hold, {VAIN}")),
        little.then(|| format!("only {changes} changes were made, {VAIN}")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether it did something, and not only succeeded.
fn changed(op: &Op<'_>) -> bool {
    match (op.action, op.end) {
        (Action::Write { .. } | Action::Append { .. }, What::Ok { .. }) => true,
        (
            Action::Set { value, .. } | Action::Swap { value, .. },
            What::Ok {
                answer: Answer::Held { value: held, .. },
            },
        ) => *held == Some(*value),
        _ => false,
    }
}

/// Longest time between two accepted writes of the registry, also before the first and after the last.
fn longest_gap(ops: &[Op<'_>], end: Option<u64>) -> f64 {
    let mut accepted: Vec<u64> = ops
        .iter()
        .filter(|op| op.is_accepted_change())
        .map(|op| op.ended)
        .collect();
    accepted.sort_unstable();
    let gap = availability::longest_gap(&accepted, 0, end.unwrap_or(0));
    Duration::from_micros(gap).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: u64, value: u64, held: u64) -> [Event; 2] {
        let event = |at, what| Event {
            at,
            process: 0,
            op: n,
            what,
        };
        let action = Action::Set {
            register: "r".to_owned(),
            value,
        };
        let answer = Answer::Held {
            value: Some(held),
            etag: n,
        };
        [
            event(2 * n, What::Invoke { action }),
            event(2 * n + 1, What::Ok { answer }),
        ]
    }

    #[test]
    fn a_run_proves_something_where_something_was_hurt_and_something_was_changed() {
        let changes: Vec<Event> = (0..100).flat_map(|n| set(n, n, n)).collect();
        // Each succeeds, and leaves the register as it is.
        let idle: Vec<Event> = (0..200).flat_map(|n| set(n, n, 0)).collect();
        let found = |faults, history: &[Event]| proves_nothing(faults, &history::operations(history));
        assert!(found(1, &changes).is_empty());
        assert_eq!(
            found(0, &changes),
            ["no fault took hold, so the run proves nothing"]
        );
        assert_eq!(
            found(1, &idle),
            ["only 1 changes were made, so the run proves nothing"]
        );
    }
}
