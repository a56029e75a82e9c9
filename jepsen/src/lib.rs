//! Client-visible promises of Regent, tried under real faults: `cargo run --release -p jepsen -- suite quick`.
//!
//! A run is: found a cluster of processes, each region in a network namespace of its own, let clients work, hurt processes and the ways
//! between them, stop, judge the history. Reading order: `history` (what is written down), `check` (what it must satisfy; pure),
//! `workload` (who works), `nemesis` (who hurts), `network`, `shim` (what clocks and disks say), `world`, `observer` and `run` (the shell), `verdict` (the document), `page` (the
//! history as a picture), `edn` (the same for the checkers of others). Beside it, without histories: `trials` (one fault again and again, and how long), `crash` (every coordinator killed at once, and what is left) and `load`
//! (writes whose answers are remembered).
//! Absent on purpose: any server code. An outcome is a verdict or a failure of the harness, and never both.

#![warn(missing_docs)]

mod check;
mod cluster;
pub mod crash;
mod edn;
mod history;
pub mod load;
mod nemesis;
mod network;
mod observer;
mod outcome;
mod page;
mod planted;
mod run;
mod shim;
mod trials;
mod verdict;
mod whole;
mod workload;
mod world;
mod zombie;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use types::planted::Bug;

use crate::{
    cluster::Build,
    crash::Crashes,
    nemesis::Nemesis,
    network::Network,
    run::Plan,
    trials::{Policy, Report, RoundTrips},
    verdict::Verdict,
    workload::Workload,
    world::SmallDisk,
};

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
    /// One workload under one nemesis; everything of it is kept.
    Run(RunArgs),
    /// Every workload under some nemeses, or under every one.
    Suite(SuiteArgs),
    /// Plants one bug after the other, and says which run found it. Exit code 8 where one was not found.
    Planted(PlantedArgs),
    /// One fault again and again: how long the next write took each time, or what was lost. Exit code 8 where a bound was not kept.
    Trials(TrialsArgs),
    /// A client in a region; part of trials.
    #[command(hide = true)]
    Writer(WriterArgs),
    /// What its clocks say; part of runs under `clock`.
    #[command(hide = true)]
    ClockProbe,
}

