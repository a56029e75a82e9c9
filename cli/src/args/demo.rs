//! `regent demo`, and the zombie writer that it starts.

use std::path::PathBuf;

use clap::Args;

/// What `regent demo` takes.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many regions, 3 to 7.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u8).range(3..=7))]
    pub(crate) regions: u8,
    /// Also push this model directory, and ask it for an answer.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Write the run as a page: its verdict, its figures, and a picture of who held what when, under which faults. One HTML file that needs
    /// no other.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Judge a recorded run (run.json) again instead of making one.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) recheck: Option<PathBuf>,
    /// Write what was seen here, whether the demo holds or not.
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) record: Option<PathBuf>,
    /// Leave the directory, also when every step held.
    #[arg(long, hide = true)]
    pub(crate) keep: bool,
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
    /// Send half of one PUT to the pointer in the own region's store, and the rest after a line on stdin.
    #[arg(long)]
    pub(crate) half_put: bool,
}
