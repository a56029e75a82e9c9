//! `regent` as people and scripts meet it: real processes, real files, real ports.
//!
//! Tests that start processes take turns (`harness::turn`): a cluster per core would only measure the machine.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; clippy exempts only its #[test] functions"
)]

mod asleep;
mod bad_configs;
mod bad_input;
mod bad_models;
mod broken_off;
mod certs;
mod clocks;
mod cluster;
mod demo;
mod demo_model;
mod dev;
mod durable;
mod embedded;
mod experiments;
mod filters;
mod guarded;
mod hangs;
mod harness;
mod manners;
mod members;
mod older_disk;
mod orphans;
mod out_of_reach;
mod rebind;
mod records;
mod recovery;
mod regions;
mod samples;
mod sets;
mod snapshots;
mod upgrade;
mod usage;
mod verbs;
mod witness;
