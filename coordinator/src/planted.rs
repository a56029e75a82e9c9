//! What tests plant in a real process: a disk under its log that forgets what is not synced, an age of its build, and a wall clock that
//! is set forward and back while it runs.
//!
//! `REGENT_PLANTED_LOG_DISK=drop:SEED` loses at a kill all that is not synced, `tear:SEED` keeps some sectors; `unsynced` in the data
//! directory says at every moment what a kill would lose. `REGENT_PLANTED_FEATURE_LEVEL=N` makes of a process a build from before the
//! levels above N: it says so, asks for none of them, and stops where it meets one.
//! `REGENT_PLANTED_CLOCK=1` has the file `wall-clock` in the data directory say how far the clock that stamps entries is off (`18000s`,
//! `-18000s`), at every look anew; it is right while there is no such file.
//! None is a key of the config: those are for operators. And it is code of builds with debug assertions alone, which no package
//! is: a release cannot be told to do it, and ignores the variables.
//! Absent on purpose: the disk itself (`wal::forgetful`), and what a level means (`state::features`).

use std::{path::Path, sync::Arc};

use wal::disk::Disk;

use state::features::SUPPORTED;
#[cfg(debug_assertions)]
use types::planted::{self, Bug};

use crate::{error::BadSetting, raft::WallClock};

#[cfg(debug_assertions)]
const FEATURE_LEVEL: &str = "REGENT_PLANTED_FEATURE_LEVEL";
/// How long a sync takes that nobody waits for.
#[cfg(debug_assertions)]
const LATE_SYNC: std::time::Duration = std::time::Duration::from_millis(50);
#[cfg(debug_assertions)]
const LOG_DISK: &str = "REGENT_PLANTED_LOG_DISK";

/// Up to which feature level this process knows the rules.
#[cfg(debug_assertions)]
pub(crate) fn supported_level() -> Result<u32, BadSetting> {
    let Some(asked) = std::env::var_os(FEATURE_LEVEL) else {
        return Ok(SUPPORTED);
    };
    let asked = asked.to_string_lossy();
    let level = level(&asked).ok_or_else(|| {
        let way = format!("write a level up to {SUPPORTED}, which this build knows, or leave it out");
        BadSetting::new(format!("{FEATURE_LEVEL} is {asked:?}"), way)
    })?;
    tracing::warn!(level, "a test has this process be of an older build");
    Ok(level)
}

/// The same where nobody can plant anything.
#[cfg(not(debug_assertions))]
pub(crate) fn supported_level() -> Result<u32, BadSetting> {
    Ok(SUPPORTED)
}

/// No process can know what its build does not.
#[cfg(debug_assertions)]
fn level(asked: &str) -> Option<u32> {
    asked.parse().ok().filter(|level| *level <= SUPPORTED)
}

/// The disk for the log below `data_dir`, where a test asks for one.
#[cfg(debug_assertions)]
pub(crate) fn log_disk(data_dir: &Path) -> Result<Option<Arc<dyn Disk>>, BadSetting> {
    use wal::forgetful::ForgetfulDisk;
    let Some(asked) = std::env::var_os(LOG_DISK) else {
        return Ok(None);
    };
    let bad = |problem: String| BadSetting::new(problem, "write drop:SEED or tear:SEED, or leave it out");
    let asked = asked.to_string_lossy();
    let (keeps, seed) = parse(&asked).ok_or_else(|| bad(format!("{LOG_DISK} is {asked:?}")))?;
    let record = data_dir.join("unsynced");
    let disk = ForgetfulDisk::new(data_dir.join("log"), &record, keeps, seed);
    let mut disk = disk.map_err(|e| bad(format!("{}: {e}", record.display())))?;
    if planted::has(Bug::SkippedSyncs) {
        // Else what is acknowledged too early is on the disk before its answer is anywhere.
        disk = disk.syncing_for(LATE_SYNC);
    }
    tracing::warn!(%asked, "a test's disk is under the log: a kill loses what is not synced");
    Ok(Some(Arc::new(disk)))
}

