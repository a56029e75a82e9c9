//! Chores of the workspace: `codegen` and `tidy`.
//!
//! Absent on purpose: anything that ships. Nothing here is a dependency of the product.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

mod codegen;
mod tidy;

#[derive(Parser)]
#[command(about = "chores of the workspace")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the Rust code of the protobuf files to proto/src/gen and state/src/gen.
    Codegen {
        /// Changes nothing; fails if the committed code differs from what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Checks the house rules: dependency edges, banned crates, module docs, metric names.
    Tidy,
}

fn main() -> anyhow::Result<()> {
    let root = workspace_root()?;
    match Args::parse().command {
        Command::Codegen { check } => codegen::run(&root, check),
        Command::Tidy => tidy::run(&root),
    }
}

/// The workspace that this program was built from.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(own
        .parent()
        .context("xtask lies inside the workspace")?
        .to_path_buf())
}
