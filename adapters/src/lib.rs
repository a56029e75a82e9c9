//! Outside systems that an agent acts on. Today: PostgreSQL databases that check fencing tokens themselves (design.md L17).
//!
//! Start with [`postgres::Postgres`]. Absent on purpose: who holds a role and when a door is claimed (`node-agent` says
//! that), anything of the registry, and promoting databases. Each adapter depends on its system's client library and on
//! nothing else that is heavy; only `node-agent` depends on this crate.
//! Invariant: every call has a deadline, owns no task when it has returned, and may be repeated.

pub mod postgres;

#[cfg(test)]
mod tests;
