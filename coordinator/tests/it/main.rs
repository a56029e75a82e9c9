//! Clusters of coordinators in this process, on ports of the system's choice, with real certificates, disks and calls.
//! Nothing here sleeps for a result: every wait is for an event, with a deadline.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod acknowledged;
mod agent;
mod authority;
mod changes;
mod config;
mod elections;
mod experiments;
mod failover;
mod features;
mod fitness;
mod flood;
mod harness;
mod headers;
mod health;
mod history;
mod lineage;
mod lost_disk;
mod raft;
mod reads;
mod regions;
mod registry;
mod services;
mod unreachable;
mod warnings;
mod watch;
mod witness;
mod zones;
