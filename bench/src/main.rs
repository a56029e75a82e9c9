//! `bench`: runs a benchmark and says what it found; also a coordinator by itself, so that nothing else need be built.
//!
//! Invariant: stdout holds the document and nothing else.

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use bench::{
    agents,
    consensus::{self, Options, Peer},
    etcd,
    report::Report,
    scale,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// It ran to its end, and a row is short of its goal (conventions of exit codes).
const FINDINGS: u8 = 8;
/// What it needs is not there, and nothing was measured.
const UNAVAILABLE: u8 = 6;

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measures Regent beside a peer, in one run")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes and linearizable reads, beside etcd.
    Consensus(ConsensusArgs),
    /// What a thousand agents cost the coordinators while nothing changes.
    Agents(AgentsArgs),
    /// What a registry of 100,000 versions costs: memory, pages of lists, a restart.
    Scale(ScaleArgs),
    /// One coordinator, as `regent coordinator` runs it.
    #[command(hide = true)]
    Coordinator {
        /// Its config.
        #[arg(long)]
        config: PathBuf,
    },
}

/// What every benchmark takes.
#[derive(Debug, Args)]
struct CommonArgs {
    /// The executable of Regent that is measured [default: the coordinator of this build].
    #[arg(long, value_name = "PATH")]
    regent: Option<PathBuf>,
    /// Where the data goes: on a disk, and removed afterwards.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
    /// What stands on stdout.
    #[arg(long, short = 'o', value_enum, default_value = "table")]
    output: Output,
}

impl CommonArgs {
    /// The program that is measured, and what the table calls it.
    fn regent(&self) -> anyhow::Result<(PathBuf, String)> {
        if let Some(path) = &self.regent {
            return Ok((path.clone(), format!("regent at {}", path.display())));
        }
        let own = std::env::current_exe().context("which program this is")?;
        Ok((own, format!("regent {}", env!("CARGO_PKG_VERSION"))))
    }
}

#[derive(Debug, Args)]
struct AgentsArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Simulated agents.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(5..=5_000))]
    agents: u16,
    /// Seconds that are measured.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=3_600))]
    seconds: u16,
}

#[derive(Debug, Args)]
struct ScaleArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Versions in the registry, with five copies each.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    versions: u32,
}

#[derive(Debug, Args)]
struct ConsensusArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Compares with another build of Regent in place of etcd.
    #[arg(long, value_name = "PATH")]
    beside: Option<PathBuf>,
    /// Runs this cell alone, with the latency that belongs to it; may be given more than once.
    #[arg(long = "cell", value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(consensus::cells()))]
    cells: Vec<String>,
    /// Rounds, each with clusters of its own.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: u8,
    /// Seconds of each cell.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=60))]
    seconds: u8,
    /// Keys, each of 256 bytes.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(256..=1_000_000))]
    keys: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    // As the servers of `regent` do it, so that what logging costs is in the figures.
    let filter = std::env::var("REGENT_LOG").unwrap_or_else(|_| "info,openraft=error".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match with_runtime(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn with_runtime(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Consensus(args) => runtime.block_on(Box::pin(measure(args))),
        Command::Agents(args) => runtime.block_on(Box::pin(measure_agents(args))),
        Command::Scale(args) => runtime.block_on(Box::pin(measure_scale(args))),
        Command::Coordinator { config } => runtime.block_on(Box::pin(coordinate(config))),
    }
}

async fn measure(args: ConsensusArgs) -> anyhow::Result<ExitCode> {
    let Some(peer) = args
        .beside
        .map(Peer::Regent)
        .or_else(|| etcd::find().map(Peer::Etcd))
    else {
        eprintln!("error: {}", etcd::INSTALL);
        return Ok(ExitCode::from(UNAVAILABLE));
    };
    let (regent, regent_name) = args.common.regent()?;
    let options = Options {
        regent,
        regent_name,
        peer,
        cells: args.cells,
        dir: args.common.dir.clone(),
        rounds: args.rounds.into(),
        cell: Duration::from_secs(args.seconds.into()),
        keys: usize::try_from(args.keys)?,
    };
    conclude(&Box::pin(consensus::run(&options)).await?, args.common.output)
}

async fn measure_agents(args: AgentsArgs) -> anyhow::Result<ExitCode> {
    let (regent, regent_name) = args.common.regent()?;
    let options = agents::Options {
        regent,
        regent_name,
        dir: args.common.dir,
        agents: args.agents.into(),
        time: Duration::from_secs(args.seconds.into()),
    };
    conclude(&Box::pin(agents::run(&options)).await?, args.common.output)
}

async fn measure_scale(args: ScaleArgs) -> anyhow::Result<ExitCode> {
    let (regent, regent_name) = args.common.regent()?;
    let options = scale::Options {
        regent,
        regent_name,
        dir: args.common.dir,
        versions: usize::try_from(args.versions)?,
    };
    conclude(&Box::pin(scale::run(&options)).await?, args.common.output)
}

fn conclude(report: &Report, output: Output) -> anyhow::Result<ExitCode> {
    show(report, output)?;
    Ok(match report.is_reached() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FINDINGS),
    })
}

fn show(report: &Report, output: Output) -> anyhow::Result<()> {
    let text = match output {
        Output::Table => report.table(),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(report)?),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to stdout")
}

async fn coordinate(file: PathBuf) -> anyhow::Result<ExitCode> {
    let config = coordinator::Config::load(&file)?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let run = Box::pin(coordinator::run(config, stop.clone()));
    let on_signal = async {
        terminate.recv().await;
        stop.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = run => ended?,
        () = on_signal => {}
    }
    Ok(ExitCode::SUCCESS)
}
