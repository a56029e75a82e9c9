//! What doors took under an epoch that was over, before the next one was shown to them: where that may be, and for how
//! long. Such a write is not stale by the door's own record ([`super::tally`]), because the record cannot know better than
//! its door: here the moment decides at which the next holder was seen to be committed.
//!
//! - The registry: never (L12). Its record has an order and no times, so its writers' say when they began.
//! - An agent (L13): a token counts for [`AGENT_TRUST_MICROS`] after a quorum was last asked about it. An agent that was
//!   started after the promotion asked after it, and one that was paused asked before its pause, so neither takes anything.
//! - A pointer (L15): only that of the store which was down, and until it was claimed.

use types::{Epoch, RegionId};

use super::{AGENT_TRUST_MICROS, claim, must, seen, tally};
use crate::demo::{
    doors::{Outcome, REGISTRY, agent_door, pointer_door},
    micros::Micros,
    record::{ActSeen, RecordedRun},
};

/// A change of the role that was seen: from then on everything below the epoch is over.
struct Promotion<'a> {
    act: &'a ActSeen,
    /// Its processes were killed; else paused.
    killed: bool,
    seen: Micros,
    epoch: Epoch,
}

/// No door took an older epoch after a promotion for longer than the design lets it.
pub(super) fn judge(run: &RecordedRun) -> Result<(), String> {
    let act = seen("the kill", run.act1.as_ref())?;
    for promotion in promotions(run) {
        registry(run, &promotion)?;
        run.regions
            .iter()
            .try_for_each(|region| agent(run, region, &promotion))?;
    }
    run.regions
        .iter()
        .try_for_each(|region| pointer(run, region, act))
}

fn promotions(run: &RecordedRun) -> impl Iterator<Item = Promotion<'_>> {
    let acts = [(&run.act1, true), (&run.act2, false)];
    acts.into_iter().filter_map(|(act, killed)| {
        let act = act.as_ref()?;
        Some(Promotion {
            act,
            killed,
            seen: act.promoted?,
            epoch: act.after.as_ref()?.epoch,
        })
    })
}

fn registry(run: &RecordedRun, promotion: &Promotion<'_>) -> Result<(), String> {
    let attempts = run.writers.iter().flat_map(|w| &w.attempts);
    let late = attempts
        .filter(|a| a.door == REGISTRY && a.outcome == Outcome::Accepted)
        .filter(|a| a.at > promotion.seen && a.shown < promotion.epoch);
    none(REGISTRY, late.count(), promotion, "")
}

fn agent(run: &RecordedRun, region: &RegionId, promotion: &Promotion<'_>) -> Result<(), String> {
    let name = agent_door(region);
    let (until, why) = trusted_until(region, promotion);
    let records = run
        .doors
        .iter()
        .filter(|d| d.name == name)
        .flat_map(|d| &d.records);
    let late = records
        .filter(|r| r.accepted && r.at > until)
        .filter(|r| r.shown.is_some_and(|shown| shown < promotion.epoch));
    none(&name, late.count(), promotion, why)
}

/// Until when an agent may trust what it was told before the promotion, and what is said of it afterwards.
fn trusted_until(region: &RegionId, promotion: &Promotion<'_>) -> (Micros, &'static str) {
    let Promotion { act, seen, .. } = promotion;
    if &act.before.holder.region != region {
        return (
            seen.plus(AGENT_TRUST_MICROS),
            ", longer than it may trust an answer",
        );
    }
    if promotion.killed {
        return (*seen, ", though it was started after it");
    }
    // The age of an answer is looked at in the moment of the effect, by a clock that goes on in a pause.
    let asked = act.struck.plus(AGENT_TRUST_MICROS);
    (asked.max(*seen), ", though it had been paused")
}

fn none(name: &str, late: usize, promotion: &Promotion<'_>, why: &str) -> Result<(), String> {
    must(late == 0, || {
        format!(
            "{name} accepted {late} writes of an older epoch after {} was committed{why}",
            promotion.epoch
        )
    })
}

/// Only a store that was down at a promotion may have taken an older epoch after it, and only until it was claimed.
fn pointer(run: &RecordedRun, region: &RegionId, act: &ActSeen) -> Result<(), String> {
    let name = pointer_door(region);
    let log = run.doors.iter().find(|d| d.name == name);
    let claimed = log
        .filter(|_| region == &act.before.holder.region)
        .and_then(|log| claim::position(log, act));
    let excused = |position: &usize| claimed.is_some_and(|claimed| *position < claimed);
    let early = tally::door(run, &name).early;
    let early = early.iter().filter(|position| !excused(position)).count();
    must(early == 0, || {
        format!("{name} accepted {early} writes of an older epoch after a promotion, before it was claimed")
    })
}
