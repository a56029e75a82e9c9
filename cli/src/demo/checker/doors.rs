//! The steps that judge the doors: what stale writers achieved, and whether the records can be believed.

use super::{STALE_WRITES_MIN, Verdict, acts, agree, claim, early, must, seen, tally};
use crate::demo::{doors::all_doors, record::RecordedRun};

/// Every door refused enough stale writes, accepted none, and named both epochs each time.
pub(super) fn refusals(run: &RecordedRun) -> Verdict {
    let mut attempted = 0;
    for name in all_doors(&run.regions) {
        must(run.doors.iter().any(|d| d.name == name), || {
            format!("{name} has no record")
        })?;
        let tally = tally::door(run, &name);
        let door = tally.report;
        must(door.accepted == 0, || {
            format!("{name} accepted {} stale writes", door.accepted)
        })?;
        must(door.attempted >= STALE_WRITES_MIN, || {
            format!(
                "{name} saw {} stale writes; {STALE_WRITES_MIN} are needed",
                door.attempted
            )
        })?;
        must(tally.nameless == 0, || {
            format!("{} refusals of {name} do not name both epochs", tally.nameless)
        })?;
        attempted += door.attempted;
    }
    Ok(format!(
        "{attempted} stale writes tried at {} doors, none accepted",
        all_doors(&run.regions).len()
    ))
}

/// The records are whole, the writers agree with them, no door took an epoch that was over for longer than it may, and the
/// revived store was claimed before anyone believed it.
pub(super) fn records(run: &RecordedRun) -> Verdict {
    whole(run)?;
    let compared = agree::agree(&run.doors, &run.writers)?;
    early::judge(run)?;
    let seconds = claim::revived(run)?;
    claim::half_put(run)?;
    let last = acts::last_epoch(run).ok_or("no failover was observed")?;
    claim::at_end(run, last)?;
    Ok(format!(
        "{compared} writes stand in the doors' records as their writers were told; the revived store was claimed {seconds:.2} s after its return"
    ))
}

fn whole(run: &RecordedRun) -> Result<(), String> {
    for name in all_doors(&run.regions) {
        let log = run.doors.iter().find(|d| d.name == name);
        seen(&format!("the record of {name}"), log)?;
    }
    let doors = run
        .doors
        .iter()
        .flat_map(|d| d.defects.iter().map(move |text| (d.name.clone(), text)));
    let writers = run.writers.iter().flat_map(|w| {
        w.defects
            .iter()
            .map(move |text| (format!("the writer of {}", w.region), text))
    });
    match doors.chain(writers).next() {
        Some((name, defect)) => Err(format!("the record of {name}: {defect}")),
        None => Ok(()),
    }
}
