//! What processes of a run are told by their clocks and disks: a library before libc (`shim/shim.c`), and for each process a file of what it
//! is to do, read at every call.
//!
//! A process is under it from its start on, and everything is as it is until something is asked for. What a clock says then is proved by a process
//! beside it that stands before the same file ([`Probe`]), and that the process itself asks the library by the library's own count.
//! Absent on purpose: when to do what; that is `crate::nemesis`.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use chaos::ProcessName;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::{process::Command, time::timeout};

/// The library, for this machine.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libshim.so"));

/// Words of the file, each 8 bytes.
const WORDS: u64 = 16;
/// Odd while the words after it are written.
const SEQUENCE: u64 = 0;
/// The first of what is asked for, in the order of [`Asked::words`].
const FIRST: u64 = 1;
const CLOCK_READS: u64 = 9;
const SYNCS: u64 = 10;

/// From when on a new rate counts: everybody has read it by then, so that no monotonic clock goes back.
const LEAD: Duration = Duration::from_millis(20);
/// How long a probe looks at its clocks: longer than two periods of a strobe.
const PROBE: Duration = Duration::from_millis(600);
/// How long it may take in all.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// Clocks are read at one moment if it takes no longer than this.
const AT_ONCE: Duration = Duration::from_micros(200);
/// How far a probe's clocks may be from what was asked for: they are not all read at once.
const WALL_TOLERANCE: Duration = Duration::from_millis(20);
const RATE_TOLERANCE_PPM: f64 = 3_000.0;

/// How clocks are wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clocks {
    /// By how much the wall clock is ahead, in nanoseconds.
    pub(crate) wall_offset: i64,
    /// By how much more it is ahead in every second period, in nanoseconds.
    pub(crate) strobe: i64,
    /// How long such a period is; zero: none.
    pub(crate) strobe_period: Duration,
    /// By how many millionths every clock runs too fast.
    pub(crate) rate: i64,
}

/// The file of one process, and what was written to it.
#[derive(Debug)]
pub(crate) struct Shim {
    library: PathBuf,
    path: PathBuf,
    file: File,
    asked: Mutex<Asked>,
}

/// All that the library is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Asked {
    clocks: Clocks,
    /// When the rate counts from, by the machine's monotonic clock, and by how much the process's is ahead then; nanoseconds.
    anchor: i64,
    drift: i64,
    rate_before: i64,
    /// How much longer a sync takes.
    sync_delay: Duration,
}

impl Asked {
    fn words(&self) -> [i64; 8] {
        [
            self.clocks.wall_offset,
            self.clocks.strobe,
            nanos(self.clocks.strobe_period),
            self.anchor,
            self.drift,
            self.clocks.rate,
            self.rate_before,
            nanos(self.sync_delay),
        ]
    }

