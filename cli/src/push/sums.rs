//! `SHA256SUMS`: where a directory brings its own digests, every one of them must be right.

use std::path::Path;

use types::{Digest, Reason};

use super::scan::LocalFile;
use crate::error::Failure;

/// The name that `sha256sum * > SHA256SUMS` is called by custom.
const FILE: &str = "SHA256SUMS";

/// Compares what the file says with what the files are. No file is no promise; a line about a file that is not there
/// is an error, as a file that no line speaks of is not.
pub(super) fn check(root: &Path, files: &[LocalFile]) -> Result<(), Failure> {
    let Some(own) = files.iter().find(|f| f.artifact.path.as_str() == FILE) else {
        return Ok(());
    };
    let text = std::fs::read_to_string(&own.path).map_err(|e| Failure::file("read", &own.path, e))?;
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let (expected, name) = parse(line).ok_or_else(|| {
            Failure::other(format!(
                "{}, line {}: {line:?} is no digest and file name",
                own.path.display(),
                number + 1
            ))
            .because(Reason::ModelInvalid)
            .with("file", own.path.display())
            .remedy("write it with: sha256sum FILE…")
        })?;
        let file = files.iter().find(|f| f.artifact.path.as_str() == name);
        let file = file.ok_or_else(|| {
            Failure::other(format!("{FILE} names {name}, which is not in {}", root.display()))
                .because(Reason::ModelInvalid)
                .with("file", name)
                .remedy("fetch the missing file, or remove its line")
        })?;
        let actual = file.artifact.digest;
        if actual != expected {
            return Err(Failure::other(format!(
                "{name} does not match {FILE}: expected {expected}, the file has {actual}"
            ))
            .because(Reason::DigestMismatch)
            .with("file", name)
            .with("expected", expected)
            .with("actual", actual)
            .remedy("fetch the file again; it is damaged or another one"));
        }
    }
    Ok(())
}

/// `HEX  NAME`, or `HEX *NAME` for binary mode; a leading `./` says nothing.
fn parse(line: &str) -> Option<(Digest, &str)> {
    let (hex, rest) = line.split_once(' ')?;
    let name = rest.strip_prefix([' ', '*'])?;
    let digest = format!("sha256:{hex}").parse().ok()?;
    Some((digest, name.strip_prefix("./").unwrap_or(name)))
}
