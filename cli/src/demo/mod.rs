//! `regent demo`: the whole story on a fresh cluster, told and checked.

use std::path::PathBuf;

use clap::Args;

use crate::{args::Shared, error::Failure};

/// What `regent demo` takes.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many regions, 3 to 7.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u8).range(3..=7))]
    pub(crate) regions: u8,
    /// Also push this model directory, and ask it for an answer.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}

/// What the hidden `regent zombie-writer` takes.
#[derive(Debug, Args)]
pub(crate) struct ZombieWriterArgs {
    /// Its config (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// End when this process, the parent, ends.
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) die_with: Option<u32>,
}

/// Runs the story.
pub(crate) async fn run(_args: DemoArgs, _shared: Shared) -> Result<(), Failure> {
    Err(Failure::other("demo is not part of this build"))
}

/// Runs the zombie writer.
pub(crate) async fn run_zombie_writer(_args: ZombieWriterArgs) -> Result<(), Failure> {
    Err(Failure::other("zombie-writer is not part of this build"))
}
