//! Who hurts processes: one fault at a time, so that a majority of coordinators is always left.

use std::{path::Path, time::Duration};

use chaos::{Fault, Injector, Part, Target, roster::Supervised};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::{Instant, sleep};
use types::RegionId;

use crate::history::{History, What};

/// The process number of the nemesis in a history.
const PROCESS: u32 = u32::MAX;
/// Quiet between two faults, in milliseconds: long enough for a failover under the `fast` policy.
const QUIET_MILLIS: std::ops::Range<u64> = 4_000..7_000;
/// How long a pause lasts, in milliseconds: both shorter and longer than a lease.
const PAUSE_MILLIS: std::ops::Range<u64> = 500..6_000;

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

    /// The next fault, by the run's own choices.
    fn choose(self, regions: &[RegionId], random: &mut StdRng) -> Option<Fault> {
        let region = regions.choose(random)?.clone();
        let part = *Part::ALL.choose(random)?;
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
    roster: &Path,
    regions: &[RegionId],
    history: &History,
    end: Instant,
) -> anyhow::Result<usize> {
    let injector = Injector::new(Supervised::new(roster));
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = 0;
    loop {
        let quiet = Duration::from_millis(random.random_range(QUIET_MILLIS));
        let lasts = Duration::from_millis(random.random_range(PAUSE_MILLIS));
        let fault = nemesis.choose(regions, &mut random);
        let Some(fault) = fault.filter(|_| Instant::now() + quiet + lasts < end) else {
            return Ok(faults);
        };
        sleep(quiet).await;
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
