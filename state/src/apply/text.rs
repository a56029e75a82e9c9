//! Bounds on texts and lists, so that the state stays small whatever is sent.

use std::collections::BTreeMap;

use types::{
    Revision,
    planted::{self, Bug},
};

use crate::rejection::Rejection;

/// Pairs that a record may have.
pub(crate) const PAIRS_MAX: u64 = 64;
/// Bytes of a key of a pair.
pub(crate) const KEY_BYTES_MAX: u64 = 128;
/// Bytes of a value of a pair, and of a description.
pub(crate) const VALUE_BYTES_MAX: u64 = 4096;
/// Characters that are kept of a text for people that nobody reads back (evidence, errors, reasons).
pub(crate) const NOTE_CHARS_MAX: usize = 2000;

/// A note for people, cut; refusing a whole failover for a long error text would help nobody.
pub(crate) fn note(text: &str) -> String {
    text.chars().take(NOTE_CHARS_MAX).collect()
}

/// That `shown` is at most `limit`.
pub(crate) fn at_most(what: &str, shown: usize, limit: u64) -> Result<(), Rejection> {
    let shown = shown as u64;
    if shown <= limit {
        return Ok(());
    }
    let what = what.to_owned();
    Err(Rejection::LimitExceeded { what, shown, limit })
}

/// That pairs are within their bounds and have keys.
pub(crate) fn check_pairs(what: &str, pairs: &BTreeMap<String, String>) -> Result<(), Rejection> {
    at_most(&format!("count of {what}"), pairs.len(), PAIRS_MAX)?;
    for (key, value) in pairs {
        if key.is_empty() {
            return Err(Rejection::invalid(what, "a key is empty"));
        }
        at_most(&format!("bytes of a key of {what}"), key.len(), KEY_BYTES_MAX)?;
        at_most(&format!("bytes of {what} {key}"), value.len(), VALUE_BYTES_MAX)?;
    }
    Ok(())
}

/// That the caller saw the present record, if it said what it saw.
pub(crate) fn check_etag(
    what: &str,
    shown: Option<Revision>,
    current: Option<Revision>,
) -> Result<(), Rejection> {
    match shown {
        Some(shown) if Some(shown) != current && !planted::has(Bug::IgnoredEtags) => {
            Err(Rejection::EtagMismatch {
                what: what.to_owned(),
                shown,
                current,
            })
        }
        Some(_) | None => Ok(()),
    }
}