    /// Other clocks from `anchor` on; the monotonic one goes on from where it is then.
    fn with(&self, clocks: Clocks, anchor: i64) -> Self {
        let passed = anchor.saturating_sub(self.anchor);
        let rate = if passed < 0 {
            self.rate_before
        } else {
            self.clocks.rate
        };
        let grown = i128::from(passed) * i128::from(rate) / 1_000_000;
        Self {
            clocks,
            anchor,
            drift: self
                .drift
                .saturating_add(i64::try_from(grown).unwrap_or(i64::MAX)),
            rate_before: rate,
            sync_delay: self.sync_delay,
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Shim {
    /// For the process of this name, in files of `dir`.
    pub(crate) fn new(dir: &Path, name: &ProcessName) -> anyhow::Result<Self> {
        let library = dir.join("libshim.so");
        if !library.exists() {
            fs::create_dir_all(dir)?;
            fs::write(&library, LIBRARY)?;
        }
        let path = dir.join(format!("{}.shim", name.to_string().replace('/', "-")));
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        file.set_len(WORDS * 8)?;
        Ok(Self {
            library,
            path,
            file,
            asked: Mutex::default(),
        })
    }

    /// Has a program be under it from its start on.
    pub(crate) fn attach(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
        command.env("REGENT_SHIM", &self.path);
    }

    /// Has its clocks be wrong like this from now on.
    pub(crate) fn set_clocks(&self, clocks: Clocks) -> anyhow::Result<()> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let anchor = nanos(Duration::from(now) + LEAD);
        self.write(|asked| asked.with(clocks, anchor))
    }

    /// Has each of its syncs take so much longer from now on.
    pub(crate) fn delay_syncs(&self, sync_delay: Duration) -> anyhow::Result<()> {
        self.write(|asked| Asked { sync_delay, ..*asked })
    }

    fn write(&self, change: impl FnOnce(&Asked) -> Asked) -> anyhow::Result<()> {
        let mut asked = self.asked.lock().unwrap_or_else(|poison| poison.into_inner());
        *asked = change(&asked);
        let sequence = self.word(SEQUENCE)?;
        self.put(SEQUENCE, sequence + 1)?;
        for (place, word) in (FIRST..).zip(asked.words()) {
            self.put(place, word)?;
        }
        self.put(SEQUENCE, sequence + 2)
    }

    fn put(&self, place: u64, word: i64) -> anyhow::Result<()> {
        Ok(self.file.write_all_at(&word.to_ne_bytes(), place * 8)?)
    }

    fn word(&self, place: u64) -> anyhow::Result<i64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, place * 8)?;
        Ok(i64::from_ne_bytes(bytes))
    }

    /// How often its process, and probes, have read a clock.
    pub(crate) fn clock_reads(&self) -> anyhow::Result<i64> {
        self.word(CLOCK_READS)
    }

    /// How often its process has waited for a sync.
    pub(crate) fn syncs(&self) -> anyhow::Result<i64> {
        self.word(SYNCS)
    }

    /// That clocks under this file are as wrong as was asked: by those of a process beside the one that it is for.
    pub(crate) async fn prove_clocks(&self) -> anyhow::Result<Probe> {
        let clocks = self
            .asked
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
            .clocks;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("clock-probe").kill_on_drop(true);
        self.attach(&mut command);
        let output = timeout(PROBE_LIMIT, command.output()).await;
        let output = output.with_context(|| format!("no probe of clocks within {PROBE_LIMIT:?}"))??;
        ensure!(
            output.status.success(),
            "a probe of clocks ended with {}",
            output.status
        );
        let probe: Probe = serde_json::from_slice(&output.stdout)?;
        probe.check(clocks)?;
        Ok(probe)
    }
}

/// All clocks at one moment, in seconds.
#[derive(Clone, Copy, Debug)]
struct Reading {
    truth: f64,
    wall: f64,
    monotonic: f64,
    boot: f64,
}

impl Reading {
    /// Between two looks at the one that is right there is mostly less than a microsecond; where the process was put aside meanwhile it looks again.
    fn take() -> anyhow::Result<Self> {
        let read = |clock| anyhow::Ok(Duration::from(clock_gettime(clock)?).as_secs_f64());
        loop {
            let reading = Self {
                truth: read(ClockId::CLOCK_TAI)?,
                wall: read(ClockId::CLOCK_REALTIME)?,
                monotonic: read(ClockId::CLOCK_MONOTONIC)?,
                boot: read(ClockId::CLOCK_BOOTTIME)?,
            };
            if read(ClockId::CLOCK_TAI)? - reading.truth < AT_ONCE.as_secs_f64() {
                return Ok(reading);
            }
        }
    }
}

/// What a process saw of its clocks, against one that is always right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// By how much the wall clock was ahead at least and at most, in seconds.
    pub(crate) wall_least: f64,
    pub(crate) wall_most: f64,
    /// By how many millionths the monotonic clock ran too fast, and the one that goes on in a suspended machine.
    pub(crate) monotonic_rate: f64,
    pub(crate) boot_rate: f64,
}

