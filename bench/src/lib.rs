//! Benchmarks: Regent beside a peer, in one run, in turns, with the same clients. `cargo xtask bench NAME` runs them.
//!
//! Reading order: [`consensus`] (what is measured), [`system`] (what is needed of a system), [`regent`], [`etcd`],
//! [`load`] with [`keys`] and `pacer` (who asks, and whether the answers are right), [`stats`] and [`rows`] (what the figures
//! mean; pure), [`machine`], [`report`]. [`agents`] and [`scale`] have no peer: what is promised is measured against [`limits`].
//! Absent on purpose: installing anything, and any figure from another run: ratios hold inside one run.
//! Invariant: a wrong or missing answer fails the run; it is never left out of a figure.

#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod agents;
pub mod certs;
pub mod consensus;
pub mod etcd;
mod events;
pub mod keys;
pub mod limits;
pub mod load;
pub mod machine;
mod pacer;
pub mod process;
pub mod regent;
pub mod report;
pub mod rows;
pub mod scale;
pub mod stats;
pub mod system;