/// The same where there is no such thing.
#[cfg(not(debug_assertions))]
pub(crate) fn log_disk(_data_dir: &Path) -> Result<Option<Arc<dyn Disk>>, BadSetting> {
    Ok(None)
}

/// The clock that stamps entries.
#[cfg(debug_assertions)]
pub(crate) fn wall_clock(data_dir: &Path) -> WallClock {
    if std::env::var_os("REGENT_PLANTED_CLOCK").is_none() {
        return WallClock::system();
    }
    let file = data_dir.join("wall-clock");
    tracing::warn!(file = %file.display(), "a test sets the wall clock");
    WallClock(Arc::new(OffClock { file }))
}

/// The machine's, which nobody can plant anything in.
#[cfg(not(debug_assertions))]
pub(crate) fn wall_clock(_data_dir: &Path) -> WallClock {
    WallClock::system()
}

/// The machine's clock, off by what a file says.
#[cfg(debug_assertions)]
struct OffClock {
    file: std::path::PathBuf,
}

#[cfg(debug_assertions)]
impl types::time::Clock for OffClock {
    fn now(&self) -> types::UnixMillis {
        use types::time::SystemClock;
        let now = SystemClock.now();
        let off = std::fs::read_to_string(&self.file).unwrap_or_default();
        off_by(now, off.trim())
    }
}

/// A time, and how far it is off; as it is where that cannot be read.
#[cfg(debug_assertions)]
fn off_by(now: types::UnixMillis, off: &str) -> types::UnixMillis {
    let parse = types::units::parse_duration;
    match off.strip_prefix('-').map(parse) {
        Some(Ok(back)) => {
            let back = u64::try_from(back.as_millis()).unwrap_or(u64::MAX);
            types::UnixMillis(now.0.saturating_sub(back))
        }
        Some(Err(_)) => now,
        None => parse(off).map_or(now, |forward| now.plus(forward)),
    }
}

#[cfg(debug_assertions)]
fn parse(asked: &str) -> Option<(wal::forgetful::Kept, u64)> {
    let (what, seed) = asked.split_once(':')?;
    let keeps = match what {
        "drop" => wal::forgetful::Kept::None,
        "tear" => wal::forgetful::Kept::Some,
        _ => return None,
    };
    Some((keeps, seed.parse().ok()?))
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use wal::forgetful::Kept;

    use super::*;

    #[test]
    fn a_build_may_be_taken_for_an_older_one_and_for_no_newer_one() {
        let newest = SUPPORTED.to_string();
        let newer = (SUPPORTED + 1).to_string();
        let cases = [
            ("0", Some(0)),
            ("1", Some(1)),
            (newest.as_str(), Some(SUPPORTED)),
            (newer.as_str(), None),
            ("-1", None),
            ("", None),
        ];
        for (asked, expected) in cases {
            assert_eq!(level(asked), expected, "{asked}");
        }
    }

    #[test]
    fn a_clock_is_off_by_what_a_test_says_and_right_where_that_is_nothing() {
        let at = types::UnixMillis(100_000);
        for (off, expected) in [
            ("18000s", 18_100_000),
            ("-40s", 60_000),
            ("-18000s", 0),
            ("", 100_000),
            ("-", 100_000),
            ("soon", 100_000),
        ] {
            assert_eq!(off_by(at, off).0, expected, "{off}");
        }
    }

    #[test]
    fn a_disk_is_asked_for_by_kind_and_seed() {
        let cases = [
            ("drop:7", Some((Kept::None, 7))),
            ("tear:0", Some((Kept::Some, 0))),
            ("tear", None),
            ("tear:", None),
            ("keep:1", None),
            ("", None),
        ];
        for (asked, expected) in cases {
            assert_eq!(parse(asked), expected, "{asked}");
        }
    }
}
