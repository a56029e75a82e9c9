//! Whole agents: real listeners, mTLS, stores in directories, engines without weights, and a coordinator that follows a
//! script.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a failure must name its line"
)]

mod certs;
mod claims;
mod coordinator;
mod damage;
mod handover;
mod hosted;
mod identity;
mod leftovers;
mod panics;
mod pointers;
#[cfg(feature = "postgres")]
mod postgres;
mod privileged;
mod records;
mod roles;
#[cfg(feature = "candle")]
mod samples;
mod serving;
mod tokens;
mod warnings;
mod world;
