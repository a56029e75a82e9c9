//! Chores of the workspace: `codegen`, `tidy` and `bench`.
//!
//! Absent on purpose: anything that ships. Nothing here is a dependency of the product.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

mod bench;
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
    /// Measures Regent: `bench consensus` beside etcd, `bench agents`, `bench scale`, each with `[--output json]`. Builds first, with
    /// the profile that packages have.
    Bench {
        /// Which benchmark, and its options.
        #[arg(
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "NAME"
        )]
        args: Vec<String>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let root = workspace_root()?;
    match Args::parse().command {
        Command::Codegen { check } => codegen::run(&root, check)?,
        Command::Tidy => tidy::run(&root)?,
        Command::Bench { args } => return bench::run(&root, &args),
    }
    Ok(ExitCode::SUCCESS)
}

/// The workspace that this program was built from.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(own
        .parent()
        .context("xtask lies inside the workspace")?
        .to_path_buf())
}
