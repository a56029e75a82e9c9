//! What clients do while processes are hurt; one workload per file.

pub(crate) mod pointers;
pub(crate) mod primary;
