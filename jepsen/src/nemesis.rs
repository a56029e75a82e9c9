//! Who hurts processes and what is between them: one fault at a time, each proved to have taken hold and to be over.

mod partition;

use std::{ops::Range, time::Duration};

use anyhow::{Context as _, ensure};
use chaos::{Fault, Injector, Part, Target, link::Disturbance};
use clap::ValueEnum;
use client::Client;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::{Instant, sleep};
use types::{RegionId, RoleName};

use crate::{
    history::{History, What},
    network::Network,
    workload::Workload,
    world::World,
};
use partition::{Partition, Ways};

/// The process number of the nemesis in a history.
const PROCESS: u32 = u32::MAX;
/// How long a pause lasts, in milliseconds: both shorter and longer than a lease.
const PAUSE_MILLIS: std::ops::Range<u64> = 500..6_000;

/// How long the question whom to hurt may take.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// How long a proof waits for a packet that must not arrive, and for one that must.
const NOTHING_WITHIN: Duration = Duration::from_millis(250);
const SOMETHING_WITHIN: Duration = Duration::from_secs(5);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Nemesis {
    /// SIGKILL to a process or a whole region; the supervisor starts it again.
    Kill,
    /// SIGSTOP to a process, SIGCONT later.
    Pause,
    /// SIGKILL to every process of every region at once, as where the power fails.
    Power,
    /// Ways between regions are cut: one region off, one deaf or mute, halves, a bridge.
    Partition,
    /// Ways between regions get long, uneven, lossy and out of order.
    Weather,
}

impl Nemesis {
    /// Each of them gets its share of a suite.
    pub(crate) const ALL: [Nemesis; 5] = [
        Self::Kill,
        Self::Pause,
        Self::Power,
        Self::Partition,
        Self::Weather,
    ];

    /// Whether it needs a network of namespaces.
    pub(crate) const fn is_of_networks(self) -> bool {
        matches!(self, Self::Partition | Self::Weather)
    }

    /// The name in a verdict.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Power => "power",
            Self::Partition => "partition",
            Self::Weather => "weather",
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
    ) -> Option<Strike> {
        let any = (regions.choose(random)?, *Part::ALL.choose(random)?);
        let is_aimed = random.random_bool(0.5);
        let aimed = aimed_at.filter(|_| is_aimed).map(|region| (region, aim.part()));
        let (region, part) = aimed.unwrap_or(any);
        let region = region.clone();
        let process = Target::Process {
            region: region.clone(),
            part,
        };
        let at = regions.iter().position(|r| *r == region)?;
        Some(Strike::Process(match self {
            Self::Kill if random.random_bool(0.3) => Fault::Kill {
                target: Target::Region { region },
            },
            Self::Kill => Fault::Kill { target: process },
            Self::Pause => Fault::Pause { target: process },
            Self::Power => Fault::Kill {
                target: Target::Everything,
            },
            Self::Partition => {
                let partition = Partition::choose(at, random);
                return Some(Strike::Network {
                    name: partition.name(regions),
                    ways: partition.ways(regions.len(), random),
                    disturbance: Disturbance {
                        cut: true,
                        ..Disturbance::default()
                    },
                });
            }
            Self::Weather => {
                return Some(Strike::Network {
                    name: format!("weather around {region}"),
                    ways: Partition::Isolated(at).ways(regions.len(), random),
                    disturbance: Disturbance {
                        delay_millis: random.random_range(20..150),
                        jitter_millis: random.random_range(0..60),
                        loss_per_mille: random.random_range(0..150),
                        reorder_per_mille: random.random_range(0..50),
                        ..Disturbance::default()
                    },
                });
            }
        }))
    }
}

/// One fault.
#[derive(Clone, Debug)]
enum Strike {
    /// Done to processes.
    Process(Fault),
    /// Done to ways between regions.
    Network {
        name: String,
        ways: Ways,
        disturbance: Disturbance,
    },
}

impl Strike {
    /// The name in a history.
    fn name(&self) -> String {
        match self {
            Self::Process(fault) => fault.to_string(),
            Self::Network { name, .. } => name.clone(),
        }
    }

    /// Does it, proves it, leaves it for so long where it is no blow, ends it and proves that.
    async fn carry_out(&self, world: &World, lasts: Duration) -> anyhow::Result<()> {
        match self {
            Self::Process(fault) => {
                let injector = Injector::new(world);
                let installed = injector.install(fault).await?;
                injector.prove(&installed).await?;
                if matches!(fault, Fault::Pause { .. }) {
                    sleep(lasts).await;
                }
                injector.heal(installed).await?;
            }
            Self::Network {
                ways, disturbance, ..
            } => {
                let network = world.network().context("no network between the regions")?;
                let number = network.disturb(ways.clone(), *disturbance);
                let least = Duration::from_millis(disturbance.delay_millis.into());
                let proved = look_at(network, ways, disturbance.cut, least).await;
                if proved.is_ok() {
                    sleep(lasts).await;
                }
                network.calm(number);
                proved?;
                look_at(network, ways, false, Duration::ZERO).await?;
            }
        }
        Ok(())
    }
}

/// That these ways are as they should be: nothing arrives, or something does, after `least` at the soonest.
async fn look_at(network: &Network, ways: &Ways, cut: bool, least: Duration) -> anyhow::Result<()> {
    let within = if cut { NOTHING_WITHIN } else { SOMETHING_WITHIN };
    let looks = ways.iter().map(|(from, to)| async move {
        let crossed = network.crosses(*from, *to, within).await?;
        ensure!(
            crossed.is_none() == cut && crossed.is_none_or(|took| took >= least),
            "the way from region {from} to {to} should be {}, and a packet crossed it in {crossed:?}",
            if cut {
                "cut".to_owned()
            } else {
                format!("{least:?} long at least")
            },
        );
        Ok(())
    });
    futures::future::try_join_all(looks).await.map(drop)
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
    world: &World,
    aim: Aim,
    regions: &[RegionId],
    history: &History,
    end: Instant,
) -> anyhow::Result<usize> {
    let client = world.admin()?.with_deadline(ASK_LIMIT);
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
        let Some(strike) = nemesis.choose(regions, aim, aimed_at.as_ref(), &mut random) else {
            return Ok(faults);
        };
        let name = strike.name();
        note(history, format!("{name} begins"));
        Box::pin(strike.carry_out(world, lasts)).await?;
        faults += 1;
        note(history, format!("{name} is over"));
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
            let faults: Vec<String> = (0..600).map(|_| choose().name()).collect();
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
