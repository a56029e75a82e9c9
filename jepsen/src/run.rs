//! One run: a fresh cluster, a workload, a nemesis, a verdict.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    check::{self, pointers},
    cluster::Cluster,
    history::{self, Action, Event, History, What},
    nemesis::{self, Nemesis},
    verdict::RunVerdict,
    workload::{pointers as writers, primary},
};

/// After the last fault clients go on for this long: what comes back must still obey.
const AFTERMATH: Duration = Duration::from_secs(3);

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The executable under test.
    pub(crate) regent: PathBuf,
    /// Who hurts.
    pub(crate) nemesis: Nemesis,
    /// Repeats the choices.
    pub(crate) seed: u64,
    /// How long clients work.
    pub(crate) duration: Duration,
}

/// Runs it. The directory is removed unless something was found or the harness failed.
pub(crate) async fn run(plan: &Plan) -> anyhow::Result<RunVerdict> {
    let name = format!("regent-jepsen-{}-{}", plan.nemesis.as_str(), uuid::Uuid::now_v7());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir)?;
    tracing::info!(nemesis = plan.nemesis.as_str(), seed = plan.seed, dir = %dir.display(), "run begins");
    let path = dir.join("history.jsonl");
    let played = Box::pin(play(plan, &dir, &path))
        .await
        .with_context(|| format!("the run in {}", dir.display()))?;
    let verdict = judge(plan, &history::read(&path)?, played);
    if verdict.anomalies.is_empty() {
        std::fs::remove_dir_all(&dir)?;
    } else {
        tracing::error!(dir = %dir.display(), "anomalies found; everything is kept");
    }
    Ok(verdict)
}

/// What a run has besides its history.
struct Played {
    /// Faults that took hold.
    faults: usize,
    /// What the stores' own records say of their pointers.
    pointers: pointers::Judged,
}

async fn play(plan: &Plan, dir: &Path, path: &Path) -> anyhow::Result<Played> {
    let cluster = Cluster::start(&plan.regent, dir).await?;
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/digits");
    cluster.push(primary::MODEL, &model).await?;
    let regions: Vec<_> = cluster
        .agents()
        .await?
        .into_iter()
        .map(|(region, _)| region)
        .collect();
    let history = History::create(path)?;
    let stop = CancellationToken::new();
    let mut clients = primary::start(&cluster, &history, &stop).await?;
    let writers = writers::start(&cluster).await?;
    let end = Instant::now() + plan.duration;
    let hurt = nemesis::hurt(
        plan.nemesis,
        plan.seed,
        &cluster,
        &regions,
        &history,
        end - AFTERMATH.min(plan.duration),
    );
    let faults = Box::pin(hurt).await;
    sleep_until(end).await;
    stop.cancel();
    while clients.join_next().await.is_some() {}
    writers.stop().await?;
    let cluster_dir = cluster.dir().to_owned();
    cluster.stop().await?;
    history.finish().context("the history has a hole")?;
    Ok(Played {
        faults: faults?,
        pointers: writers::judge(&cluster_dir, &regions)?,
    })
}

fn judge(plan: &Plan, history: &[Event], played: Played) -> RunVerdict {
    let Played { faults, pointers } = played;
    let invoked = history.iter().filter(|e| matches!(e.what, What::Invoke { .. }));
    let mut anomalies = check::fencing::check(history);
    anomalies.extend(pointers.anomalies);
    let stale = pointers.stale_refused;
    tracing::info!(stale, "stale writes were refused at the stores' pointers");
    if faults == 0 && plan.duration > Duration::from_secs(20) {
        anomalies.push("no fault took hold, so the run proves nothing".to_owned());
    }
    RunVerdict {
        workload: primary::NAME.to_owned(),
        nemesis: plan.nemesis.as_str().to_owned(),
        seed: plan.seed,
        operations: invoked.count(),
        faults,
        anomalies,
        longest_unavailable_seconds: longest_gap(history),
    }
}

/// Longest time between two accepted writes of the registry, also before the first and after the last.
fn longest_gap(history: &[Event]) -> f64 {
    let mut open = std::collections::HashMap::new();
    let mut accepted = vec![0];
    for event in history {
        match &event.what {
            What::Invoke {
                action: Action::Write { door, .. },
            } => {
                open.insert(event.process, door.as_str());
            }
            What::Ok { .. } if open.get(&event.process) == Some(&"registry") => accepted.push(event.at),
            _ => {}
        }
    }
    accepted.extend(history.last().map(|e| e.at));
    let gaps = accepted.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    Duration::from_micros(gaps.max().unwrap_or(0)).as_secs_f64()
}
