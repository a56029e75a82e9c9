//! The story, step by step.

use std::path::{Path, PathBuf};

use super::{
    acts, checker,
    narrator::Narrator,
    record::{RecordedRun, StepName},
    report::Report,
    stage::{Cut, Stage},
    steps,
};
use crate::{error::Failure, shutdown};

/// Plays it in `dir` until its end, until a step cannot be finished, or until ctrl-c; then stops everything and judges.
pub(super) async fn play(
    dir: &Path,
    regions: usize,
    own_model: Option<PathBuf>,
    narrator: Narrator,
) -> Result<(RecordedRun, Report, Narrator), Failure> {
    let stop = shutdown::on_signal()?;
    if cfg!(debug_assertions) {
        narrator.say("This build is not optimised: it may break promises that are in seconds; `cargo run --release -- demo` keeps them");
    }
    let mut stage = Stage::set(dir, regions, own_model, narrator).await?;
    tokio::select! {
        // A story that was cut short is judged like any other.
        _ = Box::pin(tell(&mut stage)) => {}
        () = stop.cancelled() => stage.narrator.say("interrupted"),
    }
    let (run, report, narrator) = Box::pin(stage.finish()).await;
    repeat_failures(&run, &report, &narrator);
    Ok((run, report, narrator))
}

async fn tell(stage: &mut Stage) -> Result<(), Cut> {
    stage.step(StepName::Cluster, steps::cluster).await?;
    stage.step(StepName::Push, steps::push).await?;
    stage.step(StepName::Copies, steps::copies).await?;
    stage.step(StepName::Answers, steps::answers).await?;
    stage.step(StepName::Load, steps::load).await?;
    stage.step(StepName::Zombies, steps::zombies).await?;
    stage.step(StepName::Act1Kill, acts::kill).await?;
    stage
        .step(StepName::Act1Promote, acts::promote_after_kill)
        .await?;
    stage.step(StepName::Act1Return, acts::come_back).await?;
    stage.step(StepName::Act2Pause, acts::pause).await?;
    stage
        .step(StepName::Act2Promote, acts::promote_after_pause)
        .await?;
    stage.step(StepName::Act2Resume, acts::resume).await?;
    stage.step(StepName::Refusals, steps::refusals).await?;
    stage.step(StepName::Doors, steps::doors).await?;
    stage.step(StepName::Converged, steps::converged).await
}

/// A step that held when it was taken may fail by what came later: the load goes on under every other step.
fn repeat_failures(run: &RecordedRun, report: &Report, narrator: &Narrator) {
    let taken = |name| run.steps.iter().any(|s| s.name == name && s.error.is_none());
    let failed: Vec<_> = report.steps.iter().filter(|s| !s.ok && taken(s.name)).collect();
    if !failed.is_empty() {
        narrator.say("Seen from the end, these steps did not hold:");
    }
    for step in failed {
        narrator.verdict(&checker::step(run, step.name));
    }
}
