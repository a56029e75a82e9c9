//! Clocks that are wrong, and disks that are slow: faults that stand before libc in one process or in all of them ([`crate::shim`]).

use std::{ops::Range, time::Duration};

use anyhow::{Context as _, ensure};
use chaos::{Part, ProcessName};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::{Instant, sleep};
use types::RegionId;

use crate::{
    shim::{Clocks, Shim},
    world::World,
};

/// By how many milliseconds a wall clock jumps: a minute, beyond which a time is refused, to some hours.
const JUMP_MILLIS: Range<i64> = 60_000..8 * 3_600_000;
/// By how many milliseconds one is off in every second period of a strobe, and how long such a period is.
const STROBE_MILLIS: Range<i64> = 50..200_000;
const STROBE_PERIOD_MILLIS: Range<u64> = 20..250;
/// By how many millionths a clock drifts: leases reckon with a tenth (design.md section 4).
const DRIFT: Range<i64> = 30_000..95_000;
/// How much longer a sync takes, in milliseconds.
const SLOW_MILLIS: Range<u64> = 20..400;

/// How long a process may take until it has read a clock, or waited for a sync, and how often that is looked for.
const ACTS_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// What stands before libc in which processes.
#[derive(Clone, Debug)]
pub(super) struct Shimmed {
    pub(super) name: String,
    wrongs: Vec<(ProcessName, Wrong)>,
}

#[derive(Clone, Copy, Debug)]
enum Wrong {
    Clocks(Clocks),
    SlowDisk(Duration),
}

/// The clocks of one process, or of every coordinator and agent, each in its own way.
pub(super) fn clocks(regions: &[RegionId], aimed: ProcessName, random: &mut StdRng) -> Shimmed {
    let parts = [Part::Coordinator, Part::Agent];
    let names = if random.random_bool(0.3) {
        let all = regions.iter().flat_map(|region| {
            parts.map(|part| ProcessName {
                region: region.clone(),
                part,
            })
        });
        all.collect()
    } else {
        // A store has no clock that anybody goes by.
        let part = if aimed.part == Part::Store {
            Part::Coordinator
        } else {
            aimed.part
        };
        vec![ProcessName { part, ..aimed }]
    };
    let who = match names.as_slice() {
        [one] => one.to_string(),
        _ => "everybody".to_owned(),
    };
    let kind = *[Kind::Jump, Kind::Drift, Kind::Strobe]
        .choose(random)
        .unwrap_or(&Kind::Drift);
    let wrongs = names
        .into_iter()
        .map(|name| (name, Wrong::Clocks(kind.draw(random))));
    let wrongs: Vec<_> = wrongs.collect();
    let what = match wrongs.as_slice() {
        [(_, Wrong::Clocks(clocks))] => says(clocks),
        _ => kind.as_str().to_owned(),
    };
    Shimmed {
        name: format!("clock {what} of {who}"),
        wrongs,
    }
}

/// The disk of a coordinator.
pub(super) fn slow_disk(region: RegionId, random: &mut StdRng) -> Shimmed {
    let millis = random.random_range(SLOW_MILLIS);
    let name = ProcessName {
        region,
        part: Part::Coordinator,
    };
    Shimmed {
        name: format!("slow disk ({millis} ms a sync) of {name}"),
        wrongs: vec![(name, Wrong::SlowDisk(Duration::from_millis(millis)))],
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Jump,
    Drift,
    Strobe,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Jump => "jump",
            Self::Drift => "drift",
            Self::Strobe => "strobe",
        }
    }

    fn draw(self, random: &mut StdRng) -> Clocks {
        let sign = if random.random_bool(0.5) { 1 } else { -1 };
        let millis = |millis: i64| sign * millis * 1_000_000;
        let mut clocks = Clocks::default();
        match self {
            Self::Jump => clocks.wall_offset = millis(random.random_range(JUMP_MILLIS)),
            Self::Drift => clocks.rate = sign * random.random_range(DRIFT),
            Self::Strobe => {
                clocks.strobe = millis(random.random_range(STROBE_MILLIS));
                clocks.strobe_period = Duration::from_millis(random.random_range(STROBE_PERIOD_MILLIS));
            }
        }
        clocks
    }
}

