//! Trials: one fault again and again on one cluster of real processes, and how long the next write took, every value of it.
//!
//! `leader-kill`: SIGKILL to the coordinator that leads, counted from just before the signal to the first write that any
//! other coordinator acknowledged. Absent on purpose: judging histories; that is a suite's.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use chaos::{Fault, Injector, Part, Target, roster::Supervised};
use client::Client;
use futures::future::{join_all, select_all};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use types::{ModelName, RegionId, model::Placement};

use crate::cluster::Cluster;

/// The model whose tag is written.
const MODEL: &str = "trials.writes";
/// How long one attempt to write may take before the next begins.
const ATTEMPT: Duration = Duration::from_millis(500);
/// Between two attempts at one coordinator: far below what is measured.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a cluster may take to be whole again, and a write to be taken.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(100);
/// Entries that another coordinator may lack and still count as caught up.
const CAUGHT_UP_WITHIN: u64 = 8;
/// So often in a row a cluster must look whole.
const CALM_LOOKS: u32 = 5;

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trial {
    /// Counted from 1.
    trial: u32,
    /// Who led and was killed.
    leader: String,
    /// From just before the kill to the first acknowledged write.
    seconds: f64,
    /// Who acknowledged it.
    accepted_by: String,
    /// The longest election timeout of the killed leader then.
    election_timeout_max_seconds: f64,
}

/// All trials of a run, and whether each kept the bound.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trials {
    fault: String,
    /// Three times the longest election timeout, the shortest of all trials.
    limit_seconds: f64,
    slowest_seconds: f64,
    median_seconds: f64,
    kept: bool,
    trials: Vec<Trial>,
}

impl Trials {
    fn of(trials: Vec<Trial>) -> Self {
        let mut sorted: Vec<f64> = trials.iter().map(|t| t.seconds).collect();
        sorted.sort_by(f64::total_cmp);
        let slowest = sorted.last().copied().unwrap_or_default();
        let timeouts = trials.iter().map(|t| t.election_timeout_max_seconds);
        let limit = 3.0 * timeouts.fold(f64::INFINITY, f64::min);
        Self {
            fault: "leader-kill".to_owned(),
            limit_seconds: limit,
            slowest_seconds: slowest,
            median_seconds: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
            kept: !trials.is_empty() && slowest <= limit,
            trials,
        }
    }

    /// Whether every trial kept the bound.
    pub(crate) fn holds(&self) -> bool {
        self.kept
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let lines = self.trials.iter().map(|t| {
            format!(
                "{:>3}  {:.3} s  {} killed, {} took it",
                t.trial, t.seconds, t.leader, t.accepted_by
            )
        });
        let last = format!(
            "slowest {:.3} s, median {:.3} s, bound {:.3} s: {}",
            self.slowest_seconds,
            self.median_seconds,
            self.limit_seconds,
            if self.kept { "kept" } else { "not kept" }
        );
        lines.chain([last]).collect::<Vec<_>>().join("\n")
    }
}

/// A coordinator and how to reach it alone.
struct Door {
    client: Client,
}

/// What a coordinator says of itself.
struct Standing {
    node: String,
    region: String,
    term: u64,
    leads: bool,
    leader: String,
    has_quorum: bool,
    /// Every member votes and stores nearly all that this one does; of a leader.
    others_caught_up: bool,
    members: usize,
    election_timeout_max: Duration,
}

/// What the coordinators of a whole cluster say.
struct Whole {
    leader: usize,
    statuses: Vec<Standing>,
}

