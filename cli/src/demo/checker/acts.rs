//! The two acts: a holder is hurt, another takes over under a higher epoch, the first comes back.

use types::Epoch;

use super::{FAILOVER_SECONDS_MAX, Verdict, memory::slim, must, seen};
use crate::demo::{
    doors::{Attempt, Outcome},
    micros::Micros,
    record::{ActSeen, RecordedRun},
};

/// What runs in a region besides its zombie writer.
const REGION_PROCESSES: [&str; 3] = ["coordinator", "agent", "store"];

pub(super) fn kill(run: &RecordedRun) -> Verdict {
    let act = seen("the kill", run.act1.as_ref())?;
    let cluster = seen("the cluster", run.cluster.as_ref())?;
    let region = &act.before.holder.region;
    must(act.before == cluster.primary, || {
        format!(
            "{} under {} is not the first primary",
            act.before.holder, act.before.epoch
        )
    })?;
    for kind in REGION_PROCESSES {
        must(act.processes.iter().any(|p| p == kind), || {
            format!("the {kind} of {region} was not killed")
        })?;
    }
    slim(&run.regions, &act.coordinator_resident_bytes)?;
    let after = attempts_after(run, act, act.struck);
    must(after > 0, || {
        format!("the writer of {region} did not outlive its region")
    })?;
    Ok(format!(
        "killed {} processes of {region}; its writer went on ({after} attempts)",
        act.processes.len()
    ))
}

fn attempts_after(run: &RecordedRun, act: &ActSeen, since: Micros) -> usize {
    let old = &act.before.holder;
    let writers = run.writers.iter().filter(|w| w.region == old.region);
    writers
        .flat_map(|w| &w.attempts)
        .filter(|a| a.at > since && &a.holder == old)
        .count()
}

/// Another region holds the role under a higher epoch, and a write of it was accepted soon enough.
pub(super) fn promote(run: &RecordedRun, act: Option<&ActSeen>) -> Verdict {
    let act = seen("the failover", act)?;
    let after = seen("another primary", act.after.as_ref())?;
    let before = &act.before;
    must(after.epoch > before.epoch, || {
        format!("epoch {} is not above {}", after.epoch, before.epoch)
    })?;
    must(after.holder.region != before.holder.region, || {
        format!("{} is primary again", after.holder.region)
    })?;
    let seconds = failover_seconds(run, act).ok_or_else(|| {
        format!(
            "no write of {} under {} was accepted",
            after.holder.region, after.epoch
        )
    })?;
    must(seconds <= FAILOVER_SECONDS_MAX, || {
        format!("the failover took {seconds:.1} s; {FAILOVER_SECONDS_MAX} s are promised")
    })?;
    Ok(format!(
        "{} is primary under {} (before: {} under {}); its first write was accepted after {seconds:.2} s",
        after.holder.region, after.epoch, before.holder.region, before.epoch
    ))
}

/// From the signal to the first write accepted from the new primary, as its writer was told; that the door says the
/// same is part of step `doors`.
pub(super) fn failover_seconds(run: &RecordedRun, act: &ActSeen) -> Option<f64> {
    let after = act.after.as_ref()?;
    let by_new =
        |a: &&Attempt| a.outcome == Outcome::Accepted && a.shown == after.epoch && a.holder == after.holder;
    let first = run
        .writers
        .iter()
        .flat_map(|w| &w.attempts)
        .filter(by_new)
        .map(Attempt::ended)
        .min()?;
    Some(first.seconds_since(act.struck))
}

/// The epoch of the last primary that was seen.
pub(super) fn last_epoch(run: &RecordedRun) -> Option<Epoch> {
    let of = |act: &Option<ActSeen>| act.as_ref().and_then(|a| a.after.as_ref()).map(|s| s.epoch);
    of(&run.act2).or_else(|| of(&run.act1))
}

pub(super) fn comeback(run: &RecordedRun) -> Verdict {
    let act = seen("the kill", run.act1.as_ref())?;
    let region = &act.before.holder.region;
    let released = *seen("the restart", act.released.as_ref())?;
    seen("the return of its store", act.store_returned.as_ref())?;
    let ready = *seen("its return to service", act.ready.as_ref())?;
    must(attempts_after(run, act, ready) > 0, || {
        format!("the old writer of {region} was silent after the return")
    })?;
    Ok(format!(
        "{region} was down {:.1} s and served again {:.1} s after its restart",
        released.seconds_since(act.struck),
        ready.seconds_since(released)
    ))
}

pub(super) fn pause(run: &RecordedRun) -> Verdict {
    let act = seen("the pause", run.act2.as_ref())?;
    let first = seen("the first failover", run.act1.as_ref())?;
    must(first.after.as_ref() == Some(&act.before), || {
        format!("{} is not the holder that act 1 ended with", act.before.holder)
    })?;
    must(act.processes.iter().any(|p| p == "agent"), || {
        "the holder's agent was not paused".to_owned()
    })?;
    slim(&run.regions, &act.coordinator_resident_bytes)?;
    let half = seen("the write in flight", run.half_put.as_ref())?;
    must(
        half.shown == act.before.epoch && half.half_sent < act.struck,
        || {
            format!(
                "the write under {} was not half sent before the pause",
                half.shown
            )
        },
    )?;
    Ok(format!(
        "paused {} with a PUT to {} half sent",
        act.before.holder.region, half.door
    ))
}

pub(super) fn resume(run: &RecordedRun) -> Verdict {
    let act = seen("the pause", run.act2.as_ref())?;
    let released = *seen("the resume", act.released.as_ref())?;
    let ttl = seen("the cluster", run.cluster.as_ref())?.lease_ttl_millis;
    must(released > act.struck.plus(ttl * 1000), || {
        format!("the pause did not outlast the lease of {ttl} ms")
    })?;
    seen("its return to service", act.ready.as_ref())?;
    let half = seen("the write in flight", run.half_put.as_ref())?;
    let answered = *seen("its answer", half.answered.as_ref())?;
    must(answered > released && half.status == Some(412), || {
        format!(
            "the write in flight was answered {:?}, not 412 after the resume",
            half.status
        )
    })?;
    Ok(format!(
        "{} was paused {:.1} s; its write in flight was refused with 412",
        act.before.holder.region,
        released.seconds_since(act.struck)
    ))
}
