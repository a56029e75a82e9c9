//! Who hurts processes and what is between them: one fault at a time, each proved to have taken hold and to be over.

mod full;
mod partition;
mod rolling;
mod shimmed;

use std::{num::NonZeroU64, ops::Range, time::Duration};

use anyhow::{Context as _, ensure};
use chaos::{Fault, Injector, Part, ProcessName, Target, link::Disturbance};
use clap::ValueEnum;
use client::Client;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::{Instant, sleep, sleep_until};
use types::{RegionId, RoleName};

use crate::{
    history::{History, Phase, What},
    network::{Network, PROBE_BYTES},
    workload::Workload,
    world::World,
};
use full::Full;
use partition::{Partition, Ways};
use rolling::Rolling;
use shimmed::Shimmed;

/// The number of the nemesis in a history.
const PROCESS: u32 = u32::MAX;
/// The shortest pause or cut.
const LASTS_LEAST: Duration = Duration::from_millis(500);

/// The long cut: as long as the one that left a cluster of databases with two primaries at GitHub in October 2018.
/// <https://github.blog/2018-10-30-oct21-post-incident-analysis/>
const LONG_CUT: Duration = Duration::from_secs(43);
/// How long a flapping way is cut, and how long it is whole, in milliseconds; drawn so often, and then again from the first.
const BEAT_MILLIS: Range<u64> = 100..900;
const BEATS: usize = 32;
/// What a narrow way carries: a few calls a second at the least, and no more than a busy coordinator says.
const NARROW_BYTES_PER_SECOND: Range<u64> = 32_000..256_000;

/// How long the question whom to hurt may take.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// How long a proof waits for a packet that must not arrive, and for one that must.
const NOTHING_WITHIN: Duration = Duration::from_millis(250);
const SOMETHING_WITHIN: Duration = Duration::from_secs(5);

/// Without an accepted write, in longest election timeouts: where the leader is gone at one blow, and where some still hear it, or each other
/// in part.
const AT_A_BLOW: u32 = 3;
const ONE_SIDED: u32 = 10;

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
    /// Clocks jump, drift and flicker, of one process or of all.
    Clock,
    /// Each sync of a coordinator takes longer.
    SlowDisk,
    /// There is no room on the disk of a coordinator, or on those of a majority.
    FullDisk,
    /// SIGTERM to one process after the other, each started again, and the next once all is whole.
    Restart,
    /// Clocks that are wrong or a disk that is slow, and meanwhile a kill, a pause or a partition.
    Combined,
}

impl Nemesis {
    /// Each of them gets its share of a suite.
    pub(crate) const ALL: [Nemesis; 10] = [
        Self::Kill,
        Self::Pause,
        Self::Power,
        Self::Partition,
        Self::Weather,
        Self::Clock,
        Self::SlowDisk,
        Self::FullDisk,
        Self::Restart,
        Self::Combined,
    ];

    /// Whether it needs a network of namespaces.
    pub(crate) const fn is_of_networks(self) -> bool {
        matches!(self, Self::Partition | Self::Weather | Self::Combined)
    }

    /// Whether it needs file systems of its own below the coordinators.
    pub(crate) const fn is_of_mounts(self) -> bool {
        matches!(self, Self::FullDisk)
    }

    /// Whether it needs something before libc in every process.
    pub(crate) const fn is_of_shims(self) -> bool {
        matches!(self, Self::Clock | Self::SlowDisk | Self::Combined)
    }

