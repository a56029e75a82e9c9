//! Tells the story to people while it happens: on stdout, or on stderr where stdout holds one JSON document.

use tokio::time::Instant;

use super::report::{Report, StepReport};
use crate::{args::OutputFormat, output};

/// Who tells.
#[derive(Debug)]
pub(super) struct Narrator {
    format: OutputFormat,
    began: Instant,
}

impl Narrator {
    /// The clock of the story starts here.
    pub(super) fn new(format: OutputFormat) -> Self {
        Self {
            format,
            began: Instant::now(),
        }
    }

    /// One line, with the time of the story.
    pub(super) fn say(&self, text: &str) {
        self.line(&format!("{:>6.1} s  {text}", self.began.elapsed().as_secs_f64()));
    }

    fn line(&self, text: &str) {
        match self.format {
            // A reader that went away does not stop the story: its verdict is the exit code.
            OutputFormat::Table => drop(output::line(text)),
            OutputFormat::Json => output::note(text),
        }
    }

    /// A step has ended.
    pub(super) fn verdict(&self, step: &StepReport) {
        let mark = if step.ok { "ok    " } else { "FAILED" };
        self.say(&format!(
            "{mark} {}: {} ({:.1} s)",
            step.name, step.detail, step.seconds
        ));
    }

    /// The end.
    pub(super) fn summary(&self, report: &Report) {
        self.line("");
        let epoch =
            |e: Option<u64>| e.map_or_else(|| "?".to_owned(), |e| types::Epoch::from_u64(e).to_string());
        let failover = report
            .failover_seconds
            .map_or_else(|| "none".to_owned(), |s| format!("{s:.2} s"));
        self.line(&format!(
            "epochs {} → {}; failover {failover}; {} stale writes tried, {} accepted; {} inference requests, {} failed",
            epoch(report.epoch_before),
            epoch(report.epoch_after),
            report.stale_writes_attempted,
            report.stale_writes_accepted,
            report.inference_requests,
            report.inference_failures
        ));
        self.line(&format!("the whole run took {:.1} s", report.seconds));
        let rows = report.doors.iter().map(|d| {
            [
                d.name.clone(),
                d.attempted.to_string(),
                d.accepted.to_string(),
                d.accepted_before_claim.to_string(),
            ]
        });
        let headings = ["DOOR", "STALE WRITES", "ACCEPTED", "BEFORE THE CLAIM"];
        self.line(&output::table(headings, rows));
        if report.doors.iter().any(|d| d.accepted_before_claim > 0) {
            self.line(
                "BEFORE THE CLAIM: writes under the old epoch that a door took after the failover, since nobody had shown it the new one.",
            );
            self.line(
                "A store that was down does so until the new holder has rewritten its pointer; no reader uses that pointer before.",
            );
        }
        self.line("");
        match &report.directory {
            None => self.line("Every step held."),
            Some(directory) => self.line(&format!(
                "The demo FAILED. Everything is kept in {directory}: logs below regions/, what was seen in run.json"
            )),
        }
    }
}
