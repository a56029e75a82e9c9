//! coordinator

pub mod raft;
