//! Identifiers. Each is a newtype that is checked when it is made; none is ever compared with another kind.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is no valid identifier: which kind, which text, and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} {text:?}: {rule}")]
pub struct InvalidId {
    /// What was being parsed, in words ("region id").
    pub kind: &'static str,
    /// The text as given, cut to 80 characters.
    pub text: String,
    /// The rule, in words that tell the reader what to write instead.
    pub rule: &'static str,
}

impl InvalidId {
    pub(crate) fn new(kind: &'static str, text: &str, rule: &'static str) -> Self {
        Self {
            kind,
            text: text.chars().take(80).collect(),
            rule,
        }
    }
}

/// One to 63 characters of `a-z`, `0-9`, and the given extra ones; starts and ends with a letter or digit.
fn is_label(text: &str, extra: &[u8]) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if alnum(a) && alnum(z))
        && bytes.len() <= 63
        && bytes.iter().all(|&b| alnum(b) || extra.contains(&b))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it; the error names the text and the rule. Clones share the text.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(InvalidId::new($kind, text, $rule)) }
            }

            /// The text, as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A region of the platform, as operators name it: `us-west-2`.
    RegionId, "region id", |t| is_label(t, b"-"),
    "use 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit"
);
text_id!(
    /// A machine (or a container with its own disk) that runs a coordinator or an agent. It outlives restarts.
    NodeId, "node id", |t| is_label(t, b"-."),
    "use 1 to 63 characters of a-z, 0-9, '-' and '.', starting and ending with a letter or digit"
);
text_id!(
    /// An availability zone of a region, as its operator names it: `us-west-2a`. The same name in two regions is two zones.
    ZoneName, "zone name", |t| is_label(t, b"-"),
    "use 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit"
);
text_id!(
    /// A model's dotted name; the dots are the namespaces that roles and policies match by glob: `fraud.scorer`.
    ModelName, "model name", |t| t.len() <= 200 && t.split('.').all(|s| is_label(s, b"-_")),
    "use dot-separated parts of a-z, 0-9, '-' and '_', each starting and ending with a letter or digit, 200 characters at most"
);
text_id!(
    /// A movable name for one version of a model: `champion`, `candidate`.
    AliasName, "alias", |t| is_label(t, b"-_"),
    "use 1 to 63 characters of a-z, 0-9, '-' and '_', starting and ending with a letter or digit"
);
text_id!(
    /// An experiment of one model: `ranker-march`.
    ExperimentName, "experiment name", |t| is_label(t, b"-_."),
    "use 1 to 63 characters of a-z, 0-9, '-', '_' and '.', starting and ending with a letter or digit"
);
text_id!(
    /// What a measured value is called, with its unit where it has one: `accuracy`, `latency_ms`.
    MetricName, "metric name", |t| is_label(t, b"-_."),
    "use 1 to 63 characters of a-z, 0-9, '-', '_' and '.', starting and ending with a letter or digit"
);
text_id!(
    /// A service that instances on nodes offer, as callers look it up: `feature-store`. A label of a name in DNS, so no dots.
    ServiceName, "service name", |t| is_label(t, b"-"),
    "use 1 to 63 characters of a-z, 0-9 and '-', starting and ending with a letter or digit"
);
text_id!(
    /// A data set as whoever trains from it names it, with its version where it has one: `fraud/transactions@2026-03`,
    /// `s3://lake/clicks/date=2026-03-01`. Regent keeps the name alone, and no bytes.
    DatasetName, "dataset name",
    |t| t.len() <= 200
        && t.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:@=+".contains(&b)),
    "use 1 to 200 characters of a-z, A-Z, 0-9, '-', '_', '.', '/', ':', '@', '=' and '+', starting with a letter or digit"
);
text_id!(
    /// A database whose tables a role guards, as its door is called: `postgres/<name>`. One name for it in all configs.
    DatabaseName, "database name", |t| is_label(t, b"-_."),
    "use 1 to 63 characters of a-z, 0-9, '-', '_' and '.', starting and ending with a letter or digit"
);
text_id!(
    /// A primary role, always `primaries/<name>`: `primaries/global`, or one per database, bucket, model family.
    RoleName, "role name", |t| t.strip_prefix("primaries/").is_some_and(|s| is_label(s, b"-_.")),
    "use primaries/NAME, with NAME of a-z, 0-9, '-', '_' and '.', starting and ending with a letter or digit"
);

