//! `bench NAME`: builds crate `bench` as packages are built, and runs it; its exit code is passed on.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Context as _;

/// Runs the benchmark that `args` begin with.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    let status = Command::new(env!("CARGO"))
        .args([
            "run",
            "--quiet",
            "--locked",
            "--profile",
            "dist",
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
