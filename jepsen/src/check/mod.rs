//! Promises, one per file; each a pure function from a history to the sentences that say where it was broken.

pub(crate) mod fencing;
pub(crate) mod pointers;
