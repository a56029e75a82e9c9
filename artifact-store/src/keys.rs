//! Where things are in a store. Artifacts are named by their digest; a pointer has one fixed key per role.

use std::fmt;

use types::{Digest, RoleName};

use crate::{ErrorKind, StoreError};

/// S3's limit.
const KEY_BYTES_MAX: usize = 1024;

/// A name in a store that is safe in every back end: no empty, `.` or `..` part, nothing unprintable.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Checks `text` and takes it; the error names the rule.
    pub fn new(text: impl Into<String>) -> Result<Self, StoreError> {
        let text = text.into();
        match broken_rule(&text) {
            None => Ok(Self(text)),
            Some(rule) => Err(StoreError::new(
                "any",
                "name",
                format!("{text:?}"),
                ErrorKind::BadKey { rule },
            )),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.len() > KEY_BYTES_MAX {
        return Some("use 1 to 1024 bytes");
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Some("use no control characters and no backslash");
    }
    let bad_part = text.split('/').any(|part| matches!(part, "" | "." | ".."));
    bad_part.then_some("use no empty part, no . and no .. between slashes")
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the keys of all artifacts begin with.
pub const ARTIFACTS: &str = "regent/artifacts/";

/// An artifact's key: `regent/artifacts/sha256/ab/ab12…`.
pub fn artifact(digest: &Digest) -> ObjectKey {
    let hex = digest.hex();
    ObjectKey(format!("{ARTIFACTS}sha256/{}/{hex}", &hex[..2]))
}

/// The key of the pointer that a role guards: `primaries/global` has `regent/pointers/primaries.global`. A role name
/// has exactly one slash, so two roles never share a key.
pub fn pointer(role: &RoleName) -> ObjectKey {
    ObjectKey(format!("regent/pointers/{}", role.as_str().replacen('/', ".", 1)))
}

/// A key of a probe (L16); probes remove it afterwards.
pub fn probe(id: &str) -> ObjectKey {
    ObjectKey(format!("regent/probe/{id}"))
}
