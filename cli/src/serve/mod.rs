//! The server subcommands: `coordinator`, `agent`, `dev-s3`. Read the config, run the library until a signal.

mod dev_s3;

#[cfg(test)]
pub(crate) use dev_s3::DevS3Config;

use std::{fmt, path::Path};

use coordinator::{ConfigError, ConfigFault};
use node_agent::{AgentConfig, config::ConfigError as AgentConfigError};
use tokio_util::sync::CancellationToken;

use crate::{args::ServerArgs, error::Failure, exit::Exit, shutdown};

/// How a coordinator ends whose disk the cluster does not know any more, and no other server does: whoever starts it again
/// and again can stop doing so.
pub(crate) const LOST_DISK: Exit = Exit::Safety;

/// How a coordinator ends whose build is too old for its cluster: only a newer one goes on.
pub(crate) const TOO_OLD: Exit = Exit::Precondition;

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

/// Reads a coordinator's config.
pub(crate) fn coordinator_config(path: &Path) -> Result<coordinator::Config, Failure> {
    coordinator::Config::load(path).map_err(|e| {
        let remedy = match &e {
            ConfigError::File { .. } => unreadable("coordinator"),
            ConfigError::Content { fault, .. } => match fault {
                ConfigFault::Malformed(error) => malformed("coordinator", error),
                ConfigFault::Invalid(setting) => setting.remedy.clone(),
            },
        };
        bad_config(chain(&e)).remedy(remedy)
    })
}

async fn coordinator(args: &ServerArgs, stop: CancellationToken) -> Result<(), Failure> {
    let config = coordinator_config(&args.config)?;
    let served = Box::pin(coordinator::run(config, stop)).await;
    served.map_err(|e| {
        let failure = Failure {
            exit: match () {
                () if e.is_lost_disk() => LOST_DISK,
                () if e.is_too_old() => TOO_OLD,
                () => Exit::Error,
            },
            ..failed(&e)
        };
        failure.remedy(e.remedy())
    })
}

async fn agent(args: &ServerArgs, stop: CancellationToken) -> Result<(), Failure> {
    let config = AgentConfig::load(&args.config).map_err(|e| {
        let remedy = match &e {
            AgentConfigError::Unreadable { .. } => unreadable("agent"),
            AgentConfigError::Malformed { error, .. } => malformed("agent", error),
            AgentConfigError::Invalid(_) => explained("agent"),
        };
        bad_config(chain(&e)).remedy(remedy)
    })?;
    let served = Box::pin(node_agent::run(config, stop)).await;
    served.map_err(|e| failed(&e))
}

/// An error with its causes; one that the text says already is not said again.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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
fn bad_config(why: impl fmt::Display) -> Failure {
    Failure::usage(why.to_string().trim_end())
}

/// What helps where a server's config cannot be read.
fn unreadable(server: &str) -> String {
    format!(
        "--config names a file that is there and that this user can read; deploy/config/{server}.toml is an example"
    )
}

/// What helps where a parser does not take a server's config.
fn malformed(server: &str, error: &impl fmt::Display) -> String {
    let explained = explained(server);
    match error.to_string().contains("socket address") {
        true => format!("an address is written IP:PORT, with a port up to 65535; {explained}"),
        false => explained,
    }
}

fn explained(server: &str) -> String {
    format!("deploy/config/{server}.toml explains every key")
}