#[derive(Debug, Args)]
struct WriterArgs {
    /// Its config.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct TrialsArgs {
    /// What is done each time.
    #[arg(value_enum)]
    what: Trial,
    /// How often [default: 50; 100 of `crash`].
    #[arg(long, value_name = "N")]
    trials: Option<u32>,
    /// Of `primary-kill` and `transfer`: how a primary's absence becomes a promotion.
    #[arg(long, value_enum, default_value = "fast")]
    policy: Policy,
    /// Of all but `crash`: five regions that are so far from each other, the nearest pair and the farthest, in milliseconds, as
    /// 80..250. Elections are then as fast as the coordinators find fit for what they measure [default: three regions on one
    /// machine].
    #[arg(long, value_name = "MIN..MAX")]
    round_trips: Option<RoundTrips>,
    /// Of `crash`: acknowledged writes between two crashes, at least.
    #[arg(long, value_name = "N", default_value = "1000")]
    writes: usize,
    /// Of `crash`: repeats the choices of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The executable under test [default: built from this checkout; for `crash` with debug assertions].
    #[arg(long, value_name = "PATH")]
    regent: Option<PathBuf>,
    /// What stands on stdout.
    #[arg(long, short = 'o', value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Trial {
    /// SIGKILL to the coordinator that leads: the next write within three of the longest election timeouts.
    LeaderKill,
    /// SIGKILL to the agent that holds the primary role: the next holder's first write within 5 s (`fast`) or 3 s (`quick`), within
    /// 8 s between regions that are far apart, and no write under the old token accepted at any door.
    PrimaryKill,
    /// A planned switchover: nobody can act for no longer than three of the largest round trips.
    Transfer,
    /// SIGKILL to all coordinators under load, half of the times on disks that lose or tear what is not synced: every
    /// acknowledged write is there, and none twice.
    Crash,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// What clients do.
    #[arg(long, value_enum)]
    workload: Workload,
    /// What is done to the cluster meanwhile.
    #[arg(long, value_enum)]
    nemesis: Nemesis,
    /// How many regions, 3 or 5: a ring of majorities takes five.
    #[arg(long, value_name = "N", default_value = "3", value_parser = regions)]
    regions: usize,
    /// Repeats the choices of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Seconds of work and faults.
    #[arg(long, value_name = "N", default_value = "60")]
    time: u64,
    /// Where everything of it is kept: the history, also as EDN, and what every process wrote. Not there yet, or empty [default:
    /// jepsen-runs/WORKLOAD-NEMESIS-SEED].
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The executable under test [default: built from this checkout].
    #[arg(long, value_name = "PATH")]
    regent: Option<PathBuf>,
    /// What stands on stdout.
    #[arg(long, short = 'o', value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Args)]
struct PlantedArgs {
    /// The bug; may be given several times [default: each].
    #[arg(long = "bug", value_name = "NAME")]
    bugs: Vec<Bug>,
    /// Seconds of work and faults of one run; a bug has five runs.
    #[arg(long, value_name = "N", default_value = "60")]
    time: u64,
    /// Repeats the choices of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The executable under test, built with debug assertions and the feature `planted` [default: built from this checkout].
    #[arg(long, value_name = "PATH")]
    regent: Option<PathBuf>,
    /// What stands on stdout.
    #[arg(long, short = 'o', value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Args)]
struct SuiteArgs {
    /// How long: `quick` is four minutes of work and faults, `full` half an hour.
    #[arg(value_enum)]
    length: Length,
    /// The executable under test [default: built from this checkout].
    #[arg(long, value_name = "PATH")]
    regent: Option<PathBuf>,
    /// Seconds of work and faults in all, instead of the suite's own.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Where everything of every run is kept, below a page that names them all (index.html). Not there yet, or empty [default: of a run in
    /// which something was found alone].
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
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

impl Length {
    /// Five where the ways between regions are what is hurt, as there is time for them.
    const fn regions(self, nemesis: Nemesis) -> usize {
        match (self, nemesis) {
            (Self::Full, Nemesis::Partition) => 5,
            (Self::Quick | Self::Full, _) => 3,
        }
    }

