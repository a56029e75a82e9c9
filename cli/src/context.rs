//! How the command line reaches a cluster: flags, then `REGENT_…` variables, then the context file.

use std::path::PathBuf;

use client::{Client, Context};

use crate::{args::Shared, error::Failure};

/// The context of `regent dev` in the current directory.
const DEV_CONTEXT: &str = ".regent-dev/context.toml";
/// The user's own, below the home directory.
const USER_CONTEXT: &str = ".config/regent/context.toml";

/// What helps without a context that can be used.
const NAME_ONE: &str =
    "start a cluster with `regent dev`, or name a context file with --context or REGENT_CONTEXT";

/// The context that these flags mean: the file, with the endpoints of the flags where some are given.
pub(crate) fn load(shared: &Shared) -> Result<Context, Failure> {
    let path = find(shared)?;
    let mut context = Context::load(&path).map_err(|refusal| Failure::from(refusal).remedy(NAME_ONE))?;
    if !shared.endpoints.is_empty() {
        context.endpoints.clone_from(&shared.endpoints);
    }
    Ok(context)
}

/// A client for these flags; it connects when it is first used.
pub(crate) fn client(shared: &Shared) -> Result<Client, Failure> {
    connect(&load(shared)?, shared)
}

/// A client for this context, with the time limit of the flags.
pub(crate) fn connect(context: &Context, shared: &Shared) -> Result<Client, Failure> {
    let mut config = context.client_config();
    config.deadline = shared.timeout;
    config.attempt_timeout = config.attempt_timeout.min(shared.timeout);
    Ok(Client::new(config)?)
}

fn find(shared: &Shared) -> Result<PathBuf, Failure> {
    if let Some(path) = &shared.context {
        return Ok(path.clone());
    }
    let home = std::env::home_dir().map(|home| home.join(USER_CONTEXT));
    let known: Vec<PathBuf> = [Some(PathBuf::from(DEV_CONTEXT)), home]
        .into_iter()
        .flatten()
        .collect();
    let found = known.iter().find(|path| path.exists()).cloned();
    found.ok_or_else(|| {
        let looked: Vec<String> = known.iter().map(|p| p.display().to_string()).collect();
        Failure::usage(format!(
            "no cluster is known: neither {} exists",
            looked.join(" nor ")
        ))
        .remedy(NAME_ONE)
    })
}
