//! How a domain value and its protobuf shape turn into each other, and the macros that write the tables.
//!
//! Invariant: `from_pb(to_pb(x)) == x`, for durations in whole milliseconds; whatever else comes in gives an error that
//! names the field, never a panic.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    time::Duration,
};

use types::{
    AliasName, ByteCount, ClusterId, DatasetName, Digest, DiskId, Epoch, ExperimentName, MetricName, Micros,
    ModelName, ModelVersion, NodeId, NodeIncarnation, PlanId, Principal, RegionId, RequestId, Revision,
    RoleName, ServiceName, UnixMillis, ZoneName, history::HealthSubject, model::ArtifactPath,
};

/// A value that no release ever wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The way to the field, outermost first.
    pub(super) field: String,
    /// What is wrong with it.
    pub(super) problem: String,
}

impl Malformed {
    pub(super) fn new(problem: impl ToString) -> Self {
        Self {
            field: String::new(),
            problem: problem.to_string(),
        }
    }
    pub(super) fn missing() -> Self {
        Self::new("is missing, or of a kind that this release does not know")
    }
    pub(super) fn inside(mut self, field: &str) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        self.field = format!("{field}{dot}{}", self.field);
        self
    }
}

/// A domain value with the protobuf shape `P`.
pub(super) trait Wire<P>: Sized {
    fn to_pb(&self) -> P;
    fn from_pb(pb: P) -> Result<Self, Malformed>;
}

impl<T: Wire<P>, P> Wire<Option<P>> for Option<T> {
    fn to_pb(&self) -> Option<P> {
        self.as_ref().map(Wire::to_pb)
    }
    fn from_pb(pb: Option<P>) -> Result<Self, Malformed> {
        pb.map(Wire::from_pb).transpose()
    }
}
impl<T: Wire<P>, P> Wire<Vec<P>> for Vec<T> {
    fn to_pb(&self) -> Vec<P> {
        self.iter().map(Wire::to_pb).collect()
    }
    fn from_pb(pb: Vec<P>) -> Result<Self, Malformed> {
        let numbered = pb.into_iter().enumerate();
        numbered
            .map(|(n, p)| T::from_pb(p).map_err(|e| e.inside(&n.to_string())))
            .collect()
    }
}
impl<T: Wire<String> + Ord> Wire<Vec<String>> for BTreeSet<T> {
    fn to_pb(&self) -> Vec<String> {
        self.iter().map(Wire::to_pb).collect()
    }
    fn from_pb(pb: Vec<String>) -> Result<Self, Malformed> {
        let numbered = pb.into_iter().enumerate();
        numbered
            .map(|(n, p)| T::from_pb(p).map_err(|e| e.inside(&n.to_string())))
            .collect()
    }
}

macro_rules! same {
    ($($type:ty),*) => {$(
        impl Wire<$type> for $type {
            fn to_pb(&self) -> $type {
                self.clone()
            }
            fn from_pb(pb: $type) -> Result<Self, Malformed> {
                Ok(pb)
            }
        }
    )*};
}
same!(bool, u8, u32, u64, String, BTreeMap<String, String>);

macro_rules! text {
    ($($type:ty),*) => {$(
        impl Wire<String> for $type {
            fn to_pb(&self) -> String {
                self.to_string()
            }
            fn from_pb(pb: String) -> Result<Self, Malformed> {
                pb.parse().map_err(Malformed::new)
            }
        }
    )*};
}
text!(
    RegionId,
    NodeId,
    ModelName,
    AliasName,
    ExperimentName,
    MetricName,
    DatasetName,
    ServiceName,
    HealthSubject,
    RoleName,
    ZoneName,
    Principal
);

impl<T: Wire<P>, P> Wire<BTreeMap<String, P>> for BTreeMap<MetricName, T> {
    fn to_pb(&self) -> BTreeMap<String, P> {
        self.iter()
            .map(|(name, value)| (name.to_string(), value.to_pb()))
            .collect()
    }
    fn from_pb(pb: BTreeMap<String, P>) -> Result<Self, Malformed> {
        let read = |(name, value): (String, P)| {
            let pair = || Ok((name.parse().map_err(Malformed::new)?, T::from_pb(value)?));
            pair().map_err(|e: Malformed| e.inside(&name))
        };
        pb.into_iter().map(read).collect()
    }
}

impl Wire<u32> for NonZeroU16 {
    fn to_pb(&self) -> u32 {
        u32::from(self.get())
    }
    fn from_pb(pb: u32) -> Result<Self, Malformed> {
        let port = u16::try_from(pb).ok().and_then(Self::new);
        port.ok_or_else(|| Malformed::new(format!("is no port: {pb}")))
    }
}

impl Wire<i64> for Micros {
    fn to_pb(&self) -> i64 {
        self.0
    }
    fn from_pb(pb: i64) -> Result<Self, Malformed> {
        Ok(Self(pb))
    }
}

impl Wire<String> for ArtifactPath {
    fn to_pb(&self) -> String {
        self.as_str().to_owned()
    }
    fn from_pb(pb: String) -> Result<Self, Malformed> {
        Self::new(pb).map_err(Malformed::new)
    }
}

