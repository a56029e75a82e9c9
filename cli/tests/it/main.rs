//! `regent` as people and scripts meet it: real processes, real files, real ports.
//!
//! Tests that start processes take turns (`harness::turn`): a cluster per core would only measure the machine.

mod bad_input;
mod harness;
mod orphans;
mod usage;
