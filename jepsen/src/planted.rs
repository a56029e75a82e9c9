//! Each bug that can be planted, and the run that finds it: how it is known that the checkers can find anything.
//!
//! Absent on purpose: the bugs (`types::planted`).

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;
use types::planted::Bug;

use crate::{
    nemesis::Nemesis,
    run::{self, Plan},
    verdict::Planted,
    workload::Workload,
};

/// Runs that a bug has, each with another seed: what it breaks may not be looked at in the moment.
const RUNS: u64 = 5;

/// The pair of a suite that is to find a bug.
const fn pair(bug: Bug) -> (Workload, Nemesis) {
    match bug {
        Bug::AckBeforeCommit => (Workload::Lists, Nemesis::Partition),
        Bug::SkippedSyncs => (Workload::Lists, Nemesis::Power),
        Bug::StaleReads => (Workload::Registers, Nemesis::Partition),
        Bug::IgnoredEtags | Bug::LateAnswers => (Workload::Registers, Nemesis::Kill),
        Bug::ForgottenRequests => (Workload::Lists, Nemesis::Kill),
        Bug::DroppedEvents => (Workload::Watches, Nemesis::Kill),
        Bug::LeasesWithoutQuorum | Bug::EndlessLeases | Bug::TrustingAgents => {
            (Workload::Primary, Nemesis::Partition)
        }
        Bug::ReusedEpochs | Bug::OpenRegistry | Bug::OpenAgents => (Workload::Primary, Nemesis::Kill),
    }
}

/// How bugs are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Hunt {
    /// The executable under test.
    pub(crate) regent: PathBuf,
    /// Of one run.
    pub(crate) duration: Duration,
    /// Of the first run of each bug.
    pub(crate) seed: u64,
    /// Whether there is a network of namespaces between the regions.
    pub(crate) has_network: bool,
}

impl Hunt {
    /// One after the other. An error is the harness's, or where a bug is looked for by a nemesis that cannot be had here.
    pub(crate) async fn find_all(&self, bugs: &[Bug]) -> anyhow::Result<Vec<Planted>> {
        let mut found = Vec::new();
        for bug in bugs {
            let one = Box::pin(self.find(*bug)).await;
            let one = one.with_context(|| format!("looking for {bug}"))?;
            tracing::info!(%bug, found_by = ?one.found_by, seconds = one.seconds, "planted");
            found.push(one);
        }
        Ok(found)
    }

    async fn find(&self, bug: Bug) -> anyhow::Result<Planted> {
        let (workload, nemesis) = pair(bug);
        anyhow::ensure!(
            self.has_network || !nemesis.is_of_networks(),
            "the nemesis {} needs network namespaces: run it as root, or name other bugs",
            nemesis.as_str()
        );
        let began = Instant::now();
        for n in 0..RUNS {
            let store = std::env::temp_dir().join(format!("regent-planted-{bug}-{}", uuid::Uuid::now_v7()));
            let plan = Plan {
                regent: self.regent.clone(),
                workload,
                nemesis,
                regions: 3,
                has_network: self.has_network,
                bug: Some(bug),
                seed: self.seed.wrapping_add(n),
                duration: self.duration,
                store: Some(store.clone()),
            };
            let verdict = Box::pin(run::run(&plan)).await?;
            std::fs::remove_dir_all(&store)?;
            let mut anomalies = verdict.anomalies.iter();
            if let Some(anomaly) = anomalies.find(|anomaly| !anomaly.ends_with(run::VAIN)) {
                return Ok(Planted {
                    bug: bug.to_string(),
                    found_by: Some(format!("{} under {}", workload.as_str(), nemesis.as_str())),
                    seconds: began.elapsed().as_secs_f64(),
                    seed: plan.seed,
                    anomaly: Some(anomaly.clone()),
                });
            }
        }
        Ok(Planted {
            bug: bug.to_string(),
            found_by: None,
            seconds: began.elapsed().as_secs_f64(),
            seed: self.seed,
            anomaly: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Length;

    #[test]
    fn every_bug_is_looked_for_by_a_pair_of_a_suite() {
        let pairs = Length::Full.pairs();
        assert!(Bug::ALL.iter().all(|bug| pairs.contains(&pair(*bug))));
    }
}
