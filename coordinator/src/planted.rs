//! A disk of a test's under the log of a real process: it forgets what is not synced when the process is killed.
//!
//! `REGENT_PLANTED_LOG_DISK=drop:SEED` loses all of it, `tear:SEED` keeps some sectors; `unsynced` in the data directory says at
//! every moment what a kill would lose. It is no key of the config: those are for operators. And it is code of builds with debug
//! assertions alone, which no package is: a release cannot be told to do it, and ignores the variable.
//! Absent on purpose: the disk itself (`wal::forgetful`).

use std::{path::Path, sync::Arc};

use wal::disk::Disk;

use crate::error::BadSetting;

/// The variable.
#[cfg(debug_assertions)]
const VARIABLE: &str = "REGENT_PLANTED_LOG_DISK";

/// The disk for the log below `data_dir`, where a test asks for one.
#[cfg(debug_assertions)]
pub(crate) fn log_disk(data_dir: &Path) -> Result<Option<Arc<dyn Disk>>, BadSetting> {
    use wal::forgetful::ForgetfulDisk;
    let Some(asked) = std::env::var_os(VARIABLE) else {
        return Ok(None);
    };
    let bad = |problem: String| BadSetting::new(problem, "write drop:SEED or tear:SEED, or leave it out");
    let asked = asked.to_string_lossy();
    let (keeps, seed) = parse(&asked).ok_or_else(|| bad(format!("{VARIABLE} is {asked:?}")))?;
    let record = data_dir.join("unsynced");
    let disk = ForgetfulDisk::new(data_dir.join("log"), &record, keeps, seed);
    let disk = disk.map_err(|e| bad(format!("{}: {e}", record.display())))?;
    tracing::warn!(%asked, "a test's disk is under the log: a kill loses what is not synced");
    Ok(Some(Arc::new(disk)))
}

/// The same where there is no such thing.
#[cfg(not(debug_assertions))]
pub(crate) fn log_disk(_data_dir: &Path) -> Result<Option<Arc<dyn Disk>>, BadSetting> {
    Ok(None)
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
