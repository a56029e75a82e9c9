//! `bench NAME`: builds crate `bench` as packages are built, and runs it; its exit code is passed on.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Context as _;

/// Runs the benchmark that `args` begin with.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    // What only tells how it is used need not be quick.
    let only_tells = args.iter().any(|arg| arg == "--help" || arg == "-h");
    let profile = if only_tells { "dev" } else { "dist" };
    eprintln!("building with the profile {profile}: minutes, the first time");
    let status = Command::new(env!("CARGO"))
        .args([
            "run",
            "--quiet",
            "--locked",
            "--profile",
            profile,
            "--package",
            "bench",
            "--",
        ])
        .args(args)
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
