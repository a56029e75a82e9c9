//! Tests of the rooms of this crate, by tables and against stores in memory. Whole agents are in `tests/it`.

mod claim;
mod confirmations;
mod databases;
mod desired;
mod door;
mod door_log;
mod floors;
mod hosted;
mod pointers;
mod privileged;
mod readiness;
mod reconcile;
pub(crate) mod records;
mod replicate;
mod rest;
mod running;
mod stores;
