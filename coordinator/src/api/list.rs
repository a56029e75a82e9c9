//! Pages of lists: how large, and where the next one begins.
//!
//! Invariant: no answer is larger than its reader takes ([`BYTES`] and one record, which is smaller than a log entry).

use std::str::FromStr;

use prost::Message;
use proto::convert::invalid;
use state::query::Page;
use tonic::Status;
use types::Revision;

use super::status;

/// Records of a page if the caller does not say.
const DEFAULT: usize = 100;
/// Records of a page at most.
const MAX: usize = 1_000;
/// Encoded bytes of the records of one message, unless a single record is larger. Clients read up to 16 MiB.
pub(super) const BYTES: usize = 4 << 20;
/// Marks a token as ours and names its form.
const MARK: &str = "a1:";

/// How many records a page has.
pub(super) fn page_size(asked: u32) -> usize {
    match usize::try_from(asked).unwrap_or(MAX) {
        0 => DEFAULT,
        n => n.min(MAX),
    }
}

/// Records from the beginning, as many as fit a message of so many bytes; one at least, so that whoever goes on gets on.
pub(super) fn fill<T: Message>(most: usize, records: impl IntoIterator<Item = T>) -> Vec<T> {
    let (mut filled, mut bytes) = (Vec::new(), 0_usize);
    for record in records {
        bytes = bytes.saturating_add(record.encoded_len());
        if bytes > most && !filled.is_empty() {
            break;
        }
        filled.push(record);
    }
    filled
}

/// A page on the wire, cut short where it would not fit one message, and the key after which the next one begins.
pub(super) fn cut<'a, K, R, T>(page: Page<'a, K, R>, key: impl Fn(&R) -> K) -> (Vec<T>, Option<K>)
where
    T: Message + From<&'a R>,
{
    let filled = fill(BYTES, page.items.iter().map(|record| T::from(record)));
    match (filled.len() < page.items.len(), filled.len().checked_sub(1)) {
        (true, Some(last)) => (filled, page.items.get(last).map(|record| key(record))),
        _ => (filled, page.next),
    }
}

/// A place in a history as a page token carries it: `REVISION@OWNER`.
pub(super) struct Moment<K>(pub(super) K, pub(super) Revision);

impl<K: FromStr> FromStr for Moment<K> {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (revision, owner) = text.split_once('@').ok_or(())?;
        let revision = revision.parse().map_err(|_| ())?;
        Ok(Self(owner.parse().map_err(|_| ())?, Revision(revision)))
    }
}
impl<K: std::fmt::Display> std::fmt::Display for Moment<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.1.0, self.0)
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
