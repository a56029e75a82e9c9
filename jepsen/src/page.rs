//! A run's history as a page: figures, and who did what when under which fault. Pure.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use report::{Cell, Fact, Group, Lane, Mark, Outcome, Page, Span, Table, Timeline};

use crate::{
    history::{Action, Event, Op, Phase, Seen, Told, What},
    run,
    verdict::{RunVerdict, Verdict},
    workload::process,
};

/// The page of a run.
pub(crate) fn of(verdict: &RunVerdict, command: String, history: &[Event], ops: &[Op<'_>]) -> Page {
    Page {
        title: format!("{} under {}", verdict.workload, verdict.nemesis),
        command,
        holds: verdict.anomalies.is_empty(),
        findings: verdict.anomalies.clone(),
        facts: facts(verdict, history, ops),
        timeline: Some(Timeline {
            length: micros(history.last().map_or(0, |event| event.at)),
            faults: faults(history),
            groups: groups(history, ops),
        }),
        tables: vec![by_action(ops), outages(verdict), refusals(ops)],
    }
}

/// A page that names all runs of a suite, each of which has its own in a directory beside this one.
pub(crate) fn index(verdict: &Verdict) -> Page {
    let row = |run: &RunVerdict| {
        let link = format!("{}/{}", run.directory(), run::REPORT);
        let name = Cell {
            text: format!("{} under {}", run.workload, run.nemesis),
            link: Some(link),
        };
        let gap = format!("{:.2} s", run.longest_unavailable_seconds);
        let counts = [run.operations, run.faults, run.anomalies.len()];
        let counts = counts.map(|count| Cell::from(count.to_string()));
        let [operations, faults, anomalies] = counts;
        vec![
            name,
            operations,
            faults,
            anomalies,
            gap.into(),
            run.seed.to_string().into(),
        ]
    };
    let headings = [
        "run",
        "operations",
        "faults",
        "anomalies",
        "longest without an accepted write",
        "outages as short as is allowed",
        "seed",
    ];
    let sum = |of: fn(&RunVerdict) -> usize| verdict.runs.iter().map(of).sum::<usize>().to_string();
    let found = verdict.runs.iter().flat_map(|run| {
        let found = run.anomalies.iter();
        found.map(move |anomaly| format!("{} under {}: {anomaly}", run.workload, run.nemesis))
    });
    Page {
        title: "Regent under faults".to_owned(),
        holds: verdict.holds(),
        findings: found.collect(),
        facts: vec![
            Fact::new("runs", verdict.runs.len().to_string()),
            Fact::new("operations", sum(|run| run.operations)),
            Fact::new("faults proved", sum(|run| run.faults)),
            Fact::new("anomalies", sum(|run| run.anomalies.len())),
        ],
        tables: vec![Table {
            title: "Runs".to_owned(),
            headings: headings.map(str::to_owned).to_vec(),
            rows: verdict.runs.iter().map(row).collect(),
        }],
        ..Page::default()
    }
}

fn micros(at: u64) -> Duration {
    Duration::from_micros(at)
}

fn outcome(end: &What) -> Outcome {
    match end {
        What::Ok { .. } => Outcome::Accepted,
        What::Fail { .. } => Outcome::Refused,
        What::Info { .. }
        | What::Invoke { .. }
        | What::Told { .. }
        | What::Nemesis { .. }
        | What::Seen { .. } => Outcome::Unknown,
    }
}

fn facts(verdict: &RunVerdict, history: &[Event], ops: &[Op<'_>]) -> Vec<Fact> {
    let count = |of: Outcome| {
        let count = ops.iter().filter(|op| outcome(op.end) == of).count();
        format!("{count} ({})", percent(count, ops.len()))
    };
    let length = micros(history.last().map_or(0, |event| event.at));
    vec![
        Fact::new("operations", verdict.operations.to_string()),
        Fact::new("accepted", count(Outcome::Accepted)),
        Fact::new("refused", count(Outcome::Refused)),
        Fact::new("unknown", count(Outcome::Unknown)),
        Fact::new("faults proved", verdict.faults.to_string()),
        Fact::new("anomalies", verdict.anomalies.len().to_string()),
        Fact::new(
            "longest without an accepted write",
            format!("{:.2} s", verdict.longest_unavailable_seconds),
        ),
        Fact::new("length", format!("{:.1} s", length.as_secs_f64())),
        Fact::new("seed", verdict.seed.to_string()),
    ]
}

fn percent(part: usize, of: usize) -> String {
    let (part, of) = (
        u32::try_from(part).unwrap_or(u32::MAX),
        u32::try_from(of.max(1)).unwrap_or(u32::MAX),
    );
    format!("{:.1} %", 100.0 * f64::from(part) / f64::from(of))
}

/// From its beginning until it was proved to be over, or the end of the run.
fn faults(history: &[Event]) -> Vec<Span> {
    let mut open: BTreeMap<&str, u64> = BTreeMap::new();
    let mut faults = Vec::new();
    let end = history.last().map_or(0, |event| event.at);
    let span = |fault: &str, from, until| Span {
        label: fault.to_owned(),
        from: micros(from),
        until: micros(until),
        colour: 0,
    };
    for event in history {
        match &event.what {
            What::Nemesis {
                fault,
                phase: Phase::Begins,
                ..
            } => {
                open.insert(fault, event.at);
            }
            What::Nemesis {
                fault,
                phase: Phase::Over,
                ..
            } => {
                if let Some(from) = open.remove(fault.as_str()) {
                    faults.push(span(fault, from, event.at));
                }
            }
            _ => {}
        }
    }
    faults.extend(open.into_iter().map(|(fault, from)| span(fault, from, end)));
    faults
}

fn groups(history: &[Event], ops: &[Op<'_>]) -> Vec<Group> {
    let groups = [
        group("Coordinators that lead, by term", leaders(history)),
        group("Holders of primaries/global, by epoch", holders(history)),
        group("Doors", marks(ops, door)),
        group("Agents that were asked for their token", marks(ops, token)),
        group("Clients", marks(ops, client)),
        group("Watches: changes told", watches(history)),
    ];
    groups.into_iter().flatten().collect()
}

fn group(name: &str, lanes: Vec<Lane>) -> Option<Group> {
    (!lanes.is_empty()).then(|| Group {
        name: name.to_owned(),
        lanes,
    })
}

/// What lasted from one sight to the next, in a lane for each region.
struct Lasting {
    lanes: BTreeMap<String, Vec<Span>>,
    open: BTreeMap<String, (u64, String, u64)>,
}

impl Lasting {
    const fn new() -> Self {
        Self {
            lanes: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    fn begin(&mut self, region: &str, at: u64, label: String, colour: u64) {
        self.end(region, at);
        self.lanes.entry(region.to_owned()).or_default();
        self.open.insert(region.to_owned(), (at, label, colour));
    }

    fn end(&mut self, region: &str, at: u64) {
        if let Some((from, label, colour)) = self.open.remove(region) {
            self.lanes.entry(region.to_owned()).or_default().push(Span {
                label,
                from: micros(from),
                until: micros(at),
                colour,
            });
        }
    }

    fn lanes(mut self, end: u64) -> Vec<Lane> {
        let open: Vec<String> = self.open.keys().cloned().collect();
        for region in open {
            self.end(&region, end);
        }
        let lane = |(name, spans)| Lane {
            name,
            spans,
            marks: Vec::new(),
        };
        self.lanes.into_iter().map(lane).collect()
    }
}

fn leaders(history: &[Event]) -> Vec<Lane> {
    let mut lasting = Lasting::new();
    for event in history {
        match &event.what {
            What::Seen {
                seen:
                    Seen::Leads {
                        region,
                        term: Some(term),
                        ..
                    },
            } => lasting.begin(region, event.at, format!("t{term}"), *term),
            What::Seen {
                seen: Seen::Leads {
                    region, term: None, ..
                },
            } => lasting.end(region, event.at),
            _ => {}
        }
    }
    lasting.lanes(history.last().map_or(0, |event| event.at))
}

fn holders(history: &[Event]) -> Vec<Lane> {
    let mut lasting = Lasting::new();
    let mut last: Option<String> = None;
    for event in history {
        let What::Seen {
            seen: Seen::Role { epoch, holder },
        } = &event.what
        else {
            continue;
        };
        if let Some(region) = last.take() {
            lasting.end(&region, event.at);
        }
        if let Some(holder) = holder {
            let region = holder.region.to_string();
            lasting.begin(&region, event.at, epoch.to_string(), epoch.as_u64());
            last = Some(region);
        }
    }
    lasting.lanes(history.last().map_or(0, |event| event.at))
}

/// A lane for each name that an operation has here.
fn marks(ops: &[Op<'_>], name: impl Fn(&Op<'_>) -> Option<String>) -> Vec<Lane> {
    let mut lanes: BTreeMap<String, Vec<Mark>> = BTreeMap::new();
    for op in ops {
        let Some(name) = name(op) else { continue };
        lanes.entry(name).or_default().push(Mark {
            from: micros(op.began),
            until: micros(op.ended),
            outcome: outcome(op.end),
        });
    }
    lanes
        .into_iter()
        .map(|(name, marks)| Lane {
            name,
            spans: Vec::new(),
            marks,
        })
        .collect()
}

fn door(op: &Op<'_>) -> Option<String> {
    match op.action {
        Action::Write { door, .. } => Some(door.clone()),
        _ => None,
    }
}

fn token(op: &Op<'_>) -> Option<String> {
    match op.action {
        Action::Token { region } => Some(region.clone()),
        _ => None,
    }
}

fn client(op: &Op<'_>) -> Option<String> {
    match op.action {
        Action::Token { .. } | Action::Write { .. } => None,
        Action::Get { .. }
        | Action::Set { .. }
        | Action::Swap { .. }
        | Action::Append { .. }
        | Action::Read { .. } => Some(format!("client {:>2}", process::client_of(op.process))),
    }
}

fn watches(history: &[Event]) -> Vec<Lane> {
    let mut lanes: BTreeMap<u32, Vec<Mark>> = BTreeMap::new();
    for event in history {
        let What::Told { told } = &event.what else {
            continue;
        };
        let marks = lanes.entry(event.process).or_default();
        if matches!(told, Told::Whole { .. } | Told::Changed { .. }) {
            marks.push(Mark {
                from: micros(event.at),
                until: micros(event.at),
                outcome: Outcome::Accepted,
            });
        }
    }
    lanes
        .into_iter()
        .map(|(process, marks)| Lane {
            name: format!("watch {process:>2}"),
            spans: Vec::new(),
            marks,
        })
        .collect()
}

fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Token { .. } => "token",
        Action::Write { .. } => "write",
        Action::Get { .. } => "get",
        Action::Set { .. } => "set",
        Action::Swap { .. } => "swap",
        Action::Append { .. } => "append",
        Action::Read { .. } => "read",
    }
}

fn by_action(ops: &[Op<'_>]) -> Table {
    let mut all: BTreeMap<&str, Vec<&Op<'_>>> = BTreeMap::new();
    for op in ops {
        all.entry(name_of(op.action)).or_default().push(op);
    }
    let rows = all.into_iter().map(|(name, ops)| {
        let count = |of: Outcome| ops.iter().filter(|op| outcome(op.end) == of).count().to_string();
        let accepted = ops.iter().filter(|op| outcome(op.end) == Outcome::Accepted);
        let mut took: Vec<u64> = accepted.map(|op| op.ended.saturating_sub(op.began)).collect();
        took.sort_unstable();
        let quantile = |thousandths: usize| {
            let place = (took.len() * thousandths / 1_000).min(took.len().saturating_sub(1));
            took.get(place).map_or_else(String::new, |took| {
                format!("{:.1} ms", micros(*took).as_secs_f64() * 1_000.0)
            })
        };
        vec![
            name.into(),
            count(Outcome::Accepted).into(),
            count(Outcome::Refused).into(),
            count(Outcome::Unknown).into(),
            quantile(500).into(),
            quantile(990).into(),
            quantile(1_000).into(),
        ]
    });
    Table {
        title: "Operations, and how long the accepted ones took".to_owned(),
        headings: ["", "accepted", "refused", "unknown", "median", "p99", "longest"]
            .map(str::to_owned)
            .to_vec(),
        rows: rows.collect(),
    }
}

fn outages(verdict: &RunVerdict) -> Table {
    let rows = verdict.outages.iter().map(|outage| {
        let limit = outage.limit_seconds.map(|limit| format!("{limit:.2} s"));
        let kept = match outage.kept() {
            None => "",
            Some(true) => "kept",
            Some(false) => "not kept",
        };
        vec![
            outage.fault.clone().into(),
            format!("{:.1} s", outage.at_seconds).into(),
            format!("{:.2} s", outage.seconds).into(),
            limit.unwrap_or_default().into(),
            kept.into(),
        ]
    });
    Table {
        title: "Longest time without an accepted write after each fault".to_owned(),
        headings: ["fault", "began", "without a write", "allowed", ""]
            .map(str::to_owned)
            .to_vec(),
        rows: rows.collect(),
    }
}

fn refusals(ops: &[Op<'_>]) -> Table {
    let mut all: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for op in ops {
        let (code, why) = match op.end {
            What::Fail { code, reason, .. } => (code.clone(), reason),
            What::Info { reason } if !reason.is_empty() => {
                let code = reason.split(':').next().unwrap_or_default();
                (format!("{code} (unknown)"), reason)
            }
            _ => continue,
        };
        match all.entry(code) {
            Entry::Occupied(mut known) => known.get_mut().0 += 1,
            Entry::Vacant(new) => {
                new.insert((1, why.clone()));
            }
        }
    }
    let rows = all
        .into_iter()
        .map(|(code, (count, why))| vec![code.into(), count.to_string().into(), why.into()]);
    Table {
        title: "Refusals and unknown outcomes".to_owned(),
        headings: ["code", "how often", "the first of them"]
            .map(str::to_owned)
            .to_vec(),
        rows: rows.collect(),
    }
}

#[cfg(test)]
mod tests {
    use types::{Epoch, Holder, NodeIncarnation};

    use super::*;
    use crate::{
        check::availability::Outage,
        history::{Answer, operations},
    };

    fn event(at: u64, process: u32, op: u64, what: What) -> Event {
        Event {
            at,
            process,
            op,
            what,
        }
    }

    fn nemesis(at: u64, fault: &str, phase: Phase) -> Event {
        let fault = fault.to_owned();
        let elections = None;
        let what = What::Nemesis {
            fault,
            phase,
            elections,
        };
        event(at, u32::MAX, 0, what)
    }

    fn seen(at: u64, seen: Seen) -> Event {
        event(at, u32::MAX - 1, 0, What::Seen { seen })
    }

    fn role(at: u64, epoch: u64, region: Option<&str>) -> Event {
        let holder = region.map(|region| Holder {
            region: region.parse().unwrap(),
            node: "n1".parse().unwrap(),
            incarnation: NodeIncarnation::from_u128(7),
        });
        let epoch = Epoch::from_u64(epoch);
        seen(at, Seen::Role { epoch, holder })
    }

    fn leads(at: u64, region: &str, term: Option<u64>) -> Event {
        let region = region.to_owned();
        let election_max_millis = 400;
        let leads = Seen::Leads {
            region,
            term,
            election_max_millis,
        };
        seen(at, leads)
    }

    fn verdict() -> RunVerdict {
        RunVerdict {
            workload: "lists".to_owned(),
            nemesis: "kill".to_owned(),
            seed: 7,
            operations: 2,
            faults: 1,
            anomalies: Vec::new(),
            longest_unavailable_seconds: 1.5,
            outages: vec![Outage {
                fault: "kill r1".to_owned(),
                at_seconds: 2.0,
                seconds: 1.0,
                limit_seconds: Some(1.2),
            }],
        }
    }

    fn spans(lanes: &[Lane]) -> Vec<String> {
        let spans = lanes.iter().flat_map(|lane| {
            lane.spans.iter().map(|span| {
                let (from, until) = (span.from.as_micros(), span.until.as_micros());
                format!("{} {} {from}..{until}", lane.name, span.label)
            })
        });
        spans.collect()
    }

    #[test]
    fn who_holds_and_who_leads_lasts_until_something_else_is_seen() {
        let history = [
            role(10, 4, Some("r1")),
            leads(20, "r1", Some(1)),
            role(30, 5, None),
            leads(40, "r2", Some(2)),
            leads(50, "r1", None),
            role(60, 6, Some("r2")),
            nemesis(100, "kill r2", Phase::Begins),
        ];
        assert_eq!(spans(&leaders(&history)), ["r1 t1 20..50", "r2 t2 40..100"]);
        let epoch = |n| Epoch::from_u64(n).to_string();
        assert_eq!(
            spans(&holders(&history)),
            [
                format!("r1 {} 10..30", epoch(4)),
                format!("r2 {} 60..100", epoch(6))
            ]
        );
    }

    #[test]
    fn a_fault_lasts_until_it_is_over_or_the_run_is() {
        let history = [
            nemesis(1, "kill r1", Phase::Begins),
            nemesis(5, "kill r1", Phase::Over),
            nemesis(6, "kill r2", Phase::Begins),
            role(9, 4, None),
        ];
        let told: Vec<_> = faults(&history)
            .iter()
            .map(|f| (f.label.clone(), f.from.as_micros(), f.until.as_micros()))
            .collect();
        assert_eq!(told, [("kill r1".to_owned(), 1, 5), ("kill r2".to_owned(), 6, 9)]);
    }

    #[test]
    fn every_operation_stands_in_the_lane_of_its_client_whatever_life_that_is_in() {
        let append = |element| What::Invoke {
            action: Action::Append {
                list: "l".to_owned(),
                element,
            },
        };
        let history = [
            event(0, 3, 1, append(1)),
            event(
                9_000,
                3,
                1,
                What::Info {
                    reason: "OUTCOME_UNKNOWN: no answer".to_owned(),
                },
            ),
            event(10_000, 1_003, 2, append(2)),
            event(
                12_000,
                1_003,
                2,
                What::Ok {
                    answer: Answer::Placed { place: 1 },
                },
            ),
        ];
        let ops = operations(&history);
        let page = of(&verdict(), "jepsen run".to_owned(), &history, &ops);
        let timeline = page.timeline.as_ref().unwrap();
        let [clients] = timeline.groups.as_slice() else {
            panic!("{:?}", timeline.groups);
        };
        let lanes: Vec<_> = clients
            .lanes
            .iter()
            .map(|l| (l.name.as_str(), l.marks.len()))
            .collect();
        assert_eq!(lanes, [("client  3", 2)]);
        let row = |table: usize| {
            page.tables[table].rows[0]
                .iter()
                .map(|cell| cell.text.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(row(0), ["append", "1", "0", "1", "2.0 ms", "2.0 ms", "2.0 ms"]);
        assert_eq!(row(1), ["kill r1", "2.0 s", "1.00 s", "1.20 s", "kept"]);
        assert_eq!(
            row(2),
            ["OUTCOME_UNKNOWN (unknown)", "1", "OUTCOME_UNKNOWN: no answer"]
        );
        let fact = |name: &str| page.facts.iter().find(|f| f.name == name).unwrap().value.clone();
        assert_eq!(fact("unknown"), "1 (50.0 %)");
        assert_eq!(timeline.length, micros(12_000));
    }

    #[test]
    fn the_page_of_a_suite_leads_to_each_run_and_says_what_was_found_in_which() {
        let broken = RunVerdict {
            anomalies: vec!["a write is lost".to_owned()],
            ..verdict()
        };
        let verdict = Verdict {
            runs: vec![verdict(), broken],
            ..Verdict::default()
        };
        let page = index(&verdict);
        assert!(!page.holds);
        assert_eq!(page.findings, ["lists under kill: a write is lost"]);
        let link = page.tables[0].rows[1][0].link.as_deref();
        assert_eq!(link, Some("lists-kill-7/report.html"));
    }
}
