//! What stands on stdout: a table for people or one JSON document. Everything else goes to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{Table, presets};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde_json::Value;
use types::{
    ByteCount, UnixMillis,
    time::{Clock as _, SystemClock},
};

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

/// Prints an answer that may be a failure too: the document then says why, and is the only one.
pub(crate) fn conclude(
    format: OutputFormat,
    mut document: Value,
    failure: Option<Failure>,
    human: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if let Some(failure) = &failure {
        document["error"] = failure.to_json()["error"].take();
    }
    answer(format, &document, human)?;
    failure.map_or(Ok(()), |failure| Err(failure.documented()))
}

/// Prints a failure as the one document. The process fails already; that its last words failed too changes nothing.
pub(crate) fn failed(failure: &Failure) {
    let document = failure.to_json();
    let _ = line(&serde_json::to_string_pretty(&document).unwrap_or_else(|_| document.to_string()));
}

/// Prints one line to stdout. A reader that went away (`| head`) is no failure of ours.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    line_to_reader(text).map(|_| ())
}

/// The same, for those who have more to say: whether anybody still reads.
pub(crate) fn line_to_reader(text: &str) -> Result<Reader, Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::other(format!("could not write to stdout: {error}"))),
    }
}

/// Who reads stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// It took what was written.
    Reads,
    /// It went away, and nothing that is written any more is for anybody.
    Gone,
}

/// Who reads stdout, without writing to it.
pub(crate) fn reader() -> Reader {
    let stdout = io::stdout();
    let mut looked = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec::default();
    // Errors are reported unasked; where even this fails, the next line will tell.
    match poll(&mut looked, Some(&at_once)) {
        Ok(_) if looked[0].revents().contains(PollFlags::ERR) => Reader::Gone,
        Ok(_) | Err(_) => Reader::Reads,
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

/// How long ago, by this machine's wall clock, so for people only.
pub(crate) fn ago(at: UnixMillis) -> String {
    format!("{} ago", age(SystemClock.now().since(at).as_secs()))
}

/// An age in one unit, the largest of which there are two at least, so that it never jumps back and forth: `119s`, then `2m`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        s if s < 2 * 60 => format!("{s}s"),
        s if s < 2 * 3600 => format!("{}m", s / 60),
        s if s < 2 * 86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// A size with one decimal from KiB on, whatever it is: a column of them lines up. Exact sizes stand in the documents.
pub(crate) fn size(bytes: ByteCount) -> String {
    let units = [
        ("TiB", 1_u64 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match units.iter().find(|(_, unit)| bytes.0 >= *unit) {
        None => format!("{} B", bytes.0),
        Some((name, unit)) => {
            let tenths = u128::from(bytes.0) * 10 / u128::from(*unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

/// Text for "none" in a table.
pub(crate) fn or_dash(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() { "-".to_owned() } else { text }
}
