//! Who hurts processes: one fault at a time, so that a majority of coordinators is always left.

use std::time::Duration;

use chaos::{Fault, Injector, Part, Target, roster::Supervised};
use client::Client;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::{Instant, sleep};
use types::{RegionId, RoleName};

use crate::{
    cluster::Cluster,
    history::{History, What},
};

/// The process number of the nemesis in a history.
const PROCESS: u32 = u32::MAX;
/// Quiet between two faults, in milliseconds: long enough for a failover under the `fast` policy.
const QUIET_MILLIS: std::ops::Range<u64> = 4_000..7_000;
/// How long a pause lasts, in milliseconds: both shorter and longer than a lease.
const PAUSE_MILLIS: std::ops::Range<u64> = 500..6_000;

/// How long the question who holds the role may take.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// What is done to processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nemesis {
    /// SIGKILL to a process or a whole region; the supervisor starts it again.
    Kill,
    /// SIGSTOP to a process, SIGCONT later.
    Pause,
}

impl Nemesis {
    /// Each of them gets its share of a suite.
    pub(crate) const ALL: [Nemesis; 2] = [Self::Kill, Self::Pause];

    /// The name in a verdict.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
        }
    }

    /// The next fault, by the run's own choices. Half of them hit the agent that holds the role, as far as somebody
    /// does: a primary that nothing happens to proves little.
    fn choose(self, regions: &[RegionId], holder: Option<&RegionId>, random: &mut StdRng) -> Option<Fault> {
        let any = (regions.choose(random)?, *Part::ALL.choose(random)?);
        let at_holder = random.random_bool(0.5);
        let aimed = holder.filter(|_| at_holder).map(|holder| (holder, Part::Agent));
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
        })
    }
}

/// Hurts until `end`, and heals what it hurt. Gives the number of faults that were proved.
pub(crate) async fn hurt(
    nemesis: Nemesis,
    seed: u64,
    cluster: &Cluster,
    regions: &[RegionId],
    history: &History,
    end: Instant,
) -> anyhow::Result<usize> {
    let injector = Injector::new(Supervised::new(cluster.roster()));
    let client = cluster.admin()?.with_deadline(ASK_LIMIT);
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = 0;
    loop {
        let quiet = Duration::from_millis(random.random_range(QUIET_MILLIS));
        let lasts = Duration::from_millis(random.random_range(PAUSE_MILLIS));
        if Instant::now() + quiet + lasts >= end {
            return Ok(faults);
        }
        sleep(quiet).await;
        let holder = holder(&client).await;
        let Some(fault) = nemesis.choose(regions, holder.as_ref(), &mut random) else {
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

/// The region that holds the role now; none where nobody answers, or nobody holds it.
async fn holder(client: &Client) -> Option<RegionId> {
    let (role, _) = client.get_role(&RoleName::global()).await.ok()?;
    role.holder.map(|holder| holder.region)
}

fn note(history: &History, fault: String) {
    history.record(PROCESS, 0, What::Nemesis { fault });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_faults_hit_the_holders_agent_and_the_rest_anything() {
        let regions: Vec<RegionId> = ["r1", "r2", "r3"].map(|r| r.parse().unwrap()).to_vec();
        let mut random = StdRng::seed_from_u64(7);
        let mut choose = || {
            Nemesis::Pause
                .choose(&regions, regions.get(1), &mut random)
                .unwrap()
        };
        let faults: Vec<String> = (0..600).map(|_| choose().to_string()).collect();
        let at_holder = faults.iter().filter(|f| *f == "pause r2/agent").count();
        assert!((250..400).contains(&at_holder), "{at_holder}");
        for part in ["coordinator", "agent", "store"] {
            assert!(faults.contains(&format!("pause r3/{part}")), "{part}");
        }
    }

    #[test]
    fn without_a_holder_anything_may_be_hit() {
        let regions: Vec<RegionId> = vec!["r1".parse().unwrap()];
        let mut random = StdRng::seed_from_u64(7);
        assert!(Nemesis::Kill.choose(&regions, None, &mut random).is_some());
    }
}
