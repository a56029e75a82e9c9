//! The rebind statement: that a cluster goes on where another one ended, so that doors may follow it (design.md L19).
//!
//! Absent on purpose: signatures are made and checked by who has keys (`client::rebind`), and which statement lets a door move
//! is decided in `policy::rebind`.
//! Invariant: one statement has one text, byte for byte, and no text that a CA signs for another purpose begins as it does.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, InvalidId};

/// The first line of every statement. A certificate's signed part begins with another byte (0x30), so a signature of the one
/// is never a signature of the other.
const HEAD: &str = "regent rebind v1";

/// "Cluster `cluster` supersedes cluster `supersedes`". Its text is what the CA signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rebind {
    /// The cluster that goes on.
    pub cluster: ClusterId,
    /// The one that ended: nothing that it gave out is good at a door that has followed.
    pub supersedes: ClusterId,
    /// From which generation on `cluster` gives out epochs; above every one of `supersedes`.
    pub generation: u32,
}

impl fmt::Display for Rebind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        writeln!(f, "cluster {}", self.cluster)?;
        writeln!(f, "supersedes {}", self.supersedes)?;
        writeln!(f, "generation {}", self.generation)
    }
}

impl FromStr for Rebind {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let read = || {
            let mut lines = text.lines();
            let head = lines.next()? == HEAD;
            let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
            let rebind = Self {
                cluster: value("cluster")?.parse().ok()?,
                supersedes: value("supersedes")?.parse().ok()?,
                generation: value("generation")?.parse().ok()?,
            };
            // What is not its one text, an upper-case id or a last line too many, was never signed as such.
            (head && rebind.to_string() == text).then_some(rebind)
        };
        read().ok_or_else(|| {
            InvalidId::new(
                "rebind statement",
                text,
                "take the text that Regent prints, unchanged",
            )
        })
    }
}

/// A statement, and the CA's signature of its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRebind {
    /// What is said.
    pub statement: Rebind,
    /// By a key of the CA; empty where nobody has signed it yet. Nothing that is read here was verified.
    #[serde(with = "hex")]
    pub signature: Vec<u8>,
}

impl SignedRebind {
    /// Whether there is a signature to verify.
    pub fn is_signed(&self) -> bool {
        !self.signature.is_empty()
    }
}

/// A cluster, and those that it goes on from: doors of theirs are its own to take over, and nothing of theirs is good any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The cluster.
    pub cluster: ClusterId,
    /// Those that it superseded, by statements that were verified.
    pub closed: BTreeSet<ClusterId>,
}

impl Lineage {
    /// A cluster that goes on from none.
    pub const fn first(cluster: ClusterId) -> Self {
        Self {
            cluster,
            closed: BTreeSet::new(),
        }
    }

    /// Whether `cluster` of this lineage may take over what belongs to `old`.
    pub fn takes_over(&self, cluster: ClusterId, old: ClusterId) -> bool {
        self.cluster == cluster && self.closed.contains(&old)
    }
}

impl Serialize for Rebind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rebind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Bytes as two digits each.
mod hex {
    use std::fmt::Write as _;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing into a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pair = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
            u8::from_str_radix(text, 16).ok()
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes
            .ok_or_else(|| D::Error::custom("a signature is written as two hexadecimal digits for each byte"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Rebind {
        Rebind {
            cluster: ClusterId::from_u128(0xabc),
            supersedes: ClusterId::from_u128(1),
            generation: 2,
        }
    }

    const TEXT: &str = "regent rebind v1\ncluster 00000000-0000-0000-0000-000000000abc\n\
                        supersedes 00000000-0000-0000-0000-000000000001\ngeneration 2\n";

    /// What was signed once must be the text for ever.
    #[test]
    fn a_statement_has_one_text_and_no_other_text_is_it() {
        assert_eq!(statement().to_string(), TEXT);
        assert_eq!(TEXT.parse(), Ok(statement()));
        let others = [
            TEXT.replace("v1", "v2"),
            TEXT.replace("abc", "ABC"),
            TEXT.replace("generation 2", "generation 02"),
            TEXT.replace('\n', "\r\n"),
            TEXT.trim_end().to_owned(),
            format!("{TEXT}\n"),
            format!("{TEXT}generation 3\n"),
            String::new(),
        ];
        for other in others {
            assert!(other.parse::<Rebind>().is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_lineage_takes_over_what_it_closed_for_its_own_cluster_alone() {
        let [old, new, other] = [1, 2, 3].map(ClusterId::from_u128);
        let lineage = Lineage {
            cluster: new,
            closed: BTreeSet::from([old]),
        };
        assert!(lineage.takes_over(new, old));
        for (cluster, of) in [(old, new), (new, other), (other, old), (new, new)] {
            assert!(!lineage.takes_over(cluster, of), "{cluster} {of}");
        }
        assert!(!Lineage::first(new).takes_over(new, old));
    }
}
