//! Mistakes on the command line: clap's own words for people, and the document that every failure has for programs. What
//! was typed could not be read, so whether a program reads is looked up in it word by word.

use std::{ffi::OsString, process::ExitCode};

use clap::error::ErrorKind;

use crate::{error::Failure, exit::Exit, output};

/// Says what is wrong. clap knows which of its errors are answers (`--help`, `--version`) and which are mistakes.
pub(crate) fn told(error: &clap::Error) -> ExitCode {
    // Where the terminal is gone there is nobody to tell.
    let _ = error.print();
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !is_answer && wants_json(std::env::args_os().skip(1), std::env::var_os("REGENT_OUTPUT")) {
        output::failed(&failure(error));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8))
}

/// The mistake without the usage below it.
pub(crate) fn failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut parts = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a subcommand is missing",
        _ => first.strip_prefix("error: ").unwrap_or(first),
    };
    let tip = parts.find_map(|part| part.strip_prefix("tip: "));
    Failure::usage(message).remedy(tip.unwrap_or("try --help"))
}

/// Whether the last word on the output format, in the arguments or else in the environment, is JSON.
pub(crate) fn wants_json(args: impl Iterator<Item = OsString>, env: Option<OsString>) -> bool {
    let mut format = env;
    let mut args = args.take_while(|arg| arg != "--");
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if text == "--output" || text == "-o" {
            format = args.next();
        } else if let Some(value) = text.strip_prefix("--output=").or_else(|| short(&text)) {
            format = Some(value.into());
        }
    }
    format.is_some_and(|format| format == "json")
}

/// `-ojson` and `-o=json`.
fn short(text: &str) -> Option<&str> {
    let value = text.strip_prefix("-o")?;
    Some(value.strip_prefix('=').unwrap_or(value))
}
