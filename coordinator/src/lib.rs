//! coordinator

pub mod door_log;
pub mod propose;
pub mod raft;
pub mod read;