/// Kills the leader `count` times. The directory is removed unless the harness failed.
pub(crate) async fn leader_kill(regent: PathBuf, count: u32) -> anyhow::Result<Trials> {
    let dir = std::env::temp_dir().join(format!("regent-trials-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir_all(&dir)?;
    let trials = Box::pin(play(&regent, &dir, count))
        .await
        .with_context(|| format!("the trials in {}", dir.display()))?;
    std::fs::remove_dir_all(&dir)?;
    Ok(trials)
}

async fn play(regent: &Path, dir: &Path, count: u32) -> anyhow::Result<Trials> {
    let cluster = Cluster::start(regent, dir).await?;
    let model = ModelName::new(MODEL)?;
    let admin = cluster.admin()?;
    admin
        .create_model(&model, "", BTreeMap::new(), &Placement::Everywhere)
        .await
        .map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let mut trials = Vec::new();
    for trial in 1..=count {
        let one = Box::pin(kill_once(&cluster, &model, trial)).await?;
        tracing::info!(trial, seconds = one.seconds, "trial");
        trials.push(one);
    }
    cluster.stop().await?;
    Ok(Trials::of(trials))
}

async fn kill_once(cluster: &Cluster, model: &ModelName, trial: u32) -> anyhow::Result<Trial> {
    let doors = doors(cluster)?;
    let whole = whole(&doors).await?;
    let leader = &whole.statuses[whole.leader];
    let region: RegionId = leader.region.parse()?;
    let kill = Fault::Kill {
        target: Target::Process {
            region,
            part: Part::Coordinator,
        },
    };
    let injector = Injector::new(Supervised::new(cluster.roster()));
    let others = doors.iter().enumerate().filter(|(i, _)| *i != whole.leader);
    let began = Instant::now();
    let installed = injector.install(&kill).await?;
    let writes = others.map(|(i, door)| Box::pin(written(door, model, trial, i)));
    let (accepted, _, rest) = select_all(writes).await;
    let seconds = began.elapsed().as_secs_f64();
    drop(rest);
    let accepted = accepted?;
    injector.prove(&installed).await?;
    injector.heal(installed).await?;
    Ok(Trial {
        trial,
        leader: leader.node.clone(),
        seconds,
        accepted_by: whole.statuses[accepted].node.clone(),
        election_timeout_max_seconds: leader.election_timeout_max.as_secs_f64(),
    })
}

/// A client for each coordinator, so that none of them waits for another.
fn doors(cluster: &Cluster) -> anyhow::Result<Vec<Door>> {
    let config = cluster.context()?.client_config();
    let one = |endpoint: &String| {
        let mut config = config.clone();
        config.endpoints = vec![endpoint.clone()];
        config.deadline = ATTEMPT;
        config.attempt_timeout = ATTEMPT;
        Ok(Door {
            client: Client::new(config)?,
        })
    };
    config.endpoints.iter().map(one).collect()
}

/// Waits until all follow one leader that knows them caught up, for several looks in a row.
async fn whole(doors: &[Door]) -> anyhow::Result<Whole> {
    let deadline = Instant::now() + PATIENCE;
    let mut calm = 0;
    let mut last = None;
    loop {
        let now = look(doors).await;
        let (leader, term) = now.as_ref().map_or((None, None), |whole| {
            (Some(whole.leader), Some(whole.statuses[whole.leader].term))
        });
        calm = if leader.is_some() && last == Some((leader, term)) {
            calm + 1
        } else {
            0
        };
        last = Some((leader, term));
        if let Some(whole) = now.filter(|_| calm >= CALM_LOOKS) {
            return Ok(whole);
        }
        if Instant::now() >= deadline {
            bail!("the cluster is not whole after {PATIENCE:?}");
        }
        sleep(LOOK).await;
    }
}

async fn look(doors: &[Door]) -> Option<Whole> {
    let asked = join_all(doors.iter().map(|door| Box::pin(standing(door)))).await;
    let statuses: Vec<Standing> = asked.into_iter().collect::<Option<_>>()?;
    let leader = statuses.iter().position(|s| s.leads && s.has_quorum)?;
    let of = &statuses[leader];
    let follow = statuses.iter().all(|s| s.leader == of.node && s.has_quorum);
    (follow && of.others_caught_up && of.members == doors.len()).then_some(Whole { leader, statuses })
}

async fn standing(door: &Door) -> Option<Standing> {
    let s = door.client.status().await.ok()?;
    let near = |at: u64| at + CAUGHT_UP_WITHIN >= s.last_log_index;
    let timeout = s.election_timing.as_ref().map_or(0, |t| t.election_max_millis);
    Some(Standing {
        leads: s.raft_state == "LEADER",
        others_caught_up: s
            .members
            .iter()
            .all(|m| m.voter && m.matched_index.is_some_and(near)),
        members: s.members.len(),
        election_timeout_max: Duration::from_millis(timeout),
        node: s.node,
        region: s.region,
        term: s.term,
        leader: s.leader_node,
        has_quorum: s.has_quorum,
    })
}

/// Writes at one coordinator until it acknowledges one, also as the one that hands the write on to a leader.
async fn written(door: &Door, model: &ModelName, trial: u32, index: usize) -> anyhow::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let tags = BTreeMap::from([("trial".to_owned(), trial.to_string())]);
        let write = door.client.set_model_tags(model, tags, Vec::new(), None, None);
        if Box::pin(write).await.is_ok() {
            return Ok(index);
        }
        if Instant::now() >= deadline {
            bail!("no write was taken within {PATIENCE:?}");
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(seconds: f64, timeout: f64) -> Trial {
        Trial {
            trial: 1,
            leader: "c1".to_owned(),
            seconds,
            accepted_by: "c2".to_owned(),
            election_timeout_max_seconds: timeout,
        }
    }

    #[test]
    fn the_slowest_trial_decides() {
        for (values, timeout, kept) in [
            (vec![0.5, 0.9, 0.7], 0.4, true),
            (vec![0.5, 1.3, 0.7], 0.4, false),
            (vec![], 0.4, false),
        ] {
            let trials: Vec<Trial> = values.iter().map(|s| trial(*s, timeout)).collect();
            let found = Trials::of(trials);
            assert_eq!(found.holds(), kept, "{values:?}");
            assert_eq!(found.trials.len(), values.len());
        }
        let found = Trials::of([0.9, 0.5, 0.7].map(|s| trial(s, 0.4)).into());
        assert_eq!((found.slowest_seconds, found.median_seconds), (0.9, 0.7));
        assert!((found.limit_seconds - 1.2).abs() < 1e-9);
    }
}