    /// Which workload is run under which nemesis: all under all, or as many as have time for a few faults each, so that each workload
    /// meets blows, and pauses or cuts, and each nemesis is met.
    fn pairs(self) -> Vec<(Workload, Nemesis)> {
        let of = |workload, nemeses: &[Nemesis]| nemeses.iter().map(|n| (workload, *n)).collect::<Vec<_>>();
        match self {
            Self::Full => Workload::ALL.map(|workload| of(workload, &Nemesis::ALL)).concat(),
            Self::Quick => [
                of(
                    Workload::Primary,
                    &[
                        Nemesis::Kill,
                        Nemesis::Pause,
                        Nemesis::Partition,
                        Nemesis::Clock,
                        Nemesis::Restart,
                    ],
                ),
                of(
                    Workload::Registers,
                    &[
                        Nemesis::Kill,
                        Nemesis::Partition,
                        Nemesis::Weather,
                        Nemesis::FullDisk,
                    ],
                ),
                of(
                    Workload::Lists,
                    &[Nemesis::Power, Nemesis::Pause, Nemesis::SlowDisk],
                ),
                of(
                    Workload::Watches,
                    &[Nemesis::Kill, Nemesis::Restart, Nemesis::Combined],
                ),
            ]
            .concat(),
        }
    }
}

/// An odd number of coordinators, one in each region.
fn regions(text: &str) -> Result<usize, String> {
    match text {
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("write 3 or 5".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// The program: arguments from the process, its document to stdout.
pub fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "jepsen=info,chaos=info,warn".into()))
        .with_writer(std::io::stderr)
        .init();
    let concluded = match Cli::parse().command {
        Command::Run(args) => {
            with_runtime(one(&args)).map(|v| conclude(&v, args.output, v.holds(), Verdict::table))
        }
        Command::Suite(args) => {
            with_runtime(suite(&args)).map(|v| conclude(&v, args.output, v.holds(), Verdict::table))
        }
        Command::Planted(args) => {
            with_runtime(bugs(&args)).map(|v| conclude(&v, args.output, v.holds(), Verdict::table))
        }
        Command::Trials(args) => with_runtime(trials(&args)),
        Command::Writer(args) => with_runtime(trials::writer::run(&args.config)).map(|()| ExitCode::SUCCESS),
        Command::ClockProbe => probe_clocks().map(|()| ExitCode::SUCCESS),
    };
    match concluded {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("the harness failed, which says nothing about Regent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn with_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(work))
}

fn probe_clocks() -> anyhow::Result<()> {
    let seen = serde_json::to_string(&shim::Probe::look()?)?;
    Ok(writeln!(std::io::stdout(), "{seen}")?)
}

async fn trials(args: &TrialsArgs) -> anyhow::Result<ExitCode> {
    let build = match args.what {
        Trial::Crash => Build::WithDebugAssertions,
        Trial::LeaderKill | Trial::PrimaryKill | Trial::Transfer => Build::Release,
    };
    let run = trials::Run {
        regent: executable(args.regent.as_ref(), build).await?,
        trials: args.trials.unwrap_or(50),
        policy: args.policy,
        round_trips: args.round_trips,
    };
    Ok(match args.what {
        Trial::LeaderKill => report(&Box::pin(trials::leader_kill(&run)).await?, args.output),
        Trial::PrimaryKill => report(&Box::pin(trials::primary_kill(&run)).await?, args.output),
        Trial::Transfer => report(&Box::pin(trials::transfer(&run)).await?, args.output),
        Trial::Crash => {
            let found = Box::pin(crashes(args, run.regent)).await?;
            conclude(&found, args.output, found.holds(), Crashes::table)
        }
    })
}

fn report<T: trials::Trial>(found: &Report<T>, output: Output) -> ExitCode {
    conclude(found, output, found.holds(), Report::table)
}

async fn crashes(args: &TrialsArgs, regent: PathBuf) -> anyhow::Result<Crashes> {
    crash::run(&crash::Plan {
        regent,
        crashes: args.trials.unwrap_or(100),
        writes: args.writes,
        seed: args.seed.unwrap_or_else(rand::random),
    })
    .await
}

async fn executable(named: Option<&PathBuf>, build: Build) -> anyhow::Result<PathBuf> {
    match named {
        Some(path) => Ok(std::path::absolute(path)?),
        None => cluster::build(build).await,
    }
}

async fn one(args: &RunArgs) -> anyhow::Result<Verdict> {
    let plan = Plan {
        regent: executable(args.regent.as_ref(), Build::Release).await?,
        workload: args.workload,
        nemesis: args.nemesis,
        regions: args.regions,
        has_network: network(args.nemesis).await?,
        bug: None,
        seed: args.seed.unwrap_or_else(rand::random),
        duration: Duration::from_secs(args.time),
        store: None,
    };
    let store = args.store.clone();
    let store = store.unwrap_or_else(|| Path::new("jepsen-runs").join(plan.name()));
    let plan = Plan {
        store: Some(std::path::absolute(store)?),
        ..plan
    };
    let run = Box::pin(run::run(&plan)).await?;
    Ok(Verdict {
        runs: vec![run],
        ..Verdict::default()
    })
}

/// Whether there can be a network of namespaces; an error where the nemesis needs one.
async fn network(nemesis: Nemesis) -> anyhow::Result<bool> {
    match Network::is_available().await {
        Ok(()) => Ok(true),
        Err(why) if nemesis.is_of_networks() => Err(why.context(format!(
            "the nemesis {} needs network namespaces: run it as root",
            nemesis.as_str()
        ))),
        Err(_) => Ok(false),
    }
}

async fn suite(args: &SuiteArgs) -> anyhow::Result<Verdict> {
    let regent = executable(args.regent.as_ref(), Build::Release).await?;
    let total = args.seconds.unwrap_or(match args.length {
        Length::Quick => 240,
        Length::Full => 1_800,
    });
    let seed = args.seed.unwrap_or_else(rand::random);
    let network = Network::is_available().await;
    if let Err(why) = &network {
        tracing::warn!("nemeses of networks are left out: {why:#}");
    }
    let disks = SmallDisk::is_available();
    if let Err(why) = &disks {
        tracing::warn!("nemeses of disks that are full are left out: {why:#}");
    }
    let pairs: Vec<_> = args
        .length
        .pairs()
        .into_iter()
        .filter(|(_, nemesis)| network.is_ok() || !nemesis.is_of_networks())
        .filter(|(_, nemesis)| disks.is_ok() || !nemesis.is_of_mounts())
        .collect();
    let each = Duration::from_secs(total) / u32::try_from(pairs.len())?;
    let store = args.store.as_ref().map(std::path::absolute).transpose()?;
    if let Some(store) = &store {
        run::make_empty(store)?;
    }
    let mut verdict = Verdict::default();
    for (n, (workload, nemesis)) in (0u64..).zip(pairs) {
        let plan = Plan {
            regent: regent.clone(),
            workload,
            nemesis,
            regions: args.length.regions(nemesis),
            has_network: network.is_ok(),
            bug: None,
            seed: seed.wrapping_add(n),
            duration: each,
            store: None,
        };
        let plan = Plan {
            store: store.as_ref().map(|store| store.join(plan.name())),
            ..plan
        };
        let run = Box::pin(run::run(&plan)).await?;
        verdict.runs.push(run);
        if let Some(store) = &store {
            std::fs::write(store.join("index.html"), page::index(&verdict).to_html())?;
        }
    }
    Ok(verdict)
}

async fn bugs(args: &PlantedArgs) -> anyhow::Result<Verdict> {
    let regent = executable(args.regent.as_ref(), Build::WithBugs).await?;
    let bugs = match args.bugs.as_slice() {
        [] => Bug::ALL,
        some => some,
    };
    let hunt = planted::Hunt {
        regent,
        duration: Duration::from_secs(args.time),
        seed: args.seed.unwrap_or_else(rand::random),
        has_network: Network::is_available().await.is_ok(),
    };
    Ok(Verdict {
        planted: hunt.find_all(bugs).await?,
        ..Verdict::default()
    })
}

fn conclude<T: Serialize>(
    found: &T,
    output: Output,
    holds: bool,
    table: impl FnOnce(&T) -> String,
) -> ExitCode {
    let text = match output {
        Output::Table => table(found),
        Output::Json => serde_json::to_string_pretty(found).unwrap_or_default(),
    };
    // A reader that went away does not change the verdict, which is the exit code.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_suite_leaves_out_no_workload_and_no_nemesis() {
        let (quick, full) = (Length::Quick.pairs(), Length::Full.pairs());
        assert!(quick.len() >= 12 && quick.iter().all(|pair| full.contains(pair)));
        assert_eq!(full.len(), Workload::ALL.len() * Nemesis::ALL.len());
        for workload in Workload::ALL {
            assert!(quick.iter().any(|(w, _)| *w == workload), "{workload:?}");
        }
        for nemesis in Nemesis::ALL {
            assert!(quick.iter().any(|(_, n)| *n == nemesis), "{nemesis:?}");
        }
    }
}
