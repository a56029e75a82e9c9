//! The replicated state machine: every rule of Regent, as one pure function over one value.
//!
//! The promises of [`ControlState::apply`]:
//! - total: every entry, also a nonsensical one, yields an outcome; a refusal is a successful apply;
//! - deterministic: no clock, no randomness, no I/O, no floats; time and ids arrive inside the entry;
//! - a refusal leaves no trace but its answer in the request table, and state time;
//! - bounded: finished plans and answered requests are forgotten by rule, texts are cut.
//!
//! Absent on purpose: any runtime, logging, openraft's types. Decisions are in `policy`; this crate applies them.
//!
//! Reading order: [`command`], [`addressed`], [`reply`], [`rejection`], [`event`], [`state`], `table`, [`hash`], [`features`],
//! `apply/`, [`requests`], [`query`], [`invariants`], [`codec`].

#![warn(missing_docs)]
#![forbid(unsafe_code)]
#![deny(
    clippy::float_arithmetic,
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

pub mod addressed;
mod apply;
pub mod codec;
pub mod command;
#[cfg(test)]
mod dump;
pub mod event;
pub mod features;
pub mod hash;
#[rustfmt::skip]
#[expect(unreachable_pub, reason = "generated from proto/log.proto, which has the comments")]
#[path = "gen/regent.log.v1.rs"]
mod r#gen;
pub mod invariants;
pub mod query;
pub mod recovery;
pub mod rejection;
pub mod reply;
pub mod requests;
pub mod state;
mod table;

pub use addressed::Addressed;
pub use command::{Command, Entry, Expects, ReplicaReport, StepOutcome};
pub use event::Event;
pub use features::{Feature, Features, TooNew};
pub use hash::StateHash;
pub use rejection::Rejection;
pub use reply::{Applied, DoorRecord, Reply};
pub use state::{ClusterRecord, ControlState, FormerTtl, Preview, RemovedCoordinator};

#[cfg(test)]
mod tests;
