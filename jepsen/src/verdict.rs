//! The document that a suite ends with (design.md section 11).

use serde::Serialize;

use crate::check::availability::Outage;

/// All runs of a suite.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verdict {
    /// One per workload and nemesis.
    pub(crate) runs: Vec<RunVerdict>,
    /// Bugs put in on purpose, and what found them; none but where that was asked for.
    pub(crate) planted: Vec<Planted>,
}

/// One bug that was put in on purpose.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Planted {
    /// Its name.
    pub(crate) bug: String,
    /// The workload and the nemesis of the run that found it; none did.
    pub(crate) found_by: Option<String>,
    /// Of all its runs, until it was found.
    pub(crate) seconds: f64,
    /// Of the run that found it.
    pub(crate) seed: u64,
    /// The first of the sentences by which it was found.
    pub(crate) anomaly: Option<String>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunVerdict {
    /// What clients did.
    pub(crate) workload: String,
    /// What was done to processes.
    pub(crate) nemesis: String,
    /// Repeats its choices.
    pub(crate) seed: u64,
    /// Operations that clients began.
    pub(crate) operations: usize,
    /// Faults that were proved to have taken hold.
    pub(crate) faults: usize,
    /// Broken promises, each in one sentence.
    pub(crate) anomalies: Vec<String>,
    /// Longest time without an accepted write.
    pub(crate) longest_unavailable_seconds: f64,
    /// What each fault cost, and what is allowed.
    pub(crate) outages: Vec<Outage>,
}

/// Of the directory of a run, where that is not named.
pub(crate) fn directory(workload: &str, nemesis: &str, seed: u64) -> String {
    format!("{workload}-{nemesis}-{seed}")
}

impl RunVerdict {
    /// How many outages were no longer than is allowed, and of how many something is allowed.
    pub(crate) fn outages_kept(&self) -> (usize, usize) {
        let told = || self.outages.iter().filter_map(Outage::kept);
        (told().filter(|kept| *kept).count(), told().count())
    }

    /// Its directory in that of its suite.
    pub(crate) fn directory(&self) -> String {
        directory(&self.workload, &self.nemesis, self.seed)
    }
}

impl Verdict {
    /// No run found an anomaly, but each bug that was planted was found.
    pub(crate) fn holds(&self) -> bool {
        self.runs.iter().all(|r| r.anomalies.is_empty()) && self.planted.iter().all(|p| p.found_by.is_some())
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut lines = Vec::new();
        for run in &self.runs {
            let (kept, of) = run.outages_kept();
            let outages = if of == 0 {
                String::new()
            } else {
                format!(", {kept} of {of} outages as short as is allowed")
            };
            lines.push(format!(
                "{} under {}: {} operations, {} faults, {} anomalies, longest without an accepted write {:.1} s{outages} (seed {})",
                run.workload,
                run.nemesis,
                run.operations,
                run.faults,
                run.anomalies.len(),
                run.longest_unavailable_seconds,
                run.seed
            ));
            lines.extend(run.anomalies.iter().map(|a| format!("  {a}")));
        }
        for planted in &self.planted {
            let Planted {
                bug, seconds, seed, ..
            } = planted;
            lines.push(match (&planted.found_by, &planted.anomaly) {
                (Some(by), Some(anomaly)) => {
                    format!("{bug}: found by {by} after {seconds:.0} s (seed {seed}): {anomaly}")
                }
                _ => format!("{bug}: NOT FOUND in {seconds:.0} s (seed {seed})"),
            });
        }
        lines.join("\n")
    }
}
