//! The Raft half alone: real nodes, disks and sockets; no TLS, so the caller's name travels in the user agent.

mod disk;
mod elections;
mod harness;
mod members;
mod reads;
