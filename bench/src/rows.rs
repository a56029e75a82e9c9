//! What was measured as rows with ratios and goals. The goals are fixed; they are not set to what is reached. Pure.

use serde::Serialize;

use crate::{
    load::Measured,
    stats::{combined, larger_is_better, median, smaller_is_better},
};

/// One line of the document: ratio > 1 is better for us, also where smaller is better.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Of both values.
    pub unit: &'static str,
    /// Our median.
    pub ours: f64,
    /// The peer's.
    pub peer: f64,
    /// Who that is.
    pub peer_name: String,
    /// How much better we are.
    pub ratio: f64,
    /// What the ratio must reach; 0 where the row only informs.
    pub goal_ratio: f64,
}

impl Row {
    /// Whether it has a goal and falls short of it.
    pub fn is_short(&self) -> bool {
        self.ratio < self.goal_ratio
    }
}

/// What one system showed in one round.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Closed-loop cells: as many clients as it takes.
    pub closed: Vec<(&'static str, Measured)>,
    /// Open-loop cells.
    pub open: Vec<(&'static str, Measured)>,
    /// CPU seconds in a second without work.
    pub idle_cpu: f64,
    /// MiB of the three processes at the end.
    pub resident_mib: f64,
}

/// Both systems, round by round.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// Regent.
    pub ours: Vec<Round>,
    /// The other one.
    pub peer: Vec<Round>,
}

/// Rows whose ratio combines CPU and throughput.
const COMBINED: &[&str] = &["put_64", "put_256", "read_64"];
/// Latencies with a goal.
const LATENCIES: &[&str] = &["put_1_p50", "put_64_p99", "put_256_p99", "read_64_p99"];

/// All rows: those with a goal first.
pub fn rows(rounds: &Rounds, peer_name: &str) -> Vec<Row> {
    let table = Table { rounds, peer_name };
    let mut rows = Vec::new();
    for name in names(rounds, |round| &round.closed) {
        rows.extend(table.closed(name));
    }
    for name in names(rounds, |round| &round.open) {
        rows.extend(table.open(name));
    }
    rows.push(table.smaller("idle_cpu".to_owned(), "ms/s", |r| Some(r.idle_cpu * 1e3)));
    rows.push(table.smaller("resident".to_owned(), "MiB", |r| Some(r.resident_mib)));
    // Stable: each part keeps its place.
    rows.sort_by_key(|row| row.goal_ratio <= 0.0);
    rows
}

fn names(rounds: &Rounds, cells: fn(&Round) -> &Vec<(&'static str, Measured)>) -> Vec<&'static str> {
    let first = rounds.ours.first();
    first
        .map(|round| cells(round).iter().map(|(name, _)| *name).collect())
        .unwrap_or_default()
}

struct Table<'a> {
    rounds: &'a Rounds,
    peer_name: &'a str,
}

impl Table<'_> {
    fn closed(&self, name: &'static str) -> Vec<Row> {
        let of = |round: &Round| find(&round.closed, name);
        let throughput = self.larger(format!("{name}_throughput"), "ops/s", |r| {
            of(r).map(|m| m.throughput)
        });
        let cpu = self.smaller(format!("{name}_cpu"), "us/op", |r| of(r).map(|m| m.cpu * 1e6));
        let goal = COMBINED.contains(&name).then(|| Row {
            name: name.to_owned(),
            ratio: combined(cpu.ratio, throughput.ratio),
            goal_ratio: 1.0,
            ..throughput.clone()
        });
        goal.into_iter().chain([throughput, cpu]).collect()
    }

    fn open(&self, name: &'static str) -> [Row; 2] {
        let of = |round: &Round| find(&round.open, name);
        [
            self.latency(format!("{name}_p50"), |r| {
                of(r).map(|m| m.p50.as_secs_f64() * 1e3)
            }),
            self.latency(format!("{name}_p99"), |r| {
                of(r).map(|m| m.p99.as_secs_f64() * 1e3)
            }),
        ]
    }

    fn latency(&self, name: String, value: impl Fn(&Round) -> Option<f64>) -> Row {
        let goal_ratio = if LATENCIES.contains(&name.as_str()) {
            1.0
        } else {
            0.0
        };
        Row {
            goal_ratio,
            ..self.smaller(name, "ms", value)
        }
    }

    fn smaller(&self, name: String, unit: &'static str, value: impl Fn(&Round) -> Option<f64>) -> Row {
        self.row(name, unit, value, smaller_is_better)
    }

    fn larger(&self, name: String, unit: &'static str, value: impl Fn(&Round) -> Option<f64>) -> Row {
        self.row(name, unit, value, larger_is_better)
    }

    fn row(
        &self,
        name: String,
        unit: &'static str,
        value: impl Fn(&Round) -> Option<f64>,
        ratio: fn(f64, f64) -> f64,
    ) -> Row {
        let middle = |rounds: &[Round]| median(&rounds.iter().filter_map(&value).collect::<Vec<_>>());
        let (ours, peer) = (middle(&self.rounds.ours), middle(&self.rounds.peer));
        Row {
            name,
            unit,
            ours,
            peer,
            peer_name: self.peer_name.to_owned(),
            ratio: ratio(ours, peer),
            goal_ratio: 0.0,
        }
    }
}

