//! `regent demo`: the whole story on a fresh cluster, told and checked.
//!
//! Reading order: `story` (what happens), `steps` and `acts` (how), `record` and `doors` (what is written down),
//! `checker` (what it proves; pure), `page` (the same as a picture; pure), `zombie` (the writers that only an epoch can refuse).
//! Absent on purpose: any verdict outside the checker, and any mercy: what was not seen did not happen.

mod acts;
mod answers;
mod ask;
mod cast;
mod checker;
mod collect;
mod doors;
mod load;
mod memory;
mod micros;
mod narrator;
mod page;
mod reader;
mod record;
mod report;
mod s3;
mod samples;
mod stage;
mod steps;
mod story;
mod wait;
mod zombie;

use std::path::Path;

pub(crate) use zombie::run_zombie_writer;

use self::{narrator::Narrator, record::RecordedRun, report::Report};
use crate::{
    args::{DemoArgs, OutputFormat, Shared},
    error::Failure,
    exit::Exit,
    output, push,
};

/// Runs the story, or judges an old one.
pub(crate) async fn run(args: DemoArgs, shared: Shared) -> Result<(), Failure> {
    match &args.recheck {
        Some(file) => recheck(file, args.report.as_deref(), shared.output),
        None => Box::pin(perform(args, shared.output)).await,
    }
}

fn recheck(file: &Path, page: Option<&Path>, format: OutputFormat) -> Result<(), Failure> {
    let text = std::fs::read(file).map_err(|e| Failure::file("read", file, e))?;
    let run: RecordedRun = serde_json::from_slice(&text)
        .map_err(|e| Failure::usage(format!("{}: no recorded run: {e}", file.display())))?;
    let report = checker::check(&run);
    let narrator = Narrator::new(format);
    report.steps.iter().for_each(|step| narrator.verdict(step));
    write_page(page, &run, &report)?;
    conclude(&narrator, &report, format)
}

async fn perform(args: DemoArgs, format: OutputFormat) -> Result<(), Failure> {
    if let Some(dir) = &args.model {
        // Before anything is started: a directory that is no model ends the demo here.
        push::check(dir).await.map_err(|f| f.while_doing("--model"))?;
    }
    let temporary = tempfile::Builder::new().prefix("regent-demo-").tempdir();
    let mut temporary =
        temporary.map_err(|e| Failure::other(format!("could not make a temporary directory: {e}")))?;
    let narrator = Narrator::new(format);
    let regions = usize::from(args.regions);
    let played = Box::pin(story::play(temporary.path(), regions, args.model, narrator)).await;
    let (run, mut report, narrator) = played?;
    temporary.disable_cleanup(args.keep || !report.ok);
    if !report.ok {
        report.directory = Some(temporary.path().display().to_string());
        write_run(&temporary.path().join("run.json"), &run)?;
    }
    if let Some(file) = &args.record {
        write_run(file, &run)?;
    }
    write_page(args.report.as_deref(), &run, &report)?;
    conclude(&narrator, &report, format)
}

fn write_page(path: Option<&Path>, run: &RecordedRun, report: &Report) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let html = page::of(run, report).to_html();
    std::fs::write(path, html).map_err(|e| Failure::file("write", path, e))
}

fn write_run(path: &Path, run: &RecordedRun) -> Result<(), Failure> {
    let text = serde_json::to_vec(run).map_err(Failure::other)?;
    std::fs::write(path, text).map_err(|e| Failure::file("write", path, e))
}

/// The last words: the document or the summary, and the exit code.
fn conclude(narrator: &Narrator, report: &Report, format: OutputFormat) -> Result<(), Failure> {
    narrator.summary(report);
    if format == OutputFormat::Json {
        let text = serde_json::to_string_pretty(report).map_err(Failure::other)?;
        output::line(&text)?;
    }
    match report.exit_code() {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Error, "the demo failed").already_told()),
    }
}