fn says(clocks: &Clocks) -> String {
    if clocks.rate != 0 {
        return format!("drift ({:+} %)", clocks.rate as f64 / 1e4);
    }
    let seconds = |nanos: i64| nanos as f64 / 1e9;
    if clocks.strobe != 0 {
        return format!(
            "strobe ({:+} s every {:?})",
            seconds(clocks.strobe),
            clocks.strobe_period
        );
    }
    format!("jump ({:+} s)", seconds(clocks.wall_offset))
}

impl Shimmed {
    /// Whether writes may wait for it beyond what an election takes: a disk may be that slow.
    pub(super) fn is_slow(&self) -> bool {
        self.wrongs
            .iter()
            .any(|(_, wrong)| matches!(wrong, Wrong::SlowDisk(_)))
    }

    /// Does it, proves it, leaves it until `meanwhile` is over, ends it and proves that, where it can be.
    pub(super) async fn carry_out(
        &self,
        world: &World,
        meanwhile: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let mut shims = Vec::new();
        for (name, wrong) in &self.wrongs {
            let shim = world
                .shim(name)
                .with_context(|| format!("nothing stands before libc in {name}"))?;
            shims.push((name, shim, wrong));
        }
        for (_, shim, wrong) in &shims {
            wrong.begin(shim)?;
        }
        let mut proved = Ok(());
        for (name, shim, wrong) in &shims {
            proved = proved.and(wrong.prove(name, shim).await);
        }
        if proved.is_ok() {
            proved = meanwhile.await;
        }
        for (_, shim, wrong) in &shims {
            wrong.end(shim)?;
        }
        proved?;
        for (_, shim, wrong) in &shims {
            if matches!(wrong, Wrong::Clocks(_)) {
                shim.prove_clocks().await?;
            }
        }
        Ok(())
    }
}

impl Wrong {
    fn begin(&self, shim: &Shim) -> anyhow::Result<()> {
        match self {
            Self::Clocks(clocks) => shim.set_clocks(*clocks),
            Self::SlowDisk(delay) => shim.delay_syncs(*delay),
        }
    }

    fn end(&self, shim: &Shim) -> anyhow::Result<()> {
        match self {
            Self::Clocks(_) => shim.set_clocks(Clocks::default()),
            Self::SlowDisk(_) => shim.delay_syncs(Duration::ZERO),
        }
    }

    fn acts(&self, shim: &Shim) -> anyhow::Result<i64> {
        match self {
            Self::Clocks(_) => shim.clock_reads(),
            Self::SlowDisk(_) => shim.syncs(),
        }
    }

    /// That the process itself asks what stands before it, and that clocks there are wrong.
    async fn prove(&self, name: &ProcessName, shim: &Shim) -> anyhow::Result<()> {
        let before = self.acts(shim)?;
        let deadline = Instant::now() + ACTS_WITHIN;
        while self.acts(shim)? == before {
            ensure!(
                Instant::now() < deadline,
                "{name} has asked neither clock nor disk within {ACTS_WITHIN:?}"
            );
            sleep(LOOK).await;
        }
        if matches!(self, Self::Clocks(_)) {
            let probe = shim.prove_clocks().await?;
            tracing::debug!(%name, ?probe, "clocks are wrong");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn every_way_to_be_wrong_is_drawn_forward_and_back_and_for_everybody() {
        let regions: Vec<RegionId> = ["r1", "r2", "r3"].map(|r| r.parse().unwrap()).to_vec();
        let aimed = ProcessName {
            region: regions[1].clone(),
            part: Part::Agent,
        };
        let mut random = StdRng::seed_from_u64(5);
        let all: Vec<Shimmed> = (0..300)
            .map(|_| clocks(&regions, aimed.clone(), &mut random))
            .collect();
        for text in [
            "jump (+",
            "jump (-",
            "drift (+",
            "drift (-",
            "strobe (+",
            "strobe (-",
        ] {
            assert!(all.iter().any(|s| s.name.contains(text)), "{text}");
        }
        for text in [
            "clock jump of everybody",
            "clock drift of everybody",
            "clock strobe of everybody",
        ] {
            let of_all = all.iter().find(|s| s.name == text).unwrap();
            assert_eq!(of_all.wrongs.len(), 6, "{text}");
        }
        assert!(all.iter().any(|s| s.name.ends_with("of r2/agent")));
        for (_, wrong) in all.iter().flat_map(|s| &s.wrongs) {
            let Wrong::Clocks(clocks) = wrong else {
                panic!("{wrong:?}")
            };
            // What leases reckon with, and no more.
            assert!(clocks.rate.abs() < 100_000, "{clocks:?}");
        }
    }
}
