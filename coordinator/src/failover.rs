//! Failovers, assignments and switchovers: the leader's loop around [`policy::failover`].

pub mod driver;
mod memory;
#[cfg(test)]
mod tests;
