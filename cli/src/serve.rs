//! The server subcommands: `coordinator`, `agent`, `dev-s3`. Read the config, run the library until a signal.

use crate::{args::ServerArgs, error::Failure, shutdown};

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
    let _stop = shutdown::on_signal()?;
    Err(Failure::other(format!("{server:?} is not part of this build")))
}
