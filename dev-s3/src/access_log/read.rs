//! Reads the log, also while an endpoint writes it.

use std::{fs, io, path::Path};

use super::AccessLine;

/// Every whole line, in order. A last line without its end (a kill, or a write under way) is left out; any other line
/// that cannot be read is an error that names its number.
pub fn read(path: &Path) -> io::Result<Vec<AccessLine>> {
    read_lines(path).map(|(lines, _)| lines)
}

/// The lines, and how many bytes they take.
pub(super) fn read_lines(path: &Path) -> io::Result<(Vec<AccessLine>, u64)> {
    let text = fs::read(path)?;
    let good = text
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    let lines: io::Result<Vec<AccessLine>> = text[..good]
        .split_inclusive(|&byte| byte == b'\n')
        .enumerate()
        .map(|(index, line)| parse(path, index + 1, line))
        .collect();
    Ok((lines?, good as u64))
}

fn parse(path: &Path, number: usize, line: &[u8]) -> io::Result<AccessLine> {
    serde_json::from_slice(line).map_err(|error| {
        let text = format!("line {number} of {} is no access line: {error}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}
