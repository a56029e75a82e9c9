//! The server subcommands: `coordinator`, `agent`, `dev-s3`. Read the config, run the library until a signal.

mod dev_s3;

#[cfg(test)]
pub(crate) use dev_s3::DevS3Config;

use std::fmt;

use node_agent::AgentConfig;
use tokio_util::sync::CancellationToken;

use crate::{args::ServerArgs, error::Failure, exit::Exit, shutdown};

/// Which server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    Coordinator,
    Agent,
    DevS3,
}

/// Runs it until ctrl-c, SIGTERM, or the parent's end where one is named.
pub(crate) async fn run(server: Server, args: ServerArgs) -> Result<(), Failure> {
    if let Some(parent) = args.die_with {
        shutdown::die_with(parent)?;
    }
    let stop = shutdown::on_signal()?;
    match server {
        Server::Coordinator => coordinator(&args, stop).await,
        Server::Agent => agent(&args, stop).await,
        Server::DevS3 => dev_s3::run(&args.config, stop).await,
    }
}

async fn coordinator(args: &ServerArgs, stop: CancellationToken) -> Result<(), Failure> {
    let config = coordinator::Config::load(&args.config).map_err(|e| bad_config("coordinator", chain(&e)))?;
    let served = Box::pin(coordinator::run(config, stop)).await;
    served.map_err(|e| failed(&e))
}

async fn agent(args: &ServerArgs, stop: CancellationToken) -> Result<(), Failure> {
    let config = AgentConfig::load(&args.config).map_err(|e| bad_config("agent", chain(&e)))?;
    let served = Box::pin(node_agent::run(config, stop)).await;
    served.map_err(|e| failed(&e))
}

/// An error with its causes; one that the text says already is not said again.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let why = cause.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        source = cause.source();
    }
    text
}

/// A server that could not start or go on.
fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Error, chain(error))
}

/// A config that cannot be used. Its text ends with the parser's newline.
fn bad_config(server: &str, why: impl fmt::Display) -> Failure {
    Failure::usage(why.to_string().trim_end()).remedy(format!(
        "deploy/config/{server}.toml explains every key; an address is written IP:PORT, with a port up to 65535"
    ))
}
