//! Promises, one per file; each a pure function from a history to the sentences that say where it was broken. `availability` is a
//! measurement instead.

pub(crate) mod availability;
pub(crate) mod fencing;
pub(crate) mod linear;
pub(crate) mod lists;
pub(crate) mod pointers;
pub(crate) mod registers;
pub(crate) mod watches;
