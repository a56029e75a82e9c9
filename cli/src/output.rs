//! What stands on stdout: a table for people or one JSON document. Everything else goes to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::{args::OutputFormat, error::Failure};

/// Prints an answer: `document` as JSON, or the text that `human` makes.
pub(crate) fn answer<T: Serialize>(
    format: OutputFormat,
    document: &T,
    human: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match format {
        OutputFormat::Table => line(&human()),
        OutputFormat::Json => {
            let text = serde_json::to_string_pretty(document)
                .map_err(|e| Failure::other(format!("could not write the answer as JSON: {e}")))?;
            line(&text)
        }
    }
}

/// Prints one line to stdout. A reader that went away (`| head`) is no failure of ours.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::other(format!("could not write to stdout: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints one line to stderr; where even that fails there is nobody left to tell.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether a person watches stderr, so that progress may be drawn there.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// A table with these headings; columns line up, nothing is boxed, so that `awk` and `grep` work on it.
pub(crate) fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    trimmed(&table.to_string())
}

fn trimmed(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Text for "none" in a table.
pub(crate) fn or_dash(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() { "-".to_owned() } else { text }
}
