//! Failovers, assignments and switchovers: the leader's loop around [`policy::failover`].

pub mod driver;
mod memory;
mod rules;
#[cfg(test)]
mod tests;