impl RoleName {
    /// The role that every cluster has from its first day.
    pub fn global() -> Self {
        Self("primaries/global".into())
    }

    /// What it is the primary of, as in `primaries/NAME`: a model family's role is named after the models, and guards them.
    pub fn family(&self) -> &str {
        self.0.strip_prefix("primaries/").unwrap_or(&self.0)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u128);

        impl $name {
            /// Takes the 128 bits as they are.
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }
            /// The 128 bits, big end first in text.
            pub const fn as_u128(self) -> u128 {
                self.0
            }
            /// The 16 bytes, as they stand on disk and wire.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }
            /// Reads the 16 bytes that [`Self::to_bytes`] gave.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidId> {
                let bytes: [u8; 16] = bytes
                    .try_into()
                    .map_err(|_| InvalidId::new($kind, &hex::encode(bytes), "must be 16 bytes"))?;
                Ok(Self(u128::from_be_bytes(bytes)))
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text)
                    .map(|u| Self(u.as_u128()))
                    .map_err(|_| InvalidId::new($kind, text, "must be a UUID"))
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&Uuid::from_u128(self.0), f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

uuid_id!(
    /// One cluster, made at bootstrap; a restore takes a new one (design.md L19). Watch tokens and fences name it.
    ClusterId, "cluster id"
);
uuid_id!(
    /// One data directory of a coordinator, made with it: two directories under one node name are two disks.
    DiskId, "disk id"
);
uuid_id!(
    /// One run of a process. A restart of the same node is another incarnation, and so another holder (L2).
    NodeIncarnation, "node incarnation"
);
uuid_id!(
    /// A caller's name for one request, UUIDv7. Retrying with the same id changes nothing the second time (I9).
    RequestId, "request id"
);

impl RequestId {
    /// Milliseconds since the Unix epoch from the first 48 bits of the UUIDv7 (RFC 9562, section 5.7).
    pub const fn unix_millis(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// Whether the version field says 7; anything else carries no time and is refused at the edge.
    pub const fn is_v7(self) -> bool {
        (self.0 >> 76) & 0xf == 7
    }

    /// A deterministic id for step work: same time, same 74 low bits, same id.
    pub const fn v7_from_parts(unix_millis: u64, low: u128) -> Self {
        let time = ((unix_millis & 0xffff_ffff_ffff) as u128) << 80;
        let rand_a = (low >> 62) & 0xfff;
        let rand_b = low & 0x3fff_ffff_ffff_ffff;
        Self(time | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | rand_b)
    }
}

/// Number of a version within its model, from 1, given out in order by the registry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelVersion(pub u64);

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl fmt::Debug for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}
impl FromStr for ModelVersion {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.strip_prefix('v').unwrap_or(text).parse::<u64>() {
            Ok(n) if n > 0 => Ok(Self(n)),
            _ => Err(InvalidId::new(
                "model version",
                text,
                "must be a whole number from 1, as in 3 or v3",
            )),
        }
    }
}

/// One version of one model; shown `fraud.scorer@3`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionKey {
    /// The model.
    pub model: ModelName,
    /// The version's number within it.
    pub version: ModelVersion,
}

impl fmt::Display for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.model, self.version)
    }
}
impl fmt::Debug for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for VersionKey {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (model, version) = text.split_once('@').ok_or_else(|| {
            InvalidId::new("model version", text, "write MODEL@VERSION, as in fraud.scorer@3")
        })?;
        Ok(Self {
            model: model.parse()?,
            version: version.parse()?,
        })
    }
}

/// A plan's number; the revision of the entry that made it, so it is unique and grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlanId(pub u64);

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}
impl fmt::Debug for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for PlanId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.strip_prefix('p').unwrap_or(text);
        digits
            .parse()
            .map(Self)
            .map_err(|_| InvalidId::new("plan id", text, "must be a number, as in p42"))
    }
}
