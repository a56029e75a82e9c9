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
use types::RegionId;

use crate::{
    check::{self, pointers},
    edn,
    history::{self, Action, Event, History, Op, What},
    nemesis::{self, Nemesis},
    verdict::RunVerdict,
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

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The executable under test.
    pub(crate) regent: PathBuf,
    /// Who works.
    pub(crate) workload: Workload,
    /// Who hurts.
    pub(crate) nemesis: Nemesis,
    /// Whether there is a network of namespaces between the regions.
    pub(crate) has_network: bool,
    /// Repeats the choices.
    pub(crate) seed: u64,
    /// How long clients work.
    pub(crate) duration: Duration,
    /// Where everything of it is kept; none: it is removed unless something was found or the harness failed.
    pub(crate) store: Option<PathBuf>,
}

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
    for (name, text) in edn::files(&history::operations(&history)) {
        std::fs::write(dir.join(name), text)?;
    }
    let judged = judge(plan, &history, played);
    let verdict = judged.with_context(|| format!("the history in {}", dir.display()))?;
    std::fs::write(dir.join("verdict.json"), serde_json::to_vec_pretty(&verdict)?)?;
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
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    if std::fs::read_dir(&dir)?.next().is_some() {
        anyhow::bail!(
            "{} is not empty: an earlier run stands there; name another directory with --store, or remove it",
            dir.display()
        );
    }
    Ok(dir)
}

/// Regions that are as far from each other as those of one continent.
const ROUND_TRIP: Duration = Duration::from_millis(10);

/// Where the run is played: over a network of namespaces where this user may have one, and else all on 127.0.0.1.
fn world_of(plan: &Plan, dir: &Path) -> anyhow::Result<world::Plan> {
    let regions = ["us-west-2", "eu-west-1", "ap-southeast-1"].map(RegionId::new);
    let regions = regions.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut distances = Distances::none(regions.len());
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
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
    let mut pointers: Option<Writers> = None;
    let mut watches: Option<Watches> = None;
    let mut clients = match plan.workload {
        Workload::Primary => {
            world.push(primary::MODEL, &model).await?;
            pointers = Some(writers::start(&world).await?);
            primary::start(&world, &mut processes).await?
        }
        Workload::Registers | Workload::Watches => {
            for _ in 0..registers::VERSIONS {
                world.push(registers::MODEL, &model).await?;
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

fn judge(plan: &Plan, history: &[Event], played: Played) -> anyhow::Result<RunVerdict> {
    let Played { faults, pointers } = played;
    let ops = history::operations(history);
    let mut anomalies = match plan.workload {
        Workload::Primary => check::fencing::check(history),
        Workload::Registers => check::registers::check(&ops)?,
        Workload::Lists => check::lists::check(&ops),
        Workload::Watches => {
            let mut anomalies = check::registers::check(&ops)?;
            anomalies.extend(check::watches::check(history, &ops));
            anomalies
        }
    };
    if let Some(pointers) = pointers {
        anomalies.extend(pointers.anomalies);
        let stale = pointers.stale_refused;
        tracing::info!(stale, "stale writes were refused at the stores' pointers");
    }
    if faults == 0 && plan.duration >= LONG_ENOUGH {
        anomalies.push("no fault took hold, so the run proves nothing".to_owned());
    }
    Ok(RunVerdict {
        workload: plan.workload.as_str().to_owned(),
        nemesis: plan.nemesis.as_str().to_owned(),
        seed: plan.seed,
        operations: ops.len(),
        faults,
        anomalies,
        longest_unavailable_seconds: longest_gap(&ops, history.last().map(|event| event.at)),
    })
}

/// Longest time between two accepted writes of the registry, also before the first and after the last.
fn longest_gap(ops: &[Op<'_>], end: Option<u64>) -> f64 {
    let accepted = ops.iter().filter(|op| match op.action {
        Action::Write { door, .. } => door == "registry",
        Action::Set { .. } | Action::Swap { .. } | Action::Append { .. } => true,
        Action::Token { .. } | Action::Get { .. } | Action::Read { .. } => false,
    });
    let accepted = accepted.filter(|op| matches!(op.end, What::Ok { .. }));
    let mut times = vec![0];
    times.extend(accepted.map(|op| op.ended));
    times.extend(end);
    let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    Duration::from_micros(gaps.max().unwrap_or(0)).as_secs_f64()
}
