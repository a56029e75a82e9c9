//! The vocabulary: every noun of Regent and its one meaning, as plain data.
//!
//! Absent on purpose: I/O, clocks (a [`time::Clock`] is handed in), async, wire formats. Everything else in the
//! workspace speaks in these types, so this crate stays small and compiles in seconds.
//! Invariant: a value that exists is valid. Text is checked once, in the constructor, and never again inside.
//!
//! Reading order: [`ids`], [`epoch`], [`revision`], [`digest`], [`units`], [`time`], then the records
//! ([`region`], [`service`], [`model`], [`replica`], [`experiment`] with [`micros`], [`role`], [`plan`], [`election`], [`history`],
//! [`preferences`], [`rebind`]) and [`filter`], then
//! [`reason`], [`principal`] and [`metrics`]. Beside them [`planted`]: bugs for tests of tests.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod digest;
pub mod election;
pub mod epoch;
pub mod experiment;
pub mod filter;
pub mod history;
pub mod ids;
pub mod metrics;
pub mod micros;
pub mod model;
pub mod plan;
pub mod planted;
pub mod preferences;
pub mod principal;
pub mod reason;
pub mod rebind;
pub mod region;
pub mod replica;
pub mod revision;
pub mod role;
pub mod service;
pub mod time;
pub mod units;

pub use digest::{Digest, DigestHasher};
pub use epoch::{Epoch, FencingToken, Holder};
pub use filter::WatchFilter;
pub use ids::{
    AliasName, ClusterId, DatabaseName, DatasetName, DiskId, ExperimentName, InvalidId, MetricName,
    ModelName, ModelVersion, NodeId, NodeIncarnation, PlanId, RegionId, RequestId, RoleName, ServiceName,
    VersionKey, ZoneName,
};
pub use micros::Micros;
pub use principal::Principal;
pub use reason::Reason;
pub use rebind::{Lineage, Rebind, SignedRebind};
pub use revision::Revision;
pub use time::UnixMillis;
pub use units::ByteCount;

#[cfg(test)]
mod tests;
