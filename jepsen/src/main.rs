//! Client-visible promises of Regent, tried under real faults: `cargo run --release -p jepsen -- suite quick`.
//!
//! A run is: start `regent dev` as processes, let clients work, hurt processes, stop, judge the history. Reading order:
//! `history` (what is written down), `check` (what it must satisfy; pure), `workload` (who works), `nemesis` (who
//! hurts), `cluster` and `run` (the shell), `verdict` (the document).
//! Absent on purpose: any server code. An outcome is a verdict or a failure of the harness, and never both.

mod check;
mod cluster;
mod history;
mod nemesis;
mod outcome;
mod run;
mod verdict;
mod workload;

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{nemesis::Nemesis, run::Plan, verdict::Verdict};

/// It ran to its end and found anomalies (conventions of exit codes).
const FINDINGS: u8 = 8;

#[derive(Debug, Parser)]
#[command(
    name = "jepsen",
    about = "Tries Regent's promises under faults, and judges the history"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every workload under every nemesis.
    Suite(SuiteArgs),
}

#[derive(Debug, Args)]
struct SuiteArgs {
    /// How long: `quick` is a minute, `full` a quarter of an hour.
    #[arg(value_enum)]
    length: Length,
    /// The executable under test [default: built from this checkout].
    #[arg(long, value_name = "PATH")]
    regent: Option<PathBuf>,
    /// Seconds of work and faults in all, instead of the suite's own.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Repeats the choices of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What stands on stdout.
    #[arg(long, short = 'o', value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Length {
    Quick,
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "jepsen=info,chaos=info,warn".into()))
        .with_writer(std::io::stderr)
        .init();
    let Command::Suite(args) = Cli::parse().command;
    match with_runtime(&args) {
        Ok(verdict) => conclude(&verdict, args.output),
        Err(error) => {
            tracing::error!("the harness failed, which says nothing about Regent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn with_runtime(args: &SuiteArgs) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(suite(args)))
}

async fn suite(args: &SuiteArgs) -> anyhow::Result<Verdict> {
    let regent = match &args.regent {
        Some(path) => std::path::absolute(path)?,
        None => cluster::build().await?,
    };
    let total = args.seconds.unwrap_or(match args.length {
        Length::Quick => 60,
        Length::Full => 900,
    });
    let seed = args.seed.unwrap_or_else(rand::random);
    let each = Duration::from_secs(total) / u32::try_from(Nemesis::ALL.len())?;
    let mut verdict = Verdict::default();
    for (n, nemesis) in (0u64..).zip(Nemesis::ALL) {
        let plan = Plan {
            regent: regent.clone(),
            nemesis,
            seed: seed.wrapping_add(n),
            duration: each,
        };
        verdict.runs.push(Box::pin(run::run(&plan)).await?);
    }
    Ok(verdict)
}

fn conclude(verdict: &Verdict, output: Output) -> ExitCode {
    let text = match output {
        Output::Table => verdict.table(),
        Output::Json => serde_json::to_string_pretty(verdict).unwrap_or_default(),
    };
    // A reader that went away does not change the verdict, which is the exit code.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    if verdict.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    }
}
