//! The node agent: keeps a region's copies, serves its models, holds its roles, and guards its door.
//!
//! Start with [`run`] (a process) or [`Agent::builder`] (inside another program). One way through the house: the watch
//! is folded into [`view`], [`desired`] says what should be true of this node, [`observed`] what is, [`reconcile`] what
//! to do next; [`worker`] does it with [`replicate`] and [`serving`]. Beside it run the [`session`], the [`probes`], the
//! [`roles`] this node holds, the [`steps`] of plans that it is the target of, and its [`door`].
//!
//! Absent on purpose: rules of the registry, Raft, and any decision about other nodes. Events grant nothing: a role is
//! held from the first answered renewal on, and a privileged call is judged by the door alone.

pub mod agent;
pub mod attach;
pub mod board;
pub mod catalog;
pub mod claim;
pub mod config;
pub mod confirmations;
pub mod control;
pub mod databases;
pub mod desired;
mod disk;
pub mod door;
pub mod door_log;
pub mod doors;
pub mod doubts;
pub mod durable;
mod failures;
pub mod floors;
pub mod follow;
pub mod grpc;
pub mod hosted;
pub mod http;
pub mod identity;
mod jobs;
pub mod library;
pub mod listen;
pub mod metrics;
pub mod observed;
pub mod pins;
pub mod pointer_room;
pub mod pointers;
mod privileged;
pub mod probes;
pub mod raise;
pub mod readiness;
pub mod rebind;
pub mod reconcile;
pub mod replicate;
pub mod roles;
mod running;
mod servers;
pub mod serving;
pub mod session;
pub mod steps;
pub mod stores;
pub mod view;
mod watched;
pub mod worker;

pub use agent::{Agent, AgentBuilder, AgentError, run};
pub use config::AgentConfig;

#[cfg(test)]
mod tests;
