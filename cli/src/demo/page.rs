//! A recorded run as a page: the verdict, and who held what when, under which faults. Pure.

use std::{collections::BTreeMap, time::Duration};

use report::{Cell, Fact, Group, Lane, Mark, Outcome, Page, Span, Table, Timeline};

use super::{
    doors::{Attempt, Outcome as Told},
    micros::Micros,
    record::{ActSeen, RecordedRun, Standing, StepName},
    report::Report,
};

/// The page of a run and its verdict.
pub(super) fn of(run: &RecordedRun, report: &Report) -> Page {
    let failed = report.steps.iter().filter(|step| !step.ok);
    Page {
        title: "regent demo".to_owned(),
        command: format!("regent demo --regions {}", run.regions.len()),
        holds: report.ok,
        findings: failed.map(|s| format!("{}: {}", s.name, s.detail)).collect(),
        facts: facts(report),
        timeline: Clock::of(run).map(|clock| timeline(run, &clock)),
        tables: vec![steps(report), doors(report)],
    }
}

/// The axis of time, from the first thing that is known to the last.
struct Clock {
    began: Micros,
    length: Duration,
}

impl Clock {
    /// None of a run in which nothing has a time.
    fn of(run: &RecordedRun) -> Option<Self> {
        let steps = run.steps.iter().map(|step| (step.at, step.ended()));
        let attempts = run
            .writers
            .iter()
            .flat_map(|w| &w.attempts)
            .map(|a| (a.at, a.ended()));
        let requests = run.load.iter().flat_map(|load| &load.requests);
        let requests = requests.map(|request| (request.at, request.at.plus(request.took)));
        let times: Vec<_> = steps
            .chain(attempts)
            .chain(requests)
            .filter(|(at, _)| *at > Micros::default())
            .collect();
        let began = times.iter().map(|(from, _)| *from).min()?;
        let ended = times.iter().map(|(_, until)| *until).max()?;
        let length = Duration::from_micros(ended.0.saturating_sub(began.0));
        Some(Self { began, length })
    }

    fn since(&self, at: Micros) -> Duration {
        Duration::from_micros(at.0.saturating_sub(self.began.0)).min(self.length)
    }

    fn span(&self, label: String, from: Micros, until: Option<Micros>, colour: u64) -> Span {
        Span {
            label,
            from: self.since(from),
            until: until.map_or(self.length, |until| self.since(until)),
            colour,
        }
    }
}

fn timeline(run: &RecordedRun, clock: &Clock) -> Timeline {
    let mut groups = vec![Group {
        name: "Holders of primaries/global, by epoch".to_owned(),
        lanes: holders(run, clock),
    }];
    let doors = marks(run.writers.iter().flat_map(|w| &w.attempts), clock);
    groups.push(Group {
        name: "Doors: writes of writers that are blind to their leases".to_owned(),
        lanes: doors,
    });
    let load = run.load.iter().map(|load| Lane {
        name: load.region.to_string(),
        spans: Vec::new(),
        marks: load
            .requests
            .iter()
            .map(|request| Mark {
                from: clock.since(request.at),
                until: clock.since(request.at.plus(request.took)),
                outcome: match request.error {
                    None => Outcome::Accepted,
                    Some(_) => Outcome::Refused,
                },
            })
            .collect(),
    });
    groups.push(Group {
        name: "Inference (refused: no right answer in time)".to_owned(),
        lanes: load.collect(),
    });
    groups.retain(|group| !group.lanes.is_empty());
    Timeline {
        length: clock.length,
        faults: faults(run, clock),
        groups,
    }
}

fn faults(run: &RecordedRun, clock: &Clock) -> Vec<Span> {
    let span = |what: &str, act: &ActSeen| {
        let label = format!("{what} {}", act.before.holder.region);
        clock.span(label, act.struck, act.released, 0)
    };
    let acts = [
        run.act1.as_ref().map(|act| span("kill -9 all of", act)),
        run.act2.as_ref().map(|act| span("pause the agent of", act)),
    ];
    acts.into_iter().flatten().collect()
}

/// Each holder, from when it was seen to be one until it was seen to be none, as far as it was looked at.
fn holders(run: &RecordedRun, clock: &Clock) -> Vec<Lane> {
    let mut seen: Vec<(Micros, &Standing)> = Vec::new();
    if let Some(cluster) = &run.cluster {
        let formed = run.steps.iter().find(|step| step.name == StepName::Cluster);
        let formed = formed.map_or(clock.began, |step| step.ended().max(clock.began));
        seen.push((formed, &cluster.primary));
    }
    for act in [&run.act1, &run.act2].into_iter().flatten() {
        seen.extend(act.promoted.zip(act.after.as_ref()));
    }
    let mut lanes: BTreeMap<String, Vec<Span>> = run
        .regions
        .iter()
        .map(|region| (region.to_string(), Vec::new()))
        .collect();
    for (n, (from, standing)) in seen.iter().enumerate() {
        let next = seen.get(n + 1).map(|(at, _)| *at);
        let span = clock.span(standing.epoch.to_string(), *from, next, standing.epoch.as_u64());
        lanes
            .entry(standing.holder.region.to_string())
            .or_default()
            .push(span);
    }
    let lane = |(name, spans)| Lane {
        name,
        spans,
        marks: Vec::new(),
    };
    lanes.into_iter().map(lane).collect()
}

