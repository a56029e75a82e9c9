//! Who hurts processes: one fault at a time.

use std::{ops::Range, time::Duration};

use chaos::{Fault, Injector, Part, Target, roster::Supervised};
use clap::ValueEnum;
use client::Client;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::{Instant, sleep};
use types::{RegionId, RoleName};

use crate::{
    cluster::Cluster,
    history::{History, What},
    workload::Workload,
};

/// The process number of the nemesis in a history.
const PROCESS: u32 = u32::MAX;
/// How long a pause lasts, in milliseconds: both shorter and longer than a lease.
const PAUSE_MILLIS: std::ops::Range<u64> = 500..6_000;

/// How long the question whom to hurt may take.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// What is done to processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Nemesis {
    /// SIGKILL to a process or a whole region; the supervisor starts it again.
    Kill,
    /// SIGSTOP to a process, SIGCONT later.
    Pause,
    /// SIGKILL to every process of every region at once, as where the power fails.
    Power,
}

impl Nemesis {
    /// Each of them gets its share of a suite.
    pub(crate) const ALL: [Nemesis; 3] = [Self::Kill, Self::Pause, Self::Power];

    /// The name in a verdict.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Power => "power",
        }
    }

    /// The next fault, by the run's own choices. Half of them hit whom the run aims at, in that region, as far as there is one: a
    /// primary, or a leader, that nothing happens to proves little.
    fn choose(
        self,
        regions: &[RegionId],
        aim: Aim,
        aimed_at: Option<&RegionId>,
        random: &mut StdRng,
    ) -> Option<Fault> {
        let any = (regions.choose(random)?, *Part::ALL.choose(random)?);
        let is_aimed = random.random_bool(0.5);
        let aimed = aimed_at.filter(|_| is_aimed).map(|region| (region, aim.part()));
        let (region, part) = aimed.unwrap_or(any);
        let region = region.clone();
        let process = Target::Process {
            region: region.clone(),
            part,
        };
        Some(match self {
            Self::Kill if random.random_bool(0.3) => Fault::Kill {
                target: Target::Region { region },
            },
            Self::Kill => Fault::Kill { target: process },
            Self::Pause => Fault::Pause { target: process },
            Self::Power => Fault::Kill {
                target: Target::Everything,
            },
        })
    }
}

/// Whom half of the faults hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The agent that holds the role.
    Holder,
    /// The coordinator that leads.
    Leader,
}

impl Aim {
    /// Whom a workload depends on.
    pub(crate) const fn of(workload: Workload) -> Self {
        match workload {
            Workload::Primary => Self::Holder,
            Workload::Registers | Workload::Lists | Workload::Watches => Self::Leader,
        }
    }

    /// Quiet between two faults, in milliseconds: as long as it takes another to do the work, and a while in which it does. A failover of
    /// the role takes some seconds, an election less than one.
    const fn quiet_millis(self) -> Range<u64> {
        match self {
            Self::Holder => 4_000..7_000,
            Self::Leader => 1_500..3_500,
        }
    }

    const fn part(self) -> Part {
        match self {
            Self::Holder => Part::Agent,
            Self::Leader => Part::Coordinator,
        }
    }

    /// The region in which it is now; none where nobody answers, or there is none.
    async fn region(self, client: &Client) -> Option<RegionId> {
        match self {
            Self::Holder => {
                let (role, _) = client.get_role(&RoleName::global()).await.ok()?;
                role.holder.map(|holder| holder.region)
            }
            Self::Leader => {
                let status = client.status().await.ok()?;
                let leader = status.members.iter().find(|m| m.node == status.leader_node)?;
                leader.region.parse().ok()
            }
        }
    }
}

/// Hurts until `end`, and heals what it hurt. Gives the number of faults that were proved.
pub(crate) async fn hurt(
    nemesis: Nemesis,
    seed: u64,
    cluster: &Cluster,
    aim: Aim,
    regions: &[RegionId],
    history: &History,
    end: Instant,
) -> anyhow::Result<usize> {
    let injector = Injector::new(Supervised::new(cluster.roster()));
    let client = cluster.admin()?.with_deadline(ASK_LIMIT);
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = 0;
    loop {
        let quiet = Duration::from_millis(random.random_range(aim.quiet_millis()));
        let lasts = Duration::from_millis(random.random_range(PAUSE_MILLIS));
        if Instant::now() + quiet + lasts >= end {
            return Ok(faults);
        }
        sleep(quiet).await;
        let aimed_at = aim.region(&client).await;
        let Some(fault) = nemesis.choose(regions, aim, aimed_at.as_ref(), &mut random) else {
            return Ok(faults);
        };
        note(history, format!("{fault} begins"));
        let installed = injector.install(&fault).await?;
        injector.prove(&installed).await?;
        faults += 1;
        if nemesis == Nemesis::Pause {
            sleep(lasts).await;
        }
        injector.heal(installed).await?;
        note(history, format!("{fault} is over"));
    }
}

fn note(history: &History, fault: String) {
    history.record(PROCESS, 0, What::Nemesis { fault });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_faults_hit_whom_the_run_aims_at_and_the_rest_anything() {
        let regions: Vec<RegionId> = ["r1", "r2", "r3"].map(|r| r.parse().unwrap()).to_vec();
        for (aim, aimed) in [
            (Aim::Holder, "pause r2/agent"),
            (Aim::Leader, "pause r2/coordinator"),
        ] {
            let mut random = StdRng::seed_from_u64(7);
            let mut choose = || {
                Nemesis::Pause
                    .choose(&regions, aim, regions.get(1), &mut random)
                    .unwrap()
            };
            let faults: Vec<String> = (0..600).map(|_| choose().to_string()).collect();
            let hit = faults.iter().filter(|f| *f == aimed).count();
            assert!((250..400).contains(&hit), "{hit}");
            for part in ["coordinator", "agent", "store"] {
                assert!(faults.contains(&format!("pause r3/{part}")), "{part}");
            }
        }
    }

    #[test]
    fn where_there_is_nobody_to_aim_at_anything_may_be_hit() {
        let regions: Vec<RegionId> = vec!["r1".parse().unwrap()];
        let mut random = StdRng::seed_from_u64(7);
        let fault = Nemesis::Kill.choose(&regions, Aim::Leader, None, &mut random);
        assert!(fault.is_some());
    }
}
