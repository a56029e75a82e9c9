//! `regent`: server, agent, cluster on one machine, demo and the operator's verbs in one binary.
//!
//! This file parses, starts the runtime that the subcommand needs, and turns a failure into an exit code. `args` is
//! what can be typed, `usage` what is said of a mistake in it, `exit` what the numbers mean, `commands` the verbs, `dev` a cluster as processes.
//! Invariant: stdout holds the answer and nothing else; logs, progress and errors go to stderr.

mod args;
mod commands;
mod confirm;
mod context;
#[cfg(feature = "server")]
mod demo;
#[cfg(feature = "server")]
mod dev;
mod error;
mod exit;
mod logging;
mod output;
mod push;
mod remedy;
#[cfg(feature = "server")]
mod serve;
#[cfg(feature = "server")]
mod shutdown;
mod tables;
#[cfg(test)]
mod tests;
mod usage;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    args::{Cli, Command, OutputFormat},
    error::{Failure, Told},
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::told(&error),
    };
    logging::init(default_filter(&cli.command));
    let format = cli.shared.output;
    match types::planted::planted() {
        Ok(None) => {}
        Ok(Some(bug)) => tracing::warn!(%bug, "a bug is planted in this process"),
        Err(problem) => return report(&Failure::usage(problem), format),
    }
    match with_runtime(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, format),
    }
}

fn report(failure: &Failure, format: OutputFormat) -> ExitCode {
    match (failure.told, format) {
        #[cfg(feature = "server")]
        (Told::All, _) => {}
        (Told::Nothing, OutputFormat::Json) => {
            output::note(&format!("error: {failure}"));
            output::failed(failure);
        }
        (Told::Nothing | Told::InDocument, _) => output::note(&format!("error: {failure}")),
    }
    failure.exit.into()
}

/// Servers log what they do; verbs say only what they were asked, and what went wrong. The steps of the Raft library are left
/// out: elections are in our own words, and the last lines of a log should be the reason why it ended.
fn default_filter(command: &Command) -> &'static str {
    match command {
        #[cfg(feature = "server")]
        Command::Coordinator(_) | Command::Agent(_) | Command::DevS3(_) | Command::ZombieWriter(_) => {
            "info,openraft=error"
        }
        _ => "warn",
    }
}

/// For what is still at work when all is said.
const LEFT_BEHIND: std::time::Duration = std::time::Duration::from_secs(2);

fn with_runtime(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::other(format!("could not start the runtime: {e}")))?;
    let done = runtime.block_on(Box::pin(dispatch(cli)));
    // What still waits for a disk that hangs was said by whoever gave it up; it would keep the process from ending.
    runtime.shutdown_timeout(LEFT_BEHIND);
    done
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let Cli { shared, command } = cli;
    match command {
        #[cfg(feature = "server")]
        Command::Demo(args) => Box::pin(demo::run(args, shared)).await,
        #[cfg(feature = "server")]
        Command::Dev(args) => Box::pin(dev::run(args, shared)).await,
        #[cfg(feature = "server")]
        Command::Coordinator(args) => Box::pin(serve::run(serve::Server::Coordinator, args)).await,
        #[cfg(feature = "server")]
        Command::Agent(args) => Box::pin(serve::run(serve::Server::Agent, args)).await,
        #[cfg(feature = "server")]
        Command::DevS3(args) => Box::pin(serve::run(serve::Server::DevS3, args)).await,
        #[cfg(feature = "server")]
        Command::ZombieWriter(args) => Box::pin(demo::run_zombie_writer(args)).await,
        Command::Model(command) => Box::pin(commands::model::run(command, shared)).await,
        Command::Experiment(command) => Box::pin(commands::experiment::run(command, shared)).await,
        Command::Preferences(command) => Box::pin(commands::preferences::run(command, shared)).await,
        Command::Service(command) => Box::pin(commands::service::run(command, shared)).await,
        Command::Region(command) => Box::pin(commands::region::run(command, shared)).await,
        Command::Node(command) => Box::pin(commands::node::run(command, shared)).await,
        Command::Primary(command) => Box::pin(commands::primary::run(command, shared)).await,
        Command::Switchover(args) => Box::pin(commands::primary::switchover(args, shared)).await,
        Command::Replication(command) => Box::pin(commands::replication::run(command, shared)).await,
        Command::Cluster(command) => Box::pin(commands::cluster::run(command, shared)).await,
        Command::Infer(args) => Box::pin(commands::infer::run(args, shared)).await,
        Command::Watch(args) => Box::pin(commands::watch::run(args, shared)).await,
    }
}