impl Probe {
    /// Looks at this process's own clocks for a while.
    pub(crate) fn look() -> anyhow::Result<Self> {
        let first = Reading::take()?;
        let (mut last, mut least, mut most) = (first, f64::MAX, f64::MIN);
        while last.truth - first.truth < PROBE.as_secs_f64() {
            std::thread::sleep(Duration::from_millis(1));
            last = Reading::take()?;
            let ahead = last.wall - last.truth;
            (least, most) = (least.min(ahead), most.max(ahead));
        }
        let passed = last.truth - first.truth;
        let rate = |clock: f64| (clock / passed - 1.0) * 1e6;
        Ok(Self {
            wall_least: least,
            wall_most: most,
            monotonic_rate: rate(last.monotonic - first.monotonic),
            boot_rate: rate(last.boot - first.boot),
        })
    }

    /// Whether that is what was asked for.
    fn check(&self, clocks: Clocks) -> anyhow::Result<()> {
        for rate in [self.monotonic_rate, self.boot_rate] {
            let off = (rate - clocks.rate as f64).abs();
            ensure!(
                off < RATE_TOLERANCE_PPM,
                "clocks should run by {} millionths too fast: {self:?}",
                clocks.rate
            );
        }
        // The machine's own difference between the two, which a list of leap seconds may have set.
        let leap = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?).as_secs_f64()
            - Duration::from(clock_gettime(ClockId::CLOCK_TAI)?).as_secs_f64();
        let tolerance = WALL_TOLERANCE.as_secs_f64() + (clocks.rate as f64 / 1e6).abs() * 10.0;
        let ahead = clocks.wall_offset as f64 / 1e9;
        let strobe = if clocks.strobe_period.is_zero() {
            0.0
        } else {
            clocks.strobe as f64 / 1e9
        };
        let (least, most) = (ahead + strobe.min(0.0), ahead + strobe.max(0.0));
        let is_right = |seen: f64, asked: f64| (seen - leap - asked).abs() < tolerance;
        ensure!(
            is_right(self.wall_least, least) && is_right(self.wall_most, most),
            "the wall clock should be ahead by {least} to {most} s: {self:?}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_on_from_where_it_is_when_its_rate_changes() {
        let rate = |rate| Clocks {
            rate,
            ..Clocks::default()
        };
        let first = Asked::default().with(rate(100_000), 1_000_000_000);
        assert_eq!((first.drift, first.rate_before), (0, 0));
        let second = first.with(rate(-50_000), 11_000_000_000);
        assert_eq!((second.drift, second.rate_before), (1_000_000_000, 100_000));
        let third = second.with(Clocks::default(), 31_000_000_000);
        assert_eq!((third.drift, third.rate_before), (0, -50_000));
        // Again before it has begun to count: as it was until then.
        let soon = second.with(Clocks::default(), 10_000_000_000);
        assert_eq!(soon.rate_before, 100_000);
        assert_eq!(soon.drift, 900_000_000);
    }

    #[tokio::test]
    async fn a_process_sees_the_clocks_that_are_asked_for_and_not_what_is_true() {
        let dir = std::env::temp_dir().join(format!("regent-shim-{}", uuid::Uuid::now_v7()));
        let name = ProcessName {
            region: "r1".parse().unwrap(),
            part: chaos::Part::Coordinator,
        };
        let shim = Shim::new(&dir, &name).unwrap();
        let seen = |shim: &Shim| {
            let mut command = Command::new("date");
            command.arg("+%s");
            shim.attach(&mut command);
            async move {
                let output = command.output().await.unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                text.trim().parse::<i64>().unwrap()
            }
        };
        let now = || Duration::from(clock_gettime(ClockId::CLOCK_REALTIME).unwrap()).as_secs() as i64;
        assert!((seen(&shim).await - now()).abs() <= 2);
        let (before, hours) = (shim.clock_reads().unwrap(), 7_200_000_000_000);
        shim.set_clocks(Clocks {
            wall_offset: hours,
            ..Clocks::default()
        })
        .unwrap();
        assert!((seen(&shim).await - now() - 7_200).abs() <= 2);
        assert!(shim.clock_reads().unwrap() > before);
        shim.set_clocks(Clocks::default()).unwrap();
        assert!((seen(&shim).await - now()).abs() <= 2);
        fs::remove_dir_all(dir).unwrap();
    }
}