    /// The name in a verdict.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Power => "power",
            Self::Partition => "partition",
            Self::Weather => "weather",
            Self::Clock => "clock",
            Self::SlowDisk => "slow-disk",
            Self::FullDisk => "full-disk",
            Self::Restart => "restart",
            Self::Combined => "combined",
        }
    }

    /// The next fault, by the run's own choices. Half of them hit whom the run aims at, in that region, as far as there is one: a
    /// primary, or a leader, that nothing happens to proves little.
    fn choose(
        self,
        regions: &[RegionId],
        aim: Aim,
        aimed_at: Option<&RegionId>,
        left: Duration,
        random: &mut StdRng,
    ) -> Option<Strike> {
        let any = (regions.choose(random)?, *Part::ALL.choose(random)?);
        let is_aimed = random.random_bool(0.5);
        let aimed = aimed_at.filter(|_| is_aimed).map(|region| (region, aim.part()));
        let (region, part) = aimed.unwrap_or(any);
        let region = region.clone();
        let at = regions.iter().position(|r| *r == region)?;
        let process = Target::Process {
            region: region.clone(),
            part,
        };
        Some(Strike::Process(match self {
            Self::Kill if random.random_bool(0.3) => Fault::Kill {
                target: Target::Region { region },
            },
            Self::Kill => Fault::Kill { target: process },
            Self::Pause => Fault::Pause { target: process },
            Self::Power => Fault::Kill {
                target: Target::Everything,
            },
            Self::Partition => return Some(Strike::Network(partition(regions, at, left, random))),
            Self::Weather => return Some(Strike::Network(weather(regions, at, random))),
            Self::Clock => {
                let aimed = ProcessName { region, part };
                return Some(Strike::Shimmed(shimmed::clocks(regions, aimed, random)));
            }
            Self::SlowDisk => return Some(Strike::Shimmed(shimmed::slow_disk(region, random))),
            Self::FullDisk => return Some(Strike::Full(full::full(regions, at, random))),
            Self::Restart => return Some(Strike::Rolling(rolling::rolling(regions, &region, left, random))),
            Self::Combined => {
                let shimmed = if random.random_bool(0.7) {
                    shimmed::clocks(regions, ProcessName { region, part }, random)
                } else {
                    shimmed::slow_disk(region, random)
                };
                let other = *[Self::Kill, Self::Pause, Self::Partition].choose(random)?;
                let strike = other.choose(regions, aim, aimed_at, left, random)?;
                return Some(Strike::Both(shimmed, Box::new(strike)));
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
    Network(Trouble),
    /// Done to what processes hear of clocks and disks.
    Shimmed(Shimmed),
    /// Done to file systems below data directories.
    Full(Full),
    /// Done to processes as an operator does it.
    Rolling(Rolling),
    /// The second while the first lasts.
    Both(Shimmed, Box<Strike>),
}

/// What is done to ways between regions.
#[derive(Clone, Debug)]
struct Trouble {
    name: String,
    ways: Ways,
    disturbance: Disturbance,
    /// It comes and goes, each time for so long; empty: it stays.
    beats: Vec<Duration>,
    /// It lasts this long; none: as long as any.
    lasts: Option<Duration>,
    /// As [`Strike::elections`] says.
    elections: Option<u32>,
}

/// A partition, steady or flapping, or the long one where there is time for it.
fn partition(regions: &[RegionId], at: usize, left: Duration, random: &mut StdRng) -> Trouble {
    let partition = Partition::choose(regions.len(), at, random);
    let (is_long, flaps) = (random.random_bool(0.15), random.random_bool(0.25));
    let is_long = is_long && left > LONG_CUT;
    let name = match (is_long, flaps) {
        (true, _) => format!("{} for {} s", partition.name(regions), LONG_CUT.as_secs()),
        (false, true) => format!("{}, flapping", partition.name(regions)),
        (false, false) => partition.name(regions),
    };
    let beat = |_| Duration::from_millis(random.random_range(BEAT_MILLIS));
    let beats = if flaps && !is_long {
        (0..BEATS).map(beat).collect()
    } else {
        Vec::new()
    };
    Trouble {
        name,
        ways: partition.ways(regions.len(), random),
        disturbance: Disturbance {
            cut: true,
            ..Disturbance::default()
        },
        beats,
        lasts: is_long.then_some(LONG_CUT),
        elections: Some(if partition.is_one_sided() {
            ONE_SIDED
        } else {
            AT_A_BLOW
        }),
    }
}

/// Ways to and from one region that are long, uneven, lossy and out of order, or narrow.
fn weather(regions: &[RegionId], at: usize, random: &mut StdRng) -> Trouble {
    let region = regions.get(at).map(ToString::to_string).unwrap_or_default();
    let (what, disturbance) = if random.random_bool(0.3) {
        let rate = random.random_range(NARROW_BYTES_PER_SECOND);
        let narrow = Disturbance {
            bytes_per_second: NonZeroU64::new(rate),
            ..Disturbance::default()
        };
        (format!("narrow ways ({} kB/s) around", rate / 1_000), narrow)
    } else {
        let bad = Disturbance {
            delay_millis: random.random_range(20..150),
            jitter_millis: random.random_range(0..60),
            loss_per_mille: random.random_range(0..150),
            reorder_per_mille: random.random_range(0..50),
            ..Disturbance::default()
        };
        ("weather around".to_owned(), bad)
    };
    Trouble {
        name: format!("{what} {region}"),
        ways: Partition::Isolated(at).ways(regions.len(), random),
        disturbance,
        beats: Vec::new(),
        lasts: None,
        elections: None,
    }
}

impl Trouble {
    /// The shortest time in which a probe can cross such a way.
    fn least(&self) -> Duration {
        let disturbance = &self.disturbance;
        let queue = disturbance.bytes_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_micros(PROBE_BYTES as u64 * 1_000_000 / rate)
        });
        Duration::from_millis(disturbance.delay_millis.into()) + queue
    }

    /// Does it, proves it, leaves it for so long, ends it and proves that.
    async fn carry_out(&self, network: &Network, lasts: Duration) -> anyhow::Result<()> {
        let (ways, disturbance) = (&self.ways, self.disturbance);
        let end = Instant::now() + lasts;
        let mut number = network.disturb(ways.clone(), disturbance);
        let proved = look_at(network, ways, disturbance.cut, self.least()).await;
        if proved.is_ok() {
            let mut beats = self.beats.iter().cycle();
            while let Some(beat) = beats.next().filter(|_| Instant::now() < end) {
                sleep(*beat).await;
                network.calm(number);
                sleep(beats.next().copied().unwrap_or_default()).await;
                number = network.disturb(ways.clone(), disturbance);
            }
            sleep_until(end).await;
        }
        network.calm(number);
        proved?;
        look_at(network, ways, false, Duration::ZERO).await
    }
}

impl Strike {
    /// The name in a history.
    fn name(&self) -> String {
        match self {
            Self::Process(fault) => fault.to_string(),
            Self::Network(trouble) => trouble.name.clone(),
            Self::Shimmed(shimmed) => shimmed.name.clone(),
            Self::Full(full) => full.name(),
            Self::Rolling(rolling) => rolling.name.clone(),
            Self::Both(shimmed, other) => format!("{} under {}", other.name(), shimmed.name),
        }
    }

    /// How many of the longest election timeouts it may keep writes from being accepted; none where it leaves no majority, or no way that
    /// is as short as the timing of elections takes it to be.
    fn elections(&self) -> Option<u32> {
        match self {
            Self::Process(Fault::Kill {
                target: Target::Everything,
            }) => None,
            Self::Process(_) | Self::Rolling(_) => Some(AT_A_BLOW),
            // A leader without room is told apart from one that is only slow.
            Self::Full(full) => (!full.is_majority()).then_some(ONE_SIDED),
            Self::Network(trouble) => trouble.elections,
            Self::Shimmed(shimmed) => (!shimmed.is_slow()).then_some(AT_A_BLOW),
            Self::Both(shimmed, other) => other.elections().filter(|_| !shimmed.is_slow()),
        }
    }

    /// Whether that counts from its end only: what comes and goes may begin an election each time.
    fn counts_from_its_end(&self) -> bool {
        match self {
            Self::Process(_) | Self::Shimmed(_) | Self::Full(_) | Self::Rolling(_) => false,
            Self::Network(trouble) => !trouble.beats.is_empty(),
            Self::Both(_, other) => other.counts_from_its_end(),
        }
    }

    /// How long it lasts, if that is its own choice.
    fn lasts(&self) -> Option<Duration> {
        match self {
            Self::Process(_) | Self::Shimmed(_) | Self::Full(_) | Self::Rolling(_) => None,
            Self::Network(trouble) => trouble.lasts,
            Self::Both(_, other) => other.lasts(),
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
            Self::Network(trouble) => {
                let network = world.network().context("no network between the regions")?;
                trouble.carry_out(network, lasts).await?;
            }
            Self::Shimmed(shimmed) => {
                let wait = async {
                    sleep(lasts).await;
                    Ok(())
                };
                shimmed.carry_out(world, wait).await?;
            }
            Self::Full(full) => full.carry_out(world, lasts).await?,
            Self::Rolling(rolling) => rolling.carry_out(world).await?,
            Self::Both(shimmed, other) => {
                let other = Box::pin(other.carry_out(world, lasts));
                shimmed.carry_out(world, other).await?;
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

    /// How long a pause or a cut lasts, in milliseconds: shorter and longer than a lease, and of holders up to what it takes until another
    /// one has taken over and nobody may go by what they knew before.
    const fn lasts_millis(self) -> Range<u64> {
        match self {
            Self::Holder => 500..12_000,
            Self::Leader => 500..6_000,
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
        let lasts = Duration::from_millis(random.random_range(aim.lasts_millis()));
        let left = end.saturating_duration_since(Instant::now() + quiet);
        if left < LASTS_LEAST {
            return Ok(faults);
        }
        let lasts = lasts.min(left);
        sleep(quiet).await;
        let aimed_at = aim.region(&client).await;
        let left = end.saturating_duration_since(Instant::now());
        let Some(strike) = nemesis.choose(regions, aim, aimed_at.as_ref(), left, &mut random) else {
            return Ok(faults);
        };
        let (name, elections) = (strike.name(), strike.elections());
        let (first, last) = match strike.counts_from_its_end() {
            true => (None, elections),
            false => (elections, None),
        };
        note(history, &name, Phase::Begins, first);
        Box::pin(strike.carry_out(world, strike.lasts().unwrap_or(lasts))).await?;
        faults += 1;
        note(history, &name, Phase::Over, last);
    }
}

fn note(history: &History, fault: &str, phase: Phase, elections: Option<u32>) {
    let what = What::Nemesis {
        fault: fault.to_owned(),
        phase,
        elections,
    };
    history.record(PROCESS, 0, what);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Duration = Duration::from_secs(20);

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
                    .choose(&regions, aim, regions.get(1), LEFT, &mut random)
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
        let fault = Nemesis::Kill.choose(&regions, Aim::Leader, None, LEFT, &mut random);
        assert!(fault.is_some());
    }

    #[test]
    fn the_long_cut_is_chosen_where_there_is_time_for_it_and_some_partitions_flap() {
        let regions: Vec<RegionId> = ["r1", "r2", "r3"].map(|r| r.parse().unwrap()).to_vec();
        let chosen = |left: Duration| -> Vec<Trouble> {
            let mut random = StdRng::seed_from_u64(3);
            (0..200)
                .map(|_| partition(&regions, 1, left, &mut random))
                .collect()
        };
        let long = |of: &&Trouble| of.lasts == Some(LONG_CUT);
        assert_eq!(chosen(LONG_CUT).iter().filter(long).count(), 0);
        let all = chosen(LONG_CUT * 2);
        assert!((15..60).contains(&all.iter().filter(long).count()));
        for trouble in all {
            let flaps = trouble.name.ends_with(", flapping");
            assert_eq!(flaps, trouble.beats.len() == BEATS, "{trouble:?}");
            assert!(!(flaps && trouble.lasts.is_some()), "{trouble:?}");
        }
    }

    #[test]
    fn a_probe_takes_as_long_as_a_narrow_way_makes_it() {
        let mut random = StdRng::seed_from_u64(3);
        let all: Vec<Trouble> = (0..100).map(|_| weather(&[], 0, &mut random)).collect();
        let narrow = all
            .iter()
            .find(|t| t.disturbance.bytes_per_second.is_some())
            .unwrap();
        let rate = narrow.disturbance.bytes_per_second.unwrap().get();
        let seconds = narrow.least().as_secs_f64() * rate as f64;
        assert!((seconds - PROBE_BYTES as f64).abs() < 1.0, "{narrow:?}");
        let bad = all
            .iter()
            .find(|t| t.disturbance.bytes_per_second.is_none())
            .unwrap();
        assert_eq!(
            bad.least(),
            Duration::from_millis(bad.disturbance.delay_millis.into())
        );
    }
}
