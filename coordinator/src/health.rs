//! Health of regions and nodes: the leader's loop around [`policy::health`].

pub mod monitor;