fn marks<'a>(attempts: impl Iterator<Item = &'a Attempt>, clock: &Clock) -> Vec<Lane> {
    let mut lanes: BTreeMap<&str, Vec<Mark>> = BTreeMap::new();
    for attempt in attempts {
        lanes.entry(&attempt.door).or_default().push(Mark {
            from: clock.since(attempt.at),
            until: clock.since(attempt.ended()),
            outcome: match attempt.outcome {
                Told::Accepted => Outcome::Accepted,
                Told::Refused | Told::NoEffect => Outcome::Refused,
                Told::Unknown => Outcome::Unknown,
            },
        });
    }
    let lane = |(name, marks): (&str, _)| Lane {
        name: name.to_owned(),
        spans: Vec::new(),
        marks,
    };
    lanes.into_iter().map(lane).collect()
}

fn facts(report: &Report) -> Vec<Fact> {
    let epoch =
        |e: Option<u64>| e.map_or_else(|| "none".to_owned(), |e| types::Epoch::from_u64(e).to_string());
    let failover = report.failover_seconds;
    vec![
        Fact::new(
            "failover",
            failover.map_or_else(|| "none".to_owned(), |s| format!("{s:.2} s")),
        ),
        Fact::new(
            "epochs",
            format!("{} to {}", epoch(report.epoch_before), epoch(report.epoch_after)),
        ),
        Fact::new("stale writes tried", report.stale_writes_attempted.to_string()),
        Fact::new("stale writes accepted", report.stale_writes_accepted.to_string()),
        Fact::new("inference requests", report.inference_requests.to_string()),
        Fact::new("inference failures", report.inference_failures.to_string()),
        Fact::new("the whole run", format!("{:.1} s", report.seconds)),
    ]
}

fn steps(report: &Report) -> Table {
    let rows = report.steps.iter().map(|step| {
        let verdict = if step.ok { "held" } else { "did not hold" };
        vec![
            step.name.to_string().into(),
            verdict.into(),
            format!("{:.1} s", step.seconds).into(),
            step.detail.clone().into(),
        ]
    });
    Table {
        title: "Steps".to_owned(),
        headings: ["step", "", "took", "what was seen"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

fn doors(report: &Report) -> Table {
    let rows = report.doors.iter().map(|door| {
        let counts = [door.attempted, door.accepted, door.accepted_before_claim];
        let counts = counts.map(|count| Cell::from(count.to_string()));
        [door.name.clone().into()].into_iter().chain(counts).collect()
    });
    let headings = [
        "door",
        "stale writes tried",
        "accepted",
        "accepted before the claim",
    ];
    Table {
        title: "Doors, and writes under an epoch that was over".to_owned(),
        headings: headings.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::checker;

    const GOOD: &str = include_str!("../../testdata/demo/good.json");

    /// Each lane has whoever held the role there, one after the other, and nobody while another did.
    #[test]
    fn a_run_shows_its_holders_one_after_the_other_its_faults_and_every_write() {
        let run: RecordedRun = serde_json::from_str(GOOD).unwrap();
        let page = of(&run, &checker::check(&run));
        assert!(page.holds && page.findings.is_empty());
        let timeline = page.timeline.unwrap();
        let spans = |lane: &Lane| lane.spans.clone();
        let mut held: Vec<Span> = timeline.groups[0].lanes.iter().flat_map(spans).collect();
        held.sort_by_key(|span| span.from);
        assert_eq!(held.len(), 3);
        assert!(
            held.windows(2)
                .all(|pair| pair[0].until == pair[1].from && pair[0].colour < pair[1].colour)
        );
        assert_eq!(held[2].until, timeline.length);
        assert_eq!(timeline.faults.len(), 2);
        let within = |fault: &Span| {
            held.iter()
                .any(|span| fault.from < span.from && span.from < fault.until)
        };
        assert!(
            timeline.faults.iter().all(within),
            "{:?} {held:?}",
            timeline.faults
        );
        let marks = |group: usize| {
            timeline.groups[group]
                .lanes
                .iter()
                .map(|lane| lane.marks.len())
                .sum::<usize>()
        };
        let attempts = run.writers.iter().map(|w| w.attempts.len()).sum::<usize>();
        let requests = run.load.iter().map(|load| load.requests.len()).sum::<usize>();
        assert_eq!((marks(1), marks(2)), (attempts, requests));
    }

    #[test]
    fn a_run_that_saw_nothing_has_a_page_without_a_picture() {
        let run = RecordedRun::default();
        let page = of(&run, &checker::check(&run));
        assert!(page.timeline.is_none() && !page.holds && !page.findings.is_empty());
    }
}
