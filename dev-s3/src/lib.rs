//! An S3 endpoint over a directory, for `regent dev`, the demo and tests.
//!
//! Start with [`Config`] and [`run`]; the demo's checker reads what the store decided with [`access_log::read`].
//! The protocol (signatures, chunked bodies, XML) is the crate s3s; what an object *is* and who may replace it is here.
//!
//! Absent on purpose: versioning, ACLs, lifecycle rules, replication, and any address but a loopback one. One process
//! owns a data directory; it is locked.
//!
//! Invariants kept: a conditional write is judged when its whole body has arrived, under its key's lock, so of any
//! number of racing writers exactly one wins; bytes are visible only after every checksum that came with them matched;
//! what was answered survives `kill -9`; every decision on a write stands in the access log before the answer leaves.

mod config;
mod error;
mod server;

mod service;
mod uploads;

mod commit;
mod conditions;
mod listing;
mod store;

pub mod access_log;
mod checksums;
mod directory;
mod fence_view;
mod locks;
mod meta;
mod object_file;
mod receive;

#[cfg(test)]
mod tests;

pub use config::{Config, Credentials};
pub use directory::{access_log_path, object_path};
pub use error::Error;
pub use fence_view::FenceView;
pub use server::run;
