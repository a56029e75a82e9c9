//! The steps before and after the two acts.

use types::RegionId;

use super::{Verdict, listed, memory::slim, must, seen};
use crate::demo::{
    doors::{Outcome, all_doors},
    record::{AnswersSeen, RecordedRun},
};

/// Held-out digits that every region is asked, and how many must be right.
const DIGITS: (usize, usize) = (100, 97);
/// Smallest cosine between an answer and its reference embedding.
const COSINE_MIN: f64 = 0.9999;
/// Greedy tokens that must equal the fixture's.
const TOKENS: usize = 32;

pub(super) fn cluster(run: &RecordedRun) -> Verdict {
    let cluster = seen("the cluster", run.cluster.as_ref())?;
    let regions = run.regions.len();
    must(regions >= 3, || format!("{regions} regions; a majority needs 3"))?;
    must(cluster.voters == regions, || {
        format!("{} of {regions} coordinators vote", cluster.voters)
    })?;
    all_healthy(&run.regions, &cluster.healthy)?;
    slim(&run.regions, &cluster.coordinator_resident_bytes)?;
    let primary = &cluster.primary;
    Ok(format!(
        "{regions} regions, {} voters; {} is primary under {}",
        cluster.voters, primary.holder.region, primary.epoch
    ))
}

fn all_healthy(regions: &[RegionId], healthy: &[RegionId]) -> Result<(), String> {
    let sick: Vec<_> = regions.iter().filter(|r| !healthy.contains(r)).collect();
    must(sick.is_empty(), || format!("not healthy: {}", listed(&sick)))
}

pub(super) fn push(run: &RecordedRun) -> Verdict {
    must(run.pushed.len() >= 3, || {
        format!(
            "{} versions became ready; the samples alone are 3",
            run.pushed.len()
        )
    })?;
    let hollow = run.pushed.iter().find(|v| v.artifacts.is_empty());
    must(hollow.is_none(), || {
        format!("{} has no artifacts", hollow.map_or("", |v| v.version.as_str()))
    })?;
    Ok(format!("{} ready", listed(run.pushed.iter().map(|v| &v.version))))
}

pub(super) fn copies(run: &RecordedRun) -> Verdict {
    must(!run.pushed.is_empty(), || "nothing was pushed".to_owned())?;
    let mut read = 0;
    for region in &run.regions {
        for version in &run.pushed {
            for digest in &version.artifacts {
                let copy = run
                    .copies
                    .iter()
                    .find(|c| &c.region == region && &c.expected == digest);
                let found = copy.and_then(|c| c.found.as_ref());
                must(found == Some(digest), || {
                    let found = found.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                    format!("{region} has {found} where {} says {digest}", version.version)
                })?;
                read += 1;
            }
        }
    }
    Ok(format!(
        "{read} objects read from {} endpoints; every SHA-256 matches",
        run.regions.len()
    ))
}

pub(super) fn answers(run: &RecordedRun) -> Verdict {
    for region in &run.regions {
        let answers = run.answers.iter().find(|a| &a.region == region);
        right(seen(&format!("an answer of {region}"), answers)?)?;
    }
    let worst = run.answers.iter().map(|a| a.digits_right).min().unwrap_or(0);
    let cosine = run.answers.iter().map(|a| a.cosine_min).fold(1.0, f64::min);
    let own = run
        .answers
        .first()
        .and_then(|a| a.own_model.as_ref()?.as_ref().ok());
    let own = own.map_or_else(String::new, |answer| format!("; the given model: {answer}"));
    Ok(format!(
        "every region: at least {worst} of {} digits, cosine {cosine:.6}, {TOKENS} tokens equal{own}",
        DIGITS.0
    ))
}

fn right(answers: &AnswersSeen) -> Result<(), String> {
    let region = &answers.region;
    let (asked, right) = (answers.digits_asked, answers.digits_right);
    must(asked >= DIGITS.0 && right >= DIGITS.1 && right <= asked, || {
        format!(
            "{region}: {right} of {asked} digits right; {} of {} are needed",
            DIGITS.1, DIGITS.0
        )
    })?;
    must(answers.cosine_min > COSINE_MIN, || {
        format!(
            "{region}: cosine {} to the reference is not above {COSINE_MIN}",
            answers.cosine_min
        )
    })?;
    let equal = answers.tokens_expected.len() == TOKENS && answers.tokens_found == answers.tokens_expected;
    must(equal, || {
        format!("{region}: the {TOKENS} greedy tokens differ from the fixture")
    })?;
    match &answers.own_model {
        Some(Err(error)) => Err(format!("{region}: the given model does not answer: {error}")),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// Every region has a writer, and the primary's was let through every door before anything was hurt: so that later
/// nothing but the epoch refuses it.
pub(super) fn zombies(run: &RecordedRun) -> Verdict {
    for region in &run.regions {
        let writer = run.writers.iter().find(|w| &w.region == region);
        seen(&format!("the writer of {region}"), writer)?;
    }
    let primary = &seen("the cluster", run.cluster.as_ref())?.primary;
    let struck = run.act1.as_ref().map(|act| act.struck);
    let writer = run.writers.iter().find(|w| w.region == primary.holder.region);
    let mut accepted = 0;
    for door in all_doors(&run.regions) {
        let through = seen("the primary's writer", writer)?
            .attempts
            .iter()
            .filter(|a| a.door == door && a.outcome == Outcome::Accepted && a.holder == primary.holder)
            .filter(|a| struck.is_none_or(|struck| a.ended() < struck))
            .count();
        must(through > 0, || {
            format!("{door} accepted nothing from the primary before the kill")
        })?;
        accepted += through;
    }
    Ok(format!(
        "{} writers; {accepted} writes of {} accepted at {} doors",
        run.writers.len(),
        primary.holder.region,
        all_doors(&run.regions).len()
    ))
}

pub(super) fn converged(run: &RecordedRun) -> Verdict {
    let end = seen("the end", run.converged.as_ref())?;
    all_healthy(&run.regions, &end.healthy)?;
    let wanted = run.pushed.len() * run.regions.len();
    must(end.replicas >= wanted && end.replicas_behind == 0, || {
        format!(
            "{} of {} replicas are not verified; {wanted} are wanted",
            end.replicas_behind, end.replicas
        )
    })?;
    let most = slim(&run.regions, &end.coordinator_resident_bytes)?;
    Ok(format!(
        "{} regions healthy, {} replicas verified; coordinators had at most {most} resident",
        run.regions.len(),
        end.replicas
    ))
}
