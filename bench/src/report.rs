//! The document of a run, as JSON or as a table.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{machine::Machine, rows::Row};

/// What a benchmark found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// The figures.
    pub rows: Vec<Row>,
    /// What must be known to read them.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether every goal is reached.
    pub fn is_reached(&self) -> bool {
        !self.rows.iter().any(Row::is_short)
    }

    /// For people.
    pub fn table(&self) -> String {
        let m = &self.machine;
        let mut text = format!(
            "{} beside {}; {} × {}, {} MiB, Linux {}, {}, nice {}, load before {}\n\n",
            m.regent,
            m.peer,
            m.cpus,
            m.cpu_model,
            m.memory_mib,
            m.kernel,
            m.file_system,
            m.nice,
            m.load_before
        );
        let widest = self.rows.iter().map(|r| r.name.len()).max().unwrap_or(0);
        let _ = writeln!(
            text,
            "{:widest$}  {:>10} {:>10}  {:6} {:>6} {:>6}",
            "", "regent", "peer", "unit", "ratio", "goal"
        );
        for row in &self.rows {
            let goal = match (row.goal_ratio > 0.0, row.is_short()) {
                (false, _) => String::new(),
                (true, false) => format!("{:6.2}", row.goal_ratio),
                (true, true) => format!("{:6.2}  short", row.goal_ratio),
            };
            let _ = writeln!(
                text,
                "{:widest$}  {:>10} {:>10}  {:6} {:6.2} {goal}",
                row.name,
                figure(row.ours),
                figure(row.peer),
                row.unit,
                row.ratio
            );
        }
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, ratio: f64, goal_ratio: f64) -> Row {
        Row {
            name: name.to_owned(),
            unit: "ms",
            ours: 1.234,
            peer: 1234.5,
            peer_name: "etcd".to_owned(),
            ratio,
            goal_ratio,
        }
    }

    fn report(rows: Vec<Row>) -> Report {
        let machine = Machine {
            cpus: 2,
            cpu_model: "some".to_owned(),
            memory_mib: 1,
            kernel: "6".to_owned(),
            file_system: "ext4".to_owned(),
            nice: 0,
            load_before: 0.1,
            regent: "regent".to_owned(),
            peer: "etcd".to_owned(),
        };
        Report {
            machine,
            rows,
            notes: vec!["read me".to_owned()],
        }
    }

    #[test]
    fn the_document_has_the_fields_that_others_rely_on() {
        let document = serde_json::to_value(report(vec![row("put_64", 1.5, 1.0)])).unwrap();
        assert!(document["machine"].is_object());
        let row = document["rows"][0].as_object().unwrap();
        let mut fields: Vec<&str> = row.keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            ["goal_ratio", "name", "ours", "peer", "peer_name", "ratio", "unit"]
        );
    }

    #[test]
    fn a_row_that_only_informs_is_never_short() {
        assert!(report(vec![row("a", 1.0, 1.0), row("b", 0.1, 0.0)]).is_reached());
        let short = report(vec![row("a", 0.99, 1.0), row("b", 9.0, 0.0)]);
        assert!(!short.is_reached());
        let table = short.table();
        assert_eq!(table.matches("short").count(), 1, "{table}");
        assert!(table.contains("1.23") && table.contains("1234"), "{table}");
    }
}
