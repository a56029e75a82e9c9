//! Pages of lists: how large, and where the next one begins.

use std::str::FromStr;

use proto::convert::invalid;
use tonic::Status;

use super::status;

/// Records of a page if the caller does not say.
const DEFAULT: usize = 100;
/// Records of a page at most.
const MAX: usize = 1_000;
/// Marks a token as ours and names its form.
const MARK: &str = "a1:";

/// How many records a page has.
pub(super) fn page_size(asked: u32) -> usize {
    match usize::try_from(asked).unwrap_or(MAX) {
        0 => DEFAULT,
        n => n.min(MAX),
    }
}

/// Reads a page token; none at the beginning.
pub(super) fn position<K: FromStr>(token: &str) -> Result<Option<K>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let key = token.strip_prefix(MARK).and_then(|text| text.parse().ok());
    key.map(Some).ok_or_else(|| {
        let shown: String = token.chars().take(80).collect();
        status(invalid(
            "page_token",
            format!("{shown:?} was not given out by a list"),
        ))
    })
}

/// The token of the page after `key`.
pub(super) fn token(key: Option<impl std::fmt::Display>) -> String {
    key.map(|key| format!("{MARK}{key}")).unwrap_or_default()
}