macro_rules! uuid {
    ($($type:ty),*) => {$(
        impl Wire<Vec<u8>> for $type {
            fn to_pb(&self) -> Vec<u8> {
                self.to_bytes().to_vec()
            }
            fn from_pb(pb: Vec<u8>) -> Result<Self, Malformed> {
                Self::from_slice(&pb).map_err(Malformed::new)
            }
        }
    )*};
}
uuid!(ClusterId, DiskId, NodeIncarnation, RequestId);

impl Wire<Vec<u8>> for Digest {
    fn to_pb(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
    fn from_pb(pb: Vec<u8>) -> Result<Self, Malformed> {
        Self::from_slice(&pb).map_err(Malformed::new)
    }
}

macro_rules! number {
    ($($type:ident),*) => {$(
        impl Wire<u64> for $type {
            fn to_pb(&self) -> u64 {
                self.0
            }
            fn from_pb(pb: u64) -> Result<Self, Malformed> {
                Ok($type(pb))
            }
        }
    )*};
}
number!(UnixMillis, Revision, ByteCount, PlanId, ModelVersion);

impl Wire<u64> for Epoch {
    fn to_pb(&self) -> u64 {
        self.as_u64()
    }
    fn from_pb(pb: u64) -> Result<Self, Malformed> {
        Ok(Self::from_u64(pb))
    }
}
impl Wire<u64> for Duration {
    fn to_pb(&self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }
    fn from_pb(pb: u64) -> Result<Self, Malformed> {
        Ok(Self::from_millis(pb))
    }
}

/// Reads a field, and names it where it is malformed.
pub(super) fn field<T: Wire<P>, P>(name: &str, pb: P) -> Result<T, Malformed> {
    T::from_pb(pb).map_err(|e| e.inside(name))
}

/// A closed enum without operands: `Domain => pb::Enum { Variant, … }`.
macro_rules! wire_enum {
    ($($domain:path => $pb:path { $($variant:ident),* })*) => {$(
        impl Wire<i32> for $domain {
            fn to_pb(&self) -> i32 {
                use $pb as Pb;
                match self { $(Self::$variant => Pb::$variant as i32,)* }
            }
            fn from_pb(pb: i32) -> Result<Self, Malformed> {
                use $pb as Pb;
                match Pb::try_from(pb) {
                    $(Ok(Pb::$variant) => Ok(Self::$variant),)*
                    Ok(Pb::Unspecified) | Err(_) => Err(Malformed::new(format!("has the unknown value {pb}"))),
                }
            }
        }
    )*};
}

/// A record whose fields have the same names on both sides: `Domain => pb::Message { field, … }`.
macro_rules! wire_struct {
    ($($domain:path => $pb:path { $($field:ident),* $(,)? })*) => {$(
        impl Wire<$pb> for $domain {
            fn to_pb(&self) -> $pb {
                use $pb as Pb;
                Pb { $($field: Wire::to_pb(&self.$field)),* }
            }
            fn from_pb(pb: $pb) -> Result<Self, Malformed> {
                Ok(Self { $($field: field(stringify!($field), pb.$field)?),* })
            }
        }
        required!($domain => $pb);
    )*};
}

/// A message that must be there where the domain has no `Option`.
macro_rules! required {
    ($domain:path => $pb:path) => {
        impl Wire<Option<$pb>> for $domain {
            fn to_pb(&self) -> Option<$pb> {
                Some(Wire::to_pb(self))
            }
            fn from_pb(pb: Option<$pb>) -> Result<Self, Malformed> {
                Wire::from_pb(pb.ok_or_else(Malformed::missing)?)
            }
        }
    };
}

/// A closed enum with operands: `Domain => Option<pb::Oneof> { Variant => pb::Message { field, … }, … }`.
macro_rules! wire_oneof {
    ($domain:path => $kind:path { $($variant:ident => $message:path { $($field:ident),* }),* $(,)? }) => {
        impl Wire<Option<$kind>> for $domain {
            fn to_pb(&self) -> Option<$kind> {
                use $kind as Kind;
                Some(match self {
                    $(Self::$variant { $($field),* } => Kind::$variant({
                        use $message as Message;
                        Message { $($field: Wire::to_pb($field)),* }
                    }),)*
                })
            }
            fn from_pb(pb: Option<$kind>) -> Result<Self, Malformed> {
                use $kind as Kind;
                match pb.ok_or_else(Malformed::missing)? {
                    $(Kind::$variant(message) => {
                        let _ = &message;
                        let read = || Ok(Self::$variant { $($field: field(stringify!($field), message.$field)?),* });
                        read().map_err(|e: Malformed| e.inside(stringify!($variant)))
                    })*
                }
            }
        }
    };
}

/// The message around a oneof that stands as a field of its own: `Domain => pb::Message`, its oneof is `kind`.
macro_rules! wire_kind {
    ($($domain:path => $pb:path),* $(,)?) => {$(
        impl Wire<$pb> for $domain {
            fn to_pb(&self) -> $pb {
                use $pb as Pb;
                Pb { kind: Wire::to_pb(self) }
            }
            fn from_pb(pb: $pb) -> Result<Self, Malformed> {
                Wire::from_pb(pb.kind)
            }
        }
        required!($domain => $pb);
    )*};
}

pub(super) use {required, wire_enum, wire_kind, wire_oneof, wire_struct};