fn find(cells: &[(&'static str, Measured)], name: &str) -> Option<Measured> {
    cells
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, measured)| *measured)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn measured(throughput: f64, cpu: f64, millis: u64) -> Measured {
        Measured {
            throughput,
            cpu,
            p50: Duration::from_millis(millis),
            p99: Duration::from_millis(millis * 10),
        }
    }

    fn round(throughput: f64, cpu: f64, millis: u64) -> Round {
        Round {
            closed: vec![
                ("put_64", measured(throughput, cpu, millis)),
                ("put_1", measured(throughput, cpu, millis)),
            ],
            open: vec![
                ("put_1", measured(throughput, cpu, millis)),
                ("put_64", measured(throughput, cpu, millis)),
            ],
            idle_cpu: 0.01,
            resident_mib: 100.0,
        }
    }

    fn row<'a>(rows: &'a [Row], name: &str) -> &'a Row {
        rows.iter().find(|r| r.name == name).unwrap()
    }

    #[test]
    fn each_row_is_of_medians_and_says_how_much_better_we_are() {
        let rounds = Rounds {
            ours: vec![
                round(30_000.0, 40e-6, 2),
                round(20_000.0, 50e-6, 1),
                round(1.0, 1.0, 500),
            ],
            peer: vec![
                round(10_000.0, 100e-6, 2),
                round(9_000.0, 200e-6, 1),
                round(50_000.0, 1e-9, 90),
            ],
        };
        let rows = rows(&rounds, "etcd 3");
        assert!((row(&rows, "put_64_throughput").ratio - 2.0).abs() < 1e-9);
        assert!((row(&rows, "put_64_cpu").ratio - 2.0).abs() < 1e-9);
        assert!((row(&rows, "put_64").ratio - 1.0).abs() < 1e-9);
        assert!(!row(&rows, "put_64").is_short());
        assert!((row(&rows, "put_1_p50").ours - 2.0).abs() < 1e-9);
        assert!((row(&rows, "put_64_p99").goal_ratio - 1.0).abs() < 1e-9);
        assert!((row(&rows, "put_1_p50").goal_ratio - 1.0).abs() < 1e-9);
        for informs in [
            "put_1_throughput",
            "put_64_cpu",
            "put_64_p50",
            "put_1_p99",
            "idle_cpu",
            "resident",
        ] {
            assert!(row(&rows, informs).goal_ratio.abs() < 1e-9, "{informs}");
        }
        let first_part = rows.iter().position(|r| r.goal_ratio <= 0.0).unwrap();
        assert!(rows[first_part..].iter().all(|r| r.goal_ratio <= 0.0));
    }

    #[test]
    fn a_row_is_short_below_its_goal_only() {
        let rounds = Rounds {
            ours: vec![round(10_000.0, 100e-6, 3)],
            peer: vec![round(10_000.0, 100e-6, 2)],
        };
        let rows = rows(&rounds, "etcd");
        let short: Vec<&str> = rows
            .iter()
            .filter(|r| r.is_short())
            .map(|r| r.name.as_str())
            .collect();
        assert_eq!(short, ["put_64", "put_1_p50", "put_64_p99"]);
    }
}
