//! The wire contract `regent.v1`, and its only translation to the vocabulary of [`types`].
//!
//! Absent on purpose: rules. Conversions check that a message is well formed and say which field is not; whether a
//! well-formed request is allowed is decided elsewhere. Generated types stop at [`convert`].
//! Invariant: [`convert::status`] is the only place that builds or reads a [`tonic::Status`].

#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod convert;

/// Generated from `proto/*.proto`: package `regent.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::or_fun_call,
    clippy::large_futures,
    reason = "generated code"
)]
pub mod v1 {
    include!("gen/regent.v1.rs");
}

/// Generated from `proto/raft.proto`: package `regent.raft.v1`, between coordinators only.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::or_fun_call,
    clippy::large_futures,
    reason = "generated code"
)]
pub mod raft_v1 {
    include!("gen/regent.raft.v1.rs");
}

/// The descriptor set of every public service, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptor.bin");

#[cfg(test)]
mod tests;
