//! The Raft half alone: real nodes, disks and sockets; no TLS, so the caller's name travels in the user agent.

mod desk;
mod disk;
mod distance;
mod elections;
mod features;
mod full;
mod handover;
mod harness;
mod installs;
mod integrity;
mod leases;
mod lost_disk;
mod members;
mod older_disk;
mod preference;
mod reads;
mod removal;
mod stale;
mod stop;
mod strangers;
mod time;
mod timing;
mod topology;
mod witness;
