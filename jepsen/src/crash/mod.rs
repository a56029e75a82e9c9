//! `crash`: SIGKILL to every coordinator at once, again and again under load, and what is left of what was acknowledged (I1, I9).
//!
//! Between two crashes writers announce versions of one model. Numbers of versions are never used twice, so a write that counted
//! twice is two versions. After each crash every acknowledged one is there under its number, and one without an answer once or not
//! at all; asked for again under its request id it is answered with that number, and is there once. At the end all of it is looked
//! at again. Every other crash finds the logs on a disk that loses or tears what is not synced.
//!
//! Reading order: `crate::load` (who writes, and what must hold), `nodes` (the processes), `story` (one run), this file (its document).
//! Absent on purpose: agents; a log has nothing to do with them.

mod nodes;
mod story;

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The executable under test, with debug assertions.
    pub regent: PathBuf,
    /// How often everybody is killed.
    pub crashes: u32,
    /// Acknowledged writes between two crashes, at least.
    pub writes: usize,
    /// Repeats the choices: when, in which order, on which disks, and which sectors are lost.
    pub seed: u64,
}

/// What became of un-synced bytes at a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unsynced {
    /// The system kept them, as it does when a process is killed.
    Kept,
    /// They were lost, as by a power cut.
    Dropped,
    /// Some sectors were there, and others not.
    Torn,
}

/// One crash, and what was written before it.
#[derive(Clone, Debug, Serialize)]
pub struct Crash {
    /// Counted from 1.
    pub crash: u32,
    /// What the disks did.
    pub unsynced: Unsynced,
    /// Writes that were acknowledged since the crash before.
    pub acknowledged: usize,
    /// Writes without an answer when everybody was killed. Each was asked for again afterwards.
    pub unanswered: usize,
    /// Of those, how many had been applied.
    pub applied_unanswered: usize,
    /// Bytes that all disks together lost.
    pub bytes_lost: u64,
    /// Un-synced bytes that they kept, of writes of which they lost others.
    pub bytes_torn: u64,
    /// From the start of the processes to the first acknowledged write.
    pub seconds_to_first_write: f64,
}

/// A run, and what it found.
#[derive(Clone, Debug, Serialize)]
pub struct Crashes {
    /// Always `crash`.
    pub trial: &'static str,
    /// Repeats the choices.
    pub seed: u64,
    /// Acknowledged writes between two crashes, at least: what was asked for.
    pub writes_between: usize,
    /// All acknowledged writes.
    pub acknowledged: usize,
    /// Writes that were asked for again under their request id.
    pub asked_again: usize,
    /// Crashes on disks that lose or tear.
    pub crashes_unsynced_lost: usize,
    /// Of those, crashes at which something un-synced was there to lose.
    pub crashes_that_lost_bytes: usize,
    /// Of those, crashes that left a part of a write.
    pub crashes_that_tore_writes: usize,
    /// Torn tails that logs found and cut when they were opened.
    pub tails_cut: usize,
    /// What should not be; empty is a pass.
    pub anomalies: Vec<String>,
    /// Each crash.
    pub crashes: Vec<Crash>,
}

impl Crashes {
    /// Whether nothing was lost and nothing counted twice.
    pub fn holds(&self) -> bool {
        self.anomalies.is_empty() && !self.crashes.is_empty()
    }

    /// For people.
    pub fn table(&self) -> String {
        let lines = self.crashes.iter().map(|c| {
            format!(
                "{:>3}  {:>6} acknowledged, {:>3} unanswered ({} applied), un-synced {:<7} {:>7} bytes lost {:>7} torn, first write {:.1} s",
                c.crash,
                c.acknowledged,
                c.unanswered,
                c.applied_unanswered,
                format!("{:?}", c.unsynced).to_lowercase(),
                c.bytes_lost,
                c.bytes_torn,
                c.seconds_to_first_write,
            )
        });
        let sum = format!(
            "seed {}: {} crashes, {} of them lost un-synced bytes and {} tore writes ({} torn tails cut), {} acknowledged writes, {} asked again: {}",
            self.seed,
            self.crashes.len(),
            self.crashes_that_lost_bytes,
            self.crashes_that_tore_writes,
            self.tails_cut,
            self.acknowledged,
            self.asked_again,
            if self.holds() {
                "all there, none twice"
            } else {
                "NOT kept"
            },
        );
        let found = self.anomalies.iter().map(|a| format!("  {a}"));
        lines.chain([sum]).chain(found).collect::<Vec<_>>().join("\n")
    }
}

/// Runs it. The directory is removed unless something was found or the harness failed.
pub async fn run(plan: &Plan) -> anyhow::Result<Crashes> {
    let dir = std::env::temp_dir().join(format!("regent-crash-{}", uuid::Uuid::now_v7()));
    std::fs::create_dir_all(&dir)?;
    tracing::info!(seed = plan.seed, crashes = plan.crashes, dir = %dir.display(), "run begins");
    let found = Box::pin(story::play(plan, &dir))
        .await
        .with_context(|| format!("the run with seed {} in {}", plan.seed, dir.display()))?;
    if found.holds() {
        std::fs::remove_dir_all(&dir)?;
    } else {
        tracing::error!(dir = %dir.display(), "anomalies found; everything is kept");
    }
    Ok(found)
}
